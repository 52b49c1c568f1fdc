//! What every store must do, for each of them.

#[path = "support/small_world.rs"]
mod small_world;

use astra_dispatch::adapters::store::Store;
use astra_dispatch::adapters::store::drive::drive;
use astra_dispatch::adapters::store::memory::MemoryStore;
use astra_dispatch::domain::job::JobPhase;
use astra_dispatch::domain::pass::{Hint, Pass, PassEnd, PassInput, Timing};

#[tokio::test]
async fn a_pass_starts_what_fits_and_the_rest_waits() {
    let store = MemoryStore::default();
    let workforce = small_world::workforce(&[("a", "coder", 1)], 3, 1);
    let hints: Vec<Hint> = (1..3)
        .map(|number| {
            let item = small_world::item(number, "coder");
            let reference = item.reference();
            store.put_item(item);
            Hint { item: reference, by_hand: false }
        })
        .collect();
    let pass =
        Pass::new(PassInput { workforce: &workforce, timing: Timing::default(), hints, stop: None, seed: 7 });
    let end = drive(pass, &store, &store).await.unwrap();
    let PassEnd::Complete(report) = end else { panic!("{end:?}") };
    assert_eq!(report.released.len(), 1);
    let ledger = store.read_ledger().await.unwrap().ledger;
    assert_eq!(ledger.entries[0].uid.as_ref(), Some(&report.released[0].uid));
    assert_eq!(ledger.waiting[0].sequence, 2);
    assert_eq!(store.list_jobs("agent-a").await.unwrap().jobs[0].phase, JobPhase::Released);
}

use super::*;
use crate::domain::job::{Cancel, CancelReason, Job, JobEnd, JobPhase};
use crate::domain::publish::tests::subject;

fn job(cancel: Option<Cancel>) -> Job {
    let at = |text: &str| text.parse().unwrap();
    Job {
        run: "ast-1-bbbbb".parse().unwrap(),
        uid: "u".into(),
        task: "AST-1".parse().unwrap(),
        item: crate::domain::name::ItemId(uuid::Uuid::nil()),
        project: crate::domain::name::ProjectId(uuid::Uuid::nil()),
        agent: "vega".parse().unwrap(),
        namespace: "agent-vega".into(),
        attempt: 2,
        registry: crate::domain::registry::RegistryStamp::default(),
        phase: JobPhase::Claimed,
        end: cancel.is_none().then(|| JobEnd { at: at("2026-12-31T23:59:59Z"), failure: None }),
        cancel,
        pod_alive: false,
        item_state: None,
        claim: None,
        created_at: at("2026-12-31T23:00:00Z"),
    }
}

#[test]
fn a_record_is_found_again_by_the_month_in_which_its_run_ended() {
    let ended = RunRecord::new(&job(None), &subject(), Ending::Cancelled(CancelReason::Person));
    assert_eq!(ended.path(), "runs/2026/12/ast-1-bbbbb.json");
    let cancel = Cancel { reason: CancelReason::Person, at: "2027-01-01T00:00:00Z".parse().unwrap() };
    let cancelled = RunRecord::new(&job(Some(cancel)), &subject(), Ending::Cancelled(CancelReason::Person));
    assert_eq!(cancelled.path(), "runs/2027/01/ast-1-bbbbb.json");
    assert_eq!(cancelled.title(), "ast-1-bbbbb: failed by vega");
    assert_eq!(cancelled.class, Some(FailureClass::Cancelled));
}

#[test]
fn of_a_transcript_the_end_is_kept() {
    assert_eq!(transcript_end(b" \n"), None);
    assert_eq!(transcript_end(b"a\x1b[31m\n\xff"), Some("a\u{fffd}[31m\n\u{fffd}\n".into()));
    let whole = "x".repeat(TRANSCRIPT_KEPT - 1);
    assert_eq!(transcript_end(whole.as_bytes()), Some(whole.clone() + "\n"));
    for longer in [format!("ab{whole}"), format!("ä\n{whole}"), "ö".repeat(TRANSCRIPT_KEPT)] {
        let kept = transcript_end(longer.as_bytes()).unwrap();
        assert!(kept.starts_with("[what came before is not kept]\n"), "{}", &kept[..40]);
        assert!((TRANSCRIPT_KEPT - 1..=TRANSCRIPT_KEPT).contains(&kept.len()), "{}", kept.len());
    }
}

#[test]
fn every_write_is_listed() {
    let moved = |from: &str, to: &str| ItemState {
        from: from.into(),
        to: to.into(),
        written_at: "2026-12-31T23:30:00Z".parse().unwrap(),
        acknowledged: true,
    };
    let job = Job { item_state: Some(moved("Todo", "In Progress")), ..job(None) };
    let mut record = RunRecord::new(&job, &subject(), Ending::Cancelled(CancelReason::Person));
    record.add_move(&moved("In Progress", "In Review"));
    let writes: Vec<String> = record.writes.iter().map(|one| format!("{} {}", one.kind, one.what)).collect();
    assert_eq!(
        writes,
        [
            "state Todo to In Progress at 2026-12-31T23:30:00Z",
            "state In Progress to In Review at 2026-12-31T23:30:00Z"
        ]
    );
}

/// The schema that scripts may rely on. `ASTRA_UPDATE_SCHEMAS=1 cargo test` writes it.
#[test]
fn the_schema_is_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/schema/run.json");
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(RunRecord)).unwrap() + "\n";
    if std::env::var_os("ASTRA_UPDATE_SCHEMAS").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), schema);
}

//! Every call of a pass, answered with every kind of trouble, on a real API server behind a proxy: whatever
//! is lost, the next pass brings the task to one released run that the ledger names.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/small_world.rs"]
mod small_world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use astra_dispatch::adapters::kubernetes::KubernetesStore;
use astra_dispatch::adapters::store::drive::drive;
use astra_dispatch::adapters::store::{Items, Store};
use astra_dispatch::domain::job::JobPhase;
use astra_dispatch::domain::kubernetes::DISPATCHER_GROUP;
use astra_dispatch::domain::ledger::EntryState;
use astra_dispatch::domain::matching::Workforce;
use astra_dispatch::domain::pass::{Hint, ItemRead, Pass, PassInput, Timing};
use astra_dispatch::domain::work_item::{ItemRef, WorkItem};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use cluster::TestCluster;
use serde_json::json;

/// Trouble instead of an answer.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// It was not carried out.
    Status(u16),
    /// The connection breaks before it was carried out.
    LostRequest,
    /// The connection breaks after it was carried out.
    LostAnswer,
}

const TROUBLES: [Trouble; 7] = [
    Trouble::Status(409),
    Trouble::Status(410),
    Trouble::Status(429),
    Trouble::Status(500),
    Trouble::Status(503),
    Trouble::LostRequest,
    Trouble::LostAnswer,
];

/// Passes calls on, with a dispatcher's rights, but for one of them.
struct Proxy {
    client: kube::Client,
    trouble: Trouble,
    /// The calls until then.
    left: AtomicUsize,
}

async fn pass_on(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let is_troubled = proxy.left.fetch_sub(1, Ordering::Relaxed) == 0;
    match proxy.trouble {
        Trouble::Status(code) if is_troubled => {
            let status = json!({"kind": "Status", "code": code, "message": "the object has been modified"});
            return Response::builder()
                .status(code)
                .header("date", "Wed, 25 Nov 2026 10:00:00 GMT")
                .header("retry-after", "0")
                .body(Body::from(status.to_string()))
                .unwrap();
        }
        Trouble::LostRequest if is_troubled => return broken(),
        _ => {}
    }
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mut onward =
        http::Request::builder().method(head.method).uri(head.uri.path_and_query().unwrap().as_str());
    for name in ["accept", "content-type"] {
        onward = onward.header(name, &head.headers[name]);
    }
    let answer =
        proxy.client.send(onward.body(kube::client::Body::from(body.to_vec())).unwrap()).await.unwrap();
    if is_troubled {
        return broken();
    }
    let (head, body) = answer.into_parts();
    let body = body.collect_bytes().await.unwrap();
    Response::builder()
        .status(head.status)
        .header("date", &head.headers["date"])
        .body(Body::from(body))
        .unwrap()
}

/// A body that fails breaks the connection off.
fn broken() -> Response {
    let broken = futures_util::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("dropped")) });
    Response::builder().status(200).body(Body::from_stream(broken)).unwrap()
}

/// The one item that a pass is for.
struct One(WorkItem);

impl Items for One {
    async fn read(&self, items: &[ItemRef]) -> Vec<ItemRead> {
        let read = |item: &ItemRef| match *item == self.0.reference() {
            true => ItemRead::Found(Box::new(self.0.clone())),
            false => ItemRead::Unread,
        };
        items.iter().map(read).collect()
    }
}

struct World {
    cluster: TestCluster,
    workforce: Workforce,
}

impl World {
    /// A store that reaches the API server by the proxy only.
    async fn store(&self, trouble: Trouble, calls: usize) -> (KubernetesStore, Arc<Proxy>) {
        let config = cluster::config(|config| {
            config.auth_info.impersonate = Some("dispatcher".into());
            config.auth_info.impersonate_groups = Some(vec![DISPATCHER_GROUP.into()]);
        });
        let client = kube::Client::try_from(config.await).unwrap();
        let proxy = Arc::new(Proxy { client, trouble, left: AtomicUsize::new(calls) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(pass_on).with_state(Arc::clone(&proxy));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        (self.cluster.store_at(config, |_, name| format!("value of {name}")), proxy)
    }

    /// One pass; whatever becomes of it.
    async fn pass(&self, store: &KubernetesStore, item: &One) -> String {
        let input = PassInput {
            workforce: &self.workforce,
            timing: Timing::default(),
            hints: vec![Hint { item: item.0.reference(), by_hand: false }],
            stop: None,
            seed: rand::random(),
        };
        format!("{:?}", drive(Pass::new(input), store, item).await)
    }

    /// One released Job of the item, which the ledger names, with its Secret.
    async fn check(&self, store: &KubernetesStore, item: &One, what: &str) {
        let ledger = store.read_ledger().await.unwrap().ledger;
        let entries: Vec<_> = ledger.entries.iter().filter(|entry| entry.item == item.0.id).collect();
        assert_eq!(entries.len(), 1, "{what}: {ledger:#?}");
        let jobs = store.list_jobs(&self.cluster.namespace()).await.unwrap().jobs;
        let jobs: Vec<_> = jobs.into_iter().filter(|job| job.item == item.0.id).collect();
        assert_eq!(jobs.len(), 1, "{what}: {jobs:#?}");
        assert_eq!((entries[0].state, jobs[0].phase), (EntryState::Started, JobPhase::Released), "{what}");
        assert_eq!(entries[0].uid.as_ref(), Some(&jobs[0].uid), "{what}");
        let secret = format!("/api/v1/namespaces/{}/secrets/{}", jobs[0].namespace, jobs[0].run);
        assert_eq!(self.cluster.get(&secret).await.status, 200, "{what}");
        assert_eq!(ledger.blocked, vec![], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn trouble_at_any_call_loses_nothing() {
    let cluster = TestCluster::new(|registry, agent| {
        let agent = registry.agents.get_mut(agent).unwrap();
        agent.max_concurrent_tasks = 200;
        // No node has room for its pods: nothing ends by itself.
        (agent.limits.cpu, agent.limits.cpu_millis) = ("1000".into(), 1_000_000);
    })
    .await;
    let world = World { workforce: Workforce::new(Arc::clone(&cluster.registry)), cluster };
    let project = *world.cluster.registry.projects.keys().next().unwrap();
    let whole = world.cluster.store().await;
    let mut number = 0;
    for trouble in TROUBLES {
        for calls in 0.. {
            number += 1;
            let item = One(WorkItem { project, ..small_world::item(number, "coder") });
            let (store, proxy) = world.store(trouble, calls).await;
            let end = world.pass(&store, &item).await;
            let was_troubled = proxy.left.load(Ordering::Relaxed) > calls;
            let what = format!("{trouble:?} at call {calls}, after which {end}");
            // The store with the troubled connection knows what it read; another process does not.
            for store in [&store, &whole] {
                world.pass(store, &item).await;
            }
            world.check(&whole, &item, &what).await;
            if !was_troubled {
                assert!(calls >= 8, "a pass has more calls than {calls}");
                break;
            }
        }
    }
    world.cluster.remove().await;
}

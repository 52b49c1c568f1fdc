use serde_json::json;

use super::*;

fn arrival(number: u8, text: &str) -> Arrival {
    Arrival {
        sha256: [number; 32],
        body: json!({"event": "issue", "text": text}).to_string(),
        pending: Pending {
            id: 0,
            item: Some(uuid::Uuid::from_u128(7)),
            field: Some("labels".to_owned()),
            updated_at: Some("2026-11-23T10:00:00.123456Z".parse().unwrap()),
            received_at: "2026-11-23T10:00:01.5Z".parse().unwrap(),
        },
    }
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart_and_nothing_is_stored_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.sqlite3");
    let spool = Spool::open(&path).unwrap();
    let other = Spool::open(&path).err().unwrap();
    assert_eq!(other.cause, "another relay uses this spool");
    assert!(spool.store(arrival(1, "a")).await.unwrap());
    assert!(!spool.store(arrival(1, "a")).await.unwrap());
    assert!(spool.store(arrival(2, "b")).await.unwrap());
    drop(spool);

    let spool = Spool::open(&path).unwrap();
    let pending = spool.pending(10).await.unwrap();
    let expected = [
        Pending { id: 1, ..arrival(1, "a").pending },
        Pending { id: pending[1].id, ..arrival(2, "b").pending },
    ];
    assert_eq!(pending, expected);
    let spooled = spool.load(1).await.unwrap().unwrap();
    assert_eq!(spooled.sha256, "01".repeat(32));
    assert_eq!(spooled.body, arrival(1, "a").body);
    assert_eq!(spooled.received_at, pending[0].received_at);

    spool.end(vec![1], Ended::Forwarded).await.unwrap();
    spool.end(vec![pending[1].id], Ended::Refused).await.unwrap();
    assert_eq!(spool.count().await.unwrap(), (0, None));
    assert!(!spool.store(arrival(1, "a")).await.unwrap(), "it is remembered");
    spool.forget("2026-12-01T00:00:00Z".parse().unwrap()).await.unwrap();
    assert!(spool.store(arrival(1, "a")).await.unwrap(), "it is forgotten");
    assert!(!spool.store(arrival(2, "b")).await.unwrap(), "what was refused is kept");
}

#[tokio::test]
async fn a_full_disk_refuses_and_keeps_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let connection = connect(&directory.path().join("relay.sqlite3")).unwrap();
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    connection.pragma_update(None, "max_page_count", pages + 3).unwrap();
    let spool = Spool::of_connection(connection, HashSet::new()).unwrap();
    let large = "x".repeat(40_000);
    assert!(spool.store(arrival(1, &large)).await.unwrap());
    // Together with one that fits: only the other is refused.
    let (refused, stored) = tokio::join!(spool.store(arrival(2, &large)), spool.store(arrival(3, "small")));
    assert!(refused.unwrap_err().to_string().contains("full"));
    assert!(stored.unwrap());
    assert_eq!(spool.pending(10).await.unwrap().len(), 2);
    // What was forwarded makes room.
    spool.end(vec![1], Ended::Forwarded).await.unwrap();
    assert!(spool.store(arrival(2, &large)).await.unwrap());
}

#[tokio::test]
async fn many_at_once_are_all_kept() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(&directory.path().join("relay.sqlite3")).unwrap();
    let stores = (0..200).map(|number| spool.store(arrival(number, "x")));
    for stored in futures_util::future::join_all(stores).await {
        assert!(stored.unwrap());
    }
    assert_eq!(spool.count().await.unwrap().0, 200);
}

#[test]
fn a_spool_of_a_later_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.sqlite3");
    connect(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let error = Spool::open(&path).err().unwrap();
    assert!(error.cause.contains("version 9"), "{error}");
}

#[tokio::test]
async fn a_spool_of_the_first_version_is_used_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.sqlite3");
    let first = SCHEMA.replace("sha256 BLOB NOT NULL", "sha256 BLOB NOT NULL UNIQUE");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(&format!("{first} PRAGMA user_version = 1;")).unwrap();
    old.execute("INSERT INTO events (sha256, received_at, state) VALUES (?1, 0, 1)", [[1_u8; 32]]).unwrap();
    drop(old);
    let spool = Spool::open(&path).unwrap();
    assert!(!spool.store(arrival(1, "a")).await.unwrap(), "it is remembered");
    assert!(spool.store(arrival(2, "b")).await.unwrap());
}

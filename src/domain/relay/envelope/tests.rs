use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::event::{Delivery, Event, RELAY_VERSION, Subject};
use crate::domain::relay::coalesce::{Pending, edits};

fn relay(truncated: Vec<String>, coalesced: Vec<String>) -> Relay {
    Relay {
        version: RELAY_VERSION,
        received_at: "2026-11-23T10:00:00Z".parse().unwrap(),
        body_sha256: "a".repeat(64),
        coalesced,
        truncated,
    }
}

/// The envelope as the event file of a workflow, and its length.
fn envelope(body: &Value) -> (Vec<u8>, usize, Map<String, Value>) {
    let fitted = fit(body);
    let payload = wrap(fitted.body, &relay(fitted.truncated, vec!["x".repeat(40); 40])).unwrap();
    let length = size(&payload);
    (serde_json::to_vec(&json!({"client_payload": payload})).unwrap(), length, payload)
}

fn delivery(json: &[u8]) -> Delivery {
    match Event::parse(json).unwrap() {
        Event::Delivered(delivery) => *delivery,
        Event::ByHand(_) => panic!("no delivery"),
    }
}

fn recordings() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/events");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(|c: char| c.is_ascii_digit()))
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn every_recorded_body_fits_and_says_the_same() {
    let recordings = recordings();
    assert!(recordings.len() > 50);
    for (name, body) in recordings {
        let (json, length, payload) = envelope(&serde_json::from_slice(&body).unwrap());
        assert!(length < LARGEST && payload.len() <= 10, "{name}: {length}");
        let (before, mut after) = (delivery(&body), delivery(&json));
        assert!(after.relay.take().is_some());
        if let (Subject::Item(before), Subject::Item(after)) = (&before.subject, &mut after.subject)
            && body.len() > LARGEST
        {
            assert!(!after.description.is_empty());
            after.description = before.description.clone();
        }
        assert_eq!(before, after, "{name}");
    }
}

#[test]
fn the_largest_recording_says_what_was_cut() {
    let (_, body) = recordings().into_iter().max_by_key(|(_, body)| body.len()).unwrap();
    assert!(body.len() > 460_000);
    let fitted = fit(&serde_json::from_slice(&body).unwrap());
    let mut cut = fitted.truncated.clone();
    cut.sort();
    assert_eq!(cut, ["data.description_html", "data.description_stripped"]);
    let kept = fitted.body["data"]["description_html"].as_str().unwrap();
    assert!(kept.ends_with(CUT) && kept.len() > 10_000, "{}", kept.len());
}

#[test]
fn nobody_else_speaks_for_the_relay() {
    let fitted = fit(&json!({"event": "issue", "relay": {"version": 9}}));
    assert_eq!(fitted.body.keys().collect::<Vec<_>>(), ["event"]);
}

#[test]
fn ten_top_level_keys_and_not_more() {
    let mut body = serde_json::Map::new();
    for number in 0..30 {
        body.insert(format!("key{number}"), json!(number));
    }
    body.insert("data".to_owned(), json!({}));
    body.insert("event".to_owned(), json!("issue"));
    let (_, _, payload) = envelope(&Value::Object(body));
    assert_eq!(payload.len(), 10);
    assert!(payload.contains_key("event") && payload.contains_key("data"));
    assert!(payload["relay"]["truncated"].as_array().unwrap().contains(&json!("key20")));
}

#[test]
fn an_item_of_any_size_still_parses() {
    let (_, body) =
        recordings().into_iter().find(|(name, _)| name.contains("10-issue-created-label")).unwrap();
    let base: Value = serde_json::from_slice(&body).unwrap();
    let member = base["activity"]["actor"].clone();
    let nested = (0..60).fold(json!(1), |inner, _| json!({"a": inner, "b": "x".repeat(2_000)}));
    let wide: Map<String, Value> = (0..30_000).map(|number| (format!("k{number}"), json!(number))).collect();
    for (name, key, value) in [
        ("many assignees", "assignees", json!(vec![member; 3_000])),
        ("deep", "zzz", nested),
        ("wide", "zzz", Value::Object(wide)),
        ("control characters", "description_html", json!("\u{1}".repeat(3_000_000))),
        ("emoji", "description_html", json!("🦀".repeat(1_000_000))),
        ("long key", &"k".repeat(100_000), json!(1)),
        ("long lists", "zzz", json!(vec![vec![vec![1; 100]; 100]; 100])),
    ] {
        let mut body = base.clone();
        body["data"][key] = value;
        let (json, length, payload) = envelope(&body);
        assert!(length < LARGEST && payload.len() <= 10, "{name}: {length}");
        let before = delivery(base.to_string().as_bytes());
        let after = delivery(&json);
        let (before, after) = (before.item().unwrap().clone(), after.item().unwrap().clone());
        assert_eq!((before.id, before.labels, before.state), (after.id, after.labels, after.state), "{name}");
        assert!(!payload["relay"]["truncated"].as_array().unwrap().is_empty(), "{name}");
    }
}

#[test]
fn the_events_of_one_edit_are_one() {
    let mut pending = Vec::new();
    for (name, body) in recordings() {
        if !name.contains("20-issue-updated-many-fields") {
            continue;
        }
        let head = crate::domain::relay::filter::Head::read(std::str::from_utf8(&body).unwrap()).unwrap();
        let id = i64::try_from(pending.len()).unwrap();
        let received_at = "2026-11-23T10:00:00Z".parse().unwrap();
        pending.push(Pending {
            id,
            item: head.item,
            field: head.field,
            updated_at: head.updated_at,
            received_at,
        });
    }
    let found = edits(&pending);
    assert_eq!((found.len(), found[0].ids.len(), found[0].fields.len()), (1, 6, 5));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (".{0,8}", 1..3_000_usize).prop_map(|(text, times)| Value::from(text.repeat(times))),
    ];
    leaf.prop_recursive(5, 400, 30, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..30).prop_map(Value::from),
            prop::collection::vec((".{0,12}", inner), 0..30)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn anything_fits(data in any_json(), activity in any_json(), other in any_json()) {
        let body = json!({"event": "issue", "data": data, "activity": activity, "other": other});
        let (_, length, payload) = envelope(&body);
        prop_assert!(length < LARGEST, "{}", length);
        prop_assert!(payload.len() <= 10);
    }
}

//! The relay as people run it: the real program, recorded deliveries with their headers, and a
//! stand-in for GitHub.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

#[path = "support/relay.rs"]
mod relay;
#[path = "support/site.rs"]
mod site;

use relay::{GitHubFake, Relay, SECRET, Says, post, recorded, signed};
use site::Site;

const LABELLED: &str = "10-issue-created-label-agent-coder";

fn place() -> Site {
    Site::new("true", 1)
}

#[test]
fn every_recorded_delivery_is_admitted_byte_for_byte() {
    let (site, github) = (place(), GitHubFake::start());
    let relay = Relay::start(&site, &github, &[]);
    let mut matter = 0;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webhook-headers");
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".headers.json", ""))
        .collect();
    names.sort();
    assert!(names.len() > 50);
    for name in &names {
        let (headers, body) = recorded(name);
        assert_eq!(post(&relay, &headers, &body), Some(200), "{name}");
        let value: Value = serde_json::from_slice(&body).unwrap();
        if value["event"] == "issue" && value["data"]["project"] == site::PROJECT {
            matter += 1;
        }
    }
    let metrics = relay.get("/metrics").1;
    let counted = |outcome: &str| relay::counter(&metrics, "deliveries", outcome);
    assert_eq!(counted("stored") + counted("duplicate"), matter, "{metrics}");
    // 90 and 92 are deliveries that Plane made twice.
    assert!(counted("duplicate") >= 2, "{metrics}");
    assert_eq!(counted("other_project"), 1, "{metrics}");
    assert_eq!(counted("bad_signature"), 0, "{metrics}");
    assert_eq!(
        counted("stored") + counted("duplicate") + counted("other_project") + counted("no_work_item"),
        names.len() as u64,
        "{metrics}"
    );
}

#[test]
fn an_event_becomes_one_dispatch_that_dispatch_can_read() {
    let (site, github) = (place(), GitHubFake::start());
    let relay = Relay::start(&site, &github, &[]);
    let (headers, body) = recorded(LABELLED);
    for _ in 0..3 {
        assert_eq!(post(&relay, &headers, &body), Some(200));
    }
    let (headers, large) = recorded("46-issue-created-200kb");
    assert_eq!(post(&relay, &headers, &large), Some(200));
    let raised = github.wait_for(2);
    github.stays_at(2);
    assert_eq!(raised[0]["event_type"], "plane-event");
    let payload = &raised[0]["client_payload"];
    let original: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(payload["data"], original["data"]);
    assert_eq!(payload["relay"]["coalesced"], json!([]));
    let largest = serde_json::to_vec(&raised[1]["client_payload"]).unwrap().len();
    assert!(largest < 60_000, "{largest}");
    assert!(raised[1]["client_payload"]["relay"]["truncated"].as_array().unwrap().len() >= 2);

    site.write("event.json", &json!({"action": "plane-event", "client_payload": payload}).to_string());
    let explained = site.command(&["explain", "--event", "event.json", "--format", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!((&report["outcome"], &report["agent"]), (&json!("dispatched"), &json!("vega")), "{report}");
}

#[test]
fn the_events_of_one_edit_are_one_dispatch() {
    let (site, github) = (place(), GitHubFake::start());
    let relay = Relay::start(&site, &github, &[]);
    for number in 1..=6 {
        let (headers, body) = recorded(&format!("20-issue-updated-many-fields-{number}"));
        assert_eq!(post(&relay, &headers, &body), Some(200));
    }
    let raised = github.wait_for(1);
    github.stays_at(1);
    assert_eq!(raised[0]["client_payload"]["relay"]["coalesced"].as_array().unwrap().len(), 5);
}

#[test]
fn what_is_not_genuine_is_refused() {
    let (site, github) = (place(), GitHubFake::start());
    let relay = Relay::start(&site, &github, &[("ASTRA_WEBHOOK_SECRET", &format!("new\n{SECRET}\n"))]);
    let (headers, body) = recorded(LABELLED);
    let without: Vec<_> = headers.iter().filter(|(name, _)| name != "X-Plane-Signature").cloned().collect();
    assert_eq!(post(&relay, &without, &body), Some(401));
    let mut flipped = body.clone();
    flipped[100] ^= 1;
    assert_eq!(post(&relay, &headers, &flipped), Some(401));
    assert_eq!(post(&relay, &signed("wrong", &body), &body), Some(401));
    assert_eq!(post(&relay, &signed("new", b"no json"), b"no json"), Some(400));
    assert_eq!(post(&relay, &headers, &body), Some(200), "the old secret");
    assert_eq!(post(&relay, &signed("new", &body), &body), Some(200), "the new secret");
    let large = vec![b' '; 32 * 1024 * 1024 + 1];
    let answer = relay.exchange(&format!(
        "POST /plane HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        large.len()
    ));
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let largest = &large[1..];
    assert_eq!(post(&relay, &signed("new", largest), largest), Some(400), "as long as may be, and no event");
    let chunked =
        "POST /plane HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(relay.exchange(chunked).starts_with("HTTP/1.1 411"));
    github.wait_for(1);
    github.stays_at(1);
}

#[test]
fn without_a_secret_or_a_way_to_github_it_does_not_start() {
    let site = place();
    for (variables, cause) in [
        (vec![("GITHUB_TOKEN", "t"), ("GITHUB_REPOSITORY", "astra/ops")], "no secret"),
        (vec![("ASTRA_WEBHOOK_SECRET", "\n \n"), ("GITHUB_TOKEN", "t")], "no secret"),
        (vec![("ASTRA_WEBHOOK_SECRET", "s"), ("GITHUB_REPOSITORY", "astra/ops")], "sign in to GitHub"),
        (vec![("ASTRA_WEBHOOK_SECRET", "s"), ("GITHUB_TOKEN", "t")], "no repository is named"),
        (vec![("ASTRA_WEBHOOK_SECRET", "s"), ("ASTRA_APP_ID", "1")], "ASTRA_APP_PRIVATE_KEY is not"),
    ] {
        let output = site.command(&["relay", "--listen", "127.0.0.1:0"]).envs(variables).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(cause), "{text}");
        assert_eq!(output.status.code(), Some(2), "{text}");
    }
}

#[test]
fn our_own_changes_start_nothing() {
    let (site, github) = (place(), GitHubFake::start());
    let (headers, body) = recorded("23-issue-updated-state-by-bot-token");
    let value: Value = serde_json::from_slice(&body).unwrap();
    let actor = value["activity"]["actor"]["id"].as_str().unwrap();
    let relay = Relay::start(&site, &github, &[("ASTRA_OWN_ACTOR", actor)]);
    assert_eq!(post(&relay, &headers, &body), Some(200));
    let metrics = relay.get("/metrics").1;
    assert_eq!(relay::counter(&metrics, "deliveries", "own_actor"), 1, "{metrics}");
}

#[test]
fn killed_between_answer_and_dispatch_it_forwards_once() {
    let (site, github) = (place(), GitHubFake::start());
    let (headers, body) = recorded(LABELLED);
    let mut relay = Relay::start(&site, &github, &[]);
    assert_eq!(post(&relay, &headers, &body), Some(200));
    relay.kill();
    assert_eq!(github.raised().len(), 0);
    let mut relay = Relay::start(&site, &github, &[]);
    assert_eq!(post(&relay, &headers, &body), Some(200), "Plane sends it again");
    github.wait_for(1);
    github.stays_at(1);
    relay.kill();
    let relay = Relay::start(&site, &github, &[]);
    assert_eq!(post(&relay, &headers, &body), Some(200), "somebody replays it");
    github.stays_at(1);
}

#[test]
fn whatever_github_answers_the_event_arrives_once() {
    for (answers, outcomes) in [
        (
            vec![Says::Status(500, ""), Says::Status(401, ""), Says::Status(403, "retry-after: 1")],
            ["unavailable", "token_rejected", "rate_limited"],
        ),
        (
            vec![Says::Status(404, ""), Says::Status(429, "retry-after: 1"), Says::Close],
            ["not_found", "rate_limited", "unreachable"],
        ),
        (
            vec![
                Says::Status(403, ""),
                Says::Status(307, "location: /elsewhere"),
                Says::Status(403, "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1"),
            ],
            ["not_allowed", "moved", "rate_limited"],
        ),
    ] {
        let (site, github) = (place(), GitHubFake::start());
        answers.into_iter().for_each(|says| github.will_say(says));
        let relay = Relay::start(&site, &github, &[]);
        let (headers, body) = recorded(LABELLED);
        assert_eq!(post(&relay, &headers, &body), Some(200));
        github.wait_for(1);
        github.stays_at(1);
        let metrics = relay.get("/metrics").1;
        for outcome in outcomes.into_iter().chain(["forwarded"]) {
            assert_eq!(relay::counter(&metrics, "dispatches", outcome), 1, "{outcome}: {metrics}");
        }
        assert!(metrics.contains("astra_relay_waiting_events 0"), "{metrics}");
    }
}

#[test]
fn what_github_never_takes_is_set_aside_and_holds_nobody_up() {
    let (site, github) = (place(), GitHubFake::start());
    github.will_say(Says::Status(422, ""));
    let relay = Relay::start(&site, &github, &[]);
    for name in [LABELLED, "40-issue-created-no-agent-label"] {
        let (headers, body) = recorded(name);
        assert_eq!(post(&relay, &headers, &body), Some(200));
    }
    github.wait_for(1);
    github.stays_at(1);
}

#[test]
fn an_event_that_nobody_can_read_takes_no_other_of_its_item_with_it() {
    let (site, github) = (place(), GitHubFake::start());
    let relay = Relay::start(&site, &github, &[]);
    // Of two events with the same state of their item the first stands for both.
    let (headers, body) = recorded(LABELLED);
    let mut half: Value = serde_json::from_slice(&body).unwrap();
    half["data"]["name"] = json!("half a character");
    let half = half.to_string().replace("half a character", r"\ud800").into_bytes();
    assert_eq!(post(&relay, &signed(SECRET, &half), &half), Some(200));
    assert_eq!(post(&relay, &headers, &body), Some(200));
    let raised = github.wait_for(1);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(raised[0]["client_payload"]["data"], body["data"]);
    github.stays_at(1);
    assert_eq!(relay::counter(&relay.get("/metrics").1, "dispatches", "unreadable_event"), 1);
}

#[test]
fn on_a_full_disk_nothing_is_answered_and_nothing_is_lost() {
    let (site, github) = (place(), GitHubFake::start());
    // A file may have 4 MiB, and the signal that says so is ignored: writing fails, as on a full disk.
    let mut relay = Relay::start_in_shell(&site, &github, "trap '' XFSZ; ulimit -f 8192; exec \"$@\"");
    let (_, body) = recorded("46-issue-created-200kb");
    github.will_say(Says::Status(403, "retry-after: 3600"));
    let mut value: Value = serde_json::from_slice(&body).unwrap();
    let mut taken = 0;
    loop {
        value["data"]["id"] = json!(format!("00000000-0000-4000-8000-{taken:012}"));
        let body = serde_json::to_vec(&value).unwrap();
        match post(&relay, &signed(SECRET, &body), &body) {
            Some(200) => taken += 1,
            None => break,
            Some(other) => panic!("{other}"),
        }
        assert!(taken < 1_000, "it never fills");
    }
    assert!(taken > 0);
    assert_eq!(relay.get("/healthz").0, 200);
    relay.kill();
    // The first relay may have been killed before it sent anything.
    github.says_yes();
    // With room again, what was answered goes out, and Plane sends what was not.
    let relay = Relay::start(&site, &github, &[]);
    let body = serde_json::to_vec(&value).unwrap();
    assert_eq!(post(&relay, &signed(SECRET, &body), &body), Some(200));
    assert_eq!(relay.get("/readyz").0, 200);
    github.wait_for(taken + 1);
    github.stays_at(taken + 1);
}

#[test]
fn told_to_stop_it_stops_and_keeps_what_waits() {
    let (site, github) = (place(), GitHubFake::start());
    let mut relay = Relay::start(&site, &github, &[]);
    let (headers, body) = recorded(LABELLED);
    assert_eq!(post(&relay, &headers, &body), Some(200));
    // A connection that says nothing does not hold it up.
    let _idle = relay.connect();
    let begun = std::time::Instant::now();
    assert_eq!(relay.terminate(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let second = Relay::start(&site, &github, &[]);
    github.wait_for(1);
    let other = site
        .command(&["relay", "--listen", "127.0.0.1:0"])
        .envs([("ASTRA_WEBHOOK_SECRET", "s"), ("GITHUB_TOKEN", "t"), ("GITHUB_REPOSITORY", "astra/ops")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&other.stderr).contains("another relay uses this spool"));
    drop(second);
}

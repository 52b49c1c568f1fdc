use super::*;
use crate::domain::registry::sample;

fn names(names: &[&str]) -> Vec<AgentName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn said(target: Target, outcome: Outcome) -> String {
    let tried = Tried { target, address: "10.0.0.1:443".into(), outcome };
    let finding = judge(&sample().agents[&"vega".parse().unwrap()], &tried);
    format!("{:?} {} {:?}", finding.state, finding.check, finding.faults)
}

#[test]
fn what_must_fail_and_what_must_not() {
    let table = [
        (
            Target::ApiServer,
            Outcome::Connected,
            r#"Failed agent-vega: probe: its pods do not reach the API server ["NOT ENFORCED: 10.0.0.1:443 answered it"]"#,
        ),
        (
            Target::AgentPod,
            Outcome::Refused,
            "Passed agent-vega: probe: its pods do not reach an agent's pod: enforced (10.0.0.1:443: refused) []",
        ),
        (
            Target::Metadata,
            Outcome::Unanswered,
            // Nothing is known to be there.
            r#"Unknown agent-vega: probe: its pods do not reach the metadata service ["10.0.0.1:443: no answer: kept away, or there is no such service here"]"#,
        ),
        (
            Target::ForeignDns,
            Outcome::Connected,
            r#"Failed agent-vega: probe: its pods do not reach a foreign name server ["NOT ENFORCED: 10.0.0.1:443 answered it"]"#,
        ),
        (
            Target::Allowed,
            Outcome::Connected,
            "Passed agent-vega: probe: its pods reach what `network.allow` names []",
        ),
        (
            Target::Allowed,
            Outcome::Unanswered,
            r#"Failed agent-vega: probe: its pods reach what `network.allow` names ["10.0.0.1:443: no answer: the agent may reach it, and does not"]"#,
        ),
        (
            Target::NameServer,
            Outcome::Connected,
            "Passed agent-vega: probe: its pods reach the cluster's DNS []",
        ),
        (
            Target::NameServer,
            Outcome::Unreachable,
            r#"Failed agent-vega: probe: its pods reach the cluster's DNS ["10.0.0.1:443: no way there: an agent cannot look up names"]"#,
        ),
    ];
    for (target, outcome, text) in table {
        assert_eq!(said(target, outcome), text);
    }
}

#[test]
fn a_pod_without_a_name_server_is_said() {
    let found = findings(&sample().agents[&"vega".parse().unwrap()], &[]);
    assert_eq!((found.len(), found[0].state), (1, State::Unknown));
}

#[test]
fn everybody_has_somebody_else_to_reach() {
    let three = names(&["a", "b", "c"]);
    for (agent, other) in [("a", "b"), ("b", "a"), ("c", "a")] {
        assert_eq!(listener_for(&three, &agent.parse().unwrap()).unwrap().as_str(), other);
    }
    assert_eq!(listeners(&three), names(&["a", "b"]));
    let alone = names(&["a"]);
    assert_eq!(listener_for(&alone, &alone[0]), Some(&alone[0]));
    assert_eq!(listeners(&[]), []);
}

#[test]
fn attempts_are_read_as_they_are_written() {
    let listener = "fd00::5".parse().unwrap();
    let vega = allowing(&["10.0.0.5/32:8443", "10.1.0.0/16:443", "[fd00::7/128]:1"]);
    let all: Vec<String> =
        attempts(&vega, &["10.0.0.1:6443".into()], listener).iter().map(Attempt::to_string).collect();
    let expected = [
        "api-server=10.0.0.1:6443",
        "agent-pod=[fd00::5]:8080",
        "foreign-dns=[fd00::5]:53",
        "metadata=169.254.169.254:80",
        "allowed=10.0.0.5:8443",
        "allowed=[fd00::7]:1",
    ];
    assert_eq!(all, expected);
    for text in &all {
        assert_eq!(text.parse::<Attempt>().unwrap().to_string(), *text);
    }
    assert!("10.0.0.1:6443".parse::<Attempt>().is_err());
}

fn allowing(entries: &[&str]) -> Agent {
    let mut vega = sample().agents[&"vega".parse().unwrap()].clone();
    vega.network.allow = entries.iter().map(|&entry| entry.to_owned()).collect();
    vega
}

#[test]
fn what_is_allowed_is_no_hole() {
    let vega = allowing(&["10.0.0.0/24:443", "0.0.0.0/0:8080", "[fd00::/8]:53"]);
    for (target, address, state) in [
        (Target::ApiServer, "10.0.0.1:443", State::Warned),
        (Target::ApiServer, "10.0.1.1:443", State::Failed),
        (Target::ApiServer, "10.0.0.1:6443", State::Failed),
        (Target::ApiServer, "[fd00::1]:443", State::Failed),
        (Target::AgentPod, "10.9.9.9:8080", State::Warned),
        // What is allowed is TCP.
        (Target::ForeignDns, "[fd00::1]:53", State::Failed),
    ] {
        let tried = Tried { target, address: address.into(), outcome: Outcome::Connected };
        assert_eq!(judge(&vega, &tried).state, state, "{address}");
    }
}

#[test]
fn the_job() {
    let vega = &sample().agents[&"vega".parse().unwrap()];
    let attempts = attempts(vega, &[], [10, 0, 0, 9].into());
    let job = job(vega, "image@sha256:1", "doctor-try-1", &Part::Try(attempts));
    insta::assert_snapshot!(serde_saphyr::to_string(&job).unwrap());
}

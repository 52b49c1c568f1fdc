use super::*;
use crate::domain::registry::sample;

fn names(names: &[&str]) -> Vec<AgentName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn said(target: Target, outcome: Outcome) -> String {
    let tried = Tried { target, address: "10.0.0.1:443".into(), outcome };
    let finding = judge(&"vega".parse().unwrap(), &tried);
    format!("{:?} {} {:?}", finding.state, finding.check, finding.faults)
}

#[test]
fn what_must_fail_and_what_must_not() {
    let table = [
        (
            Target::ApiServer,
            Outcome::Connected,
            r#"Failed agent-vega: probe: its pods do not reach the API server ["NOT ENFORCED: 10.0.0.1:443 let it connect"]"#,
        ),
        (
            Target::AgentPod,
            Outcome::Refused,
            "Passed agent-vega: probe: its pods do not reach an agent's pod: enforced (10.0.0.1:443: refused) []",
        ),
        (
            Target::Metadata,
            Outcome::Unanswered,
            "Passed agent-vega: probe: its pods do not reach the metadata service: enforced (10.0.0.1:443: no answer) []",
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
    let found = findings(&"vega".parse().unwrap(), &[]);
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
    let all: Vec<String> =
        attempts(&["10.0.0.1:6443".into()], listener).iter().map(Attempt::to_string).collect();
    assert_eq!(all, ["api-server=10.0.0.1:6443", "agent-pod=[fd00::5]:8080", "metadata=169.254.169.254:80"]);
    for text in &all {
        assert_eq!(text.parse::<Attempt>().unwrap().to_string(), *text);
    }
    assert!("10.0.0.1:6443".parse::<Attempt>().is_err());
}

#[test]
fn the_job() {
    let vega = &sample().agents[&"vega".parse().unwrap()];
    let job = job(vega, "image@sha256:1", "doctor-try-1", &Part::Try(attempts(&[], [10, 0, 0, 9].into())));
    insta::assert_snapshot!(serde_saphyr::to_string(&job).unwrap());
}

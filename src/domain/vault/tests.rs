use super::*;

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// `vega A=1@10` is vega's key A with value 1, set in second 10.
fn vault(entries: &[&str]) -> Vault {
    let mut vault = Vault::default();
    for entry in entries {
        let (agent, rest) = entry.split_once(' ').unwrap();
        let (key, rest) = rest.split_once('=').unwrap();
        let (value, second) = rest.split_once('@').unwrap();
        let credential = Credential { value: value.to_owned().into(), set_at: at(second.parse().unwrap()) };
        vault.agents.entry(name(agent)).or_default().insert(key.to_owned(), credential);
    }
    vault
}

fn shown(vault: &Vault) -> Vec<String> {
    vault
        .entries()
        .map(|(agent, key, one)| {
            format!("{agent} {key}={}@{}", one.value.expose_secret(), one.set_at.as_second())
        })
        .collect()
}

#[test]
fn a_vault_survives_its_json_and_other_json_is_none() {
    let mut held = vault(&["vega A=line\n2@10", "rigel B=\"quoted\"@20"]);
    held.recipients.insert("age1x".to_owned());
    let text = encode(&held).unwrap();
    let read = decode(text.expose_secret().as_bytes()).unwrap();
    assert_eq!((shown(&read), &read.recipients), (shown(&held), &held.recipients));
    assert!(!format!("{held:?}").contains("line"), "Debug shows no value");

    for (text, expected) in [
        (r#"{"version":2,"secrets":[]}"#, "the vault has version 2, and this program reads version 1"),
        ("", "what is encrypted in it is no vault (line 1, column 0)"),
        (
            r#"{"version":1,"recipients":[],"agents":{"vega":{"A":"s3cret"}}}"#,
            "what is encrypted in it is no vault (line 1, column 59)",
        ),
        (
            r#"{"version":1,"recipients":[],"agents":{},"s3cret":1}"#,
            "what is encrypted in it is no vault (line 1, column 49)",
        ),
    ] {
        let error = decode(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error, expected);
    }
}

#[test]
fn a_value_is_checked_when_it_comes_in() {
    let long = |count: usize| vec![b'x'; count];
    let ended = |mut bytes: Vec<u8>| {
        bytes.extend(b"\r\n");
        bytes
    };
    for (bytes, expected) in [
        (b"token-42".to_vec(), Ok(8)),
        (b"token-42\n".to_vec(), Ok(8)),
        (b"token-42\r\n".to_vec(), Ok(8)),
        (b"token-4".to_vec(), Err(ValueFault::TooShort)),
        (b"  token-4\n\n".to_vec(), Err(ValueFault::TooShort)),
        (b"-----BEGIN\nline\n\n".to_vec(), Ok(16)),
        (b"".to_vec(), Err(ValueFault::Empty)),
        (b" \n\n".to_vec(), Err(ValueFault::Empty)),
        (b"token\0token".to_vec(), Err(ValueFault::Nul)),
        (b"a\xff".to_vec(), Err(ValueFault::NotText)),
        (long(LARGEST_VALUE), Ok(LARGEST_VALUE)),
        (ended(long(LARGEST_VALUE)), Ok(LARGEST_VALUE)),
        (long(LARGEST_VALUE + 1), Err(ValueFault::TooLong)),
        (long(1 << 20), Err(ValueFault::TooLong)),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
        assert_eq!(value_of(bytes).map(|value| value.expose_secret().len()), expected, "{shown:?}");
    }
}

#[test]
fn a_new_value_is_newer_than_the_old_one_whatever_the_clock_says() {
    let mut vault = vault(&["vega A=1@100"]);
    let old = vault.set(&name("vega"), "A", "2".to_owned().into(), at(50)).unwrap();
    assert_eq!(old.value.expose_secret(), "1");
    assert!(vault.get(&name("vega"), "A").unwrap().set_at > at(100));
    vault.set(&name("vega"), "B", "3".to_owned().into(), at(50));
    assert_eq!(shown(&vault), ["vega A=2@100", "vega B=3@50"]);
    assert!(vault.remove(&name("vega"), "A").is_some() && vault.remove(&name("vega"), "A").is_none());
    assert!(vault.remove(&name("vega"), "B").is_some() && vault.agents.is_empty());
}

#[test]
fn a_merge_keeps_what_both_sides_did() {
    type Entries = &'static [&'static str];
    let table: &[(&str, Entries, Entries, Entries, Entries, usize)] = &[
        ("added by both", &[], &["vega A=1@1"], &["vega B=2@2"], &["vega A=1@1", "vega B=2@2"], 0),
        ("other agents", &[], &["vega A=1@1"], &["rigel A=2@2"], &["rigel A=2@2", "vega A=1@1"], 0),
        ("changed by ours", &["vega A=1@1"], &["vega A=2@2"], &["vega A=1@1"], &["vega A=2@2"], 0),
        ("changed by theirs", &["vega A=1@1"], &["vega A=1@1"], &["vega A=2@2"], &["vega A=2@2"], 0),
        // The clock of who changed it was behind: still the only change.
        ("changed, older", &["vega A=1@9"], &["vega A=1@9"], &["vega A=2@2"], &["vega A=2@2"], 0),
        ("removed", &["vega A=1@1"], &[], &["vega A=1@1"], &[], 0),
        ("removed by both", &["vega A=1@1"], &[], &[], &[], 0),
        ("both, theirs newer", &["vega A=1@1"], &["vega A=2@2"], &["vega A=3@3"], &["vega A=3@3"], 1),
        ("both, ours newer", &["vega A=1@1"], &["vega A=2@4"], &["vega A=3@3"], &["vega A=2@4"], 1),
        ("both the same", &[], &["vega A=2@2"], &["vega A=2@3"], &["vega A=2@3"], 0),
        ("set and removed", &["vega A=1@1"], &[], &["vega A=3@3"], &["vega A=3@3"], 1),
        ("removed and set", &["vega A=1@1"], &["vega A=3@3"], &[], &["vega A=3@3"], 1),
    ];
    for (case, base, ours, theirs, expected, notes) in table {
        let (merged, said) = merge(&vault(base), &vault(ours), &vault(theirs));
        assert_eq!(shown(&merged), *expected, "{case}");
        assert_eq!(said.len(), *notes, "{case}: {said:?}");
        let about = said.iter().all(|note| note.to_string().starts_with("vega A: "));
        assert!(about, "{case}: {said:?}");
    }
}

#[test]
fn a_merge_lets_in_whom_one_side_added_and_out_whom_one_side_removed() {
    let with = |recipients: &[&str]| Vault {
        recipients: recipients.iter().map(|&one| one.to_owned()).collect(),
        ..Vault::default()
    };
    let (merged, _) = merge(&with(&["a", "b", "c"]), &with(&["a", "c", "d"]), &with(&["a", "b", "e"]));
    assert_eq!(merged.recipients, with(&["a", "d", "e"]).recipients);
}

#[test]
fn comments_of_the_recipients_stay() {
    let set = |recipients: &[&str]| recipients.iter().map(|&one| one.to_owned()).collect();
    let text = "# Ada\nage1a\n# CI\nage1c\n";
    assert_eq!(recipient_lines(text, &set(&["age1a", "age1b", "age1c"]), None), format!("{text}age1b\n"));
    assert_eq!(recipient_lines(text, &set(&["age1a"]), Some("age1c")), "# Ada\nage1a\n# CI\n");
    assert_eq!(not_admitted(text, &set(&["age1a"])), ["age1c"]);
}

#[test]
fn ages_are_said_in_one_unit() {
    for (seconds, expected) in [
        (-1, "in the future: a clock was wrong"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7_199, "1 hour ago"),
        (7_200, "2 hours ago"),
        (86_400 * 90, "90 days ago"),
    ] {
        assert_eq!(age(at(1_000_000), at(1_000_000 + seconds)), expected, "{seconds}");
    }
}

#[test]
fn a_key_is_one_that_the_agents_file_lists() {
    let registry = crate::domain::registry::sample();
    let agent = &registry.agents[&name("vega")];
    assert!(check_key(agent, "ANTHROPIC_API_KEY").is_ok() && check_key(agent, "GITHUB_TOKEN").is_ok());
    for (key, cause, remedy) in [
        ("ANTROPIC_API_KEY", "agents/vega.yaml does not list this key", "did you mean `ANTHROPIC_API_KEY`?"),
        ("OPENAI_API_KEY", "agents/vega.yaml does not list this key", "add it to `credentials.env`"),
        ("sk-ant-s3cret", "this is no name of an environment variable", "`ANTHROPIC_API_KEY`"),
        ("1KEY", "this is no name of an environment variable", "`ANTHROPIC_API_KEY`"),
        ("", "this is no name of an environment variable", "`ANTHROPIC_API_KEY`"),
    ] {
        let error = check_key(agent, key).unwrap_err();
        assert_eq!(error.cause, cause, "{key}");
        assert!(error.remedy.contains(remedy), "{key}: {}", error.remedy);
        assert!(!error.remedy.contains("s3cret"), "{key}");
    }
}

#[test]
fn an_agent_that_takes_tasks_needs_its_keys() {
    let mut registry = crate::domain::registry::sample();
    registry.agents.retain(|agent, _| ["lyra", "rigel", "vega"].contains(&agent.as_str()));
    registry.agents.get_mut(&name("rigel")).unwrap().status = Status::Standby;
    let faults = missing(&vault(&["vega ANTHROPIC_API_KEY=x@1", "lyra GITHUB_TOKEN=x@1"]), &registry);
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["agents/lyra.yaml: the vault has no ANTHROPIC_API_KEY for lyra; \
          set it with `astra-dispatch vault set lyra ANTHROPIC_API_KEY`"]
    );
}

use super::*;

/// Includes files of `fixtures/registry` by their path within it.
macro_rules! sample_files {
    ($($path:literal),* $(,)?) => {
        vec![$(SourceFile {
            path: $path.to_owned(),
            content: Content::Bytes(include_bytes!(concat!("../../../fixtures/registry/", $path)).to_vec()),
        }),*]
    };
}

pub(super) fn sample_sources() -> Sources {
    let files = sample_files![
        "astra.yaml",
        "agents/altair.yaml",
        "agents/lyra.yaml",
        "agents/rigel.yaml",
        "agents/sirius.yaml",
        "agents/vega.yaml",
        "prompts/altair.md",
        "prompts/guardrails.md",
        "prompts/lyra.md",
        "prompts/reviewing.md",
        "prompts/rigel.md",
        "prompts/sirius.md",
        "prompts/vega.md",
    ];
    Sources { files, ordinal: 1_795_000_000 }
}

/// The sample with one file replaced or added.
fn with(path: &str, text: &str) -> Sources {
    let mut sources = sample_sources();
    sources.files.retain(|file| file.path != path);
    sources.files.push(SourceFile { path: path.to_owned(), content: Content::Bytes(text.into()) });
    sources
}

fn report(sources: &Sources) -> String {
    let faults = match parse(sources) {
        Ok(parsed) => parsed.warnings,
        Err(faults) => faults,
    };
    faults.iter().map(|fault| format!("{} {fault}\n", fault.rule.name())).collect()
}

#[test]
fn the_sample_has_no_fault_and_is_what_the_design_says() {
    let parsed = parse(&sample_sources()).unwrap();
    assert_eq!(parsed.warnings, []);
    let shown: Vec<String> = sample()
        .agents
        .values()
        .map(|agent| {
            format!(
                "{} {} {:?} {:?} {}",
                agent.name,
                agent.role,
                agent.trait_,
                agent.status,
                agent.skills.join(", ")
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "altair ops Thorough Active terraform, helm, ci-cd",
            "lyra docs Creative Active architecture-docs, how-tos, adrs",
            "rigel coder Fast Active typescript, react, nextjs",
            "sirius reviewer Thorough Active security, architecture, conventions",
            "vega coder Thorough Active kotlin, protobuf, database-migrations",
        ]
    );
}

#[test]
fn nothing_at_all_is_one_fault() {
    assert_eq!(
        report(&Sources::default()),
        "files astra.yaml: there is no astra.yaml; make one, or give the registry's directory with --registry\n"
    );
}

#[test]
fn all_faults_of_a_file_come_at_once() {
    let text = "
name: Vega
rol: coder
trait: thorugh
status: on
skills: kotlin
max_concurrent_tasks: many
repositories: [\"other/*\"]
accounts: {github: astra-rigel}
runtime: {kind: claude-code, model: sonet, uid: 0, max_turns: \"80\"}
prompt: {personality: ../../etc/passwd, guardrails: [prompts/guardrail.md]}
credentials: {vault: astra/agents/rigel, env: [GITHUB_TOKEN, 1X]}
limits: {cpu: \"3\", memory: 4Gib, time: 40m}
network: {allow: [\"8.8.8.8/32:53\", \"169.254.169.254/32:80\", nonsense]}
protected_paths: [/etc]
name: vega
";
    insta::assert_snapshot!(report(&with("agents/vega.yaml", text)));
}

/// `astra.yaml` of the sample with a part replaced.
fn astra_with(from: &str, to: &str) -> Sources {
    let text = sample_sources().text("astra.yaml").unwrap().to_owned();
    assert!(text.contains(from));
    with("astra.yaml", &text.replace(from, to))
}

#[test]
fn a_run_ends_while_its_token_is_good() {
    assert!(parse(&astra_with("time: 30m", "time: 34m 59s")).is_ok());
    assert!(report(&astra_with("time: 30m", "time: 35m")).contains("run-too-long"));
    assert!(report(&astra_with("pending: 10m", "pending: 15m")).contains("run-too-long"));
}

#[test]
fn an_agent_has_the_limits_of_astra_where_it_has_none_of_its_own() {
    let registry = sample();
    let limits = |name: &str| registry.agents[&name.parse().unwrap()].limits.clone();
    assert_eq!(limits("altair"), registry.limits);
    assert_eq!(limits("vega"), Limits { time: Duration::from_secs(25 * 60), ..registry.limits.clone() });
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let text = "
version: 1
plane: {url: https://plane.example.com, workspace: astra}
projects: [{id: 30b3e760-81ab-4c95-a0fe-f21adc376851, identifier: AST, repository: astra/api, base: main}]
roles: {coder: {description: Codes}}
";
    let agent = "
name: nova
role: coder
trait: fast
description: Anything
repositories: [astra/api]
accounts: {github: nova}
runtime: {kind: command, command: [agent, '']}
prompt: {personality: prompts/vega.md}
credentials: {vault: astra/agents/nova}
";
    let mut sources = with("astra.yaml", text);
    sources.files.retain(|file| !file.path.starts_with("agents/"));
    let content = Content::Bytes(agent.into());
    sources.files.push(SourceFile { path: "agents/nova.yaml".to_owned(), content });
    let registry = parse(&sources).unwrap().registry;
    assert_eq!(registry.limits, sample().limits);
    assert_eq!((registry.max_attempts, registry.labels), (3, LabelMode::Off));
    assert_eq!(registry.kubernetes.system_namespace, "astra-system");
    let nova = &registry.agents[&"nova".parse().unwrap()];
    assert_eq!((nova.status, nova.max_concurrent_tasks, nova.runtime.uid), (Status::Inactive, 1, 10_001));
    assert_eq!(nova.network.ports, [443]);
    let command = vec!["agent".to_owned(), String::new()];
    assert_eq!(nova.runtime.kind, RuntimeKind::Command { command });
}

#[test]
fn the_hash_tells_registries_apart() {
    let file =
        |path: &str, text: &str| SourceFile { path: path.to_owned(), content: Content::Bytes(text.into()) };
    let hash = |files: Vec<SourceFile>| Sources { files, ordinal: 0 }.hash();
    let one = hash(vec![file("prompts/a", "x"), file("prompts/b", "y")]);
    assert_eq!(one, hash(vec![file("prompts/b", "y"), file("prompts/a", "x")]), "order does not count");
    assert_ne!(one, hash(vec![file("prompts/a", "y"), file("prompts/b", "x")]));
    assert_ne!(one, hash(vec![file("prompts/a", "x\0prompts/b\0y")]));
    assert_eq!(
        hash(vec![file("prompts/a", "x")]),
        // printf 'prompts/a\0001\000x' | sha256sum
        "sha256:6653bb7feb75dc68f63be7e7a67ef67bf2d13fd98bfc7f8e27a9f53fc3be8d4b"
    );
}

mod properties {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::domain::name::AgentName;

    /// The sample's YAML files, with something put into one of them.
    fn spoilt() -> impl Strategy<Value = Sources> {
        let yaml: Vec<SourceFile> =
            sample_sources().files.into_iter().filter(|file| file.path.ends_with(".yaml")).collect();
        let junk = prop_oneof![
            "[\\[\\]{}:,&*!|>'\"%@`#?\\- \n\t~a0]{0,6}",
            "(null|true|0|-1|1e9|\"\"|\u{202e}|ö)",
            any::<String>(),
        ];
        (any::<Index>(), any::<Index>(), any::<Index>(), junk).prop_map(move |(file, from, length, junk)| {
            let file = file.get(&yaml);
            let Content::Bytes(bytes) = &file.content else { unreachable!("the sample has only files") };
            let mut bytes = bytes.clone();
            let from = from.index(bytes.len());
            let to = (from + length.index(8)).min(bytes.len());
            bytes.splice(from..to, junk.into_bytes());
            let mut sources = sample_sources();
            sources.files.retain(|other| other.path != file.path);
            sources.files.push(SourceFile { path: file.path.clone(), content: Content::Bytes(bytes) });
            sources
        })
    }

    proptest! {
        /// Whatever a file holds: an answer, faults with places inside the file, and errors exactly
        /// where there is no registry; the order of files changes nothing.
        #[test]
        fn any_text_has_an_answer_whatever_the_order_of_files(sources in spoilt(), turn in any::<Index>()) {
            let outcome = parse(&sources);
            let faults = match &outcome { Ok(parsed) => &parsed.warnings, Err(faults) => faults };
            prop_assert_eq!(outcome.is_err(), faults.iter().any(|fault| fault.severity == Severity::Error));
            for fault in faults {
                prop_assert!(!fault.cause.is_empty() && !fault.cure.is_empty());
                if let Some((place, text)) = fault.place.zip(sources.text(&fault.file)) {
                    prop_assert!(text.get(place.start as usize..place.end as usize).is_some(), "{fault:?}");
                    let line = 1 + text[..place.start as usize].matches('\n').count();
                    prop_assert!(text.contains('\r') || place.line as usize == line, "{fault:?} {line}");
                }
            }
            let mut turned = sources.clone();
            let by = turn.index(turned.files.len());
            turned.files.rotate_left(by);
            prop_assert_eq!(report(&sources), report(&turned));
            prop_assert_eq!(sources.hash(), turned.hash());
        }

        /// What `agents new` writes is read as it was meant, for every legal name.
        #[test]
        fn a_new_agent_is_read_as_written(name in "[a-z0-9]([a-z0-9-]{0,55}[a-z0-9])?", role in 0_usize..4, ready: bool) {
            let status = if ready { Status::Active } else { Status::Inactive };
            let registry = sample();
            let name: AgentName = name.parse().unwrap();
            prop_assume!(!registry.agents.contains_key(&name));
            let role = registry.roles.keys().nth(role).unwrap();
            let mut sources = sample_sources();
            let guardrails = ["prompts/guardrails.md"];
            let new = NewAgent { name: &name, role, guardrails: &guardrails, status, image: None };
            for file in new_agent(&new, &registry) {
                let content = Content::Bytes(file.text.into_bytes());
                sources.files.push(SourceFile { path: file.path, content });
            }
            let parsed = parse(&sources).map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
            prop_assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
            let agent = &parsed.registry.agents[&name];
            prop_assert_eq!((&agent.name, &agent.role, agent.status), (&name, role, status));
        }
    }
}

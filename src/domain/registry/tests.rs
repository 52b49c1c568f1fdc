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

use super::*;

fn accepts<T: std::fmt::Debug>(form: impl Fn(&str) -> Form<T>, legal: &[&str], illegal: &[&str]) {
    for text in legal {
        assert!(form(text).is_ok(), "{text:?} should be accepted: {:?}", form(text));
    }
    for text in illegal {
        assert!(form(text).is_err(), "{text:?} should be refused: {:?}", form(text));
    }
}

#[test]
fn quantities_are_those_of_kubernetes() {
    let cpus = [("2", 2_000), ("500m", 500), ("1.5", 1_500), ("0.1", 100), ("1e1", 10_000), ("1m", 1)];
    for (text, millis) in cpus {
        assert_eq!(cpu(text), Ok((text.to_owned(), millis)));
    }
    let memories =
        [("4Gi", 4 << 30), ("512Mi", 512 << 20), ("1G", 1_000_000_000), ("128974848", 128_974_848)];
    for (text, bytes) in memories {
        assert_eq!(memory(text), Ok((text.to_owned(), bytes)));
    }
    accepts(cpu, &[], &["", "0", "-1", "+1", "m", "1 m", "2 cores", "inf", "nan", "1.2.3", "0.0001", "9E99"]);
    accepts(memory, &[], &["", "0Gi", "4GB", "4gi", "4 Gi", "Gi", "-4Gi", "4Gi4Gi", "100000Ei"]);
}

#[test]
fn lengths_of_time() {
    for (text, seconds) in [("30m", 1_800), ("90s", 90), ("1h 10m", 4_200), ("1h10m", 4_200), ("1s", 1)] {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
    }
    accepts(duration, &[], &["", "30", "0m", "-5m", "5m ago", "500ms", "half an hour", "30M m"]);
}

#[test]
fn words_that_labels_can_name() {
    accepts(
        word,
        &["kotlin", "c++", "c#", ".net", "database-migrations", "k8s", "node_js"],
        &["", "-x", "Kotlin", "two words", "größe", "a:b", &"x".repeat(41)],
    );
    assert_eq!(word("Two Words").unwrap_err().cure, "write `two-words`");
}

#[test]
fn places_in_the_registry_and_in_the_vault() {
    accepts(
        prompt_path,
        &["prompts/vega.md", "prompts/team/vega.md"],
        &[
            "",
            "prompts/",
            "vega.md",
            "/prompts/x",
            "prompts/../x",
            "prompts//x",
            "prompts/./x",
            "prompts\\x",
            "./prompts/x",
        ],
    );
    accepts(
        |text| vault_path(text, "vega"),
        &["astra/agents/vega", "kv/vega"],
        &[
            "",
            "vega",
            "/vega",
            "astra/agents/vega/",
            "astra/../vega",
            "astra/agents/vegas",
            "astra/ag ents/vega",
        ],
    );
}

#[test]
fn variables_of_the_agent_step() {
    accepts(
        variable,
        &["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "_x", "ANTHROPIC_BASE_URL"],
        &[
            "",
            "1X",
            "A-B",
            "A=B",
            "GITHUB_TOKEN",
            "GH_TOKEN",
            "PATH",
            "HOME",
            "LD_PRELOAD",
            "ASTRA_GIT_TOKEN",
            "RUN_TASK_FILE",
            "GIT_SSH_COMMAND",
        ],
    );
}

#[test]
fn images_are_pinned() {
    let digest = "a".repeat(64);
    accepts(
        image,
        &[
            &format!("ghcr.io/astra/claude@sha256:{digest}"),
            &format!("ghcr.io/astra/claude:1@sha256:{digest}"),
        ],
        &[
            "",
            "ghcr.io/astra/claude",
            "ghcr.io/astra/claude:1",
            "x@sha256:abc",
            &format!("@sha256:{digest}"),
            &format!("x@sha256:{}", "A".repeat(64)),
            &format!("x y@sha256:{digest}"),
        ],
    );
}

#[test]
fn names_of_services() {
    accepts(
        github_login,
        &["astra-vega", "Vega", "astra[bot]"],
        &["", "@vega", "-x", "x-", "a_b", &"x".repeat(40)],
    );
    accepts(mail, &["vega@example.com"], &["", "vega", "@example.com", "a@b", "a b@example.com", "a@b@c.de"]);
    accepts(
        url,
        &["https://plane.example.com", "http://localhost:8000/plane/"],
        &["", "plane.example.com", "https://", "ftp://x", "https://user@x", "https://x?y", "https:///x"],
    );
    assert_eq!(url("https://plane.example.com/").unwrap(), "https://plane.example.com");
    accepts(identifier, &["AST", "A1"], &["", "ast", "A-B", "ABCDEFGHIJKLM"]);
    accepts(namespace, &["astra-system"], &["", "a.b", "-x", "X", &"x".repeat(64)]);
    accepts(object_name, &["ghcr", "a.b"], &["", "a..b", "a_b", ".a"]);
    accepts(pattern, &["astra/*", "**/*.lock"], &["", "/x", "../x", "a/../b", "[a"]);
}

//! Known secrets go through every command and every phase of a run; then everything that came out is
//! searched for them, as they are and in the usual encodings, whole and line by line.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/canary.rs"]
mod canary;
#[path = "support/site.rs"]
mod site;

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use canary::Canaries;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use site::{Site, text};

const MODEL_KEY: &str = "sk-canary-8Qx7/Zr+41 \"quoted\" \\ ü-end";
const DEPLOY_KEY: &str = "-----BEGIN CANARY KEY-----\nY2FuYXJ5LWxpbmUtb25lLTAwMQ==\nY2FuYXJ5LWxpbmUtdHdvLTAwMg==\n-----END CANARY KEY-----";
const GIT_TOKEN: &str = "ghs_canaryCanaryCanary0123456789abcdef";

struct Vaulted {
    site: Site,
    identity: String,
}

impl Vaulted {
    /// A site whose coder has two credentials and a token in the vault, and runs this script.
    fn new(script: &str) -> Self {
        let site = Site::new(script, 1);
        let agent = std::fs::read_to_string(site.path(".astra/agents/vega.yaml")).unwrap();
        site.write(".astra/agents/vega.yaml", &agent.replace("env: []", "env: [MODEL_KEY, DEPLOY_KEY]"));
        let identity = age::x25519::Identity::generate().to_string().expose_secret().to_owned();
        let vaulted = Self { site, identity };
        for (key, value) in
            [("MODEL_KEY", MODEL_KEY), ("DEPLOY_KEY", DEPLOY_KEY), ("GITHUB_TOKEN", GIT_TOKEN)]
        {
            vaulted.run(&["vault", "set", "vega", key], value);
        }
        vaulted
    }

    fn run_as(&self, identity: &str, arguments: &[&str], input: &str) -> Output {
        let mut command = self.site.command(arguments);
        command
            .env("ASTRA_VAULT_IDENTITY", identity)
            .env("ASTRA_LOG", "trace")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let pid = child.id();
        let watched = std::thread::spawn(move || CANARIES.watch_arguments(pid));
        let output = child.wait_with_output().unwrap();
        watched.join().unwrap();
        search(&format!("{arguments:?} stdout"), &output.stdout);
        search(&format!("{arguments:?} stderr"), &output.stderr);
        output
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let output = self.run_as(&self.identity, arguments, input);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        output
    }

    fn dispatch(&self, identity: &str) -> Value {
        let event = self.site.event(7, 1, &json!({}));
        let output = self.run_as(identity, &["dispatch", "--event", &event, "--format", "json"], "");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn log(&self, report: &Value) -> String {
        text(&self.run(&["logs", report["run"].as_str().unwrap()], "").stdout)
    }
}

/// Every secret and each of its lines in every usual encoding.
static CANARIES: LazyLock<Canaries> =
    LazyLock::new(|| Canaries::new([("model", MODEL_KEY), ("deploy", DEPLOY_KEY), ("git", GIT_TOKEN)]));

fn search(place: &str, bytes: &[u8]) {
    CANARIES.search(place, bytes);
}

fn search_files(directory: &Path) -> usize {
    CANARIES.search_files(directory)
}

fn search_repository(site: &Site) {
    let all = ["--git-dir", "git/astra/api.git", "cat-file", "--batch-all-objects", "--batch"];
    search("the remote repository", site.git(&all).as_bytes());
}

fn digest(value: &str) -> String {
    hex::encode(Sha256::digest(value))
}

#[test]
fn the_search_finds_what_it_is_for() {
    let encoded = |bytes: &str| std::panic::catch_unwind(|| search("here", bytes.as_bytes())).is_err();
    assert!(!encoded("nothing"));
    assert!(encoded(&format!("x{MODEL_KEY}y")));
    assert!(encoded(&STANDARD_NO_PAD.encode(format!("Bearer {MODEL_KEY}!"))));
    assert!(encoded(&hex::encode(GIT_TOKEN)));
    assert!(encoded("sk-canary-8Qx7%2FZr%2B41%20%22quoted%22%20%5C%20%C3%BC-end"));
    assert!(encoded("only Y2FuYXJ5LWxpbmUtdHdvLTAwMg== of it"));
    assert!(encoded("Y2FuYXJ5LWxp\nbmUtdHdvLTAwMg=="));
}

#[test]
fn secrets_of_the_vault_reach_the_agent_and_nothing_else() {
    // It proves that it has its own, and nothing that is not its own, then shouts all of it.
    let script = format!(
        "hash() {{ printf %s \"$1\" | sha256sum | cut -d' ' -f1; }}\n\
         [ \"$(hash \"$MODEL_KEY\")\" = {} ] && [ \"$(hash \"$DEPLOY_KEY\")\" = {} ] || exit 3\n\
         [ -z \"$GITHUB_TOKEN$ASTRA_VAULT_IDENTITY\" ] || exit 4\n\
         env; echo \"$MODEL_KEY\" >&2; echo \"$DEPLOY_KEY\"\n\
         echo more >> README.md; echo done > \"$RUN_OUTPUT_DIR/summary.md\"",
        digest(MODEL_KEY),
        digest(DEPLOY_KEY)
    );
    let vaulted = Vaulted::new(&script);
    let event = vaulted.site.event(7, 1, &json!({}));
    vaulted.run(&["explain", "--event", &event], "");
    let report = vaulted.dispatch(&vaulted.identity);
    let log = vaulted.log(&report);
    assert_eq!(report["result"]["outcome"], "changed", "{report:#}\n{log}");
    for key in ["MODEL_KEY", "DEPLOY_KEY"] {
        assert!(log.contains(&format!("{key} comes from the vault")), "{log}");
    }
    for arguments in [
        ["status", "--format", "json"].as_slice(),
        &["status"],
        &["publish"],
        &["sweep", "--format", "json"],
        &["cancel", report["run"].as_str().unwrap()],
        &["agents", "check"],
        &["agents", "check", "--format", "sarif"],
        &["agents", "list"],
        &["agents", "prompt", "vega", "--event", &event],
        &["agents", "provision"],
        &["vault", "list"],
        &["vault", "list", "--format", "json"],
        &["vault", "recipients", "list"],
        &["vault", "remove", "vega", "GITHUB_TOKEN"],
    ] {
        vaulted.run(arguments, "");
    }
    let rotate = ["vault", "rotate", "vega", "MODEL_KEY"];
    assert_eq!(vaulted.run_as(&vaulted.identity, &rotate, MODEL_KEY).status.code(), Some(2));
    assert!(search_files(&vaulted.site.path("state")) > 10);
    search_files(&vaulted.site.path(".astra"));
    search_repository(&vaulted.site);
}

#[test]
fn a_secret_of_the_vault_is_not_delivered_in_any_encoding() {
    let vaulted = Vaulted::new(
        "printf %s \"$MODEL_KEY\" | base64 > notes.txt; echo \"$DEPLOY_KEY\" > key.pem; echo \"$MODEL_KEY\" > \"$RUN_OUTPUT_DIR/summary.md\"",
    );
    let report = vaulted.dispatch(&vaulted.identity);
    assert_eq!(report["result"]["outcome"], "refused", "{report:#}");
    vaulted.log(&report);
    search_repository(&vaulted.site);
    let run = report["run"].as_str().unwrap();
    for of in ["deliver", "publish"] {
        search_files(&vaulted.site.path(&format!("state/runs/{run}/{of}")));
    }
}

/// The runner is told of each value and each line once; whatever else comes out holds none.
#[test]
fn in_a_workflow_the_runner_is_told_what_to_hide() {
    let vaulted = Vaulted::new("echo more >> README.md");
    let event = vaulted.site.event(7, 1, &json!({}));
    let dispatch = ["dispatch", "--executor", "local", "--event", &event];
    let manifests = ["dispatch", "--dry-run", "client", "--event", &event];
    for arguments in [dispatch.as_slice(), &manifests, &["agents", "check"]] {
        let mut command = vaulted.site.command(arguments);
        command.env("ASTRA_VAULT_IDENTITY", &vaulted.identity).env("GITHUB_ACTIONS", "true");
        if arguments.contains(&"client") {
            command.env("ASTRA_GIT_BASE_URL", "https://git.example.com");
        }
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        let is_mask = |line: &&str| line.starts_with("::add-mask::");
        let masks: Vec<&str> = said.lines().filter(is_mask).collect();
        let escaped = |value: &str| format!("::add-mask::{}", value.replace('%', "%25").replace('\n', "%0A"));
        let lines = DEPLOY_KEY.lines();
        let mut expected: Vec<String> =
            [MODEL_KEY, DEPLOY_KEY, GIT_TOKEN].into_iter().chain(lines).map(escaped).collect();
        expected.sort();
        assert_eq!(masks, expected, "{arguments:?}");
        let rest: Vec<&str> = said.lines().filter(|line| !is_mask(line)).collect();
        search(&format!("{arguments:?} stderr"), rest.join("\n").as_bytes());
        search(&format!("{arguments:?} stdout"), &output.stdout);
    }
    // Not in the run's log, which its supervisor writes.
    assert!(search_files(&vaulted.site.path("state")) > 5);
}

#[test]
fn without_its_vault_no_run_begins() {
    let vaulted = Vaulted::new("echo more >> README.md");
    let event = vaulted.site.event(7, 1, &json!({}));
    let stranger = age::x25519::Identity::generate().to_string();
    // Without any identity it is said where the keys may be.
    for (identity, words) in [
        (stranger.expose_secret(), "your identity does not open the vault"),
        ("", "set ASTRA_VAULT_IDENTITY"),
    ] {
        let output = vaulted.run_as(identity, &["dispatch", "--event", &event, "--format", "json"], "");
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(words), "{said}");
    }
}

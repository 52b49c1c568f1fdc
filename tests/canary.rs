//! Known secrets go through every command and every phase of a run; then everything that came out is
//! searched for them, as they are and in the usual encodings, whole and line by line.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/site.rs"]
mod site;

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
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
        let watched = std::thread::spawn({
            let needles = needles();
            let pid = child.id();
            move || watch_arguments(pid, &needles)
        });
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

/// While the process lives, no process of this machine has a secret among its arguments.
fn watch_arguments(pid: u32, needles: &[(String, Vec<u8>)]) {
    while Path::new(&format!("/proc/{pid}/exe")).exists() {
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            for (name, needle) in needles {
                assert!(!contains(&arguments, needle), "{name} is in the arguments of {:?}", entry.path());
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Every secret and each of its lines in every usual encoding, with a name for the report.
fn needles() -> Vec<(String, Vec<u8>)> {
    let mut needles = Vec::new();
    for secret in [MODEL_KEY, DEPLOY_KEY, GIT_TOKEN] {
        let lines = secret.lines().filter(|line| !line.starts_with("-----"));
        for part in std::iter::once(secret).chain(lines) {
            let name = &part[..12].escape_debug().to_string();
            let mut add =
                |encoding: &str, bytes: Vec<u8>| needles.push((format!("{name} {encoding}"), bytes));
            add("as it is", part.into());
            add("hex", hex::encode(part).into());
            add("HEX", hex::encode_upper(part).into());
            let json = json!(part).to_string();
            add("JSON", json[1..json.len() - 1].into());
            let percent = |keep: fn(u8) -> bool, upper: bool| -> String {
                let one = |byte: u8| match (keep(byte), upper) {
                    (true, _) => char::from(byte).to_string(),
                    (false, true) => format!("%{byte:02X}"),
                    (false, false) => format!("%{byte:02x}"),
                };
                part.bytes().map(one).collect()
            };
            for upper in [true, false] {
                add(
                    "URL",
                    percent(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte), upper).into(),
                );
                add("URL, all of it", percent(|_| false, upper).into());
            }
            for shift in 0..3 {
                // What of the text does not depend on what stands around it.
                let padded = [&vec![b'x'; shift], part.as_bytes()].concat();
                let whole = padded.len() / 3 * 3;
                let from = if shift == 0 { 0 } else { 4 };
                add("base64", STANDARD_NO_PAD.encode(&padded[..whole])[from..].into());
                add("base64, URL", URL_SAFE_NO_PAD.encode(&padded[..whole])[from..].into());
            }
        }
    }
    needles
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.len() >= needle.len() && haystack.windows(needle.len()).any(|part| part == needle)
}

fn search(place: &str, bytes: &[u8]) {
    for (name, needle) in needles() {
        assert!(!contains(bytes, &needle), "{name} is in {place}");
    }
    // Broken into lines of a fixed width.
    let joined: Vec<u8> = bytes.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
    for (name, needle) in needles() {
        assert!(!contains(&joined, &needle), "{name} is in {place}, over several lines");
    }
}

/// Every file below a directory; its name too.
fn search_files(directory: &Path) -> usize {
    let mut searched = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        search("the name of a file", path.as_os_str().as_encoded_bytes());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            searched += search_files(&path);
        } else if kind.is_file() {
            search(&path.display().to_string(), &std::fs::read(&path).unwrap());
            searched += 1;
        }
    }
    searched
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

/// The runner is told of each value and each line once, first of all; whatever else comes out holds none.
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
        let masks: Vec<&str> = said.lines().take_while(is_mask).collect();
        let escaped = |value: &str| format!("::add-mask::{}", value.replace('%', "%25").replace('\n', "%0A"));
        let lines = DEPLOY_KEY.lines();
        let mut expected: Vec<String> =
            [MODEL_KEY, DEPLOY_KEY, GIT_TOKEN].into_iter().chain(lines).map(escaped).collect();
        expected.sort();
        assert_eq!(masks, expected, "{arguments:?}");
        let rest: Vec<&str> = said.lines().skip_while(is_mask).collect();
        search(&format!("{arguments:?} stderr"), rest.join("\n").as_bytes());
        search(&format!("{arguments:?} stdout"), &output.stdout);
    }
    // Not in the run's log, which its supervisor writes.
    assert!(search_files(&vaulted.site.path("state")) > 5);
}

#[test]
fn a_vault_that_does_not_open_is_the_end_of_the_run() {
    let vaulted = Vaulted::new("echo more >> README.md");
    let stranger = age::x25519::Identity::generate().to_string();
    let report = vaulted.dispatch(stranger.expose_secret());
    let result = &report["result"];
    assert_eq!(
        (&result["outcome"], &result["class"]),
        (&json!("failed"), &json!("credentials")),
        "{report:#}"
    );
    assert!(result.to_string().contains("your identity does not open the vault"), "{report:#}");
    // Without any identity, the log says where the keys may be.
    let output = vaulted.run_as("", &["dispatch", "--task", "AST-7", "--format", "json"], "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["result"]["class"], "credentials", "{report:#}");
    assert!(vaulted.log(&report).contains("set ASTRA_VAULT_IDENTITY"));
}

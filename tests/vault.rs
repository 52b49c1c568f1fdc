//! The token vault with the real program: set, listed, rotated, removed, merged; by many at once, by
//! killed processes, with bad input. No value comes out anywhere.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// Every value below begins so; nothing that the program prints may hold it.
const CANARY: &str = "canary-4f9a";

struct Site {
    home: tempfile::TempDir,
    identity: String,
    recipient: String,
}

impl Site {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let copied = Command::new("cp")
            .arg("-r")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/registry"))
            .arg(home.path().join("registry"))
            .status();
        assert!(copied.unwrap().success());
        let (identity, recipient) = key_pair();
        Self { home, identity, recipient }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path("registry/vault.age")).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_astra-dispatch"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("ASTRA_REGISTRY", self.path("registry"))
            .env("ASTRA_VAULT_IDENTITY", &self.identity)
            .current_dir(self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self, arguments: &[&str], value: &[u8]) -> Child {
        let mut child = self.command(arguments).spawn().unwrap();
        // It may refuse before it reads.
        let _ = child.stdin.take().unwrap().write_all(value);
        child
    }

    fn run(&self, arguments: &[&str], value: &[u8]) -> Output {
        finish(self.start(arguments, value))
    }

    /// What it says to people, having succeeded.
    fn ok(&self, arguments: &[&str], value: &str) -> String {
        let output = self.run(arguments, value.as_bytes());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    fn set(&self, agent: &str, key: &str, value: &str) {
        self.ok(&["vault", "set", agent, key], value);
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments, b"");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The vault as the crate opens it.
    fn opened(&self) -> Value {
        let identity: age::x25519::Identity = self.identity.parse().unwrap();
        serde_json::from_slice(&age::decrypt(&identity, &dearmoured(&self.bytes())).unwrap()).unwrap()
    }
}

fn key_pair() -> (String, String) {
    let key = age::x25519::Identity::generate();
    (key.to_string().expose_secret().to_owned(), key.to_public().to_string())
}

fn dearmoured(bytes: &[u8]) -> Vec<u8> {
    let mut binary = Vec::new();
    std::io::Read::read_to_end(&mut age::armor::ArmoredReader::new(bytes), &mut binary).unwrap();
    binary
}

/// Its output, which holds no value in any case.
fn finish(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    for stream in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(stream);
        let remedies_aside = text.replace("AGE-SECRET-KEY-1…", "");
        assert!(!text.contains(CANARY) && !remedies_aside.contains("AGE-SECRET-KEY-1"), "{text}");
    }
    output
}

#[test]
fn a_credential_is_set_listed_rotated_and_removed() {
    let site = Site::new();
    let said = site.ok(&["vault", "set", "vega", "ANTHROPIC_API_KEY"], "canary-4f9a-one\n");
    assert!(said.contains("a new vault for one recipient"), "{said}");
    let value = || site.opened()["agents"]["vega"]["ANTHROPIC_API_KEY"]["value"].clone();
    assert_eq!(value(), "canary-4f9a-one");
    let recipients = std::fs::read_to_string(site.path("registry/vault.recipients")).unwrap();
    assert_eq!(recipients.trim(), site.recipient);

    // A key of several lines, and the token for Git, which the agent's file does not list.
    site.set("vega", "GITHUB_TOKEN", "canary-4f9a-BEGIN\nline\n\n");
    assert_eq!(site.opened()["agents"]["vega"]["GITHUB_TOKEN"]["value"], "canary-4f9a-BEGIN\nline\n");
    let list = site.json(&["vault", "list", "--format", "json"]);
    let keys: Vec<_> = list["keys"].as_array().unwrap().iter().map(|one| one["key"].clone()).collect();
    assert_eq!(
        (&list["version"], keys),
        (&json!(1), vec![json!("ANTHROPIC_API_KEY"), json!("GITHUB_TOKEN")])
    );
    let text = String::from_utf8(site.run(&["vault", "list"], b"").stdout).unwrap();
    let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["vega", "ANTHROPIC_API_KEY", "just", "now"]);

    let same = site.run(&["vault", "rotate", "vega", "ANTHROPIC_API_KEY"], b"canary-4f9a-one");
    assert_eq!(same.status.code(), Some(2));
    let said = site.ok(&["vault", "rotate", "vega", "ANTHROPIC_API_KEY"], "canary-4f9a-two");
    assert!(said.contains("revoke the old value"), "{said}");
    assert_eq!(value(), "canary-4f9a-two");
    let said = site.ok(&["vault", "remove", "vega", "ANTHROPIC_API_KEY"], "");
    assert!(said.contains("Git's history keeps the value"), "{said}");
    assert_eq!(value(), Value::Null);
    // The registry's own commands do not mind the new files.
    site.ok(&["agents", "check", "--format", "text"], "");
    let left: Vec<_> = std::fs::read_dir(site.path("registry")).unwrap().collect();
    assert_eq!(left.len(), 5, "astra.yaml, agents, prompts, vault.age, vault.recipients: {left:?}");
}

#[test]
fn bad_input_is_one_sentence_with_a_remedy_and_changes_nothing() {
    let site = Site::new();
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-one");
    let before = site.bytes();
    let long = CANARY.repeat((1 << 20) / CANARY.len() + 1);
    let set = ["vault", "set", "vega", "ANTHROPIC_API_KEY"];
    let cases: &[(&[&str], &str, &str, &str)] = &[
        (&set, "", "the value is empty", "vault remove"),
        (&set, "\n", "the value is empty", "vault remove"),
        (&set, "canary-4f9a\0", "a NUL byte", "base64"),
        (&set, "canary\n", "shorter than 8 characters", "a longer secret"),
        (&set, &long, "longer than 64 KiB", "only the token itself"),
        (
            &["vault", "set", "vegas", "ANTHROPIC_API_KEY"],
            "x",
            "there is no agent vegas",
            "did you mean `vega`",
        ),
        (&["vault", "set", "vega", "ANTROPIC_API_KEY"], "x", "does not list this key", "did you mean"),
        (&["vault", "set", "vega", "canary-4f9a"], "x", "no name of an environment variable", "use one of"),
        (&["vault", "set", "vega", "ANTHROPIC_API_KEY", "canary-4f9a"], "", "never an argument", "new one"),
        (
            &["vault", "rotate", "vega", "GITHUB_TOKEN"],
            "canary-4f9a-two",
            "that could be rotated",
            "vault set vega",
        ),
        (&["vault", "remove", "vega", "canary-4f9a"], "", "no such key of vega", "ANTHROPIC_API_KEY"),
        (&["vault", "recipients", "add", "ssh-ed25519"], "", "no age recipient", "age-keygen -y"),
        (&["vault", "recipients", "add", &site.identity], "", "a secret key", "age-keygen -o"),
        (&["vault", "recipients", "remove", &site.recipient], "", "the only recipient", "recipients add"),
    ];
    for (arguments, value, cause, remedy) in cases {
        let output = site.run(arguments, value.as_bytes());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(said.contains(cause) && said.contains(remedy), "{said}");
    }
    assert!(nothing_is_left_over(&site) && site.bytes() == before);
}

fn nothing_is_left_over(site: &Site) -> bool {
    !site.path("registry/.vault.unfinished").exists()
}

#[test]
fn a_wrong_identity_or_a_damaged_vault_is_said_and_left_alone() {
    let site = Site::new();
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-one");
    let whole = site.bytes();
    let (stranger, _) = key_pair();
    let key_file = site.path("key.txt");
    std::fs::write(&key_file, format!("# a comment\n{}\n", site.identity)).unwrap();
    let missing = site.path("missing").to_str().unwrap().to_owned();
    let cut_key = site.identity[..site.identity.len() - 3].to_owned();
    let own = site.identity.clone();
    let cut = whole[..whole.len() / 2].to_vec();
    let cases: &[(&str, &[u8], Option<&str>)] = &[
        (key_file.to_str().unwrap(), &whole, None),
        (&stranger, &whole, Some("your identity does not open the vault")),
        ("", &whole, Some("cannot be opened without an identity")),
        (&missing, &whole, Some("no age identity, nor the path")),
        (&cut_key, &whole, Some("line 1 is no age identity")),
        (&own, &cut, Some("damaged or cut off")),
        (&own, b"", Some("damaged or cut off")),
        (&own, b"not an age file", Some("damaged or cut off")),
    ];
    for (identity, bytes, cause) in cases {
        std::fs::write(site.path("registry/vault.age"), bytes).unwrap();
        for arguments in [["vault", "list"].as_slice(), &["vault", "rotate", "vega", "ANTHROPIC_API_KEY"]] {
            let mut command = site.command(arguments);
            let mut child = command.env("ASTRA_VAULT_IDENTITY", identity).spawn().unwrap();
            let _ = child.stdin.take().unwrap().write_all(b"canary-4f9a-two");
            let output = finish(child);
            let said = String::from_utf8(output.stderr).unwrap();
            match cause {
                None => assert!(output.status.success(), "{said}"),
                Some(cause) => {
                    assert!(output.status.code() == Some(2) && said.contains(cause), "{said}");
                    assert_eq!(&site.bytes(), bytes, "{said}");
                }
            }
        }
    }
}

#[test]
fn agents_check_knows_what_the_vault_lacks_if_it_can_be_opened() {
    let site = Site::new();
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-one");
    let (stranger, _) = key_pair();
    for (identity, lacked, other) in [
        (&site.identity, 4, "the vault has no ANTHROPIC_API_KEY for lyra"),
        (&stranger, 0, "your identity does not open the vault"),
        (&String::new(), 0, ""),
    ] {
        let mut command = site.command(&["agents", "check", "--format", "text"]);
        let output = finish(command.env("ASTRA_VAULT_IDENTITY", identity).spawn().unwrap());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(other), "{text}");
        assert_eq!(text.matches("the vault has no").count(), lacked, "{text}");
    }
}

#[test]
fn recipients_come_and_go() {
    let site = Site::new();
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-one");
    let (other_identity, other) = key_pair();
    let lists = |identity: &str| {
        let mut command = site.command(&["vault", "list"]);
        finish(command.env("ASTRA_VAULT_IDENTITY", identity).spawn().unwrap()).status.success()
    };
    assert!(!lists(&other_identity));
    site.ok(&["vault", "recipients", "add", &other], "");
    assert!(lists(&other_identity) && lists(&site.identity));
    let list = site.json(&["vault", "recipients", "list", "--format", "json"]);
    let mut both = vec![site.recipient.clone(), other.clone()];
    both.sort();
    assert_eq!(list["recipients"], json!(both));
    let said = site.ok(&["vault", "recipients", "remove", &other], "");
    assert!(said.contains("rotate its 1 value"), "{said}");
    assert!(!lists(&other_identity) && lists(&site.identity));
}

#[test]
fn many_writers_at_once_all_land() {
    let site = Site::new();
    let agents = ["altair", "lyra", "rigel", "sirius", "vega"];
    let children: Vec<Child> = agents
        .iter()
        .flat_map(|agent| ["ANTHROPIC_API_KEY", "GITHUB_TOKEN"].map(|key| (agent, key)))
        .map(|(agent, key)| {
            site.start(&["vault", "set", agent, key], format!("{CANARY}-{agent}-{key}").as_bytes())
        })
        .collect();
    for child in children {
        assert!(finish(child).status.success());
    }
    let opened = site.opened();
    for agent in agents {
        for key in ["ANTHROPIC_API_KEY", "GITHUB_TOKEN"] {
            assert_eq!(opened["agents"][agent][key]["value"], format!("{CANARY}-{agent}-{key}"));
        }
    }
}

#[test]
fn a_killed_writer_leaves_a_vault_that_can_be_read() {
    let site = Site::new();
    site.set("rigel", "ANTHROPIC_API_KEY", "canary-4f9a-kept");
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-0");
    let mut killed = 0;
    for round in 0..40_u64 {
        let mut child = site
            .start(&["vault", "set", "vega", "ANTHROPIC_API_KEY"], format!("{CANARY}-{round}").as_bytes());
        std::thread::sleep(Duration::from_micros(round * 500));
        killed += u32::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        finish(child);
        let opened = site.opened();
        assert_eq!(opened["agents"]["rigel"]["ANTHROPIC_API_KEY"]["value"], "canary-4f9a-kept");
        assert!(opened["agents"]["vega"]["ANTHROPIC_API_KEY"]["value"].as_str().unwrap().starts_with(CANARY));
    }
    assert!(killed > 0, "no process was killed in time");
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-last");
    assert!(nothing_is_left_over(&site));
}

fn git(site: &Site, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_astra-dispatch");
    Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .arg("-c")
        .arg(format!("merge.astra-vault.driver='{program}' vault merge %O %A %B"))
        .args(arguments)
        .current_dir(site.path("registry"))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("ASTRA_VAULT_IDENTITY", &site.identity)
        .output()
        .unwrap()
}

/// As Git does it: two branches, one driver.
#[test]
fn two_branches_are_merged_by_git_and_nothing_is_lost() {
    let site = Site::new();
    let ok = |arguments: &[&str]| {
        let output = git(&site, arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-base");
    site.set("lyra", "ANTHROPIC_API_KEY", "canary-4f9a-gone");
    std::fs::write(
        site.path("registry/.gitattributes"),
        "vault.age merge=astra-vault\nvault.recipients merge=union\n",
    )
    .unwrap();
    ok(&["init", "-q", "-b", "main"]);
    let commit = || {
        ok(&["add", "-A"]);
        ok(&["commit", "-qm", "x"]);
    };
    commit();
    ok(&["checkout", "-qb", "theirs"]);
    let (_, friend) = key_pair();
    site.ok(&["vault", "recipients", "add", &friend], "");
    site.set("rigel", "ANTHROPIC_API_KEY", "canary-4f9a-theirs");
    site.ok(&["vault", "remove", "lyra", "ANTHROPIC_API_KEY"], "");
    commit();
    ok(&["checkout", "-q", "main"]);
    site.set("altair", "ANTHROPIC_API_KEY", "canary-4f9a-ours");
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-ours");
    commit();
    let said = ok(&["merge", "-q", "--no-edit", "theirs"]);
    assert!(said.contains(&friend) && !said.contains(CANARY), "{said}");
    let opened = site.opened();
    let value = |agent: &str| opened["agents"][agent]["ANTHROPIC_API_KEY"]["value"].clone();
    assert_eq!(value("altair"), "canary-4f9a-ours");
    assert_eq!(value("vega"), "canary-4f9a-ours");
    assert_eq!(value("rigel"), "canary-4f9a-theirs");
    assert_eq!(value("lyra"), Value::Null);
    assert!(opened["recipients"].as_array().unwrap().contains(&json!(friend)));

    // Both set the same key: the newer value, and the output says whose.
    ok(&["checkout", "-qb", "other", "HEAD~1"]);
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-newer");
    commit();
    ok(&["checkout", "-q", "-b", "older", "theirs"]);
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-newest");
    commit();
    let said = ok(&["merge", "-q", "--no-edit", "other"]);
    assert!(said.contains("vega ANTHROPIC_API_KEY: both sides set it"), "{said}");
    assert_eq!(site.opened()["agents"]["vega"]["ANTHROPIC_API_KEY"]["value"], "canary-4f9a-newest");
}

#[test]
#[ignore = "needs the programs age and age-keygen"]
fn the_program_age_opens_the_vault() {
    let mut site = Site::new();
    let key_file = site.path("key.txt");
    let made = Command::new("age-keygen").arg("-o").arg(&key_file).output().unwrap();
    assert!(made.status.success());
    site.identity = key_file.to_str().unwrap().to_owned();
    site.set("vega", "ANTHROPIC_API_KEY", "canary-4f9a-one");
    let opened = Command::new("age")
        .args(["-d", "-i"])
        .arg(&key_file)
        .arg(site.path("registry/vault.age"))
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&opened.stdout).unwrap();
    assert_eq!(document["agents"]["vega"]["ANTHROPIC_API_KEY"]["value"], "canary-4f9a-one");
    // And what `age` writes for the same recipients, we open.
    let again = Command::new("age")
        .arg("-R")
        .arg(site.path("registry/vault.recipients"))
        .arg("-o")
        .arg(site.path("registry/vault.age"))
        .stdin(Stdio::piped())
        .spawn();
    let mut again = again.unwrap();
    again.stdin.take().unwrap().write_all(&opened.stdout).unwrap();
    assert!(again.wait().unwrap().success());
    assert_eq!(site.json(&["vault", "list", "--format", "json"])["keys"][0]["agent"], "vega");
}

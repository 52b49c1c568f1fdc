//! The Action's first step: which program it lets be executed, and that nothing unknown ever is.
//! `curl` and `gh` are stand-ins on the PATH, the rest is the script as it is shipped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const RELEASED: &str = "the released program\n";
/// `sha256sum` of [`RELEASED`].
const DIGEST: &str = "9caa7a6f66298c8cd058cf38608b5ecb902663d3aeca8c7128b1eb61951e7e00";

/// A copy of the Action with a release of its own, a runner's directories, and the stand-ins.
struct Runner {
    directory: TempDir,
}

impl Runner {
    fn new(digest: &str) -> Self {
        let runner = Self { directory: tempfile::tempdir().unwrap() };
        for name in ["action", "bin", "temp", "tools"] {
            fs::create_dir(runner.path(name)).unwrap();
        }
        fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/action/binary"), runner.path("action/binary"))
            .unwrap();
        fs::write(runner.path("action/version"), "1.2.3\n").unwrap();
        fs::write(runner.path("action/digests"), format!("1.2.3 x86_64-unknown-linux-gnu {digest}\n"))
            .unwrap();
        // It notes what it was asked for, and leaves the release in the file after `--output`.
        runner.program(
            "curl",
            r#"echo "$*" >>"$RUNNER_TEMP/../asked"; while [ "$1" != --output ]; do shift; done; cp "$RELEASE" "$2""#,
        );
        runner
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, release: &str, variables: &[(&str, &str)]) -> Output {
        fs::write(self.path("release"), release).unwrap();
        let mut command = Command::new("bash");
        command
            .arg(self.path("action/binary"))
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.path("bin").display()));
        command.env("RUNNER_OS", "Linux").env("RUNNER_ARCH", "X64");
        command.env("RUNNER_TEMP", self.path("temp")).env("RUNNER_TOOL_CACHE", self.path("tools"));
        command.env("GITHUB_OUTPUT", self.path("output")).env("RELEASE", self.path("release"));
        command.envs(variables.iter().copied()).output().unwrap()
    }

    /// The program that the step lets the next one execute.
    fn chosen(&self) -> Option<PathBuf> {
        let output = fs::read_to_string(self.path("output")).ok()?;
        output.lines().last()?.strip_prefix("path=").map(PathBuf::from)
    }

    fn downloads(&self) -> usize {
        fs::read_to_string(self.path("asked")).map_or(0, |asked| asked.lines().count())
    }
}

/// The step stopped, chose nothing, left nothing behind, and said `why`.
fn stopped(runner: &Runner, output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("::error::") && said.contains(why), "{said}");
    assert_eq!(runner.chosen(), None);
    assert_eq!(fs::read_dir(runner.path("temp")).unwrap().count(), 0, "the download is gone");
    assert!(!runner.path("tools/astra-dispatch").exists());
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).unwrap().permissions().mode() & 0o111 == 0o111
}

#[test]
fn the_release_of_the_pinned_version_is_downloaded_once() {
    let runner = Runner::new(DIGEST);
    let output = runner.run(RELEASED, &[]);
    assert!(output.status.success(), "{output:?}");
    let program = runner.chosen().unwrap();
    assert_eq!(fs::read_to_string(&program).unwrap(), RELEASED);
    assert!(is_executable(&program));
    let asked = fs::read_to_string(runner.path("asked")).unwrap();
    let address = "https://github.com/astra/dispatch-action/releases/download/v1.2.3/astra-dispatch-x86_64-unknown-linux-gnu";
    assert!(asked.contains(address) && asked.contains("--proto =https"), "{asked}");

    assert!(runner.run("another", &[]).status.success());
    assert_eq!(runner.downloads(), 1, "the second job on this runner takes the one that is there");
}

#[test]
fn a_program_that_was_changed_in_the_runners_cache_is_not_executed() {
    let runner = Runner::new(DIGEST);
    runner.run(RELEASED, &[]);
    let program = runner.chosen().unwrap();
    fs::write(&program, "evil").unwrap();
    assert!(runner.run(RELEASED, &[]).status.success());
    assert_eq!(fs::read_to_string(program).unwrap(), RELEASED);
    assert_eq!(runner.downloads(), 2);
}

#[test]
fn what_is_unknown_stops() {
    let runner = Runner::new(DIGEST);
    stopped(&runner, &runner.run("another program", &[]), "is not the one of action/digests");
    stopped(
        &runner,
        &runner.run(RELEASED, &[("RUNNER_ARCH", "ARM64")]),
        "has no digest of version 1.2.3 for aarch64",
    );
    stopped(&runner, &runner.run(RELEASED, &[("RUNNER_OS", "Windows")]), "Linux on X64 and ARM64 only");
    assert_eq!(runner.downloads(), 1, "what has no digest is not even downloaded");

    fs::write(runner.path("action/version"), "1.2.4\n").unwrap();
    stopped(&runner, &runner.run(RELEASED, &[]), "has no digest of version 1.2.4");
    let runner = Runner::new("89c27ab9");
    stopped(&runner, &runner.run(RELEASED, &[]), "has no digest");
}

#[test]
fn a_download_that_fails_says_what_to_do() {
    let runner = Runner::new(DIGEST);
    runner.program("curl", "exit 22");
    stopped(&runner, &runner.run(RELEASED, &[]), "try again, or give the input 'binary'");
}

#[test]
fn the_attestation_is_asked_for_where_a_github_cli_can() {
    let on_github = [("GH_TOKEN", "t"), ("GITHUB_SERVER_URL", "https://github.com")];
    let runner = Runner::new(DIGEST);
    runner.program(
        "gh",
        r#"case "$*" in *--help) ;; *) echo "$*" >"$RUNNER_TEMP/../attested"; exit 1 ;; esac"#,
    );
    stopped(&runner, &runner.run(RELEASED, &on_github), "was not built by the release workflow");

    runner.program("gh", r#"case "$*" in *--help) ;; *) echo "$*" >"$RUNNER_TEMP/../attested" ;; esac"#);
    assert!(runner.run(RELEASED, &on_github).status.success());
    let asked = fs::read_to_string(runner.path("attested")).unwrap();
    let who =
        "--repo astra/dispatch-action --signer-workflow astra/dispatch-action/.github/workflows/release.yml";
    assert!(asked.contains(who) && asked.contains("--source-ref refs/tags/v1.2.3"), "{asked}");
}

#[test]
fn without_a_github_cli_the_digest_alone_decides_and_that_is_said() {
    let runner = Runner::new(DIGEST);
    runner.program("gh", "exit 1");
    let output = runner.run(RELEASED, &[("GH_TOKEN", "t"), ("GITHUB_SERVER_URL", "https://github.com")]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("was not checked"));
}

#[test]
fn a_program_of_ones_own_needs_no_digest_and_must_be_one() {
    let runner = Runner::new(DIGEST);
    runner.program("own", "");
    let own = runner.path("bin/own");
    assert!(runner.run(RELEASED, &[("INPUT_BINARY", own.to_str().unwrap())]).status.success());
    assert_eq!(runner.chosen().unwrap(), own.canonicalize().unwrap());

    let runner = Runner::new(DIGEST);
    for faulty in ["/no/such/program", "/etc/passwd", "/", "/bin/sh\npath=/bin/true"] {
        stopped(&runner, &runner.run(RELEASED, &[("INPUT_BINARY", faulty)]), "names no executable file");
    }
    assert_eq!(runner.downloads(), 0);
}

/// A copy of what `.ci/pin` edits, and the script.
fn pin(directory: &Path, arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (from, to) in [(".ci/pin", ".ci/pin"), ("examples/workflows/run.yml", "examples/workflows/run.yml")] {
        if !directory.join(to).exists() {
            fs::create_dir_all(directory.join(to).parent().unwrap()).unwrap();
            fs::copy(root.join(from), directory.join(to)).unwrap();
        }
    }
    Command::new("bash").arg(directory.join(".ci/pin")).args(arguments).output().unwrap()
}

#[test]
fn a_release_is_pinned_once_and_never_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("action")).unwrap();
    fs::write(path("action/version"), "1.2.2\n").unwrap();
    fs::write(path("action/digests"), "# Releases.\n").unwrap();
    fs::create_dir(path("release")).unwrap();
    for platform in ["x86_64", "aarch64"] {
        fs::write(path(&format!("release/astra-dispatch-{platform}-unknown-linux-gnu")), RELEASED).unwrap();
    }
    let release = path("release");
    let release = release.to_str().unwrap();
    for _ in 0..2 {
        assert!(pin(directory.path(), &["digests", "1.2.3", release]).status.success());
        let expected = format!(
            "# Releases.\n1.2.3 x86_64-unknown-linux-gnu {DIGEST}\n1.2.3 aarch64-unknown-linux-gnu {DIGEST}\n"
        );
        assert_eq!(fs::read_to_string(path("action/digests")).unwrap(), expected);
        assert_eq!(fs::read_to_string(path("action/version")).unwrap(), "1.2.3\n");
    }

    // One of an older line may be asked for, and does not become the one that is taken.
    assert!(pin(directory.path(), &["digests", "1.1.9", release]).status.success());
    assert!(fs::read_to_string(path("action/digests")).unwrap().contains("\n1.1.9 aarch64"));
    assert_eq!(fs::read_to_string(path("action/version")).unwrap(), "1.2.3\n");

    fs::write(path("release/astra-dispatch-x86_64-unknown-linux-gnu"), "another").unwrap();
    let again = pin(directory.path(), &["digests", "1.2.3", release]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("another digest"));
    assert!(!pin(directory.path(), &["digests", "latest", release]).status.success());

    let commit = "0123456789abcdef0123456789abcdef01234567";
    assert!(pin(directory.path(), &["examples", "1.2.3", commit]).status.success());
    let example = fs::read_to_string(path("examples/workflows/run.yml")).unwrap();
    assert!(example.contains(&format!("uses: astra/dispatch-action@{commit} # v1.2.3\n")), "{example}");
    assert!(!pin(directory.path(), &["examples", "1.2.3", "main"]).status.success());
}

//! `run agent` with the real binary: what the agent's program gets, how it is ended, and what it
//! cannot reach.

#[path = "support/agent_run.rs"]
mod agent_run;

use std::time::{Duration, Instant};

use agent_run::{AgentRun, eventually, is_alive};
use astra_dispatch::adapters::confinement::{self, Level};
use astra_dispatch::domain::phase::AgentEnding::{Cancelled, Done, Failed, TimedOut};
use astra_dispatch::domain::result::FailureClass;
use serde_json::json;

#[test]
fn a_program_gets_its_places_and_its_credentials_and_nothing_else() {
    let run = AgentRun::script(
        "env | cut -d= -f1 | sort | tr '\\n' ' '; pwd; cat $RUN_TASK_FILE; echo did it > $RUN_OUTPUT_DIR/summary.md",
    );
    run.edit_plan(|plan| plan.credential_names = vec!["AGENT_KEY".into()]);
    let ended =
        run.carry_out(&[("AGENT_KEY", "key-0123456789"), ("OTHER_SECRET", "x"), ("GITHUB_TOKEN", "y")]);
    assert_eq!(
        (ended.report.ending, ended.report.class, ended.report.exit_code),
        (Done, None, Some(0)),
        "{ended:?}"
    );
    let workspace = run.path("workspace");
    assert_eq!(
        ended.transcript,
        format!(
            "AGENT_KEY HOME LANG PATH PWD RUN_OUTPUT_DIR RUN_SYSTEM_PROMPT_FILE RUN_TASK_FILE TMPDIR {}\nthe task\n",
            workspace.display()
        )
    );
    assert!(ended.stderr.contains("the task\n"), "the log has the transcript too: {}", ended.stderr);
    assert_eq!(run.read("agent/output/summary.md"), "did it\n");
}

#[test]
fn a_failing_program_is_the_agents_doing_and_its_secret_stays_one() {
    let run = AgentRun::script("echo out $AGENT_KEY; echo \"no luck with $AGENT_KEY\" >&2; exit 3");
    run.edit_plan(|plan| plan.credential_names = vec!["AGENT_KEY".into()]);
    let ended = run.carry_out(&[("AGENT_KEY", "key-0123456789")]);
    assert_eq!((ended.report.ending, ended.report.class), (Failed, Some(FailureClass::Agent)));
    assert_eq!(ended.report.reason, "The agent's program ended with exit code 3: no luck with ***");
    assert!(ended.transcript.contains("out ***"), "{}", ended.transcript);
    let everything = format!("{}{}{}", ended.transcript, ended.stderr, run.read("agent/report.json"));
    assert!(!everything.contains("key-0123456789"));
}

#[test]
fn what_is_missing_is_said_before_anything_starts() {
    let run = AgentRun::script("echo started > $RUN_OUTPUT_DIR/summary.md");
    run.edit_plan(|plan| plan.credential_names = vec!["AGENT_KEY".into(), "EMPTY_KEY".into()]);
    let ended = run.carry_out(&[("EMPTY_KEY", "")]);
    assert_eq!((ended.report.ending, ended.report.class), (Failed, Some(FailureClass::Credentials)));
    assert!(ended.report.reason.contains("set AGENT_KEY, EMPTY_KEY in"), "{}", ended.report.reason);
    assert!(!run.path("agent/output/summary.md").exists());

    let run = AgentRun::of(vec!["no-such-program".into()]);
    let ended = run.carry_out(&[]);
    assert_eq!((ended.report.ending, ended.report.class), (Failed, Some(FailureClass::Task)));
    assert!(
        ended.report.reason.contains("`no-such-program` is not in PATH: install it"),
        "{}",
        ended.report.reason
    );
}

#[test]
fn an_agent_is_not_started_where_the_clone_failed() {
    let run = AgentRun::script("echo started > $RUN_OUTPUT_DIR/summary.md");
    let failure = json!({"class": "task", "reason": "There is no branch main."});
    run.write(
        "prepare/report.json",
        &json!({"base_commit": "", "seconds": 1.0, "failure": failure}).to_string(),
    );
    let ended = run.carry_out(&[]);
    assert_eq!((ended.report.ending, ended.report.class), (Failed, Some(FailureClass::Task)));
    assert_eq!(ended.report.reason, "The agent was not started: There is no branch main.");
    assert!(!run.path("agent/output/summary.md").exists());
}

#[test]
fn time_up_ends_the_program_and_every_process_that_hid_from_it() {
    let run = AgentRun::script(
        "setsid sh -c 'sleep 600 & echo $! > $RUN_OUTPUT_DIR/hidden; wait' & (setsid setsid sleep 601 &) ; sleep 600",
    );
    run.edit_plan(|plan| plan.limits.time = Duration::from_secs(1));
    let ended = run.carry_out(&[]);
    assert_eq!((ended.report.ending, ended.report.class), (TimedOut, Some(FailureClass::Agent)), "{ended:?}");
    let hidden: u32 = run.read("agent/output/hidden").trim().parse().expect("pid");
    assert!(!is_alive(hidden), "a process that left its session outlived the step");
}

#[test]
fn a_background_process_does_not_outlive_a_program_that_is_done() {
    let run =
        AgentRun::script("setsid sleep 600 > /dev/null 2>&1 & echo $! > $RUN_OUTPUT_DIR/hidden; exit 0");
    let ended = run.carry_out(&[]);
    assert_eq!(ended.report.ending, Done);
    let hidden: u32 = run.read("agent/output/hidden").trim().parse().expect("pid");
    assert!(!is_alive(hidden));
}

#[test]
fn cancelling_ends_the_program_soon_whatever_it_ignores() {
    let run = AgentRun::script("trap '' INT TERM; echo $$ > $RUN_OUTPUT_DIR/pid; while :; do sleep 1; done");
    let mut child = run.start(&[]);
    let pid: u32 = eventually(|| run.try_read("agent/output/pid")?.trim().parse().ok());
    let asked = Instant::now();
    agent_run::terminate(&child);
    assert!(child.wait().expect("wait").success());
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    assert_eq!((run.report().ending, run.report().class), (Cancelled, Some(FailureClass::Cancelled)));
    assert!(!is_alive(pid));
}

#[test]
fn killing_the_step_kills_the_program() {
    let run = AgentRun::script("echo $$ > $RUN_OUTPUT_DIR/pid; exec sleep 600");
    let mut child = run.start(&[]);
    let pid: u32 = eventually(|| run.try_read("agent/output/pid")?.trim().parse().ok());
    child.kill().expect("kill");
    child.wait().expect("wait");
    eventually(|| (!is_alive(pid)).then_some(()));
}

#[test]
fn a_gigabyte_of_log_neither_fills_the_disk_nor_stalls() {
    let run = AgentRun::script("head -c 1000000000 /dev/zero; echo last words >&2; exit 4");
    let ended = run.carry_out(&[]);
    assert_eq!(ended.report.reason, "The agent's program ended with exit code 4: last words");
    let kept = run.path("agent/transcript.log").metadata().expect("transcript").len();
    assert!((8 << 20..(8 << 20) + 100).contains(&kept), "{kept}");
    assert!(ended.transcript.ends_with("[the transcript is full: what follows is not kept]\n"));
}

#[test]
fn memory_is_limited() {
    let run = AgentRun::script("dd if=/dev/zero bs=150M count=1 2>/dev/null | sleep 600");
    run.edit_plan(|plan| plan.limits.memory_bytes = 100 << 20);
    let ended = run.carry_out(&[]);
    assert_eq!((ended.report.ending, ended.report.class), (Failed, Some(FailureClass::Agent)));
    assert_eq!(ended.report.reason, "The agent used more memory than 95 MiB.");
}

#[test]
fn a_directory_that_is_no_runs_is_wrong_usage() {
    let home = tempfile::tempdir().expect("directory");
    let ended = agent_run::binary(std::path::Path::new(env!("CARGO_BIN_EXE_astra-dispatch")))
        .args(["run", "agent", "--run-dir"])
        .arg(home.path())
        .output()
        .expect("run");
    assert_eq!(ended.status.code(), Some(2), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// Each line tries one thing and says `open` if it worked.
const BURGLAR: &str = r#"
try() { name=$1; shift; if ("$@") > /dev/null 2>&1; then echo "open: $name"; else echo "shut: $name"; fi; }
try "environment of another process" cat /proc/$VICTIM/environ
try "environment of the supervising step" cat /proc/$PPID/environ
try "memory of another process" sh -c ': < /proc/$VICTIM/mem'
try "memory map of another process" head -c 1 /proc/$VICTIM/maps
try "files through another process" ls /proc/$VICTIM/root/
try "working directory of another process" ls /proc/$VICTIM/cwd/
try "signal to the step" kill -0 $PPID
try "signal to another process" kill -0 $VICTIM
try "ssh key" cat "$OUTSIDE/home/.ssh/id_ed25519"
try "list of the home" ls "$OUTSIDE/home"
try "file in the home" sh -c 'echo x > "$OUTSIDE/home/.bashrc"'
try "read of another run" cat "$OUTSIDE/state/runs/other/plan.json"
try "list of the state" ls "$OUTSIDE/state"
try "write to the store" sh -c 'echo x >> "$OUTSIDE/state/store.sqlite3"'
try "own plan" cat ../plan.json
try "own report" sh -c 'echo x > ../agent/report.json'
try "own transcript" sh -c 'echo x > ../agent/transcript.log'
try "own task" sh -c 'echo x > "$RUN_TASK_FILE"'
try "what deliver gets" cat ../deliver-secrets.json
try "overwriting the binary" cp /bin/true "$OUTSIDE/bin/astra-dispatch"
try "removing the binary" rm -f "$OUTSIDE/bin/astra-dispatch"
try "replacing the binary" mv /bin/true "$OUTSIDE/bin/astra-dispatch"
try "link out of the work tree" sh -c 'ln -s "$OUTSIDE/home/.ssh/id_ed25519" key && cat key'
try "hard link out of the work tree" ln "$OUTSIDE/home/.ssh/id_ed25519" hard
try "block device" mknod device b 7 0
try "temporary files of others" ls /tmp
try "shared memory" sh -c 'echo x > /dev/shm/astra-test'
try "mount" mount -t tmpfs none tmp
echo "---"
try "work tree" sh -c 'echo x > file && cat file'
try "temporary file" sh -c 'echo x > "$TMPDIR/file"'
try "home" sh -c 'echo x > "$HOME/.file"'
try "summary" sh -c 'echo x > "$RUN_OUTPUT_DIR/summary.md"'
try "task" cat "$RUN_TASK_FILE"
try "system prompt" cat "$RUN_SYSTEM_PROMPT_FILE"
try "system file" cat /etc/passwd
try "null device" sh -c 'echo x > /dev/null'
try "own environment" cat /proc/self/environ
try "moving between its directories" sh -c 'echo x > a && mv a "$TMPDIR/a"'
"#;

#[test]
fn a_burglar_reaches_nothing_but_its_own_run() {
    if confinement::level() == Level::None {
        eprintln!("skipped: this kernel has no Landlock");
        return;
    }
    let run = AgentRun::script(BURGLAR);
    let outside = run.outside();
    for (path, text) in [
        ("home/.ssh/id_ed25519", "private key"),
        ("state/runs/other/plan.json", "{}"),
        ("state/store.sqlite3", "rows"),
    ] {
        std::fs::create_dir_all(outside.join(path).parent().expect("parent")).expect("directory");
        std::fs::write(outside.join(path), text).expect("write");
    }
    run.write("deliver-secrets.json", "{}");
    // The binary that the step is started from is the one that the burglar goes for.
    std::fs::create_dir_all(outside.join("bin")).expect("directory");
    let binary = outside.join("bin/astra-dispatch");
    std::fs::copy(env!("CARGO_BIN_EXE_astra-dispatch"), &binary).expect("copy");
    let mut victim = std::process::Command::new("sleep")
        .arg("600")
        .env("SECRET", "other run's key")
        .spawn()
        .expect("victim");
    let names = ["VICTIM", "OUTSIDE"].map(String::from);
    run.edit_plan(|plan| plan.credential_names = names.to_vec());
    let (id, place) = (victim.id().to_string(), outside.display().to_string());
    let ended = run.carry_out_with(&binary, &[("VICTIM", &id), ("OUTSIDE", &place)]);
    victim.kill().expect("kill");
    victim.wait().expect("wait");
    assert_eq!(ended.report.ending, Done, "{ended:?}");
    let (inside, own) = ended.transcript.split_once("---\n").expect("both parts");
    let opened: Vec<&str> = inside.lines().filter(|line| line.starts_with("open")).collect();
    // Scoped signals came with ABI 6 (Linux 6.12).
    let known = if confinement::scopes_signals() {
        vec![]
    } else {
        vec!["open: signal to the step", "open: signal to another process"]
    };
    assert_eq!(opened, known, "{}", ended.stderr);
    assert_eq!(inside.lines().count(), 28);
    let shut: Vec<&str> = own.lines().filter(|line| line.starts_with("shut")).collect();
    assert!(shut.is_empty(), "{shut:?}\n{}", ended.stderr);
    assert_eq!(std::fs::read(outside.join("home/.ssh/id_ed25519")).expect("key"), b"private key");
    assert!(ended.stderr.contains("Landlock confines the agent"), "{}", ended.stderr);
}

#[test]
fn in_a_container_landlock_is_left_out() {
    let run = AgentRun::script("ls \"$OUTSIDE\" && echo open");
    run.edit_plan(|plan| plan.credential_names = vec!["OUTSIDE".into()]);
    let outside = run.outside().display().to_string();
    let ended = run.carry_out(&[("OUTSIDE", &outside), ("ASTRA_CONTAINED", "true")]);
    assert_eq!(ended.transcript, "open\n", "{ended:?}");
    assert!(!ended.stderr.contains("Landlock"), "{}", ended.stderr);
}

#[test]
fn a_step_whose_supervisor_is_gone_does_not_go_on() {
    let run = AgentRun::script("sleep 600");
    // Not the number of the process that starts it.
    let ended = run.carry_out(&[("ASTRA_SUPERVISOR", "1")]);
    assert_eq!((ended.report.ending, ended.report.class), (Cancelled, Some(FailureClass::Cancelled)));
}

#[test]
fn a_program_that_fills_its_disk_has_failed_and_there_is_a_report() {
    let run = AgentRun::script("cat /dev/zero > $TMPDIR/big; exit 5");
    // A small disk of its own, which only this test sees.
    let script = "mount -t tmpfs -o size=4m none \"$1/agent\" || exit 99
        \"$2\" run agent --run-dir \"$1\"; code=$?; cp \"$1/agent/report.json\" \"$1/report.json\"; exit $code";
    run.write("agent/.keep", "");
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(run.path(""))
        .arg(env!("CARGO_BIN_EXE_astra-dispatch"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output();
    let Some(output) =
        output.ok().filter(|output| run.path("report.json").exists() || output.status.code() == Some(0))
    else {
        eprintln!("skipped: no mount namespaces for this user");
        return;
    };
    let report: astra_dispatch::domain::phase::AgentReport =
        serde_json::from_str(&run.read("report.json")).expect("a whole report");
    assert_eq!((report.ending, report.class), (Failed, Some(FailureClass::Agent)), "{output:?}");
    assert!(report.reason.contains("exit code 5: cat: write error: No space left"), "{}", report.reason);
}

#[test]
fn git_works_in_a_prepared_work_tree() {
    let run = AgentRun::script(
        "git -c user.name=a -c user.email=a@b commit -qam changed && git log --format=%s && git status --short",
    );
    let remotes = run.outside();
    let git = |arguments: &[&str]| {
        let status = std::process::Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(arguments)
            .current_dir(&remotes)
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")])
            .status();
        assert!(status.expect("git").success(), "{arguments:?}");
    };
    std::fs::create_dir(remotes.join("astra")).expect("directory");
    git(&["init", "-q", "-b", "main", "astra/api.git"]);
    std::fs::write(remotes.join("astra/api.git/file"), "one\n").expect("write");
    git(&["-C", "astra/api.git", "add", "file"]);
    git(&["-C", "astra/api.git", "commit", "-qm", "first"]);
    run.edit_plan(|plan| {
        plan.git_base_url = format!("file://{}", remotes.display());
        let script = "echo two >> file; ".to_owned();
        if let astra_dispatch::domain::run_plan::RuntimePlan::Command { command } = &mut plan.runtime {
            command[2].insert_str(0, &script);
        }
    });
    let prepared = agent_run::binary(std::path::Path::new(env!("CARGO_BIN_EXE_astra-dispatch")))
        .args(["run", "prepare", "--run-dir"])
        .arg(run.path(""))
        .output()
        .expect("prepare");
    assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
    let ended = run.carry_out(&[]);
    assert_eq!(ended.report.ending, Done, "{ended:?}\n{}", run.read("prepare/report.json"));
    assert_eq!(ended.transcript, "changed\nfirst\n");
}

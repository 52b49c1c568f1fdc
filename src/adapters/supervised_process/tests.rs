use std::path::Path;

use super::*;

const PLENTY: Limits = Limits { time: Duration::from_secs(60), memory: 1 << 40, files: 1 << 40 };

struct Ended {
    end: ProcessEnd,
    out: String,
    err: String,
}

fn shell(script: &str, directory: &Path, limits: Limits) -> Supervised {
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", script]).current_dir(directory).env_clear().env("PATH", "/usr/bin:/bin");
    Supervised {
        command,
        input: b"from stdin".to_vec(),
        limits,
        areas: vec![Area { directories: vec![directory.to_owned()], bytes: 1 << 40 }],
        alone: false,
    }
}

async fn run(supervised: Supervised, stop: impl Future<Output = Stop>) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let take_in = |stream, piece: &[u8]| match stream {
        Stream::Out => out.extend_from_slice(piece),
        Stream::Err => err.extend_from_slice(piece),
    };
    let end = supervised.run(take_in, stop).await.expect("run");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { end, out: text(out), err: text(err) }
}

async fn uncancelled(script: &str, limits: Limits) -> Ended {
    let home = tempfile::tempdir().expect("directory");
    run(shell(script, home.path(), limits), std::future::pending()).await
}

#[tokio::test]
async fn output_input_environment_and_exit_code_pass_through() {
    let ended =
        uncancelled("cat; echo err >&2; env | sort | grep -v -e PWD -e ^_ -e SHLVL; exit 7", PLENTY).await;
    assert_eq!(ended.out, "from stdinPATH=/usr/bin:/bin\n");
    assert_eq!(ended.err, "err\n");
    assert_eq!((ended.end.exit, ended.end.stopped), (Exit::Code(7), None));
}

#[tokio::test]
async fn a_program_that_reads_nothing_and_kills_itself_is_no_trouble() {
    let home = tempfile::tempdir().expect("directory");
    let mut supervised = shell("kill -9 $$", home.path(), PLENTY);
    supervised.input = vec![b'x'; 10 << 20];
    assert_eq!(run(supervised, std::future::pending()).await.end.exit, Exit::Signal(9));
}

#[tokio::test]
async fn the_time_limit_interrupts_and_the_program_may_sum_up() {
    // As `run agent` does: a signal that somebody above ignores would be ignored by the program too,
    // and a shell cannot trap it then. One that is caught here is the default after `exec`.
    let _caught = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
    let limits = Limits { time: Duration::from_secs(1), ..PLENTY };
    let ended = uncancelled("trap 'echo summed up; exit 1' INT; sleep 600 & wait", limits).await;
    assert_eq!((ended.end.stopped, ended.end.exit), (Some(Stop::Time), Exit::Code(1)));
    assert_eq!(ended.out, "summed up\n");
}

#[tokio::test]
async fn a_cancelled_program_that_ignores_signals_is_killed_with_its_children() {
    let home = tempfile::tempdir().expect("directory");
    let script = "trap '' INT TERM; sleep 600 & echo $!; wait; sleep 600";
    let ready = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Stop::Cancelled
    };
    let ended = run(shell(script, home.path(), PLENTY), ready).await;
    assert_eq!((ended.end.stopped, ended.end.exit), (Some(Stop::Cancelled), Exit::Signal(9)));
    assert!((4.5..9.0).contains(&ended.end.seconds), "{}", ended.end.seconds);
    // Where nobody waits for it, a killed process stays in the table as a zombie.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", ended.out.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z"), "the child lives: {stat}");
}

#[tokio::test]
async fn memory_of_all_processes_is_limited() {
    let script = "dd if=/dev/zero bs=120M count=1 2>/dev/null | sleep 600";
    let limits = Limits { memory: 60 << 20, ..PLENTY };
    let ended = uncancelled(script, limits).await;
    assert_eq!((ended.end.stopped, ended.end.exit), (Some(Stop::Memory(60 << 20)), Exit::Signal(9)));
}

#[tokio::test]
async fn space_and_number_of_files_are_limited() {
    let home = tempfile::tempdir().expect("directory");
    let mut supervised = shell("head -c 20000000 /dev/zero > big; sleep 600", home.path(), PLENTY);
    supervised.areas[0].bytes = 5 << 20;
    let ended = run(supervised, std::future::pending()).await;
    assert_eq!(ended.end.stopped, Some(Stop::Disk(5 << 20)));
    let limits = Limits { files: 50, ..PLENTY };
    let ended = uncancelled(
        "for i in 1 2 3 4 5 6; do for j in 1 2 3 4 5 6 7 8 9 0; do : > $i$j; done; done; sleep 600",
        limits,
    )
    .await;
    assert_eq!(ended.end.stopped, Some(Stop::Files(50)));
}

#[tokio::test]
async fn a_flood_of_output_neither_stalls_nor_starves_the_limits() {
    let home = tempfile::tempdir().expect("directory");
    let limits = Limits { time: Duration::from_millis(500), ..PLENTY };
    let mut bytes = 0_u64;
    let end = shell("cat /dev/zero", home.path(), limits)
        .run(|_, piece| bytes += piece.len() as u64, std::future::pending())
        .await
        .expect("run");
    assert_eq!(end.stopped, Some(Stop::Time));
    assert!(bytes > 10 << 20, "{bytes}");
}

#[tokio::test]
async fn a_child_that_keeps_the_pipe_open_does_not_keep_us() {
    let ended = uncancelled("sleep 600 & echo done", PLENTY).await;
    assert_eq!((ended.end.exit, ended.out.as_str()), (Exit::Code(0), "done\n"));
    assert!(ended.end.seconds < 5.0, "{}", ended.end.seconds);
}

#[tokio::test]
async fn a_missing_program_is_an_error_of_ours() {
    let home = tempfile::tempdir().expect("directory");
    let mut supervised = shell("", home.path(), PLENTY);
    supervised.command = std::process::Command::new("/no/such/program");
    assert!(supervised.run(|_, _| {}, std::future::pending()).await.is_err());
}

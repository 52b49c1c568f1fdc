use std::time::Duration;

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[tokio::test]
async fn a_repository_of_ours_runs_nothing_and_asks_nobody() {
    let home = tempfile::tempdir().unwrap();
    let git = Git::init_bare(&home.path().join("r"), soon()).await.unwrap();
    let hooks = git.line(["config", "core.hooksPath"]).await.unwrap();
    assert_eq!(hooks, "/dev/null");
    assert!(!home.path().join("r/hooks").exists());
    let scopes = git.line(["config", "--list", "--show-scope"]).await.unwrap();
    assert!(
        scopes.lines().all(|line| line.starts_with("command\t") || line.starts_with("local\t")),
        "{scopes}"
    );
}

#[tokio::test]
async fn the_token_is_given_to_its_own_base_only() {
    let home = tempfile::tempdir().unwrap();
    let git = Git::init_bare(&home.path().join("r"), soon()).await.unwrap();
    let repository = "astra/api".parse().unwrap();
    let remote = Remote::new("https://git.example.com", &repository, Some("t0ken'\"$(id)".into())).unwrap();
    let git = git.with_remote(&remote);
    let fill = async |host: &str| {
        let question = format!("protocol=https\nhost={host}\n\n");
        git.run_with_input(["credential", "fill"], question.as_bytes()).await
    };
    let answer = String::from_utf8(fill("git.example.com").await.unwrap()).unwrap();
    assert!(answer.contains("username=x-access-token\npassword=t0ken'\"$(id)\n"), "{answer}");
    let error = fill("evil.example.com").await.unwrap_err();
    assert_eq!(error.trouble(), Trouble::Authentication, "{error}");
}

#[tokio::test]
async fn only_the_transport_of_the_remote_is_allowed() {
    let home = tempfile::tempdir().unwrap();
    let git = Git::init_bare(&home.path().join("r"), soon()).await.unwrap();
    for url in ["https://127.0.0.1:1/x.git", "ext::sh -c id", "ssh://127.0.0.1/x"] {
        let error = git.run(["fetch", url, "HEAD"]).await.unwrap_err().to_string();
        assert!(error.contains("not allowed"), "{error}");
    }
}

#[tokio::test]
async fn a_command_that_does_not_end_is_ended() {
    let home = tempfile::tempdir().unwrap();
    let mut git = Git::init_bare(&home.path().join("r"), soon()).await.unwrap();
    git.deadline = Instant::now() + Duration::from_millis(200);
    let mut process = git.start(["cat-file", "--batch"]).unwrap();
    let pid = process.child.id().unwrap();
    let error = process.read_line().await.unwrap_err();
    assert!(matches!(error, GitError::TimedOut { .. }), "{error}");
    process.child.start_kill().unwrap();
    process.child.wait().await.unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_talk_goes_both_ways() {
    let home = tempfile::tempdir().unwrap();
    let git = Git::init_bare(&home.path().join("r"), soon()).await.unwrap();
    let big = vec![b'x'; 300_000];
    let id = git.run_with_input(["hash-object", "-w", "--stdin"], &big).await.unwrap();
    let id = String::from_utf8(id).unwrap();
    let mut process = git.start(["cat-file", "--batch"]).unwrap();
    for _ in 0..3 {
        process.write(id.as_bytes()).await.unwrap();
        assert_eq!(process.read_line().await.unwrap(), format!("{} blob 300000", id.trim()));
        assert_eq!(process.read_exact(300_001).await.unwrap()[..300_000], big);
    }
    process.finish().await.unwrap();
}

#[tokio::test]
async fn a_failure_is_told_in_gits_words() {
    let home = tempfile::tempdir().unwrap();
    let git = Git::init_bare(&home.path().join("r"), soon()).await.unwrap();
    let error = git.run(["fetch", "file:///nonexistent/x.git", "HEAD"]).await.unwrap_err();
    assert_eq!(error.trouble(), Trouble::NoRepository, "{error}");
    let error = git.run(["rev-parse", "--verify", "nope"]).await.unwrap_err();
    assert_eq!(error.to_string(), "git rev-parse: fatal: Needed a single revision");
}

#[tokio::test]
async fn memory_is_limited() {
    let home = tempfile::tempdir().unwrap();
    let git = Git::init_bare(&home.path().join("r"), soon()).await.unwrap();
    let process = git.with_memory_limit(1 << 30).start(["cat-file", "--batch"]).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id().unwrap())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max address space")).unwrap().to_owned();
    assert!(line.contains("1073741824"), "{line}");
}

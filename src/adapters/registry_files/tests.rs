use std::process::Command;

use super::*;

use tempfile::TempDir;

fn registry_with(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

/// Git as a person would use it, without their configuration.
fn person_git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_COMMITTER_DATE", "1795000000 +0000")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn only_the_registrys_own_files_are_read() {
    let directory = registry_with(&[
        ("astra.yaml", "version: 1"),
        ("vault.age", "secret"),
        ("README.md", "not ours"),
        ("agents/vega.yaml", "name: vega"),
        ("prompts/team/vega.md", "You are Vega."),
        ("other/file", "not ours"),
    ]);
    let mut paths: Vec<String> =
        read(directory.path()).unwrap().files.into_iter().map(|file| file.path).collect();
    paths.sort();
    assert_eq!(paths, ["agents/vega.yaml", "astra.yaml", "prompts/team/vega.md", "vault.age"]);
}

#[test]
fn the_ordinal_is_the_commit_time_while_nothing_of_the_registry_is_changed() {
    let repository = registry_with(&[(".astra/astra.yaml", "version: 1"), ("code", "1")]);
    let registry = repository.path().join(".astra");
    assert_eq!(read(&registry).unwrap().ordinal, 0, "outside Git");
    person_git(repository.path(), &["init", "--quiet"]);
    assert_eq!(read(&registry).unwrap().ordinal, 0, "nothing committed");
    person_git(repository.path(), &["add", "."]);
    person_git(repository.path(), &["commit", "--quiet", "-m", "Add the registry"]);
    assert_eq!(read(&registry).unwrap().ordinal, 1_795_000_000);
    fs::write(repository.path().join("code"), "2").unwrap();
    assert_eq!(read(&registry).unwrap().ordinal, 1_795_000_000, "another file is changed");
    fs::create_dir(registry.join("agents")).unwrap();
    fs::write(registry.join("agents/nova.yaml"), "name: nova").unwrap();
    assert_eq!(read(&registry).unwrap().ordinal, 0, "a file is added");
}

#[test]
fn loading_a_faulty_registry_names_the_first_fault_and_the_command_that_shows_all() {
    let directory = registry_with(&[("astra.yaml", "version: 2\nplan: {}")]);
    let error = load(directory.path()).unwrap_err();
    let error = error.downcast_ref::<UserError>().unwrap();
    assert!(error.cause.contains("astra.yaml:1:1: key `plane` is missing"), "{error}");
    assert!(error.cause.ends_with("(and 4 more)"), "{error}");
    assert!(error.remedy.starts_with("run `astra-dispatch agents check --registry "));
}

#[test]
fn more_files_than_a_registry_may_have_are_refused() {
    let directory = registry_with(&[("astra.yaml", "version: 1")]);
    let prompts = directory.path().join("prompts");
    fs::create_dir(&prompts).unwrap();
    let source = prompts.join("0");
    fs::write(&source, "").unwrap();
    for number in 1..MOST_FILES {
        fs::hard_link(&source, prompts.join(number.to_string())).unwrap();
    }
    let error = read(directory.path()).unwrap_err();
    assert!(error.to_string().contains("more than 20000 files"), "{error}");
}

#[test]
fn a_directory_that_is_a_link_or_a_file_is_not_read() {
    let directory =
        registry_with(&[("astra.yaml", "version: 1"), ("prompts", "a file"), ("elsewhere/x.yaml", "")]);
    std::os::unix::fs::symlink("elsewhere", directory.path().join("agents")).unwrap();
    let files = read(directory.path()).unwrap().files;
    let content = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.content.clone());
    assert_eq!(content("agents"), Some(Content::Link));
    assert_eq!(content("prompts"), Some(Content::Unreadable { reason: "it is no directory".to_owned() }));
    assert_eq!(files.len(), 3);
}

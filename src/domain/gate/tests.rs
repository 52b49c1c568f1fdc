use proptest::prelude::*;

use super::*;
use crate::domain::secret_scan::SecretPrints;

fn plan() -> RunPlan {
    RunPlan {
        protected_paths: vec!["migrations/**".into(), "/infra/prod/".into(), "*.lock".into()],
        registry_path: "./.astra/".into(),
        ..RunPlan::sample()
    }
}

const SECRET: &str = "hunter2-hunter2-hunter2";

fn gate() -> Gate {
    let prints = SecretPrints::new([7; 16], [("ANTHROPIC_API_KEY", SECRET)]);
    Gate::new(&plan(), vec![Scanner::new(&prints).unwrap()]).unwrap()
}

fn version(mode: u32, bytes: u64) -> Option<Version> {
    Some(Version { mode, id: "0".repeat(40), bytes })
}

fn added(path: impl AsRef<[u8]>) -> Change {
    Change { path: path.as_ref().to_vec(), old: None, new: version(MODE_FILE, 10) }
}

fn rules(changes: &[Change]) -> Vec<String> {
    gate().check_changes(changes).into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn ordinary_work_passes() {
    let changes = [
        added("src/main.rs"),
        added("docs/how to (new).md"),
        added("ünï/文件.txt"),
        added(".gitignore"),
        added("docs/github/workflows/x.yml"),
        added("src/CODEOWNERS"),
        added("src/migrations/x.sql"),
        added("gitlab~draft.txt"),
        Change { new: None, ..added("old.txt") },
        Change { new: version(MODE_EXECUTABLE, 1), ..added("run.sh") },
        Change { path: b"link".to_vec(), old: version(MODE_LINK, 1), new: None },
        Change { path: b"link2".to_vec(), old: version(MODE_LINK, 1), new: version(MODE_FILE, 1) },
    ];
    assert_eq!(gate().check_changes(&changes), []);
}

#[test]
fn protected_paths_are_protected_however_they_are_written() {
    for path in [
        ".github/workflows/ci.yml",
        ".github/CODEOWNERS",
        ".GitHub/x",
        ".github",
        "CODEOWNERS",
        "codeowners",
        "docs/CODEOWNERS",
        ".gitmodules",
        "sub/.gitmodules",
        ".gitattributes",
        "a/b/.GITATTRIBUTES",
        ".astra/agents/vega.yaml",
        ".astra",
        ".ASTRA/astra.yaml",
        "migrations/1.sql",
        "migrations/a/b/1.sql",
        "Migrations",
        "infra/prod/main.tf",
        "infra/prod",
        "yarn.lock",
    ] {
        assert_eq!(rules(&[added(path)]), [rule::PROTECTED_PATH], "{path}");
        let deleted = Change { path: path.into(), old: version(MODE_FILE, 1), new: None };
        assert_eq!(rules(&[deleted]), [rule::PROTECTED_PATH], "{path} deleted");
    }
    for path in [
        ".github./x",
        ".git\u{200b}hub/x",
        ".github /x",
        ".github\\workflows\\x",
        ".git\u{200d}attributes",
        ".github:x/y",
    ] {
        assert!(rules(&[added(path)]).contains(&rule::PROTECTED_PATH.to_owned()), "{path}");
    }
}

#[test]
fn a_registry_at_the_root_is_protected_too() {
    let gate = Gate::new(&RunPlan { registry_path: ".".into(), ..plan() }, vec![]).unwrap();
    for path in ["astra.yaml", "agents/vega.yaml", "prompts/x.md", "vault.age", "vault.recipients"] {
        assert_eq!(gate.check_changes(&[added(path)])[0].rule, rule::PROTECTED_PATH);
    }
    assert_eq!(gate.check_changes(&[added("src/agents/x.rs")]), []);
}

#[test]
fn names_that_mean_something_else_elsewhere_are_refused() {
    for path in [
        b"a\xffb".as_slice(),
        b"../x",
        b"a/../x",
        b"a//x",
        b"./x",
        b".git/config",
        b"a/.GIT/hooks/x",
        b".git./x",
        b"git~1/config",
        b"GITHUB~1/x",
        b"gi7eba~1",
        b".git::$INDEX_ALLOCATION/config",
        b"a\nb",
        b"a\x1b[31m",
        b"name ",
        b"name.",
        b"a\\b",
        "a\u{202e}b".as_bytes(),
        &[b'a'; 1025],
    ] {
        assert_eq!(rules(&[added(path)]), [rule::PATH_NAME], "{:?}", String::from_utf8_lossy(path));
    }
}

#[test]
fn only_files_and_executables_are_taken() {
    for mode in [MODE_LINK, MODE_SUBMODULE, 0o100_664, 0o040_000, 0o104_755, 0] {
        assert_eq!(rules(&[Change { new: version(mode, 1), ..added("x") }]), [rule::MODE], "{mode:o}");
    }
    let removed = Change { path: b"sub".to_vec(), old: version(MODE_SUBMODULE, 0), new: None };
    assert_eq!(rules(&[removed]), [rule::MODE]);
}

#[test]
fn sizes_and_counts_have_an_end() {
    let file = |bytes| Change { new: version(MODE_FILE, bytes), ..added("big.bin") };
    assert_eq!(rules(&[file(MAX_FILE_BYTES)]), [""; 0]);
    assert_eq!(rules(&[file(MAX_FILE_BYTES + 1)]), [rule::FILE_SIZE]);
    let full = vec![file(MAX_FILE_BYTES); 5];
    assert_eq!(rules(&full), [""; 0]);
    assert_eq!(rules(&[full, vec![file(1)]].concat()), [rule::TOTAL_SIZE]);
    let many: Vec<Change> = (0..MAX_CHANGED_FILES).map(|number| added(format!("f{number}"))).collect();
    assert_eq!(rules(&many), [""; 0]);
    assert_eq!(rules(&[many, vec![added("one-more")]].concat()), [rule::FILE_COUNT]);
}

#[test]
fn secrets_are_named_by_place_and_never_shown() {
    let text = format!("a\nb = \"{SECRET}\"\n");
    let findings = gate().check_content(b"src/x.rs", None, text.as_bytes());
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].rule.as_str(), findings[0].line), (rule::SECRET, Some(2)));
    assert_eq!(findings[0].message, "here is ANTHROPIC_API_KEY of the run, plain");
    // Also where it was there before.
    assert_eq!(gate().check_content(b"src/x.rs", Some(text.as_bytes()), text.as_bytes()).len(), 1);
    let in_path = gate().check_changes(&[added(format!("src/{SECRET}.txt"))]);
    assert_eq!(in_path.len(), 1);
    assert!(is_secret(&in_path[0]) && in_path[0].path.is_none());
    let in_words = gate().check_words("the summary has", &format!("I used {SECRET}."));
    assert_eq!(in_words[0].message, "the summary has ANTHROPIC_API_KEY of the run, plain");
}

#[test]
fn a_path_with_a_secret_is_not_repeated_for_its_content() {
    let token = format!("AK{}Q7Q7Q7Q7Q7Q7Q7Q7", "IA");
    for secret in [SECRET, &token] {
        let content = format!("{SECRET} {token}");
        let findings = gate().check_content(format!("{secret}.txt").as_bytes(), None, content.as_bytes());
        assert_eq!(findings.len(), 2);
        assert!(findings.iter().all(|finding| finding.path.is_none()), "{findings:?}");
    }
}

#[test]
fn a_file_full_of_secrets_is_read_once() {
    let token = format!("AK{}Q7Q7Q7Q7Q7Q7Q7Q7", "IA");
    let content = format!("{SECRET}\n{token}\n").repeat(50_000);
    let findings = gate().check_content(b"x", None, content.as_bytes());
    assert!(findings.iter().filter(|finding| finding.rule == rule::SECRET).count() < MAX_FINDINGS);
    let tokens: Vec<_> = findings.iter().filter(|finding| finding.rule == rule::TOKEN).collect();
    assert_eq!(tokens.len(), MAX_FINDINGS);
    assert_eq!((tokens[0].line, tokens[1].line), (Some(2), Some(4)));
}

#[test]
fn a_token_counts_where_it_is_new() {
    let token = format!("AK{}Q7Q7Q7Q7Q7Q7Q7Q7", "IA");
    let before = format!("key: {token}\n");
    let after = format!("added\n{before}");
    assert_eq!(gate().check_content(b"x", Some(before.as_bytes()), after.as_bytes()), []);
    let findings = gate().check_content(b"x", None, after.as_bytes());
    assert_eq!((findings[0].rule.as_str(), findings[0].line), (rule::TOKEN, Some(2)));
    assert!(!findings[0].message.contains(&token));
}

#[test]
fn findings_are_cut_and_secrets_come_first() {
    let mut findings: Vec<Finding> = (0..80).map(|_| commit_finding("x")).collect();
    findings.push(finding(rule::SECRET, None, "s".into()));
    let kept = kept(findings);
    assert_eq!(kept.len(), MAX_FINDINGS);
    assert!(is_secret(&kept[0]));
    assert_eq!(kept[MAX_FINDINGS - 1].message, "and 32 more");
}

proptest! {
    #[test]
    fn no_spelling_of_a_protected_path_gets_through(upper in prop::collection::vec(any::<bool>(), 12), tail in "[a-z]{1,8}", dots in "[. ]{0,3}") {
        let name: String = ".github".chars().zip(&upper).map(|(c, up)| if *up { c.to_ascii_uppercase() } else { c }).collect();
        let path = format!("{name}{dots}/{tail}");
        prop_assert!(!rules(&[added(&path)]).is_empty(), "{}", path);
    }

    #[test]
    fn any_path_gets_an_answer(path in prop::collection::vec(any::<u8>(), 0..60)) {
        let findings = gate().check_changes(&[added(path)]);
        for finding in findings {
            prop_assert!(finding.path.is_none_or(|path| !path.contains(char::is_control)));
        }
    }
}

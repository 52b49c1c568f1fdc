//! The one commit that a run delivers, byte for byte: `collect` makes it, `deliver` accepts no other.

use super::escape;
use super::run_plan::{Author, RunPlan};

/// Longest subject, in characters.
const SUBJECT_LIMIT: usize = 72;

/// The commit's message: the title as its subject, and where it comes from.
pub fn message(plan: &RunPlan) -> String {
    format!(
        "{}\n\nTask: {}\nRun: {}\nAgent: {}\n",
        subject(&plan.task.to_string(), &plan.title),
        plan.task,
        plan.run,
        plan.agent
    )
}

/// One inert line. Square brackets become round: `[skip ci]` in a commit would switch off the
/// checks of the branch (GitHub, GitLab and others look for it there).
fn subject(task: &str, title: &str) -> String {
    let title = escape::github_line(title).replace('[', "(").replace(']', ")");
    let words: Vec<&str> = title.split_whitespace().collect();
    let line = format!("{task}: {}", words.join(" "));
    if line.chars().count() <= SUBJECT_LIMIT {
        return line.trim_end_matches([':', ' ']).to_owned();
    }
    let start: String = line.chars().take(SUBJECT_LIMIT - 1).collect();
    format!("{}…", start.trim_end())
}

/// `name <mail>`, as Git writes it.
pub fn identity(author: &Author) -> String {
    let clean = |text: &str| -> String {
        let legal = |c: &char| !c.is_control() && *c != '<' && *c != '>';
        text.chars().filter(legal).collect::<String>().trim().to_owned()
    };
    format!("{} <{}>", clean(&author.name), clean(&author.email))
}

/// The commit object: author and committer are the agent, `seconds` since 1970, in UTC.
pub fn object(plan: &RunPlan, tree: &str, base: &str, seconds: i64) -> String {
    let identity = identity(&plan.author);
    let message = message(plan);
    format!(
        "tree {tree}\nparent {base}\nauthor {identity} {seconds} +0000\ncommitter {identity} {seconds} +0000\n\n{message}"
    )
}

/// Whether a commit object is the one that this run may deliver on this base.
pub fn is_expected(plan: &RunPlan, base: &str, found: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(found) else { return false };
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let tree = header("tree ").unwrap_or_default();
    let seconds = header("committer ")
        .and_then(|line| line.strip_suffix(" +0000"))
        .and_then(|line| line.rsplit(' ').next())
        .and_then(|seconds| seconds.parse().ok());
    seconds.is_some_and(|seconds| object(plan, tree, base, seconds) == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_one_short_inert_line() {
        for (title, expected) in [
            ("Add an endpoint", "AST-1: Add an endpoint"),
            ("  a\n\nb\t c ", "AST-1: a b c"),
            ("Typo [skip ci]\n\nskip-checks: true", "AST-1: Typo (skip ci) skip-checks: true"),
            ("Fixes #12 for @ada", "AST-1: Fixes #\u{200b}12 for @\u{200b}ada"),
            ("", "AST-1"),
            ("\u{202e}evil\u{7}", "AST-1: evil"),
        ] {
            assert_eq!(subject("AST-1", title), expected);
        }
        assert_eq!(subject("AST-1", &"ä".repeat(500)).chars().count(), SUBJECT_LIMIT);
    }

    #[test]
    fn an_identity_cannot_leave_its_place() {
        let author = Author { name: "a <b>\nparent x".into(), email: "m> 0 +0000\n@x".into() };
        assert_eq!(identity(&author), "a bparent x <m 0 +0000@x>");
    }
}

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::uuid;

use super::*;
use crate::domain::registry;
use crate::domain::work_item::{Member, StateGroup};

/// An item of the sample's project, number 12, without a description.
pub(crate) fn item(labels: &[&str]) -> WorkItem {
    WorkItem {
        id: ItemId(uuid!("0991cb3a-9c94-46c4-91ca-f0afff605496")),
        project: ProjectId(uuid!("30b3e760-81ab-4c95-a0fe-f21adc376851")),
        sequence: 12,
        name: "Add a dry-run flag".to_owned(),
        description: String::new(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        state: "Todo".to_owned(),
        group: StateGroup::Unstarted,
        priority: Priority::Medium,
        assignees: Vec::new(),
        links: Vec::new(),
        updated_at: Timestamp::UNIX_EPOCH,
        withdrawn: false,
    }
}

fn described(labels: &[&str], description: &str) -> WorkItem {
    WorkItem { description: description.to_owned(), ..item(labels) }
}

/// The refusal as a person reads it: what is wrong, and what to change.
fn refused(item: &WorkItem) -> String {
    let refusal = Task::from_item(item, &registry::sample()).unwrap_err();
    format!("{refusal}\n{}", refusal.remedies().join("\n"))
}

#[test]
fn an_item_becomes_a_task_with_the_projects_defaults() {
    let mut item = item(&["bug", "agent:coder"]);
    item.assignees = vec![Member { email: "Bob@example.com".to_owned(), display_name: "bob".to_owned() }];
    let task = Task::from_item(&item, &registry::sample()).unwrap();
    assert_eq!(task.key.to_string(), "AST-12");
    assert_eq!(task.role.as_str(), "coder");
    assert_eq!(task.repository.to_string(), "astra/api");
    assert_eq!(task.base.as_str(), "main");
    assert_eq!((task.pull_request, task.model), (None, None));
    assert_eq!(task.wishes, SkillWishes { project: vec!["kotlin".to_owned()], ..SkillWishes::default() });
    assert_eq!(task.assignees, ["Bob@example.com"]);
}

#[test]
fn labels_are_trimmed_and_compared_in_any_case() {
    let labels = [" Agent:CODER ", "agent: coder", "SKILL: Database Migrations ", "skill:", "Model:OPUS"];
    let item = item(&labels);
    assert_eq!(asked_roles(&item), ["coder"]);
    let task = Task::from_item(&item, &registry::sample()).unwrap();
    assert_eq!(task.wishes.labels, ["database migrations"]);
    assert_eq!(task.model.as_deref(), Some("opus"));
    assert_eq!(asked_roles(&described(&["agents:coder", "my agent:coder", "agent"], "")), [""; 0]);
}

#[test]
fn task_lines_are_read_in_any_case_and_order() {
    let description = "Some text.\nSkills: Kotlin, database-migrations,, kotlin\n  REPOSITORY : astra/web \n\
                       * base: release/2.4\nskills: React\nBasement: x\nSee Base: y\nBase:\nrepo: x/y";
    let task = Task::from_item(&described(&["agent:coder"], description), &registry::sample()).unwrap();
    assert_eq!(task.repository.to_string(), "astra/web");
    assert_eq!(task.base.as_str(), "release/2.4");
    assert_eq!(task.wishes.line, ["kotlin", "database-migrations", "react"]);
}

#[test]
fn a_reviewer_gets_the_pull_request_that_is_named() {
    let table: &[(&str, &[&str], &str, u64)] = &[
        ("Pull request: #7", &[], "astra/api", 7),
        ("pull request: 7", &[], "astra/api", 7),
        ("Pull request: https://github.com/astra/web/pull/8/files?w=1", &[], "astra/web", 8),
        (
            "Pull request: https://github.com/astra/web/pull/8 (https://github.com/astra/web/pull/8)",
            &[],
            "astra/web",
            8,
        ),
        ("Pull request: #9 (https://github.com/astra/api/pull/9)", &[], "astra/api", 9),
        (
            "",
            &["https://example.com/", "https://github.com/astra/web/pull/10#issuecomment-1"],
            "astra/web",
            10,
        ),
        (
            "",
            &["https://github.com/astra/web/pull/10", "https://github.com/astra/web/pull/10/files"],
            "astra/web",
            10,
        ),
        ("Pull request: #7\nRepository: astra/web", &["https://github.com/astra/api/pull/1"], "astra/web", 7),
    ];
    for (description, links, repository, number) in table {
        let mut item = described(&["agent:reviewer"], description);
        item.links = links.iter().map(|link| (*link).to_owned()).collect();
        let task = Task::from_item(&item, &registry::sample()).unwrap();
        assert_eq!((task.repository.to_string().as_str(), task.pull_request), (*repository, Some(*number)));
    }
    let coder = described(&["agent:coder"], "Pull request: nonsense");
    assert_eq!(Task::from_item(&coder, &registry::sample()).unwrap().pull_request, None);
}

#[test]
fn every_fault_says_what_is_wrong_and_what_to_change() {
    let unmapped = WorkItem {
        project: ProjectId(uuid!("5546edb5-1c96-4175-98f8-f0de052c78df")),
        ..item(&["agent:coder"])
    };
    let mut linked = item(&["agent:reviewer"]);
    linked.links = ["1", "2"].map(|number| format!("https://github.com/astra/api/pull/{number}")).to_vec();
    let elsewhere = "Pull request: https://github.com/astra/api/pull/1\nRepository: astra/web";
    let items = [
        item(&[]),
        unmapped,
        item(&["agent:coder", "agent:docs"]),
        item(&["agent:"]),
        item(&["agent:codr"]),
        item(&["agent:\u{441}oder"]),
        item(&["agent:coder\u{200b}"]),
        item(&["agent:coder", "model:gpt"]),
        item(&["agent:coder", "model:opus", "model:sonnet"]),
        item(&["agent:reviewer"]),
        linked,
        described(&["agent:reviewer"], "Pull request: #0"),
        described(&["agent:reviewer"], elsewhere),
        described(&["agent:coder"], "Base: main\nBase: develop"),
        described(&["agent:coder"], "Repository: ../x"),
        described(&["agent:coder"], "Repository: https://github.com/astra/api"),
        described(&["agent:coder"], "Repository: astra/api\u{202e}"),
        described(&["agent:coder"], "Base: --upload-pack=touch /tmp/x"),
        described(&["agent:coder"], &format!("Base: {}", "x".repeat(300))),
        described(&["agent:codr", "model:gpt"], "Base: a..b\nRepository: x"),
    ];
    let all: Vec<String> = items.iter().map(refused).collect();
    insta::assert_snapshot!(all.join("\n\n"));
}

proptest! {
    #[test]
    fn any_text_is_a_task_or_a_refusal_with_sentences(
        labels in prop::collection::vec("(agent:|model:|skill:)?\\PC{0,12}", 0..4),
        description in "((Repository|Base|Pull request|Skills|\\PC{0,5}):? ?\\PC{0,30}\n?){0,4}",
    ) {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match Task::from_item(&described(&labels, &description), &registry::sample()) {
            Ok(task) => prop_assert!(!task.base.as_str().starts_with('-')),
            Err(refusal) => {
                prop_assert!(!refusal.faults.is_empty());
                prop_assert!(refusal.to_string().chars().all(|c| !c.is_control()));
            }
        }
    }
}

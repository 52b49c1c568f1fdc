//! A registry and work items that are as small as they can be.

#![allow(dead_code, reason = "helpers of tests")]

use std::sync::Arc;

use astra_dispatch::domain::matching::Workforce;
use astra_dispatch::domain::name::{ItemId, ProjectId};
use astra_dispatch::domain::registry::{Content, Registry, SourceFile, Sources, parse};
use astra_dispatch::domain::work_item::{Priority, StateGroup, WorkItem};
use uuid::Uuid;

/// The one project.
pub(crate) const PROJECT: ProjectId = ProjectId(Uuid::from_u128(1));

/// An agent: name, role, `max_concurrent_tasks`.
pub(crate) type SmallAgent<'a> = (&'a str, &'a str, u32);

/// A registry of these agents, with the roles `coder` and `ops`.
pub(crate) fn registry(agents: &[SmallAgent], max_attempts: u32, ordinal: i64) -> Registry {
    let file = |path: String, text: String| SourceFile { path, content: Content::Bytes(text.into_bytes()) };
    let mut files = vec![
        file(
            "astra.yaml".to_owned(),
            format!(
                "version: 1\n\
                 plane: {{url: https://plane.example.com, workspace: a}}\n\
                 projects: [{{id: {}, identifier: T, repository: a/a, base: main}}]\n\
                 roles: {{coder: {{description: c}}, ops: {{description: o}}}}\n\
                 models: {{m: m}}\n\
                 max_attempts: {max_attempts}\n",
                PROJECT.0
            ),
        ),
        file("prompts/p.md".to_owned(), "p".to_owned()),
    ];
    for (name, role, max) in agents {
        files.push(file(
            format!("agents/{name}.yaml"),
            format!(
                "name: {name}\nrole: {role}\ntrait: fast\nstatus: active\ndescription: d\nskills: []\n\
                 max_concurrent_tasks: {max}\nrepositories: [\"a/*\"]\naccounts: {{github: {name}}}\n\
                 runtime: {{kind: command, command: [\"true\"]}}\n\
                 prompt: {{personality: prompts/p.md}}\n\
                 credentials: {{vault: a/{name}}}\n"
            ),
        ));
    }
    match parse(&Sources { files, ordinal }) {
        Ok(parsed) => parsed.registry,
        Err(faults) => panic!("the small registry has faults: {faults:#?}"),
    }
}

/// The same, prepared.
pub(crate) fn workforce(agents: &[SmallAgent], max_attempts: u32, ordinal: i64) -> Workforce {
    Workforce::new(Arc::new(registry(agents, max_attempts, ordinal)))
}

/// Item number `sequence`, to do, with the label of a role.
pub(crate) fn item(sequence: u64, role: &str) -> WorkItem {
    WorkItem {
        id: ItemId(Uuid::from_u128(u128::from(sequence))),
        project: PROJECT,
        sequence,
        name: String::new(),
        description: String::new(),
        labels: vec![format!("agent:{role}")],
        state: "Todo".to_owned(),
        group: StateGroup::Unstarted,
        priority: Priority::None,
        assignees: Vec::new(),
        links: Vec::new(),
        updated_at: jiff::Timestamp::UNIX_EPOCH,
        withdrawn: false,
    }
}

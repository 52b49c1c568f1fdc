//! What `init` writes: a registry with one agent, and the workflows that call it.

use std::str::FromStr;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::name::{AgentName, Branch, ProjectId, Repository, Role};
use super::registry::{
    Content, Fault, NO_PLANE, NewAgent, NewFile, SourceFile, Sources, Status, new_agent, parse,
};

/// The registry's directory, from the root of its repository.
pub const REGISTRY: &str = ".astra";
/// A task to begin with, where there is no Plane to take one from.
pub const FIRST_TASK: &str = ".astra/first-task.json";
/// The role of the one agent.
const ROLE: &str = "coder";
/// The label that asks for it.
pub const LABEL: &str = "agent:coder";
/// Where a cluster keeps the ledger.
pub const SYSTEM_NAMESPACE: &str = "astra-system";
const GUARDRAILS: &str = "prompts/guardrails.md";
const GUARDRAILS_TEXT: &str = include_str!("../../fixtures/registry/prompts/guardrails.md");
const ACTION: &str = "uses: astra/dispatch-action@";
const WORKFLOWS: [(&str, &str); 4] = [
    (".github/workflows/dispatch.yml", include_str!("../../examples/workflows/dispatch.yml")),
    (".github/workflows/publish.yml", include_str!("../../examples/workflows/publish.yml")),
    (".github/workflows/run.yml", include_str!("../../examples/workflows/run.yml")),
    (".github/workflows/sweep.yml", include_str!("../../examples/workflows/sweep.yml")),
];

/// Everything that was asked or found out.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where tasks come from.
    pub tracker: Tracker,
    /// Where work lands.
    pub repository: Repository,
    /// The branch that work starts from.
    pub base: Branch,
    /// The agent.
    pub agent: AgentName,
    /// The model is reached at `ANTHROPIC_BASE_URL`, such as a gateway.
    pub has_model_address: bool,
    /// On a cluster: the images of our own steps and of the agent, by digest.
    pub images: Option<Images>,
    /// The commit of the Action that the workflows run, if not the one of the last release.
    pub action: Option<ActionCommit>,
}

/// A commit of the Action: 40 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionCommit(String);

impl FromStr for ActionCommit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 40 && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a commit has 40 hexadecimal digits: a tag or a branch may be moved to other code")
        }
    }
}

/// Images by digest.
#[derive(Debug, Clone)]
pub struct Images {
    /// Ours, for every step but the agent's.
    pub own: String,
    /// The agent's.
    pub agent: String,
}

/// A Plane project, or what stands for one until there is a key for Plane.
#[derive(Debug, Clone)]
pub struct Tracker {
    /// Plane's address.
    pub url: String,
    /// The workspace's slug.
    pub workspace: String,
    /// The workspace's id, as webhooks carry it.
    pub workspace_id: Option<Uuid>,
    /// The project.
    pub project: ProjectId,
    /// The letters of its task keys.
    pub identifier: String,
    /// Name of the state of work that waits for review, if it has one.
    pub review: Option<String>,
    /// It is there.
    pub is_real: bool,
}

impl Tracker {
    /// Stands for a project: the same one each time for the same repository.
    pub fn stand_in(repository: &Repository) -> Self {
        let legal = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let workspace: String = repository.name().chars().map(legal).take(48).collect();
        Self {
            url: format!("https://{NO_PLANE}"),
            workspace: workspace.to_lowercase(),
            workspace_id: None,
            project: ProjectId(id(repository, "project")),
            identifier: "TASK".to_owned(),
            review: None,
            is_real: false,
        }
    }
}

/// An id that belongs to a repository.
fn id(repository: &Repository, what: &str) -> Uuid {
    let digest: [u8; 32] = Sha256::digest(format!("astra-dispatch {what} {repository}")).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The name of the first of these states that says "review".
pub fn review_state<'a>(started: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    started.into_iter().find(|name| name.to_lowercase().contains("review"))
}

/// The files, by their paths from the root of the repository.
///
/// # Errors
/// What `agents check` would say of an address or an image that was given.
pub fn files(setup: &Setup) -> Result<Vec<NewFile>, Vec<Fault>> {
    let text = astra_yaml(setup);
    let mut sources = Sources { files: Vec::new(), ordinal: 0 };
    let mut add = |path: &str, text: &str| {
        let content = Content::Bytes(text.as_bytes().to_vec());
        sources.files.push(SourceFile { path: path.to_owned(), content });
    };
    add("astra.yaml", &text);
    add(GUARDRAILS, GUARDRAILS_TEXT);
    let registry = parse(&sources)?.registry;
    let role: Role = registry.roles.keys().next().cloned().ok_or_else(Vec::new)?;
    let new = NewAgent {
        name: &setup.agent,
        role: &role,
        guardrails: &[GUARDRAILS],
        status: Status::Active,
        image: setup.images.as_ref().map(|images| images.agent.as_str()),
    };
    let file = |path: &str, text: &str| NewFile { path: path.to_owned(), text: text.to_owned() };
    let in_registry = |path: &str, text: &str| file(&format!("{REGISTRY}/{path}"), text);
    let mut files = vec![in_registry("astra.yaml", &text)];
    for new in new_agent(&new, &registry) {
        let text = if setup.has_model_address { with_model_address(&new.text) } else { new.text };
        files.push(in_registry(&new.path, &text));
    }
    files.push(in_registry(GUARDRAILS, GUARDRAILS_TEXT));
    if !setup.tracker.is_real {
        files.push(file(FIRST_TASK, &format!("{:#}\n", first_task(setup))));
    }
    if setup.images.is_some() {
        files.extend(WORKFLOWS.iter().map(|(path, text)| file(path, &pinned(text, setup.action.as_ref()))));
    }
    Ok(files)
}

/// A workflow that runs this commit of the Action.
fn pinned(workflow: &str, action: Option<&ActionCommit>) -> String {
    let Some(ActionCommit(commit)) = action else { return workflow.to_owned() };
    let pin = |line: &str| match line.split_once(ACTION) {
        Some((before, _)) => format!("{before}{ACTION}{commit}\n"),
        None => format!("{line}\n"),
    };
    workflow.lines().map(pin).collect()
}

/// An agent's file that also hands over where its model is.
pub fn with_model_address(agent: &str) -> String {
    agent.replace("env: [ANTHROPIC_API_KEY]", "env: [ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL]")
}

fn astra_yaml(setup: &Setup) -> String {
    let Setup { tracker, repository, base, images, .. } = setup;
    // JSON's strings are YAML's as well.
    let quoted = |text: &str| Value::from(text).to_string();
    let workspace_id = tracker.workspace_id.map_or_else(String::new, |id| format!("\n  workspace_id: {id}"));
    let note = if tracker.is_real {
        ""
    } else {
        "\n# None yet: with PLANE_API_KEY, `astra-dispatch init` fills this in."
    };
    let (kind, kubernetes) = match images {
        None => ("local", String::new()),
        Some(images) => (
            "kubernetes",
            format!("\nkubernetes:\n  system_namespace: {SYSTEM_NAMESPACE}\n  image: {}\n", images.own),
        ),
    };
    format!(
        "\
# Where tasks come from, where work lands, and the limits of every run. The agents are in agents/.
# `astra-dispatch agents check` reports every fault; `astra-dispatch agents schema astra` describes every key.
version: 1
executor: {kind}
{note}
plane:
  url: {url}
  workspace: {workspace}{workspace_id}

projects:
  - id: {project}
    identifier: {identifier}
    repository: {repository}
    base: {base}

# A task asks for a role with the label `agent:<role>`.
roles:
  {ROLE}:
    description: Changes the code of the product, with tests
    examples: [Add endpoint, Fix bug, Implement feature]

# Aliases for models; an agent's file says which of them it may use.
models:
  sonnet: claude-sonnet-5

states:
  review: {review}

# Of every run, and what no agent may go beyond.
limits:
  cpu: \"2\"
  memory: 4Gi
  time: 30m
  pending: 10m
{kubernetes}",
        url = quoted(&tracker.url),
        workspace = quoted(&tracker.workspace),
        project = tracker.project,
        identifier = quoted(&tracker.identifier),
        base = quoted(base.as_str()),
        review = tracker.review.as_deref().map_or_else(|| "null".to_owned(), quoted),
    )
}

/// A task that every repository can do with, in the form of a Plane webhook's body.
fn first_task(setup: &Setup) -> Value {
    json!({
        "event": "issue",
        "action": "created",
        "data": {
            "id": id(&setup.repository, "first task"),
            "project": setup.tracker.project,
            "sequence_id": 1,
            "name": "Say how to build and test this repository",
            "description_html": "<p>Find out how this repository is built and tested. Add a short section about it to \
                                 the README, or correct the one that is there.</p>",
            "labels": [{"name": LABEL}],
            "state": {"name": "Todo", "group": "unstarted"},
            "priority": "medium",
            "updated_at": "2026-01-01T00:00:00Z",
        },
    })
}

/// What this machine has already, for the next steps.
#[derive(Debug, Clone, Copy)]
pub struct Prepared {
    /// The program `claude` is in the PATH.
    pub has_claude: bool,
    /// `ANTHROPIC_API_KEY` is set.
    pub has_model_key: bool,
    /// Git remotes are on a server, and `GITHUB_TOKEN` is not set.
    pub lacks_github_token: bool,
}

/// Commands to go on with, each with what it is for.
pub fn next_steps(setup: &Setup, prepared: Prepared) -> Vec<(String, &'static str)> {
    let agent = &setup.agent;
    let mut steps: Vec<(String, &'static str)> = Vec::new();
    if setup.images.is_some() {
        if setup.action.is_none() {
            steps.push((
                "astra-dispatch init … --action-commit COMMIT --force".to_owned(),
                "there is no release yet: the commit of astra/dispatch-action that the workflows run",
            ));
        }
        steps.extend([
            ("age-keygen -o ~/.astra-key".to_owned(), "an identity of yours, which opens the vault"),
            ("export ASTRA_VAULT_IDENTITY=~/.astra-key".to_owned(), ""),
            (
                format!("astra-dispatch vault set {agent} ANTHROPIC_API_KEY"),
                "the agent's own, with a spend limit",
            ),
            (format!("astra-dispatch vault set {agent} GITHUB_TOKEN"), "to clone and push"),
            (
                "astra-dispatch agents provision | kubectl apply -f -".to_owned(),
                "namespaces, rights and walls",
            ),
            ("astra-dispatch agents doctor".to_owned(), "whether the cluster is as it must be"),
            ("git add .astra .github && git commit -m 'Set up astra dispatch'".to_owned(), "then push it"),
        ]);
        return steps;
    }
    if !prepared.has_claude {
        steps.push(("npm install -g @anthropic-ai/claude-code".to_owned(), "the agent's program"));
    }
    if !prepared.has_model_key {
        steps.push(("export ANTHROPIC_API_KEY=…".to_owned(), "the agent step gets it, nothing else does"));
    }
    if prepared.lacks_github_token {
        steps.push((
            "export GITHUB_TOKEN=…".to_owned(),
            "clones, pushes the branch, opens the pull request; the agent never sees it",
        ));
    }
    if setup.tracker.is_real {
        let task = format!("astra-dispatch dispatch --task {}-1", setup.tracker.identifier);
        steps.push((task, "a task with the label agent:coder; `astra-dispatch sweep` takes all"));
    } else {
        steps.push((
            format!("astra-dispatch dispatch --event {FIRST_TASK}"),
            "change the task in it as you like",
        ));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(review: Option<&str>, images: Option<Images>) -> Setup {
        let repository: Repository = "acme/Web.Shop".parse().unwrap();
        let review = review.map(str::to_owned);
        Setup {
            tracker: Tracker { review, ..Tracker::stand_in(&repository) },
            repository,
            base: "main".parse().unwrap(),
            agent: "vega".parse().unwrap(),
            has_model_address: false,
            images,
            action: None,
        }
    }

    fn parsed(files: &[NewFile]) -> crate::domain::registry::Registry {
        let of_registry = files.iter().filter_map(|file| {
            let path = file.path.strip_prefix(".astra/")?.to_owned();
            let content = Content::Bytes(file.text.clone().into_bytes());
            Some(SourceFile { path, content }).filter(|file| !file.path.ends_with(".json"))
        });
        let parsed = parse(&Sources { files: of_registry.collect(), ordinal: 0 }).unwrap();
        assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
        parsed.registry
    }

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        let digest = "0".repeat(64);
        let image = |name: &str| format!("registry.example.com/{name}@sha256:{digest}");
        for images in [None, Some(Images { own: image("astra"), agent: image("claude") })] {
            // What people call their states must not become YAML.
            let setup = setup(Some("Review: \"two\" # eyes"), images.clone());
            let files = files(&setup).unwrap();
            let registry = parsed(&files);
            assert_eq!(registry.states.review, setup.tracker.review);
            let agent = &registry.agents[&setup.agent];
            assert_eq!((agent.status, agent.name.as_str()), (Status::Active, "vega"));
            let handed = |files: &[NewFile]| parsed(files).agents[&setup.agent].credentials.env.clone();
            assert_eq!(handed(&files), ["ANTHROPIC_API_KEY"]);
            let behind_gateway = Setup { has_model_address: true, ..setup.clone() };
            let with_address = super::files(&behind_gateway).unwrap();
            assert_eq!(handed(&with_address), ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"]);
            let workflows = files.iter().filter(|file| file.path.starts_with(".github/")).count();
            assert_eq!(workflows, if images.is_some() { WORKFLOWS.len() } else { 0 });
        }
    }

    #[test]
    fn the_workflows_run_the_commit_that_was_given() {
        let image = format!("registry.example.com/astra@sha256:{}", "0".repeat(64));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let action = Some(commit.parse().unwrap());
        let images = Some(Images { own: image.clone(), agent: image });
        let files = files(&Setup { action, ..setup(None, images) }).unwrap();
        let uses: Vec<&str> =
            files.iter().flat_map(|file| file.text.lines()).filter(|line| line.contains(ACTION)).collect();
        assert_eq!(uses, [format!("        {ACTION}{commit}")]);
        for none in ["main", "v1", &commit[1..], &commit.to_uppercase()] {
            assert!(none.parse::<ActionCommit>().is_err(), "{none}");
        }
    }

    #[test]
    fn two_repositories_share_no_task() {
        let one = setup(None, None);
        let other = Tracker::stand_in(&"acme/other".parse().unwrap());
        assert_ne!(one.tracker.project, other.project);
        assert_eq!(one.tracker.workspace, "web-shop");
    }

    #[test]
    fn the_first_task_is_an_event_for_the_one_agent() {
        let setup = setup(None, None);
        let event = crate::domain::event::Event::parse(first_task(&setup).to_string().as_bytes()).unwrap();
        let crate::domain::event::Event::Delivered(delivery) = event else { panic!("{event:?}") };
        let item = delivery.item().unwrap();
        assert_eq!(
            (item.project, item.labels.as_slice()),
            (setup.tracker.project, ["agent:coder".to_owned()].as_slice())
        );
    }

    #[test]
    fn a_wrong_address_is_told_as_the_check_tells_it() {
        let mut setup = setup(None, None);
        setup.tracker.url = "plane".to_owned();
        let faults = files(&setup).unwrap_err();
        assert!(faults[0].cause.contains("no base URL"), "{faults:?}");
    }
}

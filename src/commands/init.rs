//! `init`: writes a registry, and for a cluster the workflows, into the repository that this runs in.
//! First everything is asked and tried, then everything is written.

use similar::TextDiff;

use crate::adapters::checkout::{Checkout, has_program};
use crate::adapters::registry_files;
use crate::cli::{ExecutorChoice, InitArgs};
use crate::domain::escape;
use crate::domain::finding::{Finding, State};
use crate::domain::init::{self, Images, Prepared, REGISTRY, Setup, Tracker};
use crate::domain::registry::{Content, Fault, NewFile, Severity, SourceFile, Sources, parse};
use crate::environment;
use crate::error::{Exit, UserError};
use crate::output;

mod credentials;
mod plane;
mod questions;

use questions::Questions;

/// A file that is there, and what it would become.
struct Change<'f> {
    file: &'f NewFile,
    /// As it is now; `None`: not there.
    before: Option<String>,
}

pub(super) async fn run(args: &InitArgs) -> anyhow::Result<Exit> {
    let checkout = Checkout::here()?;
    let mut questions = Questions::of_terminal(args.yes);
    let (setup, mut found) = setup(args, &checkout, &mut questions).await?;
    found.extend(credentials::verify(&setup).await?);
    if !found.is_empty() {
        output::say(&output::findings::text(&found));
    }
    if found.iter().any(|finding| finding.state == State::Failed) {
        return Err(UserError::usage(
            "a credential does not do; nothing was written",
            "mend what is marked FAILED, or unset its variable, then run this again",
        )
        .into());
    }
    let files = init::files(&setup).map_err(|faults| unusable(&faults))?;
    check(&files)?;
    let mut changes = Vec::new();
    for file in &files {
        let before = checkout.read(&file.path)?;
        if before.as_ref() != Some(&file.text) {
            changes.push(Change { file, before });
        }
    }
    if args.diff {
        return show(&changes);
    }
    consent(&changes, args.force, &mut questions)?;
    for change in &changes {
        checkout.write(&change.file.path, &change.file.text)?;
        output::result(&change.file.path)?;
    }
    if changes.is_empty() {
        output::say("everything is there already; nothing was changed");
    }
    say_next(&setup);
    Ok(Exit::Handled)
}

/// Asks and finds out what is to be written.
async fn setup(
    args: &InitArgs,
    checkout: &Checkout,
    questions: &mut Questions<impl std::io::BufRead>,
) -> anyhow::Result<(Setup, Vec<Finding>)> {
    let repository = match args.repository.clone().or_else(|| checkout.repository()) {
        Some(repository) => repository,
        None => {
            let name = questions.ask("The repository on GitHub, OWNER/NAME", "--repository OWNER/NAME")?;
            name.parse().map_err(|error| {
                UserError::usage(format!("{error}"), "write it like acme/api").at("--repository")
            })?
        }
    };
    let base = args.base.clone().or_else(|| checkout.branch()).map_or_else(|| "main".parse(), Ok)?;
    let images = match (args.executor, &args.image, &args.agent_image) {
        (ExecutorChoice::Kubernetes, Some(own), Some(agent)) => {
            Some(Images { own: own.clone(), agent: agent.clone() })
        }
        // The command line has made sure that a cluster has both.
        _ => None,
    };
    let (tracker, found) = match plane::tracker(args, questions).await? {
        Some(found) => found,
        None => {
            output::say(
                "note: PLANE_API_KEY is not set, so a task of its own stands for Plane; with the key, run this again",
            );
            (Tracker::stand_in(&repository), Vec::new())
        }
    };
    let has_model_address = environment::value("ANTHROPIC_BASE_URL").is_some();
    let agent = args.agent.clone();
    let action = args.action_commit.clone();
    Ok((Setup { tracker, repository, base, agent, has_model_address, images, action }, found))
}

/// Refuses to write what `agents check` would refuse, together with what is there already.
fn check(files: &[NewFile]) -> anyhow::Result<()> {
    let directory = std::path::Path::new(REGISTRY);
    let mut sources = Sources { files: Vec::new(), ordinal: 0 };
    if directory.is_dir() {
        sources = registry_files::read(directory)?;
    }
    for file in files {
        let Some(path) = file.path.strip_prefix(".astra/") else { continue };
        if path == "astra.yaml" || path.starts_with("agents/") || path.starts_with("prompts/") {
            sources.files.retain(|known| known.path != path);
            let content = Content::Bytes(file.text.clone().into_bytes());
            sources.files.push(SourceFile { path: path.to_owned(), content });
        }
    }
    parse(&sources).map_err(|faults| unusable(&faults))?;
    Ok(())
}

fn unusable(faults: &[Fault]) -> UserError {
    let is_fault = |fault: &&Fault| fault.severity == Severity::Error;
    let texts =
        |text: fn(&Fault) -> String| faults.iter().filter(is_fault).map(text).collect::<Vec<_>>().join("; ");
    UserError::usage(
        format!(
            "what would be written has faults: {}",
            texts(|fault| format!("{}: {}", fault.file, fault.cause))
        ),
        texts(|fault| fault.cure.clone()),
    )
    .at(REGISTRY)
}

/// What is there is changed only by leave of whoever has seen how.
fn consent(
    changes: &[Change<'_>],
    is_forced: bool,
    questions: &mut Questions<impl std::io::BufRead>,
) -> Result<(), UserError> {
    let differing: Vec<&Change<'_>> = changes.iter().filter(|change| change.before.is_some()).collect();
    if differing.is_empty() {
        return Ok(());
    }
    for change in &differing {
        output::say(&diff(change));
    }
    if is_forced || questions.agrees("Change these files as shown?") {
        return Ok(());
    }
    let names: Vec<&str> = differing.iter().map(|change| change.file.path.as_str()).collect();
    Err(UserError::usage(
        format!("{} would be changed; nothing was written", names.join(", ")),
        "give --force to have it changed as shown above, or leave it as it is",
    ))
}

fn show(changes: &[Change<'_>]) -> anyhow::Result<Exit> {
    if changes.is_empty() {
        output::say("nothing would be changed");
    }
    for change in changes {
        output::result(&diff(change))?;
    }
    Ok(Exit::Handled)
}

fn diff(change: &Change<'_>) -> String {
    let path = &change.file.path;
    let before = change.before.as_deref().unwrap_or_default();
    let old = if change.before.is_some() { path.as_str() } else { "/dev/null" };
    let text = TextDiff::from_lines(before, &change.file.text).unified_diff().header(old, path).to_string();
    escape::terminal(&text).into_owned()
}

/// What to do now, the next command first.
fn say_next(setup: &Setup) {
    let prepared = Prepared {
        has_claude: has_program("claude"),
        has_model_key: environment::value("ANTHROPIC_API_KEY").is_some(),
        lacks_github_token: environment::value("GITHUB_TOKEN").is_none()
            && !environment::text("ASTRA_GIT_BASE_URL").is_some_and(|base| base.starts_with("file:")),
    };
    output::say("\nNext:");
    for (command, why) in init::next_steps(setup, prepared) {
        let why = if why.is_empty() { String::new() } else { format!("    # {why}") };
        output::say(&format!("  {command}{why}"));
    }
}

//! The project that tasks come from, as Plane names it.

use crate::adapters::plane::projects::ProjectRow;
use crate::adapters::plane::{PlaneClient, PlaneError, PlaneFault};
use crate::cli::InitArgs;
use crate::domain::finding::Finding;
use crate::domain::init::{LABEL, Tracker, review_state};
use crate::domain::plane_answer::PlaneRefusal;
use crate::domain::registry::Plane;
use crate::environment;
use crate::error::UserError;

use super::questions::Questions;

/// The project, and what was looked at; `None` without a key.
pub(super) async fn tracker(
    args: &InitArgs,
    questions: &mut Questions<impl std::io::BufRead>,
) -> anyhow::Result<Option<(Tracker, Vec<Finding>)>> {
    if environment::text("PLANE_API_KEY").is_none() {
        return Ok(None);
    }
    let url = match args.plane_url.clone().or_else(|| environment::text("PLANE_BASE_URL")) {
        Some(url) => url,
        None => questions.ask("Plane's address, such as https://plane.example.com", "--plane-url URL")?,
    };
    let workspace = match &args.workspace {
        Some(workspace) => workspace.clone(),
        None => questions.ask("The workspace: the part of its URL after the host", "--workspace SLUG")?,
    };
    let plane = Plane { url: url.clone(), workspace: workspace.clone(), workspace_id: None };
    let Some(client) = PlaneClient::of_environment(&plane, None)? else { return Ok(None) };
    let projects = client.projects().await.map_err(refused)?;
    let mut found = vec![Finding::new(
        format!("Plane: the key opens workspace {workspace} ({} projects)", projects.len()),
        Vec::new(),
        "",
    )];
    let project = chosen(&projects, args.project.as_deref(), questions)?;
    let names = client.project_names(project.id).await.map_err(refused)?;
    let of_project = |check: &str| format!("Plane: {} {check}", project.identifier);
    let lacking = |is_there: bool, what: &str| if is_there { Vec::new() } else { vec![what.to_owned()] };
    found.push(Finding::new(
        of_project("has a state for work under way"),
        lacking(!names.started.is_empty(), "no state is of the group `started`"),
        "make one in Plane, in the project's settings under States",
    ));
    found.push(Finding::warning(
        of_project(&format!("has the label {LABEL}")),
        lacking(names.labels.iter().any(|label| label == LABEL), "nobody could ask for an agent"),
        format!("make the label {LABEL} in Plane, in the project's settings under Labels"),
    ));
    let tracker = Tracker {
        url,
        workspace,
        workspace_id: project.workspace,
        project: project.id,
        identifier: project.identifier.clone(),
        review: review_state(names.started.iter().map(String::as_str)).map(str::to_owned),
        is_real: true,
    };
    Ok(Some((tracker, found)))
}

/// The project of these letters, else the only one, else the one that is asked for.
fn chosen<'p>(
    projects: &'p [ProjectRow],
    letters: Option<&str>,
    questions: &mut Questions<impl std::io::BufRead>,
) -> Result<&'p ProjectRow, UserError> {
    let known: Vec<String> =
        projects.iter().map(|project| format!("{} ({})", project.identifier, project.name)).collect();
    let known = known.join(", ");
    let letters = match (letters, projects) {
        (Some(letters), _) => letters.to_owned(),
        (None, []) => {
            return Err(UserError::usage(
                "the key's owner sees no project",
                "make the key's owner a member of the project in Plane",
            ));
        }
        (None, [only]) => return Ok(only),
        (None, _) => {
            questions.ask(&format!("The project, by its letters; there are {known}"), "--project LETTERS")?
        }
    };
    let named = projects.iter().find(|project| project.identifier.eq_ignore_ascii_case(letters.trim()));
    named.ok_or_else(|| {
        UserError::usage(
            format!("no project has the letters {letters}, or the key's owner is no member of it"),
            format!("give one of {known}"),
        )
        .at("--project")
    })
}

/// There is no astra.yaml yet, so the options are named.
fn refused(error: PlaneError) -> UserError {
    let is_elsewhere = matches!(
        error.fault,
        PlaneFault::Unreachable(_)
            | PlaneFault::Refused(PlaneRefusal::NotPlane | PlaneRefusal::Redirected { .. })
    );
    let is_closed =
        matches!(error.fault, PlaneFault::Refused(PlaneRefusal::Forbidden | PlaneRefusal::NotFound));
    let mut error = UserError::from(error);
    if is_elsewhere {
        "check --plane-url (or PLANE_BASE_URL) and the network; nothing was written"
            .clone_into(&mut error.remedy);
    } else if is_closed {
        "check --workspace, and that the key's owner is a member of it; nothing was written"
            .clone_into(&mut error.remedy);
    }
    error
}

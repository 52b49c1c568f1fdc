//! `astra.yaml`: from the file's keys to settings.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::name::{ProjectId, Role};
use super::fault::{Findings, Place, Rule};
use super::field::{Entries, Field};
use super::files::{
    AstraFile, KubernetesFile, LimitsFile, PlaneFile, ProjectFile, RoleFile, RunLogFile, StatesFile,
};
use super::forms;
use super::values::{Problem, take, take_list, take_optional};
use super::{ExecutorKind, Kubernetes, LabelMode, Limits, Plane, Project, RoleSettings, RunLog, States};

/// The one version of the registry's format.
const VERSION: u32 = 1;
/// What a pod's deadline adds to the agent's own time: pull, install, prepare, collect, deliver.
const POD_OVERHEAD: Duration = Duration::from_secs(10 * 60);
/// Pending limit and pod deadline together stay below this: a token lives for an hour.
const LONGEST_RUN: Duration = Duration::from_secs(55 * 60);
/// Attempts where nothing else is said.
const DEFAULT_ATTEMPTS: u32 = 3;
/// More attempts than this only waste money.
const MOST_ATTEMPTS: u32 = 10;

/// What `astra.yaml` says; `None` where it is faulty, so that nothing is judged by it.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) executor: Option<ExecutorKind>,
    pub(super) plane: Option<Plane>,
    pub(super) projects: Option<BTreeMap<ProjectId, Project>>,
    pub(super) roles: Option<BTreeMap<Role, RoleSettings>>,
    pub(super) models: Option<BTreeMap<String, String>>,
    pub(super) states: Option<States>,
    pub(super) labels: Option<LabelMode>,
    pub(super) max_attempts: Option<u32>,
    pub(super) limits: Option<Limits>,
    pub(super) kubernetes: Option<Kubernetes>,
    pub(super) run_log: Option<RunLog>,
    /// Where each role is defined.
    pub(super) role_places: BTreeMap<Role, Place>,
}

/// The limits where nothing else is said: those that the project promises.
pub(super) fn default_limits() -> Limits {
    Limits {
        cpu: "2".to_owned(),
        cpu_millis: 2_000,
        memory: "4Gi".to_owned(),
        memory_bytes: 4 << 30,
        time: Duration::from_secs(30 * 60),
        pending: Duration::from_secs(10 * 60),
    }
}

/// Checks the file and makes settings of it.
pub(super) fn settings(file: &AstraFile, findings: &Findings<'_>) -> Settings {
    check_version(&file.version, findings);
    let mut role_places = BTreeMap::new();
    Settings {
        executor: file.executor.as_ref().and_then(Field::get).copied(),
        plane: file.plane.get().and_then(|plane| read_plane(plane, findings)),
        projects: file
            .projects
            .get()
            .and_then(|projects| read_projects(projects, file.projects.at, findings)),
        roles: file
            .roles
            .get()
            .and_then(|roles| read_roles(roles, file.roles.at, findings, &mut role_places)),
        models: section(file.models.as_ref(), BTreeMap::new, |models| read_models(models, findings)),
        states: section(file.states.as_ref(), no_states, |states| read_states(states, findings)),
        labels: section(file.labels.as_ref(), || LabelMode::Off, |labels| labels.mode.get().copied()),
        max_attempts: match &file.max_attempts {
            None => Some(DEFAULT_ATTEMPTS),
            Some(field) => check_attempts(field, findings),
        },
        limits: section(file.limits.as_ref(), default_limits, |limits| {
            read_limits(limits, &default_limits(), findings)
        })
        .filter(|limits| check_run_length(limits, file.limits.as_ref(), findings)),
        kubernetes: section(file.kubernetes.as_ref(), default_kubernetes, |kubernetes| {
            read_kubernetes(kubernetes, findings)
        }),
        run_log: section(file.run_log.as_ref(), default_run_log, |run_log| read_run_log(run_log, findings)),
        role_places,
    }
}

/// An optional section: its default where absent, `None` where faulty.
fn section<F, T>(
    field: Option<&Field<F>>,
    default: impl FnOnce() -> T,
    read: impl FnOnce(&F) -> Option<T>,
) -> Option<T> {
    match field {
        None => Some(default()),
        Some(field) => field.get().and_then(read),
    }
}

fn check_version(version: &Field<u32>, findings: &Findings<'_>) {
    if let Some(&found) = version.get().filter(|&&found| found != VERSION) {
        findings.error(
            Rule::Version,
            version.at,
            format!("version {found} of the registry's format is unknown here"),
            format!("write `version: {VERSION}`, or use a program that reads version {found}"),
        );
    }
}

fn read_plane(file: &PlaneFile, findings: &Findings<'_>) -> Option<Plane> {
    let url = take(findings, &file.url, forms::url);
    let workspace = take(findings, &file.workspace, forms::slug);
    let workspace_id = take_optional(findings, file.workspace_id.as_ref(), forms::uuid);
    Some(Plane { url: url?, workspace: workspace?, workspace_id: workspace_id? })
}

fn read_projects(
    files: &[Field<ProjectFile>],
    at: Place,
    findings: &Findings<'_>,
) -> Option<BTreeMap<ProjectId, Project>> {
    if files.is_empty() {
        let cause = "no project is mapped, so no task can come in";
        findings.error(Rule::NeverChosen, at, cause, "map a project: id, identifier, repository and base");
    }
    let mut complete = true;
    let mut projects = BTreeMap::new();
    let mut identifiers: BTreeMap<String, u32> = BTreeMap::new();
    for field in files {
        let Some((file, project)) =
            field.get().and_then(|file| read_project(file, findings).map(|project| (file, project)))
        else {
            complete = false;
            continue;
        };
        let line = file.identifier.at.line;
        if let Some(earlier) = identifiers.insert(project.identifier.clone(), line) {
            duplicate(findings, &file.identifier, "identifier", &project.identifier, earlier);
            complete = false;
        }
        let (id, shown) = (project.id, project.id.to_string());
        if projects.insert(id, project).is_some() {
            let cause = format!("project `{shown}` is mapped twice");
            findings.error(Rule::Duplicate, file.id.at, cause, "keep one of the two");
            complete = false;
        }
    }
    (complete && !projects.is_empty()).then_some(projects)
}

fn duplicate(findings: &Findings<'_>, field: &Field<String>, what: &str, value: &str, earlier: u32) {
    let cause = format!("{what} `{value}` is already on line {earlier}");
    findings.error(Rule::Duplicate, field.at, cause, "keep one of the two, or correct this one");
}

fn read_project(file: &ProjectFile, findings: &Findings<'_>) -> Option<Project> {
    let id = take(findings, &file.id, forms::uuid);
    let identifier = take(findings, &file.identifier, forms::identifier);
    let repository = take(findings, &file.repository, forms::name);
    let base = take(findings, &file.base, forms::name);
    let skills = take_list(findings, file.skills.as_ref(), forms::word);
    Some(Project {
        id: ProjectId(id?),
        identifier: identifier?,
        repository: repository?,
        base: base?,
        skills: skills?,
    })
}

fn read_roles(
    entries: &Entries<RoleFile>,
    at: Place,
    findings: &Findings<'_>,
    places: &mut BTreeMap<Role, Place>,
) -> Option<BTreeMap<Role, RoleSettings>> {
    if entries.0.is_empty() {
        findings.error(Rule::NeverChosen, at, "there is no role", "define one, such as `coder`");
        return None;
    }
    let mut complete = true;
    let mut roles = BTreeMap::new();
    for (key, field) in &entries.0 {
        let role = take(findings, key, forms::name::<Role>);
        let settings = field.get().and_then(|file| {
            let description = take(findings, &file.description, forms::line);
            let examples = take_list(findings, file.examples.as_ref(), forms::line);
            Some(RoleSettings { description: description?, examples: examples? })
        });
        if let Some(role) = &role {
            places.insert(role.clone(), key.at);
        }
        match (role, settings) {
            (Some(role), Some(settings)) => drop(roles.insert(role, settings)),
            _ => complete = false,
        }
    }
    complete.then_some(roles)
}

fn read_models(entries: &Entries<String>, findings: &Findings<'_>) -> Option<BTreeMap<String, String>> {
    let mut complete = true;
    let mut models = BTreeMap::new();
    for (key, value) in &entries.0 {
        let alias = take(findings, key, forms::word);
        match (alias, take(findings, value, forms::line)) {
            (Some(alias), Some(model)) => drop(models.insert(alias, model)),
            _ => complete = false,
        }
    }
    complete.then_some(models)
}

fn no_states() -> States {
    States { started: None, review: None, failed: None }
}

fn read_states(file: &StatesFile, findings: &Findings<'_>) -> Option<States> {
    let started = take_optional(findings, file.started.as_ref(), forms::line);
    let review = take_optional(findings, file.review.as_ref(), forms::line);
    let failed = take_optional(findings, file.failed.as_ref(), forms::line);
    Some(States { started: started?, review: review?, failed: failed? })
}

fn check_attempts(field: &Field<u32>, findings: &Findings<'_>) -> Option<u32> {
    let attempts = *field.get()?;
    if (1..=MOST_ATTEMPTS).contains(&attempts) {
        return Some(attempts);
    }
    let cause = format!("`max_attempts` is {attempts}");
    findings.error(Rule::InvalidValue, field.at, cause, format!("write a number from 1 to {MOST_ATTEMPTS}"));
    None
}

/// Limits, with those of `base` where nothing is said.
pub(super) fn read_limits(file: &LimitsFile, base: &Limits, findings: &Findings<'_>) -> Option<Limits> {
    let cpu = take_optional(findings, file.cpu.as_ref(), forms::cpu);
    let memory = take_optional(findings, file.memory.as_ref(), forms::memory);
    let time = take_optional(findings, file.time.as_ref(), forms::duration);
    let pending = take_optional(findings, file.pending.as_ref(), forms::duration);
    let (cpu, cpu_millis) = cpu?.unwrap_or_else(|| (base.cpu.clone(), base.cpu_millis));
    let (memory, memory_bytes) = memory?.unwrap_or_else(|| (base.memory.clone(), base.memory_bytes));
    Some(Limits {
        cpu,
        cpu_millis,
        memory,
        memory_bytes,
        time: time?.unwrap_or(base.time),
        pending: pending?.unwrap_or(base.pending),
    })
}

/// A run must end before its token does.
fn check_run_length(limits: &Limits, field: Option<&Field<LimitsFile>>, findings: &Findings<'_>) -> bool {
    let longest = limits.pending + limits.time + POD_OVERHEAD;
    if longest < LONGEST_RUN {
        return true;
    }
    let file = field.and_then(Field::get);
    let at = file
        .and_then(|file| file.time.as_ref().or(file.pending.as_ref()))
        .map_or(field.map_or(Place::TOP, |field| field.at), |field| field.at);
    findings.error(
        Rule::RunTooLong,
        at,
        format!(
            "`time` and `pending` and 10m for the other steps are {}m, and a run's token would end before it",
            longest.as_secs() / 60
        ),
        "keep `time` + `pending` below 45m",
    );
    false
}

fn default_kubernetes() -> Kubernetes {
    Kubernetes { context: None, system_namespace: "astra-system".to_owned(), image: None }
}

fn read_kubernetes(file: &KubernetesFile, findings: &Findings<'_>) -> Option<Kubernetes> {
    let context = take_optional(findings, file.context.as_ref(), forms::line);
    let namespace = take_optional(findings, file.system_namespace.as_ref(), forms::namespace);
    let image = take_optional(findings, file.image.as_ref(), forms::image);
    let system_namespace = namespace?.unwrap_or_else(|| default_kubernetes().system_namespace);
    if system_namespace.starts_with("agent-") {
        let at = file.system_namespace.as_ref().map_or(Place::TOP, |field| field.at);
        let cause = format!("`{system_namespace}` could be the namespace of an agent");
        findings.error(Rule::InvalidValue, at, cause, "choose a name that does not begin with `agent-`");
        return None;
    }
    Some(Kubernetes { context: context?, system_namespace, image: image? })
}

fn default_run_log() -> RunLog {
    RunLog { repository: None, public: false }
}

fn read_run_log(file: &RunLogFile, findings: &Findings<'_>) -> Option<RunLog> {
    let repository = take_optional(findings, file.repository.as_ref(), forms::name);
    let public = section(file.public.as_ref(), || false, |public| Some(*public));
    Some(RunLog { repository: repository?, public: public? })
}

/// Notes where an agent's limits go beyond those of `astra.yaml`.
pub(super) fn check_maxima(file: &LimitsFile, maxima: &Limits, findings: &Findings<'_>) {
    let check = |field: &Option<Field<String>>, too_high: &dyn Fn(&str) -> bool, what: &str, most: String| {
        let Some(field) = field else { return };
        let Some(value) = field.get().filter(|value| too_high(value)) else { return };
        findings.error(
            Rule::LimitTooHigh,
            field.at,
            format!("{what} of `{value}` is above the maximum of `{most}` in astra.yaml"),
            "lower it, or raise `limits` in astra.yaml",
        );
    };
    fn above<T: PartialOrd>(parsed: Result<T, Problem>, most: &T) -> bool {
        parsed.is_ok_and(|value| value > *most)
    }
    check(
        &file.cpu,
        &|text| above(forms::cpu(text).map(|cpu| cpu.1), &maxima.cpu_millis),
        "CPU",
        maxima.cpu.clone(),
    );
    check(
        &file.memory,
        &|text| above(forms::memory(text).map(|memory| memory.1), &maxima.memory_bytes),
        "memory",
        maxima.memory.clone(),
    );
    check(&file.time, &|text| above(forms::duration(text), &maxima.time), "time", show(maxima.time));
    check(
        &file.pending,
        &|text| above(forms::duration(text), &maxima.pending),
        "a pending limit",
        show(maxima.pending),
    );
}

/// A length of time as registry files write it.
fn show(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

//! `agents/NAME.yaml`: from the file's keys to an agent.

use std::collections::BTreeMap;

use super::super::name::{AgentName, Role};
use super::astra::{Settings, check_maxima, read_limits};
use super::endpoint::endpoint;
use super::fault::{Findings, Place, Rule, nearest, suggestion};
use super::field::Field;
use super::files::{AccountsFile, AgentFile, CredentialsFile, Kind, NetworkFile, PromptFiles, RuntimeFile};
use super::forms;
use super::values::{Problem, take, take_list, take_optional};
use super::{
    Accounts, Agent, Credentials, ExecutorKind, ModelSettings, Network, Prompt, PromptFile, Runtime,
    RuntimeKind, Status,
};

/// The user of every container unless the agent's file says otherwise.
const DEFAULT_UID: u32 = 10_001;
/// HTTPS is all that a model's service and most package registries need.
const DEFAULT_PORT: u16 = 443;

/// Texts of the prompts by path; `None` = there, but no text.
pub(super) type PromptTexts<'a> = BTreeMap<&'a str, Option<&'a str>>;

/// What an agent's file is judged by.
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) prompts: &'a PromptTexts<'a>,
}

/// Checks a file and makes an agent of it.
pub(super) fn agent(file: &AgentFile, context: &Context<'_>, findings: &Findings<'_>) -> Option<Agent> {
    let name = read_name(&file.name, findings);
    let role = read_role(&file.role, context.settings, findings);
    let description = take(findings, &file.description, forms::line);
    let skills = take_list(findings, file.skills.as_ref(), forms::word);
    let max_concurrent_tasks = read_capacity(file.max_concurrent_tasks.as_ref(), findings);
    let repositories = read_repositories(&file.repositories, findings);
    let accounts = file.accounts.get().and_then(|accounts| read_accounts(accounts, findings));
    let runtime = file
        .runtime
        .get()
        .and_then(|runtime| read_runtime(runtime, file.runtime.at, context.settings, findings));
    let prompt = file.prompt.get().and_then(|prompt| read_prompt(prompt, context.prompts, findings));
    let credentials = file.credentials.get().and_then(|credentials| read_credentials(credentials, findings));
    let limits = read_own_limits(file, context.settings, findings);
    let network = match &file.network {
        None => Some(Network { ports: vec![DEFAULT_PORT], allow: Vec::new() }),
        Some(field) => field.get().and_then(|network| read_network(network, findings)),
    };
    let protected_paths = take_list(findings, file.protected_paths.as_ref(), forms::pattern);
    let status = match &file.status {
        None => Some(Status::Inactive),
        Some(field) => field.get().copied(),
    };
    Some(Agent {
        name: name?,
        role: role?,
        trait_: *file.trait_.get()?,
        status: status?,
        description: description?,
        skills: skills?,
        max_concurrent_tasks: max_concurrent_tasks?,
        repositories: repositories?,
        accounts: accounts?,
        runtime: runtime?,
        prompt: prompt?,
        credentials: credentials?,
        limits: limits?,
        network: network?,
        protected_paths: protected_paths?,
    })
}

fn read_name(field: &Field<String>, findings: &Findings<'_>) -> Option<AgentName> {
    let name: AgentName = take(findings, field, forms::name)?;
    let expected = format!("agents/{name}.yaml");
    if findings.file != expected {
        findings.error(
            Rule::FileName,
            field.at,
            format!("agent `{name}` is in a file of another name"),
            format!("rename the file to {expected}, or correct the name"),
        );
    }
    Some(name)
}

fn read_role(field: &Field<String>, settings: &Settings, findings: &Findings<'_>) -> Option<Role> {
    let known = &settings.role_places;
    take(findings, field, |text| {
        // Before the form: a look-alike letter is a role that somebody meant.
        if !known.is_empty() && !known.keys().any(|role| role.as_str() == text) {
            let cure = suggestion(text, known.keys().map(Role::as_str));
            return Err(Problem::new(Rule::UnknownRole, format!("role `{text}` is not in astra.yaml"), cure));
        }
        forms::name(text)
    })
}

fn read_capacity(field: Option<&Field<u32>>, findings: &Findings<'_>) -> Option<u32> {
    let Some(field) = field else { return Some(1) };
    let capacity = *field.get()?;
    if capacity == 0 {
        findings.error(
            Rule::NeverChosen,
            field.at,
            "with `max_concurrent_tasks: 0` this agent can never be chosen",
            "write 1 or more; to give it a rest, write `status: standby`",
        );
        return None;
    }
    Some(capacity)
}

fn read_repositories(field: &Field<Vec<Field<String>>>, findings: &Findings<'_>) -> Option<Vec<String>> {
    let patterns = take_list(findings, Some(field), forms::pattern)?;
    if patterns.is_empty() {
        findings.error(
            Rule::NeverChosen,
            field.at,
            "with no repository this agent can never be chosen",
            "list patterns of the repositories that it may work in, such as `[\"astra/*\"]`",
        );
        return None;
    }
    Some(patterns)
}

fn read_accounts(file: &AccountsFile, findings: &Findings<'_>) -> Option<Accounts> {
    let github = take(findings, &file.github, forms::github_login);
    let plane = take_optional(findings, file.plane.as_ref(), forms::mail);
    Some(Accounts { github: github?, plane: plane? })
}

fn read_runtime(
    file: &RuntimeFile,
    at: Place,
    settings: &Settings,
    findings: &Findings<'_>,
) -> Option<Runtime> {
    let kind = *file.kind.get()?;
    let kind = match kind {
        Kind::Command => read_command(file, at, findings).map(|command| RuntimeKind::Command { command }),
        Kind::ClaudeCode => read_model(file, at, settings, findings).map(RuntimeKind::ClaudeCode),
        Kind::Codex => read_model(file, at, settings, findings).map(RuntimeKind::Codex),
    };
    let image = take_optional(findings, file.image.as_ref(), forms::image);
    if settings.executor == Some(ExecutorKind::Kubernetes) && file.image.is_none() {
        let cause = "an agent on a cluster needs an image";
        findings.error(Rule::MissingKey, at, cause, "add `image: name@sha256:…` to `runtime`");
    }
    let uid = read_uid(file.uid.as_ref(), findings);
    let pull_secret = take_optional(findings, file.pull_secret.as_ref(), forms::object_name);
    let runtime_class = take_optional(findings, file.runtime_class.as_ref(), forms::object_name);
    let writable_root = file.writable_root.as_ref().map_or(Some(false), |field| field.get().copied());
    Some(Runtime {
        kind: kind?,
        image: image?,
        writable_root: writable_root?,
        uid: uid?,
        pull_secret: pull_secret?,
        runtime_class: runtime_class?,
    })
}

fn read_uid(field: Option<&Field<u32>>, findings: &Findings<'_>) -> Option<u32> {
    let Some(field) = field else { return Some(DEFAULT_UID) };
    let uid = *field.get()?;
    // Kubernetes takes ids up to the largest signed 32-bit number.
    if uid == 0 || i32::try_from(uid).is_err() {
        let cause = if uid == 0 { "uid 0 is root".to_owned() } else { format!("uid {uid} is too large") };
        findings.error(Rule::InvalidValue, field.at, cause, format!("write another, such as {DEFAULT_UID}"));
        return None;
    }
    Some(uid)
}

/// Notes keys that the runtime's kind has no use for.
fn refuse_keys(findings: &Findings<'_>, kind: &str, keys: &[(&str, Option<Place>)]) {
    for (key, at) in keys {
        if let Some(at) = *at {
            let cause = format!("`{key}` means nothing for the kind `{kind}`");
            findings.error(Rule::UnknownKey, at, cause, "remove it, or correct `kind`");
        }
    }
}

fn place<T>(field: &Option<Field<T>>) -> Option<Place> {
    field.as_ref().map(|field| field.at)
}

fn read_command(file: &RuntimeFile, at: Place, findings: &Findings<'_>) -> Option<Vec<String>> {
    refuse_keys(
        findings,
        "command",
        &[
            ("model", place(&file.model)),
            ("models", place(&file.models)),
            ("max_turns", place(&file.max_turns)),
            ("max_cost_usd", place(&file.max_cost_usd)),
            ("tools", place(&file.tools)),
        ],
    );
    let Some(field) = &file.command else {
        let cause = "the kind `command` needs a command";
        findings.error(Rule::MissingKey, at, cause, "add `command: [program, argument]` to `runtime`");
        return None;
    };
    // Arguments may repeat and be empty: no list of distinct words.
    let command: Option<Vec<String>> = field.get()?.iter().map(|word| word.get().cloned()).collect();
    let command = command?;
    if command.first().is_none_or(String::is_empty) || command.iter().any(|word| word.contains('\0')) {
        findings.error(
            Rule::InvalidValue,
            field.at,
            "`command` names no program",
            "write `[program, argument]`",
        );
        return None;
    }
    Some(command)
}

fn read_model(
    file: &RuntimeFile,
    at: Place,
    settings: &Settings,
    findings: &Findings<'_>,
) -> Option<ModelSettings> {
    refuse_keys(findings, "claude-code or codex", &[("command", place(&file.command))]);
    let Some(field) = &file.model else {
        findings.error(
            Rule::MissingKey,
            at,
            "key `model` is missing",
            "add `model: …`, an alias of astra.yaml",
        );
        return None;
    };
    let known = |alias: &str| known_alias(alias, settings);
    let model = take(findings, field, known);
    let models = take_list(findings, file.models.as_ref(), known);
    let tools = take_list(findings, file.tools.as_ref(), forms::line);
    let max_turns = read_positive(file.max_turns.as_ref(), |turns| *turns >= 1, findings);
    let max_cost_usd =
        read_positive(file.max_cost_usd.as_ref(), |cost| cost.is_finite() && *cost > 0.0, findings);
    let (model, mut models) = (model?, models?);
    if file.models.is_none() {
        models.push(model.clone());
    } else if !models.contains(&model) {
        let cause = format!("`model: {model}` is not among the `models` that a task may ask for");
        findings.error(Rule::UnknownModel, field.at, cause, format!("add `{model}` to `models`"));
        return None;
    }
    Some(ModelSettings { model, models, max_turns: max_turns?, max_cost_usd: max_cost_usd?, tools: tools? })
}

fn known_alias(alias: &str, settings: &Settings) -> Result<String, Problem> {
    match &settings.models {
        Some(models) if models.is_empty() => Err(Problem::new(
            Rule::UnknownModel,
            format!("model alias `{alias}` is not in astra.yaml"),
            format!("add `models: {{{alias}: …}}` to astra.yaml, with the provider's name of the model"),
        )),
        Some(models) if !models.contains_key(alias) => Err(Problem::new(
            Rule::UnknownModel,
            format!("model alias `{alias}` is not in astra.yaml"),
            suggestion(alias, models.keys().map(String::as_str)),
        )),
        _ => Ok(alias.to_owned()),
    }
}

#[expect(clippy::option_option, reason = "faulty and absent differ")]
fn read_positive<T: Copy + std::fmt::Display>(
    field: Option<&Field<T>>,
    is_positive: impl Fn(&T) -> bool,
    findings: &Findings<'_>,
) -> Option<Option<T>> {
    let Some(field) = field else { return Some(None) };
    let value = *field.get()?;
    if is_positive(&value) {
        return Some(Some(value));
    }
    findings.error(
        Rule::InvalidValue,
        field.at,
        format!("a limit of {value} leaves nothing to work with"),
        "write more than 0, or remove the key",
    );
    None
}

fn read_prompt(file: &PromptFiles, texts: &PromptTexts<'_>, findings: &Findings<'_>) -> Option<Prompt> {
    let load = |path: &str| load_prompt(path, texts);
    let personality = take(findings, &file.personality, load);
    let guardrails = take_list(findings, file.guardrails.as_ref(), load);
    let context = take_list(findings, file.context.as_ref(), forms::words);
    Some(Prompt { personality: personality?, guardrails: guardrails?, context: context? })
}

fn load_prompt(path: &str, texts: &PromptTexts<'_>) -> Result<PromptFile, Problem> {
    let path = forms::prompt_path(path)?;
    match texts.get(path.as_str()) {
        Some(Some(text)) if !text.trim().is_empty() => Ok(PromptFile { path, text: (*text).to_owned() }),
        Some(Some(_)) => Err(Problem::new(
            Rule::MissingPrompt,
            format!("prompt file `{path}` is empty"),
            "write it, or refer to another one",
        )),
        // Its content is reported where the file is.
        Some(None) => Err(Problem::new(
            Rule::MissingPrompt,
            format!("prompt file `{path}` cannot be read"),
            "see the fault of that file",
        )),
        None => Err(Problem::new(
            Rule::MissingPrompt,
            format!("prompt file `{path}` does not exist"),
            match nearest_prompt(&path, texts) {
                Some(candidate) => format!("did you mean `{candidate}`?"),
                None => "write it, or correct the path".to_owned(),
            },
        )),
    }
}

/// Compares what follows `prompts/`, which all paths share.
fn nearest_prompt<'a>(path: &str, texts: &PromptTexts<'a>) -> Option<&'a str> {
    let own = |path: &str| path.strip_prefix("prompts/").unwrap_or(path).trim_end_matches(".md").to_owned();
    let names: Vec<(String, &'a str)> = texts.keys().map(|path| (own(path), *path)).collect();
    let name = nearest(&own(path), names.iter().map(|(name, _)| name.as_str()))?;
    names.iter().find(|(candidate, _)| candidate == name).map(|(_, path)| *path)
}

fn read_credentials(file: &CredentialsFile, findings: &Findings<'_>) -> Option<Credentials> {
    // The file's name, which the agent's must be: a faulty name is no way to another's credentials.
    let name = findings.file.trim_start_matches("agents/").trim_end_matches(".yaml");
    let vault = take(findings, &file.vault, |path| forms::vault_path(path, name));
    let env = take_list(findings, file.env.as_ref(), forms::variable);
    Some(Credentials { vault: vault?, env: env? })
}

fn read_own_limits(file: &AgentFile, settings: &Settings, findings: &Findings<'_>) -> Option<super::Limits> {
    let maxima = settings.limits.as_ref();
    match &file.limits {
        None => maxima.cloned(),
        Some(field) => {
            let own = field.get()?;
            match maxima {
                Some(maxima) => {
                    check_maxima(own, maxima, findings);
                    read_limits(own, maxima, findings)
                }
                // Without maxima only the form can be judged.
                None => read_limits(own, &super::astra::default_limits(), findings),
            }
        }
    }
}

fn read_network(file: &NetworkFile, findings: &Findings<'_>) -> Option<Network> {
    let ports = match &file.ports {
        None => Some(vec![DEFAULT_PORT]),
        Some(field) => {
            field.get().and_then(|ports| ports.iter().map(|port| read_port(port, findings)).collect())
        }
    };
    let allow = take_list(findings, file.allow.as_ref(), endpoint);
    Some(Network { ports: ports?, allow: allow? })
}

fn read_port(field: &Field<u16>, findings: &Findings<'_>) -> Option<u16> {
    let port = *field.get()?;
    if port == 0 {
        findings.error(Rule::InvalidValue, field.at, "there is no port 0", "write a port from 1 to 65535");
        return None;
    }
    Some(port)
}

//! `agents new`: the files of a new agent.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use crate::adapters::registry_files;
use crate::cli::AgentsNewArgs;
use crate::domain::name::Role;
use crate::domain::registry::{
    Content, NewAgent, NewFile, Registry, SourceFile, Sources, Status, new_agent, parse,
};
use crate::error::{Exit, UserError};
use crate::output;

/// Given to every new agent where the registry has it.
const GUARDRAILS: &str = "prompts/guardrails.md";

pub(super) fn run(args: &AgentsNewArgs) -> anyhow::Result<Exit> {
    let directory = &args.registry.registry;
    let registry = registry_files::load(directory)?;
    let mut sources = registry_files::read(directory)?;
    let role = role(args.role.as_ref(), &registry)?;
    let has_guardrails = sources.files.iter().any(|file| file.path == GUARDRAILS);
    let guardrails: &[&str] = if has_guardrails { &[GUARDRAILS] } else { &[] };
    let new = NewAgent { name: &args.name, role: &role, guardrails, status: Status::Inactive, image: None };
    let files = new_agent(&new, &registry);
    check(&files, &mut sources)?;
    for file in &files {
        write(directory, file)?;
        output::result(&directory.join(&file.path).display().to_string())?;
    }
    output::say(&format!(
        "{} starts inactive: fill in its files, then set `status: active` and run `astra-dispatch agents check`",
        args.name
    ));
    Ok(Exit::Handled)
}

fn role(asked: Option<&Role>, registry: &Registry) -> Result<Role, UserError> {
    match asked {
        Some(role) if registry.roles.contains_key(role) => Ok(role.clone()),
        Some(role) => {
            let known: Vec<&str> = registry.roles.keys().map(Role::as_str).collect();
            Err(UserError::usage(
                format!("role `{role}` is not in astra.yaml"),
                format!("use one of {}, or add the role", known.join(", ")),
            )
            .at("--role"))
        }
        None => registry
            .roles
            .keys()
            .next()
            .cloned()
            .ok_or_else(|| UserError::usage("there is no role in astra.yaml", "add one, such as `coder`")),
    }
}

/// Refuses to overwrite, and to write what the next check would refuse.
fn check(files: &[NewFile], sources: &mut Sources) -> Result<(), UserError> {
    for file in files {
        if sources.files.iter().any(|existing| existing.path == file.path) {
            return Err(UserError::usage("this file is already there", "choose another name").at(&file.path));
        }
        let content = Content::Bytes(file.text.clone().into_bytes());
        sources.files.push(SourceFile { path: file.path.clone(), content });
    }
    match parse(sources) {
        Ok(_) => Ok(()),
        Err(faults) => {
            let first = faults.first();
            Err(UserError::usage(
                first.map_or_else(String::new, |fault| fault.cause.clone()),
                "choose another name",
            )
            .at(first.map_or_else(String::new, |fault| fault.file.clone())))
        }
    }
}

fn write(directory: &Path, file: &NewFile) -> anyhow::Result<()> {
    let path = directory.join(&file.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    let mut open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| format!("make {}", path.display()))?;
    open.write_all(file.text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

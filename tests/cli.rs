//! The command line as people meet it: its reference, its manual pages, its words about wrong values.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::{Command, Output};

use astra_dispatch::cli::Cli;
use clap::CommandFactory;

fn program(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(assert_cmd::cargo::cargo_bin("astra-dispatch"))
        .env_clear()
        .envs(variables.iter().copied())
        .args(arguments)
        .output()
        .unwrap()
}

/// The commands that people see, each after the ones above it.
fn visible(command: &clap::Command) -> Vec<clap::Command> {
    let below = command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help");
    [command.clone()].into_iter().chain(below.flat_map(visible)).collect()
}

fn built() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

fn name(command: &clap::Command) -> String {
    command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned()
}

#[test]
fn the_reference_is_the_one_of_the_definitions() {
    let mut page = String::from(
        "# The command line\n\nGenerated from `src/cli`; `ASTRA_WRITE_DOCS=1 cargo test --test cli` writes it. An empty \
         variable counts as unset; an\noption stands before its variable.\n",
    );
    for mut command in visible(&built()) {
        let about = command.get_long_about().or(command.get_about()).unwrap().to_string().replace('<', "\\<");
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        write!(page, "\n## `{}`\n\n{about}\n\n```text\n{usage}\n```\n", name(&command)).unwrap();
        page.push_str(&options(&command));
        if let Some(examples) = command.get_after_help() {
            write!(page, "\n```text\n{examples}\n```\n").unwrap();
        }
    }
    let path = format!("{}/docs/cli.md", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("ASTRA_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), page, "write it with ASTRA_WRITE_DOCS=1");
}

/// A table of what a command takes.
fn options(command: &clap::Command) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut table = String::new();
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        if ["help", "version"].contains(&argument.get_id().as_str()) {
            continue;
        }
        if table.is_empty() {
            table.push_str("\n| | variable | |\n|---|---|---|\n");
        }
        let variable =
            argument.get_env().map_or_else(String::new, |name| format!("`{}`", name.to_string_lossy()));
        let help =
            argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
        let takes = argument.get_action().takes_values();
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|_| takes)
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let values = if values.is_empty() { String::new() } else { format!("; {}", values.join(", ")) };
        let default: Vec<_> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = if default.is_empty() || !takes {
            String::new()
        } else {
            format!(" [default: {}]", default.join(" "))
        };
        writeln!(
            table,
            "| `{}` | {variable} | {}{values}{default} |",
            cell(&argument.to_string()),
            cell(&help)
        )
        .unwrap();
    }
    table
}

#[test]
fn every_visible_command_has_a_manual_page() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("man/man1");
    let output = program(&["man", directory.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let written: BTreeSet<String> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> =
        visible(&built()).iter().map(|command| format!("{}.1", name(command).replace(' ', "-"))).collect();
    assert_eq!(written, expected);
    let page = std::fs::read_to_string(directory.join("astra-dispatch-dispatch.1")).unwrap();
    assert!(page.contains(".TH astra-dispatch-dispatch 1") && page.contains("ASTRA_DRY_RUN"), "{page}");

    std::fs::write(home.path().join("file"), "").unwrap();
    let refused = program(&["man", home.path().join("file/man1").to_str().unwrap()], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("give a directory of your own"));
}

#[test]
fn a_switch_takes_every_usual_word_and_a_refused_value_names_its_variable() {
    // Nothing is done: the registry is missing, which comes after the command line.
    for (value, taken) in
        [("1", true), ("true", true), ("0", true), ("no", true), ("", true), ("maybe", false)]
    {
        let output = program(&["status"], &[("ASTRA_NO_GITHUB", value), ("ASTRA_REGISTRY", "/nowhere")]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.contains("there is no registry"), taken, "{value}: {said}");
        assert_eq!(said.contains("comes from the variable ASTRA_NO_GITHUB"), !taken, "{value}: {said}");
    }
    let output = program(&["status"], &[("ASTRA_EXECUTOR", "moon")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("comes from the variable ASTRA_EXECUTOR"), "{said}");
    let output = program(&["status", "--executor", "sun"], &[("ASTRA_EXECUTOR", "moon")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("sun") && !said.contains("variable"), "{said}");
}

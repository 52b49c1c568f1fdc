//! `run confine`: the last step before the agent's program. Confines itself, then becomes it.
//!
//! It is a process of its own because the phase above must stay free: it writes the report, and the
//! program must not be able to.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

use crate::adapters::confinement::{Allowed, Level, restrict_this_thread};
use crate::adapters::run_directory::{
    AGENT_HOME, AGENT_OUTPUT, AGENT_TMP, RunDirectory, SYSTEM_PROMPT, TASK,
};
use crate::cli::RunConfineArgs;
use crate::error::Exit;

/// Becomes the agent's program; returns only if it cannot.
pub fn run(args: &RunConfineArgs) -> anyhow::Result<Exit> {
    give_up_privileges()?;
    // Killed with the phase: nobody else watches the program.
    set_parent_process_death_signal(Some(Signal::KILL)).context("end with the phase")?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    ensure!(parent == Some(args.parent), "the phase that started the agent has ended");
    // A core dump would hold the agent's credential.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("switch core dumps off")?;
    if !args.contained {
        let level = restrict_this_thread(&allowed(&RunDirectory::new(&args.run_dir), &args.program))?;
        let promised = Level::parse(&args.level).context("read the promised level")?;
        ensure!(level >= promised, "Landlock gives less than it promised: {level}");
    }
    let error = std::process::Command::new(&args.program).args(&args.arguments).exec();
    Err(error).with_context(|| format!("start {}", args.program.display()))
}

/// Root's privileges lead around Landlock: CAP_PERFMON reads the environment of any process
/// (Linux 6.18, `may_access_mm`), CAP_SYS_ADMIN more than that. Who has none loses none.
fn give_up_privileges() -> anyhow::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).context("give up root's privileges")?;
    // Without this, root would have them again after the next exec.
    set_no_new_privs(true).context("rule out new privileges")
}

/// The run's own files, and where its program and those of `PATH` are installed.
fn allowed(directory: &RunDirectory, program: &Path) -> Allowed {
    let mut read = vec![directory.path(SYSTEM_PROMPT), directory.path(TASK)];
    read.extend(installation(program));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let run = directory.path("");
    // A PATH that names a directory above the run would open everything.
    read.extend(std::env::split_paths(&path).filter(|entry| is_narrow(entry, &run)));
    let write = [AGENT_HOME, AGENT_TMP, AGENT_OUTPUT].map(|name| directory.path(name));
    Allowed { read, write: std::iter::once(directory.workspace()).chain(write).collect() }
}

/// What a program needs to run: its real file, or with npm all of the `node_modules` that it is in.
/// Not the directory around it, which may be somebody's home.
fn installation(program: &Path) -> Option<PathBuf> {
    let real = program.canonicalize().ok()?;
    let is_modules = |path: &&Path| path.file_name().is_some_and(|name| name == "node_modules");
    Some(real.ancestors().filter(is_modules).last().unwrap_or(&real).to_owned())
}

/// Whether a directory of `PATH` may be opened: neither a top-level directory (such as `/root`) nor
/// one above the run (such as the user's home).
fn is_narrow(entry: &Path, run: &Path) -> bool {
    entry
        .canonicalize()
        .is_ok_and(|real| entry.is_absolute() && real.components().count() > 2 && !run.starts_with(&real))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_narrow_directories_of_the_path_are_opened() {
        let home = tempfile::tempdir().expect("directory");
        let run = home.path().canonicalize().expect("path").join("state/runs/ast-1-bbbbb");
        std::fs::create_dir_all(home.path().join("bin")).expect("directory");
        assert!(is_narrow(&home.path().join("bin"), &run));
        assert!(is_narrow(Path::new("/usr/bin"), &run));
        for wide in
            [home.path(), Path::new("/"), Path::new("/usr"), Path::new("."), Path::new("/no/such/place")]
        {
            assert!(!is_narrow(wide, &run), "{}", wide.display());
        }
    }

    #[test]
    fn an_npm_program_comes_with_its_packages_and_any_other_alone() {
        let home = tempfile::tempdir().expect("directory");
        let home = home.path().canonicalize().expect("path");
        let package = home.join("lib/node_modules/@x/cli/node_modules/@x/linux");
        std::fs::create_dir_all(&package).expect("directory");
        std::fs::write(package.join("claude"), "").expect("write");
        std::os::unix::fs::symlink(package.join("claude"), home.join("claude")).expect("link");
        assert_eq!(installation(&home.join("claude")), Some(home.join("lib/node_modules")));
        std::fs::write(home.join("alone"), "").expect("write");
        assert_eq!(installation(&home.join("alone")), Some(home.join("alone")));
    }
}

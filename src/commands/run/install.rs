//! `run install`: the first step in a pod. The agent's image has anything or nothing in it; the program
//! that supervises the agent comes from ours, through a volume that nobody else mounts.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::Context;

use crate::cli::RunInstallArgs;
use crate::error::Exit;

/// The program's name there.
const NAME: &str = "astra-dispatch";

/// Copies the running program, for everyone to execute and nobody to write.
pub fn run(args: &RunInstallArgs) -> anyhow::Result<Exit> {
    let program = std::env::current_exe().context("find the running program")?;
    let target = args.to.join(NAME);
    let unfinished = args.to.join(format!(".{NAME}"));
    fs::copy(&program, &unfinished)
        .with_context(|| format!("copy {} to {}", program.display(), unfinished.display()))?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o555))
        .and_then(|()| fs::rename(&unfinished, &target))
        .with_context(|| format!("finish {}", target.display()))?;
    Ok(Exit::Handled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_there_twice_and_read_only() {
        let directory = tempfile::tempdir().unwrap();
        let args = RunInstallArgs { to: directory.path().to_owned() };
        run(&args).unwrap();
        run(&args).unwrap();
        let files: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, [NAME]);
        let metadata = fs::metadata(directory.path().join(NAME)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o555);
        assert_eq!(metadata.len(), fs::metadata(std::env::current_exe().unwrap()).unwrap().len());
    }
}

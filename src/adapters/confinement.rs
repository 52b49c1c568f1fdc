//! Limits a process to the files of its run with Landlock, which the kernel lets everybody do to
//! themselves and nobody undo. Children inherit it.
//!
//! Source: <https://docs.kernel.org/userspace-api/landlock.html>.

use std::fmt;
use std::path::PathBuf;

/// What a confined process may open. Everything that is not named is closed to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Files, and directories with all below them, to read and to execute.
    pub read: Vec<PathBuf>,
    /// Directories to do anything in but make devices.
    pub write: Vec<PathBuf>,
}

/// How much of the confinement this kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Landlock is missing or switched off.
    None,
    /// Files are limited, but an older kernel leaves other ways open.
    Partial,
    /// Everything that we ask for.
    Full,
}

impl Level {
    /// The level as an argument of the internal command.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Partial => "partial",
            Self::Full => "full",
        }
    }

    /// The level with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Partial, Self::Full].into_iter().find(|level| level.name() == name)
    }
}

/// What it means, in a sentence for people.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => {
                "Landlock confines the agent to the files of its run, system files (read-only) and the network."
            }
            Self::Partial => {
                "Landlock confines the agent to the files of its run, system files (read-only) and the network; \
                 on this kernel it can still talk to programs that listen on a local socket (Docker, session bus, ssh-agent)."
            }
            Self::None => {
                "This kernel has no Landlock: the agent runs with all your rights on this machine. \
                 Use --executor kubernetes, or a machine of its own, for agents that you do not trust."
            }
        })
    }
}

/// What this kernel can do, found out on a thread that is thrown away.
pub fn level() -> Level {
    std::thread::spawn(|| restrict_this_thread(&Allowed::default()))
        .join()
        .ok()
        .and_then(Result::ok)
        .unwrap_or(Level::None)
}

/// Whether this kernel keeps signals within the confinement (Landlock ABI 6, Linux 6.12).
#[cfg(target_os = "linux")]
pub fn scopes_signals() -> bool {
    use landlock::{CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};

    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    strict.scope(Scope::Signal).is_ok_and(|rules| rules.create().is_ok())
}

/// Confines this thread, and every thread and process that it starts from now on. There is no way back.
#[cfg(target_os = "linux")]
pub fn restrict_this_thread(allowed: &Allowed) -> anyhow::Result<Level> {
    use anyhow::Context;
    use landlock::{
        ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
        RulesetStatus, Scope, path_beneath_rules,
    };

    // The ABI that has all that we ask for: files 1 to 5, signals and abstract sockets 6, other sockets 9.
    let abi = ABI::V9;
    let read = AccessFs::from_read(abi);
    // A device made in the work tree would lead around every rule.
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let write = AccessFs::from_all(abi) & !devices;
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|rules| rules.scope(Scope::from_all(abi)))
        .and_then(|rules| rules.create())
        .and_then(|rules| rules.add_rules(path_beneath_rules(SYSTEM, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(DEVICES, device)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&allowed.read, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&allowed.write, write)))
        .and_then(|rules| rules.restrict_self())
        .context("confine the agent with Landlock")?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Level::Full,
        RulesetStatus::PartiallyEnforced => Level::Partial,
        RulesetStatus::NotEnforced => Level::None,
    })
}

/// Other systems have no Landlock.
#[cfg(not(target_os = "linux"))]
pub fn restrict_this_thread(_allowed: &Allowed) -> anyhow::Result<Level> {
    Ok(Level::None)
}

/// Programs, libraries and their settings. `/proc` is needed by most runtimes; what it tells of
/// processes outside is closed by Landlock's rule for tracing, all but their command lines. The
/// three below `/run` hold what `/etc/resolv.conf` points to.
#[cfg(target_os = "linux")]
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix/store",
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
];
#[cfg(target_os = "linux")]
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_names_and_an_order() {
        for level in [Level::None, Level::Partial, Level::Full] {
            assert_eq!(Level::parse(level.name()), Some(level));
        }
        assert_eq!(Level::parse("FULL"), None);
        assert!(Level::None < Level::Partial && Level::Partial < Level::Full);
    }

    #[test]
    fn a_confined_thread_reads_and_writes_only_what_is_allowed() {
        if level() == Level::None {
            eprintln!("skipped: this kernel has no Landlock");
            return;
        }
        let home = tempfile::tempdir().expect("directory");
        let (inside, outside) = (home.path().join("inside"), home.path().join("outside"));
        std::fs::create_dir_all(&inside).expect("directory");
        std::fs::create_dir_all(&outside).expect("directory");
        std::fs::write(outside.join("secret"), "s").expect("write");
        std::os::unix::fs::symlink(outside.join("secret"), inside.join("link")).expect("link");
        let allowed = Allowed { read: vec![], write: vec![inside.clone()] };
        std::thread::spawn(move || {
            restrict_this_thread(&allowed).expect("Landlock");
            std::fs::write(inside.join("file"), "x").expect("write inside");
            assert!(std::fs::read(inside.join("link")).is_err());
            assert!(std::fs::read(outside.join("secret")).is_err());
            assert!(std::fs::write(outside.join("new"), "x").is_err());
            assert!(std::fs::remove_file(outside.join("secret")).is_err());
            assert!(std::fs::rename(inside.join("file"), outside.join("file")).is_err());
            assert!(std::fs::read_dir("/root").is_err() && std::fs::read_dir("/home").is_err());
            assert!(std::fs::read_dir("/usr").is_ok());
            assert!(std::fs::write("/etc/astra-test", "x").is_err());
        })
        .join()
        .expect("the confined thread");
        // Other threads are as free as before.
        std::fs::write(home.path().join("outside/after"), "x").expect("write");
    }
}

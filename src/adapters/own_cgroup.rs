//! What the kernel tells a container about itself.

use std::path::Path;

/// Where a container sees its own control group.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// How many processes of this container were killed because its memory was used up; 0 where the kernel
/// does not say. Sources: kernel.org, "Memory Resource Controller" (`memory.oom_control`, since Linux
/// 4.13) and "Control Group v2" (`memory.events`).
pub fn killed_for_memory(cgroups: &Path) -> u64 {
    let count = |file: &str| {
        let text = std::fs::read_to_string(cgroups.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    };
    count("memory.events").or_else(|| count("memory/memory.oom_control")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        for (file, text, killed) in [
            ("memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n", 2),
            ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1),
            ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", 0),
            ("other", "", 0),
        ] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            assert_eq!(killed_for_memory(root.path()), killed, "{file}: {text}");
        }
    }
}

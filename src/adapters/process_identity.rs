//! Which process is meant, for longer than its number lasts: a number is used again, but never with
//! the same start time. Source of the fields: proc(5), `/proc/PID/stat` (Linux).

use std::fs;

use anyhow::Context;

/// A process, told apart from later ones with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// The number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl ProcessIdentity {
    /// This process.
    pub fn own() -> anyhow::Result<Self> {
        let pid = std::process::id();
        Self::of(pid).with_context(|| format!("read the start time of process {pid} from /proc"))
    }

    /// The process that has this number now; `None` if there is none or it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_time) = parse_stat(&stat)?;
        // Z: ended, only its parent has not asked yet. X: just ending.
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start_time })
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }
}

/// State (field 3) and start time (field 22). The name before them may hold spaces and brackets.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "12 (a) b (c)) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
        assert_eq!(parse_stat(stat), Some(('S', 98_765)));
        assert_eq!(parse_stat("12 (x) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn an_ended_process_is_not_alive_even_before_its_parent_asks() {
        let own = ProcessIdentity::own().unwrap();
        assert!(own.is_alive());
        assert!(!ProcessIdentity { start_time: own.start_time + 1, ..own }.is_alive());

        let mut child =
            std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        // Its end of the pipe closes when it ends.
        let mut end = child.stdout.take().unwrap();
        std::io::copy(&mut end, &mut std::io::sink()).unwrap();
        while ProcessIdentity::of(child.id()).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(ProcessIdentity::of(child.id()), None);
    }
}

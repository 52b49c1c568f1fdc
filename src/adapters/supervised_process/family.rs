//! All processes of one program, also those that left its group or whose parent has died.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, waitpid,
};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// The processes that belong to a started program.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The program's first process; its number is also that of its group.
    leader: Pid,
    /// Whoever is below this process belongs to it.
    alone: bool,
}

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    pid: Pid,
    parent: i32,
    group: i32,
    is_zombie: bool,
    resident_pages: u64,
}

impl Family {
    /// The family of a process that leads its own group. `alone`: this process has no other
    /// children, so processes whose parent dies are made its children and belong to the family.
    pub fn new(leader: Pid, alone: bool) -> anyhow::Result<Self> {
        if alone {
            set_child_subreaper(Some(getpid())).context("take in processes without a parent")?;
        }
        Ok(Self { leader, alone })
    }

    /// Resident memory of all members, in bytes; shared pages count for each.
    pub fn memory(&self) -> u64 {
        let pages: u64 = self.members().iter().map(|stat| stat.resident_pages).sum();
        pages * rustix::param::page_size() as u64
    }

    /// Sends a signal to the group, and a deadly one also to those who left it.
    pub fn signal(&self, signal: Signal) {
        // Whoever is gone already is as wanted.
        let _ = kill_process_group(self.leader, signal);
        if signal != Signal::INT {
            for stat in self.members() {
                let _ = kill_process(stat.pid, signal);
            }
        }
    }

    /// Takes note of the end of adopted processes, which otherwise stay in the process table.
    pub fn reap_orphans(&self) {
        if !self.alone {
            return;
        }
        let own = getpid().as_raw_nonzero().get();
        for stat in self.members().iter().filter(|stat| stat.is_zombie && stat.parent == own) {
            // The leader's end is waited for elsewhere.
            if stat.pid != self.leader {
                let _ = waitpid(Some(stat.pid), WaitOptions::NOHANG);
            }
        }
    }

    /// Kills whoever is left after the leader has ended, until nobody is.
    pub async fn end_all(&self) {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let _ = kill_process_group(self.leader, Signal::KILL);
            self.reap_orphans();
            let left: Vec<Stat> = self.members().into_iter().filter(|stat| !stat.is_zombie).collect();
            if left.is_empty() {
                return;
            }
            for stat in &left {
                let _ = kill_process(stat.pid, Signal::KILL);
            }
            if std::time::Instant::now() > end {
                log::warn!("{} processes of the agent cannot be ended", left.len());
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn members(&self) -> Vec<Stat> {
        let root = if self.alone { getpid() } else { self.leader };
        let mut rest = processes();
        let mut known = BTreeSet::from([root.as_raw_nonzero().get()]);
        let mut members = Vec::new();
        let leader = self.leader.as_raw_nonzero().get();
        loop {
            let (found, others): (Vec<Stat>, Vec<Stat>) = rest.into_iter().partition(|stat| {
                known.contains(&stat.parent) || stat.group == leader || stat.pid == self.leader
            });
            if found.is_empty() {
                return members;
            }
            known.extend(found.iter().map(|stat| stat.pid.as_raw_nonzero().get()));
            members.extend(found);
            rest = others;
        }
    }
}

/// Every process that can be seen; one that ends meanwhile is left out.
fn processes() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            parse_stat(pid, &std::fs::read_to_string(entry.path().join("stat")).ok()?)
        })
        .collect()
}

/// Source: proc_pid_stat(5). The name, in parentheses, may hold anything; fields count from after it.
fn parse_stat(pid: i32, text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        pid: Pid::from_raw(pid)?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        resident_pages: fields.get(21)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let text = "7 (a) Z 1 1 (b) S 3 4 4 0 -1 4194560 90 0 0 0 0 0 0 0 20 0 1 0 100 2000000 321 18446744073709551615 1";
        let stat = parse_stat(7, text).expect("stat");
        assert_eq!((stat.parent, stat.group, stat.is_zombie, stat.resident_pages), (3, 4, false, 321));
        assert_eq!(parse_stat(7, "7 (gone"), None);
    }

    #[test]
    fn this_process_is_among_all_processes() {
        let own = processes().into_iter().find(|stat| stat.pid == getpid()).expect("own process");
        assert!(own.resident_pages > 0 && !own.is_zombie);
    }
}

//! How much space a program's files take.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use crate::domain::runtime::Stop;

/// Below this much free space everybody on the machine is in trouble, in bytes.
const RESERVE: u64 = 64 << 20;
/// Between two walks, at least; a walk that takes long is made more rarely.
const PAUSE: Duration = Duration::from_secs(2);
/// A walk may take one part of so many of the time.
const SHARE: u32 = 10;

/// What files take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Space on disk, in bytes: a sparse file takes what was written.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

impl Usage {
    /// Counts what is below some directories, following no links, until a limit is passed.
    pub fn of(directories: &[PathBuf], most_bytes: u64, most_files: u64) -> Self {
        let mut usage = Self::default();
        let mut open: Vec<PathBuf> = directories.to_vec();
        while let Some(directory) = open.pop() {
            // What has gone or cannot be read meanwhile takes no space that we could count.
            let Ok(entries) = std::fs::read_dir(directory) else { continue };
            for entry in entries.flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                usage.files += 1;
                // A file with several names counts once in the sum of all of them.
                let names = if metadata.is_dir() { 1 } else { metadata.nlink().max(1) };
                usage.bytes += metadata.blocks() * 512 / names;
                if usage.bytes > most_bytes || usage.files > most_files {
                    return usage;
                }
                if metadata.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        usage
    }
}

/// Directories that have a limit together: in a pod, those of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// The directories.
    pub directories: Vec<PathBuf>,
    /// The most that their files may take, in bytes.
    pub bytes: u64,
}

/// Looks at the space from time to time.
#[derive(Debug)]
pub(super) struct Watch {
    areas: Vec<Area>,
    most_files: u64,
    free_at_start: Vec<u64>,
    walk: Option<Receiver<Walked>>,
    next: Instant,
}

/// What a walk found, and how long it took.
type Walked = (Option<Stop>, Duration);

impl Watch {
    pub(super) fn new(areas: Vec<Area>, most_files: u64) -> Self {
        let free_at_start = areas.iter().map(free).collect();
        Self { areas, most_files, free_at_start, walk: None, next: Instant::now() }
    }

    /// Why the program has to be stopped, if it has. Never waits: walks are made on another thread.
    pub(super) fn look(&mut self) -> Option<Stop> {
        let mut space = self.areas.iter().zip(&self.free_at_start);
        if space.any(|(area, &at_start)| is_nearly_full(at_start, free(area))) {
            return Some(Stop::DiskFull);
        }
        let Some(walk) = &self.walk else {
            self.begin_walk();
            return None;
        };
        let (found, took) = match walk.try_recv() {
            Ok(walked) => walked,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => (None, PAUSE),
        };
        self.walk = None;
        self.next = Instant::now() + PAUSE.max(took * SHARE);
        found
    }

    fn begin_walk(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        let (sender, receiver) = channel();
        let (areas, most_files) = (self.areas.clone(), self.most_files);
        self.walk = Some(receiver);
        std::thread::spawn(move || {
            let began = Instant::now();
            let found = areas.iter().find_map(|area| area.excess(most_files));
            sender.send((found, began.elapsed()))
        });
    }
}

impl Area {
    fn excess(&self, most_files: u64) -> Option<Stop> {
        let usage = Usage::of(&self.directories, self.bytes, most_files);
        if usage.bytes > self.bytes {
            Some(Stop::Disk(self.bytes))
        } else {
            (usage.files > most_files).then_some(Stop::Files(most_files))
        }
    }
}

/// Free space where an area is, in bytes; unlimited where nobody can tell.
fn free(area: &Area) -> u64 {
    area.directories
        .first()
        .and_then(|directory| rustix::fs::statvfs(directory).ok())
        .map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Only who had space to begin with can have filled it.
fn is_nearly_full(at_start: u64, now: u64) -> bool {
    at_start > 2 * RESERVE && now < RESERVE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_files_links_and_names_are_counted_as_what_they_take() {
        let home = tempfile::tempdir().expect("directory");
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir(at("inner")).expect("directory");
        std::fs::write(at("inner/file"), vec![1; 100_000]).expect("write");
        std::fs::hard_link(at("inner/file"), at("again")).expect("link");
        std::fs::File::create(at("sparse")).and_then(|file| file.set_len(10 << 30)).expect("sparse");
        std::os::unix::fs::symlink("/usr", at("outside")).expect("link");
        let usage = Usage::of(&[home.path().to_owned()], u64::MAX, u64::MAX);
        assert_eq!(usage.files, 5);
        assert!((100_000..150_000).contains(&usage.bytes), "{usage:?}");
    }

    #[test]
    fn a_walk_ends_at_its_limits() {
        let home = tempfile::tempdir().expect("directory");
        for number in 0..100 {
            std::fs::write(home.path().join(number.to_string()), vec![1; 5000]).expect("write");
        }
        let directories = [home.path().to_owned()];
        assert_eq!(Usage::of(&directories, u64::MAX, 10).files, 11);
        let usage = Usage::of(&directories, 20_000, u64::MAX);
        assert!(usage.bytes > 20_000 && usage.files < 10, "{usage:?}");
    }

    #[test]
    fn a_disk_is_filled_only_by_who_had_space() {
        let table = [
            (u64::MAX, u64::MAX, false),
            (1 << 30, RESERVE - 1, true),
            (1 << 30, RESERVE, false),
            (RESERVE, 0, false),
        ];
        for (at_start, now, full) in table {
            assert_eq!(is_nearly_full(at_start, now), full, "{at_start} {now}");
        }
    }
}

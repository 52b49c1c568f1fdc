//! Explicit-state search: breadth first, so that what is found first is shortest. States are told
//! apart by a fingerprint that does not see names: two worlds that differ only in what runs, Jobs
//! and publishers are called, or in which of two equal dispatchers is which, are one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};

use crate::action::Action;
use crate::config::Config;
use crate::world::World;

/// What a search found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) rule: String,
    /// Steps to the state at which it was noticed.
    pub(crate) steps: usize,
    pub(crate) trace: String,
}

/// How far a search came.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) settled: usize,
    pub(crate) is_complete: bool,
    pub(crate) depth: usize,
    pub(crate) found: Option<Found>,
}

/// Searches a world.
pub(crate) fn explore(config: Config) -> Explored {
    let config: &'static Config = Box::leak(Box::new(config));
    let start = World::new(config);
    let mut seen: HashMap<u64, ()> = HashMap::new();
    let mut origins: Vec<(u32, Action, u16)> = Vec::new();
    let mut frontier: VecDeque<(u32, u16, World)> = VecDeque::new();
    let mut settled: HashSet<u64> = HashSet::new();
    seen.insert(fingerprint(&start), ());
    frontier.push_back((u32::MAX, 0, start));
    let mut explored = Explored { states: 1, settled: 0, is_complete: true, depth: 0, found: None };
    while let Some((origin, depth, world)) = frontier.pop_front() {
        explored.depth = usize::from(depth);
        if let Some(rule) = world.settles(&mut settled) {
            explored.settled = settled.len();
            explored.found = Some(found(config, rule, &origins, origin, None));
            return explored;
        }
        for action in world.actions() {
            let mut next = world.clone();
            next.happen(action);
            if let Some(rule) = next.broken.clone() {
                explored.settled = settled.len();
                explored.found = Some(found(config, rule, &origins, origin, Some(action)));
                return explored;
            }
            if seen.insert(fingerprint(&next), ()).is_some() {
                continue;
            }
            if explored.states >= config.limit {
                explored.is_complete = false;
                explored.settled = settled.len();
                return explored;
            }
            explored.states += 1;
            origins.push((origin, action, depth + 1));
            frontier.push_back(((origins.len() - 1) as u32, depth + 1, next));
        }
    }
    explored.settled = settled.len();
    explored
}

fn found(
    config: &'static Config,
    rule: String,
    origins: &[(u32, Action, u16)],
    last: u32,
    action: Option<Action>,
) -> Found {
    let mut actions: Vec<Action> = action.into_iter().collect();
    let mut place = last;
    while let Some((origin, action, _)) = origins.get(place as usize) {
        actions.push(*action);
        place = *origin;
    }
    actions.reverse();
    let mut world = World::new(config);
    let mut trace = format!("{}: {rule}\n", config.name);
    for (number, action) in actions.iter().enumerate() {
        trace += &format!("{:3}. {}\n", number + 1, world.describe(*action));
        world.happen(*action);
    }
    trace += &world.picture();
    Found { rule, steps: actions.len(), trace }
}

/// The fingerprint of a world.
pub(crate) fn fingerprint(world: &World) -> u64 {
    let mut dispatchers: Vec<(u64, usize)> = world
        .dispatchers
        .iter()
        .enumerate()
        .map(|(place, dispatcher)| {
            let mut hasher = Nameless::default();
            dispatcher.hash(&mut hasher);
            (hasher.finish(), place)
        })
        .collect();
    dispatchers.sort_unstable();
    let mut hasher = Nameless::default();
    world.ledger.hash(&mut hasher);
    world.jobs.hash(&mut hasher);
    world.orphans.hash(&mut hasher);
    world.items.hash(&mut hasher);
    world.floating.hash(&mut hasher);
    world.pushed.hash(&mut hasher);
    world.ghosts.hash(&mut hasher);
    world.budget.hash(&mut hasher);
    world.ledger_was_lost.hash(&mut hasher);
    for (_, place) in dispatchers {
        world.dispatchers[place].hash(&mut hasher);
    }
    hasher.finish()
}

/// A hasher to which a name is the place of its first appearance.
#[derive(Default)]
struct Nameless {
    state: u64,
    names: Vec<(Vec<u8>, u64)>,
}

impl Nameless {
    fn add(&mut self, word: u64) {
        // One round of a multiplicative hash, then a mix of high into low bits.
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        self.state ^= self.state >> 29;
    }
}

impl Hasher for Nameless {
    fn finish(&self) -> u64 {
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn write(&mut self, bytes: &[u8]) {
        let is_name = bytes.starts_with(b"t-") || bytes.starts_with(b"u:") || bytes.starts_with(b"h:");
        if is_name {
            let known = self.names.iter().find(|(name, _)| name == bytes).map(|(_, place)| *place);
            let place = known.unwrap_or_else(|| {
                let place = self.names.len() as u64;
                self.names.push((bytes.to_vec(), place));
                place
            });
            self.add(place ^ 0x6e61_6d65);
            return;
        }
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
        let mut word = [0; 8];
        word[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.add(u64::from_le_bytes(word) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, word: u8) {
        self.add(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.add(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.add(word as u64);
    }
}

//! Small worlds: how many dispatchers, tasks and passes, and what may go wrong how often.

use astra_dispatch::domain::matching::Workforce;
use astra_dispatch::domain::pass::Timing;

use crate::world::Fault;

/// One world to be searched.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) name: &'static str,
    pub(crate) dispatchers: usize,
    pub(crate) tasks: u64,
    /// Passes of each dispatcher.
    pub(crate) passes: u8,
    /// The newest registry: that of the fresh dispatcher that puts everything right.
    pub(crate) workforce: &'static Workforce,
    /// The registry of the first dispatcher, where it is an older one.
    pub(crate) old_workforce: Option<&'static Workforce>,
    pub(crate) max_attempts: u32,
    pub(crate) budget: Vec<(Fault, u8)>,
    pub(crate) timing: Timing,
    pub(crate) mutation: Option<Mutation>,
    /// Stop after this many states.
    pub(crate) limit: usize,
}

/// The rules of the design, each left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mutation {
    /// 1: the swap does not compare.
    BlindSwap,
    /// 2: Jobs are read before the ledger.
    JobsBeforeLedger,
    /// 3: a Job is created running.
    CreatedRunning,
    /// 4: the confirmation is skipped.
    ConfirmSkipped,
    /// 4: the confirmation's failure is ignored.
    ConfirmIgnored,
    /// 5: release whatever its phase.
    ReleaseUnconditional,
    /// 5: cancel whatever its phase.
    CancelUnconditional,
    /// 5: delete by name, whatever its phase.
    DeleteUnconditional,
    /// 6: the entry goes when the cancel is asked for.
    PrunedWhenCancelAsked,
    /// 7: the confirmation looks at the name, not at the UID.
    ConfirmByName,
    /// 8: *started* is written on what was read long before.
    LateStart,
    /// 9: reopening is inferred without the record.
    NoRecord,
    /// 10: the namespace of a removed agent is not listed.
    RemovedNamespaceNotListed,
    /// 12: no swap where the ledger stays equal.
    NoSwapWhereEqual,
    /// 13: the entry goes when its Job finishes.
    PrunedWhenFinished,
    /// 15: several publishers share a claim.
    ClaimShared,
    /// 16: the pods of a deleted Job are ignored.
    OrphanPodsIgnored,
    /// 17: no parked line.
    NoParked,
    /// 18: admission in the same pass as an unnamed Job's deletion.
    UnnamedIgnored,
    /// 19: a lost attempt is replaced without a look whether it had done its work.
    ResultNotRead,
}

/// `ASTRA_TEST_SECONDS` says how long all worlds together may take, about; 30 is the default.
fn limit(states: usize) -> usize {
    let seconds = std::env::var("ASTRA_TEST_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    states.saturating_mul(seconds.unwrap_or(30)) / 30
}

/// Times that say only: waited long enough or not.
pub(crate) fn timing() -> Timing {
    Timing { backoff: std::time::Duration::ZERO, rounds: 2, ..Timing::default() }
}

pub(crate) fn leaked(
    agents: &[crate::small_world::SmallAgent],
    max_attempts: u32,
    ordinal: i64,
) -> &'static Workforce {
    Box::leak(Box::new(crate::small_world::workforce(agents, max_attempts, ordinal)))
}

impl Config {
    /// Two dispatchers, one task, one agent of capacity one, two passes each.
    pub(crate) fn small(name: &'static str, budget: &[(Fault, u8)]) -> Self {
        Self {
            name,
            dispatchers: 2,
            tasks: 1,
            passes: 2,
            workforce: leaked(&[("a", "coder", 1)], 5, 1),
            old_workforce: None,
            max_attempts: 5,
            budget: budget.to_vec(),
            timing: timing(),
            mutation: None,
            limit: limit(60_000),
        }
    }

    pub(crate) fn tasks(self, tasks: u64) -> Self {
        Self { tasks, ..self }
    }

    pub(crate) fn passes(self, passes: u8) -> Self {
        Self { passes, ..self }
    }

    pub(crate) fn dispatchers(self, dispatchers: usize) -> Self {
        Self { dispatchers, ..self }
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.budget.iter().any(|(known, _)| *known == fault)
    }

    /// A second agent of the same role.
    pub(crate) fn two_agents(self) -> Self {
        Self { workforce: leaked(&[("a", "coder", 1), ("b", "coder", 1)], self.max_attempts, 1), ..self }
    }

    /// A second agent of another role.
    pub(crate) fn two_roles(self) -> Self {
        Self { workforce: leaked(&[("a", "coder", 1), ("b", "ops", 1)], self.max_attempts, 1), ..self }
    }

    /// The first dispatcher has an older registry, with an agent that has left since.
    pub(crate) fn skewed(self) -> Self {
        Self {
            old_workforce: Some(leaked(&[("a", "coder", 1), ("b", "coder", 1)], self.max_attempts, 1)),
            workforce: leaked(&[("a", "coder", 1)], self.max_attempts, 2),
            ..self
        }
    }

    pub(crate) fn max_attempts(self, max_attempts: u32) -> Self {
        Self { max_attempts, workforce: leaked(&[("a", "coder", 1)], max_attempts, 1), ..self }
    }

    pub(crate) fn mutated(self, mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), ..self }
    }
}

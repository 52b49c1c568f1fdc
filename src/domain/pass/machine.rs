//! The pass as a state machine: which calls, in which order, and what each answer leads to.

use super::call::{Hint, ItemRead, LedgerRead, Request, Response, Step, Version};
use super::candidates;
use super::edit::Edit;
use super::observed::{Lookup, Observed};
use super::plan::{Basis, Effects, FollowUp, Plan, Start, plan};
use super::report::{Aside, PassEnd, PassReport, Subject, TaskOutcome};
use super::timing::Timing;
use crate::domain::job::JobRef;
use crate::domain::ledger::Ledger;
use crate::domain::matching::Workforce;
use crate::domain::name::RunId;
use crate::domain::work_item::ItemRef;

mod effects;

/// What a pass is called with.
#[derive(Debug, Clone)]
pub struct PassInput<'w> {
    /// The registry.
    pub workforce: &'w Workforce,
    /// Times and bounds.
    pub timing: Timing,
    /// The tasks that it is called for; the sweep: all that carry a label.
    pub hints: Vec<Hint>,
    /// The run that a person wants stopped.
    pub stop: Option<RunId>,
    /// A random number: the names of new runs are made from it.
    pub seed: u64,
}

/// One pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pass<'w> {
    fixed: Aside<Fixed<'w>>,
    hints: Vec<Hint>,
    stop: Option<RunId>,
    /// How often others were quicker.
    round: u32,
    stage: Stage,
    follow_up: FollowUp,
    released: Vec<JobRef>,
    /// Confirmed Jobs that wait while others are deleted.
    ready: Vec<(Start, JobRef)>,
    /// Jobs whose Secret was refused, and what their entries become once they are deleted.
    refused: (Vec<JobRef>, Vec<Edit>),
    told: Aside<Told<'w>>,
}

#[derive(Debug, Clone)]
struct Fixed<'w> {
    workforce: &'w Workforce,
    timing: Timing,
    seed: u64,
}

/// What the report shows besides what follows from it.
#[derive(Debug, Clone, Default)]
struct Told<'w> {
    outcomes: Vec<TaskOutcome<'w>>,
    problems: Vec<String>,
    ledger: Ledger,
    unreadable: Vec<String>,
}

/// Which answers are awaited.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage {
    Begin,
    Ledger,
    Jobs {
        read: LedgerRead,
        namespaces: Vec<String>,
    },
    Lookups {
        observed: Box<Observed>,
        version: Version,
        missing: Vec<RunId>,
    },
    Results {
        observed: Box<Observed>,
        version: Version,
        lost: Vec<JobRef>,
    },
    Items {
        observed: Box<Observed>,
        version: Version,
        items: Vec<ItemRef>,
    },
    Swap {
        effects: Box<Effects>,
    },
    Pause,
    Tidy {
        effects: Box<Effects>,
    },
    Create {
        creates: Vec<Start>,
        confirms: Vec<(Start, JobRef)>,
        releases: Vec<(Start, JobRef)>,
    },
    /// Reading the ledger, to write down what became of the Jobs.
    SettleRead {
        settlement: Box<Settlement>,
    },
    SettleSwap {
        settlement: Box<Settlement>,
        applied: Vec<bool>,
    },
    SettlePause {
        settlement: Box<Settlement>,
    },
    Secrets {
        starts: Vec<(Start, JobRef)>,
    },
    Release {
        subjects: Vec<Subject>,
    },
    /// Deleting suspended Jobs that the ledger does not name, or whose Secret was refused.
    Discard {
        jobs: Vec<JobRef>,
        then: Vec<Edit>,
    },
    End,
}

/// Changes of the ledger after the main swap, and what hangs on each of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Settlement {
    edits: Vec<Edit>,
    /// For each edit: the Job to let go if the ledger says so, and whether it is ours to delete if not.
    starts: Vec<Option<Prepared>>,
    /// Confirmed already.
    ready: Vec<(Start, JobRef)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Prepared {
    start: Start,
    job: JobRef,
    is_queued: bool,
    /// We created it just now: if the ledger does not name it, nobody else will clean it up as fast.
    is_own: bool,
}

/// What the machine does next.
pub type PassStep<'w> = Step<PassEnd<'w>>;

impl<'w> Pass<'w> {
    /// A pass that has not begun.
    pub fn new(input: PassInput<'w>) -> Self {
        Self {
            fixed: Aside(Fixed { workforce: input.workforce, timing: input.timing, seed: input.seed }),
            hints: input.hints,
            stop: input.stop,
            round: 0,
            stage: Stage::Begin,
            follow_up: FollowUp::default(),
            released: Vec::new(),
            ready: Vec::new(),
            refused: (Vec::new(), Vec::new()),
            told: Aside(Told::default()),
        }
    }

    /// Takes the answers to the calls before (none at the beginning), and says what to do next.
    pub fn step(&mut self, responses: Vec<Response>) -> PassStep<'w> {
        match std::mem::replace(&mut self.stage, Stage::End) {
            Stage::Begin | Stage::Pause => self.call(Stage::Ledger, vec![Request::ReadLedger]),
            Stage::Ledger => self.ledger_read(responses),
            Stage::Jobs { read, namespaces } => self.jobs_listed(read, namespaces, responses),
            Stage::Lookups { observed, version, missing } => {
                self.looked_up(observed, version, missing, responses)
            }
            Stage::Results { observed, version, lost } => {
                self.results_found(observed, version, &lost, &responses)
            }
            Stage::Items { observed, version, items } => self.items_read(observed, version, items, responses),
            Stage::Swap { effects } => self.swapped(effects, responses),
            Stage::Tidy { effects } => self.tidied(*effects, &responses),
            Stage::Create { creates, confirms, releases } => {
                self.created(creates, confirms, releases, responses)
            }
            Stage::SettleRead { settlement } => self.settle(settlement, responses),
            Stage::SettleSwap { settlement, applied } => self.settled(settlement, &applied, responses),
            Stage::SettlePause { settlement } => {
                self.call(Stage::SettleRead { settlement }, vec![Request::ReadLedger])
            }
            Stage::Secrets { starts } => self.secrets_written(starts, responses),
            Stage::Release { subjects } => self.let_go(subjects, &responses),
            Stage::Discard { jobs, then } => self.discarded(&jobs, then, &responses),
            Stage::End => self.unfinished("the pass is over"),
        }
    }

    fn call(&mut self, stage: Stage, requests: Vec<Request>) -> PassStep<'w> {
        self.stage = stage;
        Step::Call(requests)
    }

    fn unfinished(&mut self, why: impl Into<String>) -> PassStep<'w> {
        Step::Done(PassEnd::Unfinished(why.into()))
    }

    fn ledger_read(&mut self, responses: Vec<Response>) -> PassStep<'w> {
        let read = match only(responses) {
            Response::Ledger(read) => read,
            Response::LedgerBroken(why) => return Step::Done(PassEnd::LedgerBroken(why)),
            other => return self.unfinished(other.why()),
        };
        let registry = self.fixed.0.workforce.registry();
        let namespaces: Vec<String> = candidates::namespaces(&read.ledger, registry).into_iter().collect();
        let requests = namespaces.iter().cloned().map(Request::ListJobs).collect();
        self.call(Stage::Jobs { read, namespaces }, requests)
    }

    fn jobs_listed(
        &mut self,
        read: LedgerRead,
        namespaces: Vec<String>,
        responses: Vec<Response>,
    ) -> PassStep<'w> {
        let mut observed = Box::new(Observed::new(read.ledger, read.now));
        self.told.0.unreadable.clear();
        for (namespace, response) in namespaces.into_iter().zip(responses) {
            let listing = match response {
                Response::Jobs(listing) => Some(listing),
                other => {
                    self.told.0.unreadable.push(format!("{namespace}: {}", other.why()));
                    None
                }
            };
            observed.listings.insert(namespace, listing);
        }
        let missing = candidates::missing(&observed);
        if missing.is_empty() {
            return self.find_results(observed, read.version);
        }
        let requests = missing
            .iter()
            .map(|(namespace, run)| Request::FindJob { namespace: namespace.clone(), run: run.clone() })
            .collect();
        let missing = missing.into_iter().map(|(_, run)| run).collect();
        self.call(Stage::Lookups { observed, version: read.version, missing }, requests)
    }

    fn looked_up(
        &mut self,
        mut observed: Box<Observed>,
        version: Version,
        missing: Vec<RunId>,
        responses: Vec<Response>,
    ) -> PassStep<'w> {
        let lookup = |response| match response {
            Response::Job(Some(job), _) => Lookup::Found(job),
            Response::Job(None, _) => Lookup::Absent,
            _ => Lookup::Unknown,
        };
        observed.lookups = missing.into_iter().zip(responses.into_iter().map(lookup)).collect();
        self.find_results(observed, version)
    }

    fn find_results(&mut self, observed: Box<Observed>, version: Version) -> PassStep<'w> {
        let lost = candidates::lost(&observed);
        if lost.is_empty() {
            return self.read_items(observed, version);
        }
        let requests = lost.iter().cloned().map(Request::FindResult).collect();
        self.call(Stage::Results { observed, version, lost }, requests)
    }

    fn results_found(
        &mut self,
        mut observed: Box<Observed>,
        version: Version,
        lost: &[JobRef],
        responses: &[Response],
    ) -> PassStep<'w> {
        for (job, response) in lost.iter().zip(responses) {
            self.note_problem(response);
            match response {
                Response::Done => observed.has_result(job),
                Response::Missed => {}
                _ => drop(observed.unread_results.insert(job.uid.clone())),
            }
        }
        self.read_items(observed, version)
    }

    fn read_items(&mut self, observed: Box<Observed>, version: Version) -> PassStep<'w> {
        let items = candidates::items(&observed, &self.hints, self.fixed.0.workforce.registry());
        if items.is_empty() {
            return self.swap(&observed, version);
        }
        let requests = vec![Request::ReadItems(items.clone())];
        self.call(Stage::Items { observed, version, items }, requests)
    }

    fn items_read(
        &mut self,
        mut observed: Box<Observed>,
        version: Version,
        items: Vec<ItemRef>,
        responses: Vec<Response>,
    ) -> PassStep<'w> {
        // What cannot be read is unknown; the rest of the pass goes on.
        let mut reads = match only(responses) {
            Response::Items(reads) => reads,
            _ => Vec::new(),
        };
        reads.resize(items.len(), ItemRead::Unread);
        observed.items = items.into_iter().zip(reads).collect();
        self.swap(&observed, version)
    }

    /// Plans, and asks for the swap. What was observed is of no more use after that.
    fn swap(&mut self, observed: &Observed, version: Version) -> PassStep<'w> {
        let Fixed { workforce, ref timing, seed } = self.fixed.0;
        let basis = Basis { observed, workforce, timing, hints: &self.hints, stop: self.stop.as_ref(), seed };
        let Plan { ledger, effects, follow_up, outcomes } = plan(&basis);
        self.follow_up = follow_up;
        self.told.0.outcomes = outcomes;
        self.told.0.ledger = ledger.clone();
        let request = Request::Swap { version, ledger: Box::new(ledger) };
        self.call(Stage::Swap { effects: Box::new(effects) }, vec![request])
    }

    fn swapped(&mut self, effects: Box<Effects>, responses: Vec<Response>) -> PassStep<'w> {
        match only(responses) {
            Response::Done => self.tidy(effects),
            Response::Missed => {
                self.follow_up = FollowUp::default();
                self.pause(Stage::Pause)
            }
            other => self.unfinished(other.why()),
        }
    }

    /// Others were quicker: start over after a moment, but not for ever.
    fn pause(&mut self, stage: Stage) -> PassStep<'w> {
        self.round += 1;
        if self.round >= self.fixed.0.timing.rounds {
            return self.unfinished("others changed the ledger again and again");
        }
        let round = self.round;
        self.call(stage, vec![Request::Pause(round)])
    }

    fn done(&mut self) -> PassStep<'w> {
        let told = std::mem::take(&mut self.told.0);
        let follow_up = std::mem::take(&mut self.follow_up);
        Step::Done(PassEnd::Complete(Box::new(PassReport {
            outcomes: told.outcomes,
            start_writes: follow_up.start_writes,
            publishable: follow_up.publishable,
            released: std::mem::take(&mut self.released),
            again: follow_up.again,
            wake_at: follow_up.wake_at,
            stop: follow_up.stop,
            problems: told.problems,
            ledger: told.ledger,
            unreadable: told.unreadable,
            ..PassReport::default()
        })))
    }
}

/// The answer to a single call.
fn only(mut responses: Vec<Response>) -> Response {
    responses.pop().unwrap_or_else(|| Response::Failed("there was no answer".to_owned()))
}

//! After the swap: tidy up, create, confirm, write the Secret, release. Every step may be the last
//! one; any later pass goes on from there.

use std::collections::BTreeSet;

use super::{Pass, PassStep, Prepared, Settlement, Stage, only};
use crate::domain::decision::Verdict;
use crate::domain::job::{JobPhase, JobRef};
use crate::domain::ledger::Blocked;
use crate::domain::name::{ItemId, RunId};
use crate::domain::pass::call::{Request, Response};
use crate::domain::pass::edit::{self, Edit};
use crate::domain::pass::plan::{Effects, Start};
use crate::domain::pass::report::{StopOutcome, Subject};
use crate::domain::work_item::ItemRef;

impl<'w> Pass<'w> {
    /// Closes, cancels, deletes.
    pub(super) fn tidy(&mut self, effects: Box<Effects>) -> PassStep<'w> {
        let closes = effects.closes.iter().map(|(job, _)| Request::Close(job.clone()));
        let cancels = effects.cancels.iter().map(|(job, reason)| Request::Cancel(job.clone(), *reason));
        let deletes = effects.deletes.iter().cloned().map(Request::Delete);
        let requests: Vec<Request> = closes.chain(cancels).chain(deletes).collect();
        if requests.is_empty() {
            return self.create(*effects);
        }
        self.call(Stage::Tidy { effects }, requests)
    }

    pub(super) fn tidied(&mut self, mut effects: Effects, responses: &[Response]) -> PassStep<'w> {
        let unclosed: BTreeSet<ItemId> = effects
            .closes
            .iter()
            .zip(responses)
            .filter(|(_, response)| **response != Response::Done)
            .map(|((_, item), _)| *item)
            .collect();
        for response in responses {
            self.note_problem(response);
        }
        for ((job, _), response) in effects.cancels.iter().zip(responses.iter().skip(effects.closes.len())) {
            if matches!(response, Response::Failed(_)) {
                self.may_go_on(&job.run);
            }
        }
        if !unclosed.is_empty() {
            self.follow_up.again = true;
            effects.creates.retain(|start| !unclosed.contains(&start.new.task.item));
        }
        self.create(effects)
    }

    /// The cancellation of a run had no answer: who asked for it has to come again.
    fn may_go_on(&mut self, run: &RunId) {
        if self.stop.as_ref() == Some(run) {
            self.follow_up.stop = Some(StopOutcome::Unreadable);
        }
        for outcome in &mut self.told.0.outcomes {
            if matches!(&outcome.verdict, Some(Verdict::Cancelled { run: of, .. }) if of == run) {
                outcome.verdict = None;
            }
        }
    }

    fn create(&mut self, effects: Effects) -> PassStep<'w> {
        let Effects { creates, confirms, releases, .. } = effects;
        if creates.is_empty() {
            return self.created(creates, confirms, releases, Vec::new());
        }
        let requests = creates.iter().map(|start| Request::Create(start.new.clone())).collect();
        self.call(Stage::Create { creates, confirms, releases }, requests)
    }

    pub(super) fn created(
        &mut self,
        creates: Vec<Start>,
        confirms: Vec<(Start, JobRef)>,
        releases: Vec<(Start, JobRef)>,
        responses: Vec<Response>,
    ) -> PassStep<'w> {
        let mut settlement = Settlement { ready: releases, ..Settlement::default() };
        for (start, job) in confirms {
            settlement.confirm(Prepared { start, job, is_queued: true, is_own: false });
        }
        for (start, response) in creates.into_iter().zip(responses) {
            match response {
                Response::Created(uid) => {
                    let (namespace, run) = (start.new.namespace.clone(), start.new.run.clone());
                    let job = JobRef { namespace, run, uid };
                    settlement.confirm(Prepared { start, job, is_queued: true, is_own: true });
                }
                Response::Exists(job) if job.phase == JobPhase::Published => {
                    // A run of long ago has the drawn name: another name is drawn.
                    self.follow_up.again = true;
                    settlement.edit(Edit::Retract { run: start.new.run, uid: None, blocked: None });
                }
                Response::Exists(job) => {
                    let is_queued = job.phase == JobPhase::Queued;
                    settlement.confirm(Prepared { start, job: job.reference(), is_queued, is_own: false });
                }
                Response::Refused(why) => {
                    let edit = self.refuse(start, None, why);
                    settlement.edit(edit);
                }
                other => self.note_problem(&other),
            }
        }
        self.begin_settlement(settlement)
    }

    /// The world refused it for good: its entry goes, its task is blocked.
    fn refuse(&mut self, start: Start, uid: Option<String>, why: String) -> Edit {
        let is_of_run = |verdict: &Option<Verdict>| {
            matches!(verdict, Some(Verdict::Dispatched { .. } | Verdict::AlreadyRunning { .. }))
        };
        for outcome in &mut self.told.0.outcomes {
            if outcome.run.as_ref() == Some(&start.new.run) && is_of_run(&outcome.verdict) {
                outcome.refused = Some(why.clone());
            }
        }
        let blocked = Blocked { reason: why, ..start.blocked };
        Edit::Retract { run: start.new.run, uid, blocked: Some(blocked) }
    }

    fn begin_settlement(&mut self, settlement: Settlement) -> PassStep<'w> {
        if settlement.edits.is_empty() {
            return self.write_secrets(settlement.ready);
        }
        self.call(Stage::SettleRead { settlement: Box::new(settlement) }, vec![Request::ReadLedger])
    }

    /// Decides on the ledger as it is now what can be confirmed.
    pub(super) fn settle(&mut self, settlement: Box<Settlement>, responses: Vec<Response>) -> PassStep<'w> {
        let read = match only(responses) {
            Response::Ledger(read) => read,
            // The Jobs stay suspended, their entries reserved, and a later pass goes on.
            other => return self.unfinished(other.why()),
        };
        let mut ledger = read.ledger.clone();
        let applied: Vec<bool> =
            settlement.edits.iter().map(|edit| edit::apply(&mut ledger, edit, read.now)).collect();
        if ledger == read.ledger {
            return self.after_settlement(*settlement, &applied);
        }
        let request = Request::Swap { version: read.version, ledger: Box::new(ledger) };
        self.call(Stage::SettleSwap { settlement, applied }, vec![request])
    }

    pub(super) fn settled(
        &mut self,
        settlement: Box<Settlement>,
        applied: &[bool],
        responses: Vec<Response>,
    ) -> PassStep<'w> {
        match only(responses) {
            Response::Done => self.after_settlement(*settlement, applied),
            Response::Missed => self.pause(Stage::SettlePause { settlement }),
            other => self.unfinished(other.why()),
        }
    }

    /// What the ledger names goes on; our own Jobs that it does not name are deleted first.
    fn after_settlement(&mut self, settlement: Settlement, applied: &[bool]) -> PassStep<'w> {
        let mut ready = settlement.ready;
        let mut foreign = Vec::new();
        for (prepared, holds) in settlement.starts.into_iter().zip(applied) {
            match prepared {
                Some(prepared) if *holds && prepared.is_queued => ready.push((prepared.start, prepared.job)),
                Some(prepared) if !*holds && prepared.is_own => foreign.push(prepared.job),
                _ => {}
            }
        }
        if foreign.is_empty() {
            return self.write_secrets(ready);
        }
        self.ready = ready;
        self.discard(foreign, Vec::new())
    }

    fn discard(&mut self, jobs: Vec<JobRef>, then: Vec<Edit>) -> PassStep<'w> {
        let requests = jobs.iter().cloned().map(Request::Delete).collect();
        self.call(Stage::Discard { jobs, then }, requests)
    }

    /// Only where a suspended Job was deleted may its entry go.
    pub(super) fn discarded(
        &mut self,
        jobs: &[JobRef],
        then: Vec<Edit>,
        responses: &[Response],
    ) -> PassStep<'w> {
        let mut deleted: BTreeSet<&RunId> = BTreeSet::new();
        for (job, response) in jobs.iter().zip(responses) {
            self.note_problem(response);
            if *response == Response::Done {
                deleted.insert(&job.run);
            }
        }
        let mut settlement = Settlement { ready: std::mem::take(&mut self.ready), ..Settlement::default() };
        for edit in then {
            if matches!(&edit, Edit::Retract { run, .. } if deleted.contains(run)) {
                settlement.edit(edit);
            }
        }
        self.begin_settlement(settlement)
    }

    fn write_secrets(&mut self, starts: Vec<(Start, JobRef)>) -> PassStep<'w> {
        if starts.is_empty() {
            return self.done();
        }
        let requests =
            starts.iter().map(|(start, job)| Request::WriteSecret(start.new.clone(), job.clone())).collect();
        self.call(Stage::Secrets { starts }, requests)
    }

    pub(super) fn secrets_written(
        &mut self,
        starts: Vec<(Start, JobRef)>,
        responses: Vec<Response>,
    ) -> PassStep<'w> {
        let mut subjects = Vec::new();
        for ((start, job), response) in starts.into_iter().zip(responses) {
            match response {
                Response::Done => {
                    let item = ItemRef { project: start.new.task.project, item: start.new.task.item };
                    subjects.push(Subject { job, item });
                }
                Response::Refused(why) => {
                    let edit = self.refuse(start, Some(job.uid.clone()), why);
                    self.refused.0.push(job);
                    self.refused.1.push(edit);
                }
                other => self.note_problem(&other),
            }
        }
        if subjects.is_empty() {
            return self.drop_refused();
        }
        let requests = subjects.iter().map(|subject| Request::Release(subject.job.clone())).collect();
        self.call(Stage::Release { subjects }, requests)
    }

    pub(super) fn let_go(&mut self, subjects: Vec<Subject>, responses: &[Response]) -> PassStep<'w> {
        for (subject, response) in subjects.into_iter().zip(responses) {
            self.note_problem(response);
            if *response == Response::Done {
                self.released.push(subject.job.clone());
                self.follow_up.start_writes.push(subject);
            }
        }
        self.drop_refused()
    }

    fn drop_refused(&mut self) -> PassStep<'w> {
        let (jobs, retractions) = std::mem::take(&mut self.refused);
        if jobs.is_empty() {
            return self.done();
        }
        self.discard(jobs, retractions)
    }

    pub(super) fn note_problem(&mut self, response: &Response) {
        if let Response::Failed(why) = response {
            self.told.0.problems.push(why.clone());
        }
    }
}

impl Settlement {
    fn confirm(&mut self, prepared: Prepared) {
        let edit = Edit::Confirm { run: prepared.job.run.clone(), uid: prepared.job.uid.clone() };
        self.edits.push(edit);
        self.starts.push(Some(prepared));
    }

    fn edit(&mut self, edit: Edit) {
        self.edits.push(edit);
        self.starts.push(None);
    }
}

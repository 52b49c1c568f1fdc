//! What people are told about a task that has no run yet: that it waits, or what they have to change.
//! Each is one comment: its external id says what it tells, and Plane keeps one of each.

use sha2::{Digest, Sha256};

use super::super::decision::{Verdict, WaitingBecause};
use super::super::ledger::Ledger;
use super::super::message;
use super::super::pass::TaskOutcome;

/// One comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Plane has it once.
    pub external_id: String,
    /// Its text, escaped.
    pub html: String,
}

/// What an outcome tells people; `None`: they hear of it in another way.
pub fn notice(outcome: &TaskOutcome<'_>, ledger: &Ledger) -> Option<Notice> {
    match (&outcome.verdict, &outcome.refused) {
        (_, Some(why)) => Some(blocked(outcome, why)),
        // That is over in a moment.
        (Some(Verdict::Waiting { reason: WaitingBecause::Unpublished { .. }, .. }), None) => None,
        (Some(Verdict::Waiting { reason, .. }), None) => waiting(outcome, ledger, &reason.to_string()),
        (Some(Verdict::Refused(refusal)), None) => {
            let remedies = refusal.remedies();
            Some(once(outcome, "refused", &refusal.to_string(), &remedies))
        }
        _ => None,
    }
}

/// Told once for each time that it waits: the ledger says since when. What the ledger has no room for
/// is told by a later pass.
fn waiting(outcome: &TaskOutcome<'_>, ledger: &Ledger, why: &str) -> Option<Notice> {
    let (place, line) = ledger.waiting.iter().enumerate().find(|(_, line)| line.item == outcome.item.item)?;
    let since = line.since.as_second();
    let why = message::html(&message::one_line(why, 500));
    let html = format!("<p>This task waits: {why}.</p><p>Place in the queue: {}</p>", place + 1);
    Some(Notice { external_id: format!("waiting-{}-{since}", outcome.item.item), html })
}

fn blocked(outcome: &TaskOutcome<'_>, why: &str) -> Notice {
    let remedy = "It is tried again when it or the registry changes, and from time to time.".to_owned();
    once(outcome, "blocked", why, &[remedy])
}

/// Told once for each reason.
fn once(outcome: &TaskOutcome<'_>, kind: &str, why: &str, remedies: &[String]) -> Notice {
    let mut html =
        format!("<p>No agent takes this task: {}.</p>", message::html(&message::one_line(why, 500)));
    for remedy in remedies {
        html.push_str(&format!("<p>{}</p>", message::html(&message::one_line(remedy, 500))));
    }
    // Names and numbers differ each time that the world refuses the same thing.
    let is_stable = |word: &&str| !word.contains(|letter: char| letter.is_ascii_digit() || letter == '"');
    let stable: String = html.split_whitespace().filter(is_stable).collect();
    let print = Sha256::digest(&stable).iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>();
    Notice { external_id: format!("{kind}-{}-{print}", outcome.item.item), html }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::ledger::Waiting;
    use crate::domain::name::{ItemId, ProjectId};
    use crate::domain::work_item::{ItemRef, Priority};

    fn outcome(verdict: Verdict<'static>, refused: Option<&str>) -> TaskOutcome<'static> {
        let item = ItemRef { project: ProjectId(uuid::Uuid::nil()), item: ItemId(uuid::Uuid::nil()) };
        let refused = refused.map(str::to_owned);
        TaskOutcome {
            item,
            hinted: true,
            read: None,
            verdict: Some(verdict),
            run: None,
            replaces: None,
            refused,
        }
    }

    fn waiting_because(reason: WaitingBecause) -> Verdict<'static> {
        let registry = crate::domain::registry::sample();
        let item = crate::domain::task::tests::item(&["agent:coder"]);
        let task = Box::new(crate::domain::task::Task::from_item(&item, &registry).unwrap());
        Verdict::Waiting { reason, task, candidates: Vec::new() }
    }

    fn waits(ledger: &Ledger, reason: WaitingBecause) -> Option<Notice> {
        notice(&outcome(waiting_because(reason), None), ledger)
    }

    #[test]
    fn waiting_is_told_once_for_each_time() {
        let line = |seconds| Waiting {
            item: ItemId(uuid::Uuid::nil()),
            project: ProjectId(uuid::Uuid::nil()),
            priority: Priority::None,
            since: Timestamp::from_second(seconds).unwrap(),
            sequence: 1,
        };
        let ledger = |seconds| Ledger { waiting: vec![line(seconds)], ..Ledger::default() };
        let told = waits(&ledger(7), WaitingBecause::OldRegistry).unwrap();
        assert!(told.html.ends_with("<p>Place in the queue: 1</p>"), "{}", told.html);
        let again = waits(&ledger(7), WaitingBecause::Attempts { max: 3 }).unwrap();
        let later = waits(&ledger(8), WaitingBecause::OldRegistry).unwrap();
        assert!(told.external_id == again.external_id && told.external_id != later.external_id);
        assert_eq!(
            waits(&Ledger::default(), WaitingBecause::OldRegistry),
            None,
            "the list has no room for it"
        );
        let run = "ast-1-bbbbb".parse().unwrap();
        assert_eq!(waits(&ledger(7), WaitingBecause::Unpublished { run }), None, "over in a moment");
    }

    #[test]
    fn what_was_refused_is_told_once_for_each_reason_and_escaped() {
        let refused = |why: &str| {
            let verdict = waiting_because(WaitingBecause::OldRegistry);
            notice(&outcome(verdict, Some(why)), &Ledger::default()).unwrap()
        };
        let (first, other) = (refused("the quota is <b>used</b> up"), refused("another"));
        assert!(first.html.contains("&lt;b&gt;used&lt;/b&gt;"), "{}", first.html);
        assert_eq!(first, refused("the quota is <b>used</b> up"));
        assert_ne!(first.external_id, other.external_id);
    }
}

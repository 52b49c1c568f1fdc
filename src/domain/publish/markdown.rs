//! A publish plan as a page for people.

use std::fmt::Write;

use super::super::pass::StateTarget;
use super::super::work_item::StateGroup;
use super::{PublishPlan, ReviewEvent};

impl PublishPlan {
    /// The whole plan as Markdown: what would be opened, said and moved.
    pub fn to_markdown(&self) -> String {
        let mut page = format!("# What run {} has to say\n", self.run);
        if let Some(draft) = &self.pull_request {
            let kind = if draft.draft { "draft pull request" } else { "pull request" };
            let _ = write!(
                page,
                "\n## A {kind} in {}: {} → {}\n\nTitle: {}\n\nLabels: {}\n\n{}",
                draft.repository,
                draft.head,
                draft.base,
                draft.title,
                draft.labels.join(", "),
                draft.body,
            );
        }
        if let Some(review) = &self.review {
            let event = match review.event {
                ReviewEvent::Comment => "COMMENT",
                ReviewEvent::RequestChanges => "REQUEST_CHANGES",
            };
            let _ = write!(
                page,
                "\n## A review ({event}) of pull request {} in {}\n\n{}",
                review.pull_request, review.repository, review.body,
            );
            for remark in &review.comments {
                let place = super::message::markdown_line(&remark.path, 300);
                let _ = write!(page, "\n{place}, line {}:\n\n{}\n", remark.line, remark.body);
            }
        }
        match &self.tracker {
            None => page.push_str("\nPlane hears nothing of this attempt.\n"),
            Some(update) => {
                let _ = write!(
                    page,
                    "\n## A comment on the work item\n\n```html\n{}\n```\n",
                    update.comment_html
                );
                if let Some(change) = &update.state {
                    let _ = write!(page, "\n{}\n", move_sentence(&change.to, &change.only_from));
                }
                if let Some(title) = &update.link_pull_request {
                    let _ = write!(page, "\nA link to the pull request, named “{title}”.\n");
                }
            }
        }
        page
    }
}

fn move_sentence(to: &StateTarget, only_from: &[StateGroup]) -> String {
    let to = match to {
        StateTarget::Named(name) => super::message::markdown_line(name, 100),
        StateTarget::FirstStarted => "the first state of the group started".to_owned(),
    };
    let group = |group: &StateGroup| match group {
        StateGroup::Backlog => "backlog",
        StateGroup::Unstarted => "unstarted",
        StateGroup::Started => "started",
        StateGroup::Completed => "completed",
        StateGroup::Cancelled => "cancelled",
        StateGroup::Triage => "triage",
    };
    let from: Vec<_> = only_from.iter().map(group).collect();
    format!("The item moves to {to}, if it is still in {}.", from.join(", "))
}

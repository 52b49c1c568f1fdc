//! The word to Plane about a run: one comment, which is edited where it exists.

use crate::adapters::plane::{PlaneClient, PlaneError, PlaneFault};
use crate::domain::plane_answer::PlaneRefusal;
use crate::domain::publish::PublishPlan;
use crate::domain::request_budget::Importance;

/// Writes the run's comment. An item that is gone has nobody to be told.
pub(crate) async fn tell(plane: &PlaneClient, plan: &PublishPlan) -> Result<(), PlaneError> {
    let Some(tracker) = &plan.tracker else { return Ok(()) };
    let (item, run, html) = (tracker.item, tracker.external_id.as_str(), &tracker.comment_html);
    match plane.write_comment(tracker.project, item, run, html, Importance::FinalWord).await {
        Err(PlaneError { fault: PlaneFault::Refused(PlaneRefusal::NotFound), .. }) => Ok(()),
        told => told,
    }
}

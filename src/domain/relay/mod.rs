//! The relay's decisions: whether a webhook is genuine, whether it matters, which of several events
//! are one edit, and what of a body GitHub is told.
//!
//! Facts about Plane's webhooks: Plane 1.3.1, recorded in `fixtures/events` with their headers in
//! `fixtures/webhook-headers`.

pub mod coalesce;
pub mod envelope;
pub mod filter;
pub mod signature;

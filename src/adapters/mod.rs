//! The world: stores, Git, processes. Adapters carry out and report; they decide nothing.

pub mod local;
pub mod process_identity;

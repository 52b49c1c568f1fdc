//! Kubernetes: the connection, the calls, and the store whose Jobs are real ones.

pub mod call;
pub mod connection;
pub mod inspection;
pub mod jobs;
mod ledger;
pub mod manifests;
mod overdue;
mod patch;
pub mod probes;
pub mod results;
pub mod runs;
pub mod store;
pub mod watch;

pub use connection::Cluster;
pub use store::KubernetesStore;

#[cfg(test)]
mod tests;

//! The command line of `relay`.

use std::net::SocketAddr;

use clap::Args;
use uuid::Uuid;

use super::{RegistryArgs, StateArgs};
use crate::domain::name::Repository;

/// Options of `relay`.
#[derive(Debug, Clone, Args)]
pub struct RelayArgs {
    /// Address to listen on, such as 0.0.0.0:8080
    #[arg(long, env = "ASTRA_LISTEN", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Repository whose workflow is started [default: GITHUB_REPOSITORY]
    #[arg(long, env = "ASTRA_REPOSITORY", value_name = "OWNER/NAME")]
    pub repository: Option<Repository>,
    /// Plane ids of the members whose API keys this platform uses, with commas between: what they change
    /// starts no workflow, unless it can make a task eligible
    #[arg(long, env = "ASTRA_OWN_ACTOR", value_name = "ID", value_delimiter = ',')]
    pub own_actor: Vec<Uuid>,
    /// Also watch the runs on the cluster of the registry, and raise `astra-result` when one ends: the
    /// workflow that publishes it starts at once
    #[arg(long, env = "ASTRA_WATCH_JOBS")]
    pub watch_jobs: bool,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which state.
    #[command(flatten)]
    pub state: StateArgs,
}

//! The command line of `init`.

use clap::Args;

use super::ExecutorChoice;
use crate::domain::init::ActionCommit;
use crate::domain::name::{AgentName, Branch, Repository};

/// Options of `init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Plane's address [default: PLANE_BASE_URL; only needed with PLANE_API_KEY]
    #[arg(long, env = "ASTRA_PLANE_URL", value_name = "URL")]
    pub plane_url: Option<String>,
    /// The workspace: the part of its URL after the host
    #[arg(long, env = "ASTRA_WORKSPACE", value_name = "SLUG")]
    pub workspace: Option<String>,
    /// The project that tasks come from, by the letters of its keys, such as AST
    #[arg(long, env = "ASTRA_PROJECT", value_name = "LETTERS")]
    pub project: Option<String>,
    /// Where work lands [default: the remote `origin`]
    #[arg(long, env = "ASTRA_REPOSITORY", value_name = "OWNER/NAME")]
    pub repository: Option<Repository>,
    /// The branch that work starts from [default: the one that is checked out]
    #[arg(long, env = "ASTRA_BASE", value_name = "BRANCH")]
    pub base: Option<Branch>,
    /// The agent's name
    #[arg(long, env = "ASTRA_AGENT", value_name = "NAME", default_value = "vega")]
    pub agent: AgentName,
    /// Where runs are carried out; for a cluster, workflows are written, too
    #[arg(long, env = "ASTRA_EXECUTOR", value_name = "KIND", default_value = "local")]
    pub executor: ExecutorChoice,
    /// On a cluster: the image of astra dispatch, by digest (see the Dockerfile)
    #[arg(long, env = "ASTRA_IMAGE", value_name = "IMAGE", required_if_eq("executor", "kubernetes"))]
    pub image: Option<String>,
    /// On a cluster: the image with the agent's program, by digest
    #[arg(long, env = "ASTRA_AGENT_IMAGE", value_name = "IMAGE", required_if_eq("executor", "kubernetes"))]
    pub agent_image: Option<String>,
    /// On a cluster: the commit of astra/dispatch-action that the workflows run [default: the last release]
    #[arg(long, env = "ASTRA_ACTION_COMMIT", value_name = "COMMIT")]
    pub action_commit: Option<ActionCommit>,
    /// Only show what would be written and changed
    #[arg(long, env = "ASTRA_DIFF")]
    pub diff: bool,
    /// Also change files that are there; the difference is shown
    #[arg(long, env = "ASTRA_FORCE")]
    pub force: bool,
    /// Ask nothing, also on a terminal
    #[arg(long, env = "ASTRA_YES")]
    pub yes: bool,
}

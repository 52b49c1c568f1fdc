//! Coders on a real cluster whose pods no node has room for, so that no run ends by itself; the tasks for
//! them in a Plane.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Stdio;

use astra_dispatch::adapters::registry_files;
use serde_json::json;

use crate::cluster::{self, TestCluster};
use crate::plane_fake::{KEY, PlaneFake};
use crate::plane_world::{PROJECT, wanted_world};
use crate::site::Site;

/// The agents, their cluster, and the tasks with an event for each.
pub struct Coders {
    pub site: Site,
    pub cluster: TestCluster,
    pub plane: PlaneFake,
}

/// The work item of a task.
pub fn id(number: u64) -> String {
    uuid::Uuid::from_u128(u128::from(number)).to_string()
}

impl Coders {
    /// So many agents for so many runs each, and the tasks 1, 2, … of Plane.
    pub async fn new(agents: usize, capacity: u32, tasks: u64) -> Self {
        let (site, cluster) = registry(agents, capacity).await;
        let mut world = wanted_world();
        let project = world.projects.get_mut(PROJECT).unwrap();
        let mut sample = project.items[0].clone();
        sample["state"] =
            project.states.iter().find(|state| state["group"] == "unstarted").unwrap()["id"].clone();
        project.items = (1..=tasks)
            .map(|number| {
                let mut item = sample.clone();
                item["id"] = json!(id(number));
                item["sequence_id"] = json!(number);
                item["external_id"] = json!(number.to_string());
                item
            })
            .collect();
        (1..=tasks).for_each(|number| drop(site.event(number, 1, &json!({}))));
        Self { site, cluster, plane: PlaneFake::start(world).await }
    }

    /// A command on the cluster, with the dispatcher's rights and this state directory.
    pub fn command(&self, program: &Path, state: &str, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .current_dir(self.site.path(""))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.site.path(""))
            .env("ASTRA_STATE_DIR", self.site.path(state))
            .env("ASTRA_GIT_BASE_URL", "https://127.0.0.1:1")
            .env("ASTRA_EXECUTOR", "kubernetes")
            .env("ASTRA_NO_GITHUB", "true")
            .env("KUBECONFIG", self.site.path("kubeconfig"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// `dispatch` for the event of one task, with a key for Plane.
    pub fn dispatch(&self, program: &Path, state: &str, number: u64) -> tokio::process::Command {
        let event = format!("event-{number}-1.json");
        let mut command = self.command(program, state, &["dispatch", "--event", &event, "--format", "json"]);
        command.env("PLANE_API_KEY", KEY).env("PLANE_BASE_URL", &self.plane.url);
        command
    }
}

async fn registry(agents: usize, capacity: u32) -> (Site, TestCluster) {
    // Nothing is ever pulled.
    let image = format!("localhost/none@sha256:{}", "0".repeat(64));
    let site = Site::new("true", capacity);
    let suffix = format!("{:08x}", rand::random::<u32>());
    let vega = std::fs::read_to_string(site.path(".astra/agents/vega.yaml")).unwrap();
    for other in ["vega", "sirius"] {
        std::fs::remove_file(site.path(&format!(".astra/agents/{other}.yaml"))).unwrap();
    }
    for number in 0..agents {
        let name = format!("p{suffix}-{number}");
        let own = vega
            .replace("name: vega", &format!("name: {name}"))
            .replace("astra-vega", &format!("astra-{name}"))
            .replace("astra/agents/vega", &format!("astra/agents/{name}"))
            .replace(
                "runtime: {kind",
                &format!("limits: {{cpu: \"1000\"}}\nruntime: {{image: {image:?}, kind"),
            );
        site.write(&format!(".astra/agents/{name}.yaml"), &own);
    }
    let astra = std::fs::read_to_string(site.path(".astra/astra.yaml")).unwrap();
    let system = format!("system_namespace: astra-{suffix}\n  image: {image}");
    let astra =
        astra.replace("system_namespace: astra-system", &system).replace("cpu: \"2\"", "cpu: \"1000\"");
    site.write(".astra/astra.yaml", &astra);
    let registry = registry_files::load(&site.path(".astra")).unwrap();
    let agent = registry.agents.keys().next().unwrap().clone();
    let cluster = TestCluster::of(registry, agent).await;
    site.write("kubeconfig", &cluster::as_dispatcher().to_string());
    (site, cluster)
}

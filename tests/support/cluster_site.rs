//! The real program on a real cluster: a registry with scripted agents of its own, one for each role,
//! the dispatcher's rights and no more, and a Git server that its pods reach.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use astra_dispatch::adapters::registry_files;
use astra_dispatch::domain::job::JobRef;
use serde_json::{Value, json};

use crate::cluster::{self, TestCluster};
use crate::git_server::GitServer;
use crate::site::{Site, text};

/// An agent that is a shell script.
pub struct Worker {
    /// The role that it alone has.
    pub role: &'static str,
    pub script: &'static str,
    /// `limits` of its file, in YAML.
    pub limits: &'static str,
    /// An image instead of the usual one.
    pub image: Option<&'static str>,
}

impl Worker {
    pub fn new(role: &'static str, script: &'static str) -> Self {
        Self { role, script, limits: "memory: 256Mi, cpu: 400m", image: None }
    }
}

/// The program's surroundings.
pub struct ClusterSite {
    pub site: Site,
    pub cluster: TestCluster,
    pub git: GitServer,
    /// In the names of its agents.
    suffix: String,
}

impl ClusterSite {
    /// `settings` changes `astra.yaml`.
    pub async fn new(workers: &[Worker], settings: impl FnOnce(String) -> String) -> Self {
        let git = GitServer::new(cluster::host_address()).await;
        let images = cluster::images(Some(&git.authority()));
        let site = Site::new("true", 1);
        let suffix = format!("{:08x}", rand::random::<u32>());
        for other in ["vega", "sirius"] {
            std::fs::remove_file(site.path(&format!(".astra/agents/{other}.yaml"))).unwrap();
        }
        let mut roles = String::from("roles:\n");
        for worker in workers {
            if worker.role != "coder" {
                roles.push_str(&format!("  {}: {{description: d, examples: [e]}}\n", worker.role));
            }
            let name = format!("t{suffix}-{}", worker.role);
            let own = format!(
                "name: {name}\nrole: {role}\ntrait: fast\nstatus: active\ndescription: d\nskills: [kotlin]\n\
                 max_concurrent_tasks: 1\nrepositories: [\"astra/*\"]\naccounts: {{github: astra-{role}}}\n\
                 runtime: {{image: {image:?}, kind: command, command: {command}}}\n\
                 prompt: {{personality: prompts/vega.md, guardrails: [], context: []}}\n\
                 credentials: {{vault: astra/agents/{name}, env: []}}\nlimits: {{{limits}}}\n",
                role = worker.role,
                image = worker.image.unwrap_or(&images.agent),
                command = serde_json::to_string(&["/bin/sh", "-c", worker.script]).unwrap(),
                limits = worker.limits,
            );
            site.write(&format!(".astra/agents/{name}.yaml"), &own);
        }
        let astra = std::fs::read_to_string(site.path(".astra/astra.yaml")).unwrap();
        let astra = astra.replace("roles:\n", &roles).replace(
            "system_namespace: astra-system",
            &format!("system_namespace: astra-{suffix}\n  image: {}", images.own),
        );
        site.write(".astra/astra.yaml", &settings(astra));
        let registry = registry_files::load(&site.path(".astra")).unwrap();
        let agent = registry.agents.keys().next().unwrap().clone();
        let cluster = TestCluster::of(registry, agent).await;
        site.write("kubeconfig", &cluster::as_dispatcher().to_string());
        Self { site, cluster, git, suffix }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.site.command(arguments);
        command.env("KUBECONFIG", self.site.path("kubeconfig"));
        command.env("ASTRA_NO_GITHUB", "true");
        command.env("GIT_SSL_CAINFO", self.git.authority());
        command.env("ASTRA_EXECUTOR", "kubernetes").env("ASTRA_GIT_BASE_URL", self.git.base_url());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn dispatch(&self, event: &str) -> Value {
        self.json(&["dispatch", "--event", event, "--format", "json"])
    }

    /// Dispatches a task for this role, with an event that is newer than any run. The whole report.
    pub fn ask(&self, role: &str, number: u64) -> Value {
        let labels =
            json!([{"id": uuid::Uuid::from_u128(1), "name": format!("agent:{role}"), "color": "#000"}]);
        let now = jiff::Timestamp::now() + Duration::from_secs(2);
        self.dispatch(&self.site.event(number, 0, &json!({"labels": labels, "updated_at": now.to_string()})))
    }

    pub fn status(&self) -> Value {
        self.json(&["status", "--format", "json"])
    }

    /// A run as `status` shows it, once something holds of it.
    pub async fn until(&self, run: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let look = || {
            let status = self.status();
            status["runs"].as_array().unwrap().iter().find(|one| one["run"] == run).cloned()
        };
        cluster::eventually(&format!("{run}: {what}"), || async { look().filter(|one| holds(one)) }).await
    }

    /// Waits until this run has ended.
    pub async fn ended(&self, run: &str) -> Value {
        self.until(run, "has ended", |one| one["ended"].is_string()).await
    }

    /// Publishes until this run is published; what is told then.
    pub async fn published(&self, run: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            self.json(&["publish", "--format", "json"]);
            let plan = self.site.path(&format!("state/runs/{run}/publish/plan.json"));
            let is_over = self.status()["runs"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["run"] == run && one["state"] == "published");
            if is_over {
                return serde_json::from_str(&std::fs::read_to_string(plan).unwrap()).unwrap();
            }
            assert!(Instant::now() < end, "after 90 seconds: {:#}", self.status());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// The tasks that count against the agent of this role.
    pub fn busy(&self, role: &str) -> u64 {
        let agent = format!("t{}-{role}", self.suffix);
        let status = self.status();
        let row = status["agents"].as_array().unwrap().iter().find(|one| one["agent"] == agent.as_str());
        row.unwrap()["running"].as_u64().unwrap()
    }

    pub fn namespace(&self, role: &str) -> String {
        format!("agent-t{}-{role}", self.suffix)
    }

    pub fn job(&self, role: &str, run: &str) -> JobRef {
        JobRef { namespace: self.namespace(role), run: run.parse().unwrap(), uid: String::new() }
    }
}

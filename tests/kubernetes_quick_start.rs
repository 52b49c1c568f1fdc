//! `docs/quick-start.md` on a cluster, first without and then with a relay: its commands, with the real agent
//! CLI, age and kubectl, and stand-ins for Plane, GitHub and the model. It has the names of the page
//! (`agent-vega`, `astra-system`), so it needs a cluster on which no one else uses them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/agent_run.rs"]
mod agent_run;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/github_fake.rs"]
mod github_fake;
#[path = "support/loop_world.rs"]
mod loop_world;
#[path = "support/model_api.rs"]
mod model_api;
#[path = "support/plane_fake.rs"]
mod plane_fake;
#[path = "support/plane_world.rs"]
mod plane_world;
#[path = "support/quick_start.rs"]
mod quick_start;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::path::Path;
use std::process::Command;

use agent_run::agent_cli;
use git_server::{GitServer, git};
use github_fake::{GitHubFake, TOKEN};
use model_api::{Answer, ModelApi};
use plane_fake::{KEY, PlaneFake};
use plane_world::{ITEM, PROJECT};
use relay::Relay;
use serde_json::{Value, json};

/// Where the page's commands are typed in, and whom they talk to.
struct World {
    home: tempfile::TempDir,
    git: GitServer,
    github: GitHubFake,
    plane: PlaneFake,
    model: ModelApi,
    variables: Vec<(&'static str, String)>,
}

impl World {
    fn new(runtime: &tokio::runtime::Runtime) -> Self {
        let address = cluster::host_address();
        let git = runtime.block_on(GitServer::new(address));
        let github = runtime.block_on(GitHubFake::start(git.repositories()));
        let plane = runtime.block_on(PlaneFake::start(loop_world::world()));
        let work = json!({"command": "echo 'Test it with make test.' >> README.md", "description": "x"});
        let run = [Answer::Tool("Bash", work), Answer::Text("The README says how to test.")];
        let both = run.clone().into_iter().chain(run);
        let model = ModelApi::start_at(std::net::Ipv4Addr::UNSPECIFIED.into(), both);
        let may = json!({"admin": false, "push": true, "pull": true});
        let there = json!({"full_name": "acme/shop", "private": true, "permissions": may});
        github.world(|world| world.there.insert("/repos/acme/shop".into(), there));
        let mut world =
            Self { home: tempfile::tempdir().unwrap(), git, github, plane, model, variables: Vec::new() };
        world.variables = world.variables();
        world.make_repository();
        world
    }

    /// What people fill in, and where the stand-ins are.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let authority = self.git.authority();
        let own = cluster::images(Some(&authority)).own;
        // Cargo's program is not static: as the agent's step, too, it needs the libraries of its image.
        let program = format!("{}:/usr/local/bin/astra-dispatch", env!("CARGO_BIN_EXE_astra-dispatch"));
        let claude = format!("{}/claude:/usr/bin/claude", agent_cli());
        let agent = cluster::image(
            &[],
            &[
                &claude,
                &program,
                "/usr/bin/bash",
                "/usr/bin/git",
                "/usr/lib/git-core",
                "/usr/bin/busybox:/bin/busybox",
            ],
        );
        [
            ("PLANE_API_KEY", KEY),
            ("ASTRA_PLANE_URL", &self.plane.url),
            ("ASTRA_WORKSPACE", "astra"),
            ("GITHUB_TOKEN", TOKEN),
            ("ANTHROPIC_API_KEY", "sk-ant-quick-start"),
            ("ASTRA_IMAGE", &own),
            ("ASTRA_AGENT_IMAGE", &agent),
            ("ASTRA_ACTION_COMMIT", "0123456789012345678901234567890123456789"),
            ("ASTRA_WEBHOOK_SECRET", relay::SECRET),
            ("KUBECONFIG", &std::env::var("ASTRA_TEST_KUBECONFIG").unwrap()),
            // Of this test only: GitHub is not where it is for people.
            ("ASTRA_GIT_BASE_URL", &self.git.base_url()),
            ("GIT_SSL_CAINFO", authority.to_str().unwrap()),
            ("GITHUB_API_URL", &format!("{}/api/v3", self.github.url)),
            ("GIT_AUTHOR_NAME", "Ada"),
            ("GIT_AUTHOR_EMAIL", "ada@example.com"),
            ("GIT_COMMITTER_NAME", "Ada"),
            ("GIT_COMMITTER_EMAIL", "ada@example.com"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
    }

    /// A person's clone, whose origin is on GitHub.
    fn make_repository(&self) {
        let served = self.git.repositories();
        std::fs::create_dir(served.join("acme")).unwrap();
        std::fs::rename(served.join("astra/api.git"), served.join("acme/shop.git")).unwrap();
        let bare = served.join("acme/shop.git").display().to_string();
        git(self.home.path(), &["clone", "--quiet", &bare, "shop"]);
        let shop = self.home.path().join("shop");
        git(&shop, &["remote", "set-url", "origin", "https://github.com/acme/shop.git"]);
        git(&shop, &["config", &format!("url.{bare}.pushInsteadOf"), "https://github.com/acme/shop.git"]);
    }

    fn shell(&self, commands: &str) -> Command {
        let kubeconfig = std::env::var("ASTRA_TEST_KUBECONFIG").unwrap();
        let programs = Path::new(&kubeconfig).with_file_name("bin").display().to_string();
        let variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        quick_start::shell(commands, self.home.path(), &programs, &variables)
    }

    fn type_in(&self, commands: &str) -> String {
        quick_start::finish(self.shell(commands))
    }

    fn is_published(&self, shown: &str) {
        // Only a workflow knows the repository with the run log.
        let faults = loop_world::faults(&self.plane, &self.github, ITEM);
        assert_eq!(faults, ["it is in the run log 0 times"], "{shown}");
        self.github.world(|world| {
            let head = world.pulls.last().unwrap()["head"]["ref"].as_str().unwrap().to_owned();
            let shop = self.git.repositories().join("acme/shop.git");
            assert!(git(&shop, &["show", &format!("{head}:README.md")]).contains("make test"), "{head}");
        });
    }

    /// The item is there as on its first day, and somebody asks for it again.
    fn begin_again(&self) {
        self.github.world(|world| world.pulls.clear());
        self.plane.world(|world| {
            world.projects = loop_world::world().projects;
            let item = &mut world.projects.get_mut(PROJECT).unwrap().items[0];
            item["updated_at"] = json!(jiff::Timestamp::now().to_string());
        });
    }
}

#[test]
#[ignore = "needs a cluster of its own, and the Claude Code CLI"]
fn on_a_cluster() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = World::new(&runtime);
    // The model is at another address for this machine than for pods.
    let commands = quick_start::commands("GitHub and any cluster");
    let (set_up, rest) = commands.split_once("age-keygen").unwrap();
    let port = world.model.url.rsplit_once(':').unwrap().1.to_owned();
    let shown = world.type_in(&format!("export ANTHROPIC_BASE_URL=http://127.0.0.1:{port}\n{set_up}"));
    assert!(shown.contains(".github/workflows/sweep.yml\n"), "{shown}");
    let address = cluster::host_address();
    let shown = world
        .type_in(&format!("export ANTHROPIC_BASE_URL=http://{address}:{port}; cd shop\nage-keygen{rest}"));
    for words in ["namespace/agent-vega created", " 0 failed"] {
        assert!(shown.contains(words), "{words:?}: {shown}");
    }
    world.is_published(&shown);

    world.begin_again();
    let commands = quick_start::commands("With a relay");
    // In place of the shell, so that it is the relay that is ended; at a port that nobody has.
    let commands = commands
        .replace("astra-dispatch relay", "exec astra-dispatch relay")
        .replace("0.0.0.0:8080", "127.0.0.1:0");
    let relay = Relay::of(world.shell(&commands));
    let (headers, body) = relay::recorded("10-issue-created-label-agent-coder");
    assert_eq!(relay::post(&relay, &headers, &body), Some(200));
    let raised = |number: usize| {
        let look = async || world.github.world(|world| world.raised.get(number).cloned());
        let raised: Value = runtime.block_on(cluster::eventually("an event is raised", look));
        json!({"action": raised["event_type"], "client_payload": raised["client_payload"]}).to_string()
    };
    std::fs::write(world.home.path().join("event.json"), raised(0)).unwrap();
    // What the workflows run, each on a fresh machine.
    let dispatch = "astra-dispatch dispatch --executor kubernetes --state-dir ../runner-1 --event ../event.json --format json";
    let shown = world.type_in(&format!("cd shop; export ASTRA_VAULT_IDENTITY=~/.astra-key; {dispatch}"));
    assert!(shown.contains("\"outcome\": \"dispatched\""), "{shown}");
    assert!(raised(1).contains("astra-result"));
    let shown =
        world.type_in("cd shop; export ASTRA_VAULT_IDENTITY=~/.astra-key; astra-dispatch publish --executor kubernetes --state-dir ../runner-2");
    world.is_published(&shown);
    world.type_in("kubectl delete --wait=false namespace agent-vega astra-system");
    // It holds for every agent of the cluster, and what others test is their own.
    world.type_in(
        "kubectl delete validatingadmissionpolicy,validatingadmissionpolicybinding astra-system-jobs",
    );
}

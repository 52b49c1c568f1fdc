//! `agents doctor --github` against a stand-in for GitHub whose requests are held to GitHub's own
//! description of its API.

#![allow(clippy::unwrap_used, reason = "a test")]

use base64::Engine;
use serde_json::{Value, json};

#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/github_fake.rs"]
mod github_fake;
#[path = "support/site.rs"]
mod site;

use github_fake::{Fault, GitHubFake, TOKEN};
use site::{Site, text};

const KEY: &str = include_str!("../fixtures/github-app/private-key.pem");

/// A registry whose one project has the repository `astra/api`, and GitHub.
struct Forge {
    site: Site,
    github: GitHubFake,
}

impl Forge {
    async fn new() -> Self {
        let site = Site::new("true", 1);
        let github = GitHubFake::start(site.path("git")).await;
        let forge = Self { site, github };
        forge.grant(json!({"contents": "write", "metadata": "read", "pull_requests": "write"}), "selected");
        forge.there(
            "/installation/repositories",
            json!({"total_count": 1, "repositories": [
            {"full_name": "astra/api"}]}),
        );
        forge.there("/repos/astra/api/branches/main", json!({"name": "main", "protected": true}));
        // Everything but astra/** is for people, who bypass it; another ruleset, which we may bypass.
        let people = json!([{"type": "creation", "ruleset_id": 1}, {"type": "update", "ruleset_id": 1}]);
        forge.there("/repos/astra/api/rules/branches/main", people.clone());
        forge.there("/repos/astra/api/rules/branches/doctor%2Fastra", people);
        forge.there(
            "/repos/astra/api/rules/branches/astra%2Fdoctor",
            json!([
            {"type": "creation", "ruleset_id": 2}]),
        );
        forge.there("/repos/astra/api/rulesets/1", json!({"id": 1, "current_user_can_bypass": "never"}));
        forge.there("/repos/astra/api/rulesets/2", json!({"id": 2, "current_user_can_bypass": "always"}));
        forge
    }

    fn there(&self, path: &str, answer: Value) {
        self.github.world(|world| world.there.insert(path.to_owned(), answer));
    }

    fn grant(&self, permissions: Value, selection: &str) {
        self.github.world(|world| world.granted = permissions.clone());
        self.there(
            "/repos/astra/api/installation",
            json!({"id": 7, "account": {"login": "astra"},
            "repository_selection": selection, "suspended_at": null, "permissions": permissions,
            "html_url": "https://github.com/organizations/astra/settings/installations/7"}),
        );
    }

    fn workflow(&self, content: &str) {
        let listed = json!([{"name": "ci.yml", "type": "file"}, {"name": "README.md", "type": "file"}]);
        self.there("/repos/astra/api/contents/.github/workflows", listed);
        let mut encoded = base64::engine::general_purpose::STANDARD.encode(content);
        encoded.insert(10, '\n');
        let file = json!({"type": "file", "encoding": "base64", "content": encoded});
        self.there("/repos/astra/api/contents/.github/workflows/ci.yml", file);
    }

    /// Exit code, and what is not as it ought to be: `state: check: faults`.
    async fn doctor(&self, identity: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
        let arguments = ["agents", "doctor", "--github", "--format", "json"];
        let mut command = tokio::process::Command::from(self.site.command(&arguments));
        command.env("GITHUB_API_URL", format!("{}/api/v3", self.github.url)).envs(identity.iter().copied());
        let output = command.output().await.unwrap();
        let Ok(report) = serde_json::from_slice::<Value>(&output.stdout) else {
            return (output.status.code(), vec![text(&output.stderr)]);
        };
        let findings = report["findings"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let said = findings.filter(|finding| finding["state"] != "passed").map(|finding| {
            let faults: Vec<String> = finding["faults"].as_array().unwrap().iter().map(text).collect();
            format!("{}: {}: {}", text(&finding["state"]), text(&finding["check"]), faults.join("; "))
        });
        (output.status.code(), said.collect())
    }

    async fn as_app(&self) -> (Option<i32>, Vec<String>) {
        self.doctor(&[("ASTRA_APP_ID", "1234"), ("ASTRA_APP_PRIVATE_KEY", KEY)]).await
    }
}

#[tokio::test]
async fn an_app_as_it_ought_to_be() {
    let forge = Forge::new().await;
    assert_eq!(forge.as_app().await, (Some(0), vec![]));
    // Without workflows there is nothing to warn of; one that has none of our branches is no danger.
    forge.workflow("on: {push: {branches: [main]}}\nenv: {K: '${{ secrets.KEY }}'}\n");
    assert_eq!(forge.as_app().await, (Some(0), vec![]));
}

#[tokio::test]
async fn an_app_that_may_more_is_warned_of() {
    let forge = Forge::new().await;
    forge.grant(
        json!({"contents": "write", "metadata": "read", "pull_requests": "write", "workflows": "write"}),
        "selected",
    );
    let reached =
        json!({"total_count": 2, "repositories": [{"full_name": "astra/api"}, {"full_name": "astra/pay"}]});
    forge.there("/installation/repositories", reached);
    forge.there("/repos/astra/api/rules/branches/main", json!([]));
    forge.there("/repos/astra/api/branches/main", json!({"name": "main", "protected": false}));
    forge.there(
        "/repos/astra/api/rules/branches/doctor%2Fastra",
        json!([{"type": "update", "ruleset_id": 2}]),
    );
    forge.workflow("on: [push, pull_request]\nenv: {K: '${{ secrets.KEY }}'}\n");
    let expected = [
        "warned: astra/api: a ruleset limits the App to `astra/**`: no ruleset restricts the creation of other \
         branches; no ruleset restricts the update of other branches",
        "warned: astra/api: `main` takes no push without a pull request: nothing keeps the App from pushing to it",
        "warned: astra/api: `astra/**` starts no workflow that has secrets: `.github/workflows/ci.yml` starts on \
         push, pull_request and has the secrets KEY",
        "warned: astra: the App may do no more than runs need: it has `workflows: write`, which runs do not need",
        "warned: astra: the App reaches the registry's repositories and no others: it also reaches astra/pay",
    ];
    assert_eq!(forge.as_app().await, (Some(0), expected.map(str::to_owned).to_vec()));
    forge.grant(json!({"contents": "write", "pull_requests": "write"}), "all");
    let (_, said) = forge.as_app().await;
    assert!(
        said.last().unwrap().ends_with("it reaches every repository of astra, future ones too"),
        "{said:?}"
    );
}

#[tokio::test]
async fn what_runs_would_fail_at_fails() {
    let forge = Forge::new().await;
    forge.grant(json!({"contents": "write", "metadata": "read"}), "selected");
    forge.there("/repos/astra/api/rulesets/2", json!({"id": 2, "current_user_can_bypass": "never"}));
    forge.github.world(|world| world.there.remove("/repos/astra/api/branches/main"));
    let expected = [
        "failed: astra/api: the App is installed and may do what runs need: it lacks `pull_requests: write`",
        "failed: astra/api: runs may push `astra/**`: a ruleset forbids to create `astra/**`",
        "failed: astra/api: `main` is there: work of a project starts from it, and there is no such branch",
    ];
    assert_eq!(forge.as_app().await, (Some(1), expected.map(str::to_owned).to_vec()));

    forge.github.world(|world| world.there.remove("/repos/astra/api/installation"));
    let (code, said) = forge.as_app().await;
    assert_eq!((code, said.len()), (Some(1), 1), "{said:?}");
    assert!(
        said[0].starts_with("failed: astra/api: it can be reached: GitHub has no such repository"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_given_token() {
    let forge = Forge::new().await;
    let permissions = json!({"admin": true, "push": true, "pull": true});
    forge.there("/repos/astra/api", json!({"full_name": "astra/api", "permissions": permissions}));
    let expected = "warned: astra/api: the token may do no more than runs need: it is an administrator's: it may \
                    change the repository's rules";
    assert_eq!(forge.doctor(&[("GITHUB_TOKEN", TOKEN)]).await, (Some(0), vec![expected.to_owned()]));
}

#[tokio::test]
async fn a_workflow_is_told_to_hide_the_tokens_that_are_minted() {
    let forge = Forge::new().await;
    let mut command = tokio::process::Command::from(forge.site.command(&["agents", "doctor", "--github"]));
    command.env("GITHUB_API_URL", format!("{}/api/v3", forge.github.url)).env("GITHUB_ACTIONS", "true");
    let output =
        command.envs([("ASTRA_APP_ID", "1234"), ("ASTRA_APP_PRIVATE_KEY", KEY)]).output().await.unwrap();
    let said = text(&output.stderr);
    assert!(said.lines().any(|line| line == format!("::add-mask::{TOKEN}")), "{said}");
    let rest: Vec<&str> = said.lines().filter(|line| !line.starts_with("::add-mask::")).collect();
    assert!(!rest.join("\n").contains(TOKEN) && !text(&output.stdout).contains(TOKEN), "{said}");
}

#[tokio::test]
async fn no_way_in_and_no_answer() {
    let forge = Forge::new().await;
    let (code, said) = forge.doctor(&[]).await;
    assert_eq!(code, Some(2));
    assert!(said[0].contains("there is no way to sign in to GitHub"), "{said:?}");
    let (code, said) = forge.doctor(&[("GITHUB_TOKEN", "ghs_wrong")]).await;
    assert_eq!(code, Some(1));
    assert_eq!(said, ["failed: astra/api: it can be reached: GitHub does not know the token (401)"]);
    forge.github.world(|world| world.faults = vec![Fault::Answer(502)]);
    let (code, said) = forge.as_app().await;
    assert_eq!(
        (code, said),
        (Some(75), vec!["unanswered: astra/api: it can be reached: GitHub answers 502".to_owned()])
    );
}

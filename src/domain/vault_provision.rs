//! What a vault server needs before agents' credentials can be read from it: a policy and a role for
//! each agent, as commands of the program `vault` that a person can read and run, twice if they like.

use serde_json::json;

use super::registry::{Agent, Registry};

/// How long a token lives: one read and its revocation take seconds.
const TOKEN_TTL: &str = "5m";

/// Which workflow may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    /// The audience of its token: the value of `VAULT_ADDR`.
    pub audience: String,
    /// The number of its repository; unlike the name, nobody else can get it.
    pub repository_id: u64,
    /// The Git reference that it runs on.
    pub reference: String,
    /// `<owner>/<name>/.github/workflows/<file>@<reference>`.
    pub workflow_ref: String,
    /// The GitHub environment of its job.
    pub environment: Option<String>,
}

/// The commands for these agents. The login itself is set up once, in the comment at the top.
pub fn commands<'r>(
    registry: &'r Registry,
    agents: impl Iterator<Item = &'r Agent>,
    workflow: &Workflow,
) -> String {
    let mut text = format!(
        "# The vault server's part, for `sh` and the program `vault`. Once before it:\n\
         #   vault secrets enable -path=<first part of the path> -version=2 kv\n\
         #   vault auth enable jwt\n\
         #   vault write auth/jwt/config oidc_discovery_url=https://token.actions.githubusercontent.com \\\n\
         #     bound_issuer=https://token.actions.githubusercontent.com\n\
         # Workspace: {}\n\
         set -e\n",
        registry.plane.workspace
    );
    for agent in agents {
        text.push_str(&one(agent, workflow));
    }
    text
}

fn one(agent: &Agent, workflow: &Workflow) -> String {
    let name = &agent.name;
    let (mount, rest) = agent.credentials.vault.split_once('/').unwrap_or((&agent.credentials.vault, ""));
    let mut claims = json!({
        "repository_id": workflow.repository_id.to_string(),
        "ref": workflow.reference,
        "job_workflow_ref": workflow.workflow_ref,
    });
    if let Some(environment) = &workflow.environment {
        claims["environment"] = json!(environment);
    }
    let role = json!({
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": [workflow.audience],
        "bound_claims_type": "string",
        "bound_claims": claims,
        "token_policies": [format!("astra-agent-{name}")],
        "token_ttl": TOKEN_TTL,
        "token_max_ttl": TOKEN_TTL,
    });
    format!(
        "\n# {name}\n\
         vault policy write astra-agent-{name} - <<'EOF'\n\
         path \"{mount}/data/{rest}\" {{ capabilities = [\"read\"] }}\n\
         EOF\n\
         vault write auth/jwt/role/astra-{name} - <<'EOF'\n{role:#}\nEOF\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_gets_a_policy_for_its_path_and_a_role_for_the_workflow() {
        let registry = crate::domain::registry::sample();
        let workflow = Workflow {
            audience: "https://vault.example.com".into(),
            repository_id: 123_456,
            reference: "refs/heads/main".into(),
            workflow_ref: "octo/astra/.github/workflows/run.yml@refs/heads/main".into(),
            environment: Some("agents".into()),
        };
        let vega = registry.agents.values().filter(|agent| agent.name.as_str() == "vega");
        insta::assert_snapshot!(commands(&registry, vega, &workflow));
    }
}

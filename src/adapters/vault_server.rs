//! HashiCorp Vault or OpenBao, secrets engine KV version 2: one login, one read, one revocation.
//! Login happens where dispatching happens, never where an agent runs.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::token_http::{CallFault, address, client, send};
use super::workflow_identity::{IdentityFault, WorkflowIdentity};
use crate::domain::registry::Agent;
use crate::domain::vault::keys_of;
use crate::domain::vault_answer::{self, VaultRefusal};
use crate::environment;
use crate::error::UserError;
use crate::output::workflow;

/// The variable with the server's address; setting it chooses the server instead of `vault.age`.
pub const ADDRESS_VARIABLE: &str = "VAULT_ADDR";
/// The variable with the path of a PEM file of more certificate authorities.
pub const CA_VARIABLE: &str = "VAULT_CACERT";

/// A server, and the way to log in to it.
pub struct VaultServer {
    http: reqwest::Client,
    /// Without a slash at its end. Also the audience of the workflow's token, so it stays as it was given.
    address: String,
    login: Login,
}

enum Login {
    /// Somebody's token; it is not ours to revoke.
    Token(SecretString),
    /// The workflow's own identity, for a token of a few minutes.
    Workflow(WorkflowIdentity),
}

/// Why an agent's credentials could not be read; never holds one.
#[derive(Debug, thiserror::Error)]
#[error("{fault} (agent {agent}, path {path})")]
pub struct VaultServerError {
    /// Whose they are.
    pub agent: String,
    /// Where they are: `credentials.vault` of the agent's file.
    pub path: String,
    /// What is wrong.
    pub fault: VaultServerFault,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum VaultServerFault {
    /// It answered, and refused.
    #[error(transparent)]
    Refused(#[from] VaultRefusal),
    /// It did not answer.
    #[error(transparent)]
    Call(#[from] CallFault),
    /// The workflow got no token to log in with.
    #[error(transparent)]
    Identity(#[from] IdentityFault),
}

impl VaultServerError {
    /// For the person who can mend it.
    pub fn for_people(&self) -> UserError {
        let cause = self.to_string();
        let (is_passing, remedy) = match &self.fault {
            VaultServerFault::Refused(refusal) => (refusal.is_passing(), refusal.remedy()),
            VaultServerFault::Call(fault @ CallFault::TimedOut { .. }) => {
                (fault.is_passing(), "try again later; nothing was lost")
            }
            VaultServerFault::Call(fault) => {
                (fault.is_passing(), "check VAULT_ADDR, VAULT_CACERT and the network; nothing was lost")
            }
            VaultServerFault::Identity(fault) => (fault.is_passing(), fault.remedy()),
        };
        if is_passing { UserError::retry(cause, remedy) } else { UserError::failed(cause, remedy) }
    }
}

const SERVER: &str = "the vault server";

impl VaultServer {
    /// The server of `VAULT_ADDR`, which is set.
    pub fn from_environment() -> anyhow::Result<Self> {
        let given = environment::text(ADDRESS_VARIABLE).unwrap_or_default();
        address(&given).map_err(|error| error.at(ADDRESS_VARIABLE))?;
        let login = match environment::text("VAULT_TOKEN") {
            Some(token) => Login::Token(token.into()),
            None => Login::Workflow(WorkflowIdentity::from_environment()?.ok_or_else(|| {
                UserError::usage(
                    "there is nothing to log in to the vault server with",
                    "give the job `permissions: {id-token: write}`, or set VAULT_TOKEN",
                )
                .at(ADDRESS_VARIABLE)
            })?),
        };
        let http = client(environment::text(CA_VARIABLE).as_deref().map(Path::new))?;
        Ok(Self { http, address: given.trim_end_matches('/').to_owned(), login })
    }

    /// The keys that the agent's file lists, and its token for Git, as far as they are there.
    pub async fn credentials_of(
        &self,
        agent: &Agent,
    ) -> Result<BTreeMap<String, SecretString>, VaultServerError> {
        let path = &agent.credentials.vault;
        let keys: Vec<&str> = keys_of(agent).collect();
        self.read(agent.name.as_str(), path, &keys).await.map_err(|fault| VaultServerError {
            agent: agent.name.to_string(),
            path: path.clone(),
            fault,
        })
    }

    async fn read(
        &self,
        agent: &str,
        path: &str,
        keys: &[&str],
    ) -> Result<BTreeMap<String, SecretString>, VaultServerFault> {
        let (token, is_ours) = match &self.login {
            Login::Token(token) => (token.clone(), false),
            Login::Workflow(identity) => (self.log_in(agent, identity).await?, true),
        };
        let (mount, rest) = path.split_once('/').unwrap_or((path, ""));
        let url = self.url(&format!("{mount}/data/{rest}"));
        let read = send(SERVER, authorised(self.http.get(url), &token)).await;
        if is_ours {
            let request = authorised(self.http.post(self.url("auth/token/revoke-self")), &token);
            if let Err(fault) = send(SERVER, request).await {
                // It ends by itself within minutes; the credentials are what was asked for.
                log::warn!("the token of agent {agent} was not revoked: {fault}");
            }
        }
        let (status, body) = read?;
        Ok(vault_answer::secrets(status, &body, keys)?)
    }

    async fn log_in(
        &self,
        agent: &str,
        identity: &WorkflowIdentity,
    ) -> Result<SecretString, VaultServerFault> {
        let jwt = identity.token_by(&self.http, &self.address).await?;
        workflow::hide([jwt.expose_secret()]);
        let login = json!({"role": format!("astra-{agent}"), "jwt": jwt.expose_secret()});
        let (status, body) = send(SERVER, self.http.post(self.url("auth/jwt/login")).json(&login)).await?;
        let token = vault_answer::login(status, &body)?;
        workflow::hide([token.expose_secret()]);
        Ok(token)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.address)
    }
}

fn authorised(request: RequestBuilder, token: &SecretString) -> RequestBuilder {
    request.header("X-Vault-Token", token.expose_secret())
}

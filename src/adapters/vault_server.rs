//! HashiCorp Vault or OpenBao, secrets engine KV version 2: one login, one read, one revocation.
//! Login happens where dispatching happens, never where an agent runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::{RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::tls;
use crate::domain::registry::Agent;
use crate::domain::vault::GIT_TOKEN;
use crate::domain::vault_answer::{self, VaultRefusal};
use crate::error::UserError;

/// The variable with the server's address; setting it chooses the server instead of `vault.age`.
pub const ADDRESS_VARIABLE: &str = "VAULT_ADDR";
/// The variable with the path of a PEM file of more certificate authorities.
pub const CA_VARIABLE: &str = "VAULT_CACERT";
/// How long one request may take, from connecting to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A secret of 64 values of 64 KiB, and more than Vault takes by itself.
const LONGEST_ANSWER: usize = 4 << 20;

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
    Workflow { url: Url, token: SecretString },
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
    /// No answer: name, connection, TLS.
    #[error("{what} cannot be reached: {cause}")]
    Unreachable {
        /// The server, or where the workflow's token comes from.
        what: &'static str,
        /// The last of the causes, without the address.
        cause: String,
    },
    /// No whole answer in time.
    #[error("{what} did not answer within {} s", REQUEST_TIMEOUT.as_secs())]
    TimedOut {
        /// The server, or where the workflow's token comes from.
        what: &'static str,
    },
    /// The workflow gave no token.
    #[error("the workflow got no identity token (status {0})")]
    NoIdentity(u16),
}

impl VaultServerError {
    /// For the person who can mend it.
    pub fn for_people(&self) -> UserError {
        let cause = self.to_string();
        let (is_passing, remedy) = match &self.fault {
            VaultServerFault::Refused(refusal) => (refusal.is_passing(), refusal.remedy()),
            VaultServerFault::Unreachable { .. } => {
                (true, "check VAULT_ADDR, VAULT_CACERT and the network; nothing was lost")
            }
            VaultServerFault::TimedOut { .. } => (true, "try again later; nothing was lost"),
            VaultServerFault::NoIdentity(_) => (false, "give the job `permissions: {id-token: write}`"),
        };
        if is_passing { UserError::retry(cause, remedy) } else { UserError::failed(cause, remedy) }
    }
}

const SERVER: &str = "the vault server";
const ISSUER: &str = "the issuer of the workflow's identity";

impl VaultServer {
    /// The server of `VAULT_ADDR`; `None` where that is not set.
    pub fn from_environment() -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let Some(address) = variable(ADDRESS_VARIABLE) else { return Ok(None) };
        base(&address).map_err(|error| error.at(ADDRESS_VARIABLE))?;
        let address = address.trim_end_matches('/').to_owned();
        let login = match (
            variable("VAULT_TOKEN"),
            variable("ACTIONS_ID_TOKEN_REQUEST_URL"),
            variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
        ) {
            (Some(token), _, _) => Login::Token(token.into()),
            (None, Some(url), Some(token)) => {
                let url = base(&url).map_err(|error| error.at("ACTIONS_ID_TOKEN_REQUEST_URL"))?;
                Login::Workflow { url, token: token.into() }
            }
            _ => {
                return Err(UserError::usage(
                    "there is nothing to log in to the vault server with",
                    "give the job `permissions: {id-token: write}`, or set VAULT_TOKEN",
                )
                .at(ADDRESS_VARIABLE)
                .into());
            }
        };
        let ca_file = variable(CA_VARIABLE);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(ca_file.as_deref().map(Path::new))?)
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(Duration::from_secs(5))
            // A token is for this server and no other.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("astra-dispatch/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Some(Self { http, address, login }))
    }

    /// The keys that the agent's file lists, and its token for Git, as far as they are there.
    pub async fn credentials_of(
        &self,
        agent: &Agent,
    ) -> Result<BTreeMap<String, SecretString>, VaultServerError> {
        let path = &agent.credentials.vault;
        let keys: Vec<&str> = agent.credentials.env.iter().map(String::as_str).chain([GIT_TOKEN]).collect();
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
            Login::Workflow { url, token } => (self.log_in(agent, url, token).await?, true),
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
        url: &Url,
        token: &SecretString,
    ) -> Result<SecretString, VaultServerFault> {
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("audience", &self.address);
        let request = self.http.get(url).bearer_auth(token.expose_secret());
        let (status, body) = send(ISSUER, request).await?;
        let Some(jwt) = body["value"].as_str().filter(|_| status == 200) else {
            return Err(VaultServerFault::NoIdentity(status));
        };
        let login = json!({"role": format!("astra-{agent}"), "jwt": jwt});
        let (status, body) = send(SERVER, self.http.post(self.url("auth/jwt/login")).json(&login)).await?;
        Ok(vault_answer::login(status, &body)?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.address)
    }
}

/// An address that a token may be sent to: https, or this machine.
fn base(text: &str) -> Result<Url, UserError> {
    let wrong = |cause: &str| UserError::usage(cause, "give an address like https://vault.example.com:8200");
    let url = Url::parse(text).map_err(|_| wrong("this is no address"))?;
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        _ => Err(wrong("tokens are sent by https only")),
    }
}

fn authorised(request: RequestBuilder, token: &SecretString) -> RequestBuilder {
    request.header("X-Vault-Token", token.expose_secret())
}

/// Status and JSON of an answer; `null` where it has none.
async fn send(what: &'static str, request: RequestBuilder) -> Result<(u16, Value), VaultServerFault> {
    let fault = |error: reqwest::Error| {
        if error.is_timeout() {
            return VaultServerFault::TimedOut { what };
        }
        // reqwest's own message names the address; the cause is in the chain.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        VaultServerFault::Unreachable { what, cause: cause.to_string() }
    };
    let mut response = request.send().await.map_err(fault)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(fault)? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ANSWER {
            return Err(VaultRefusal::Unexpected(status).into());
        }
    }
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_sent_by_https_only() {
        for (address, expected) in [
            ("https://vault.example.com:8200", true),
            ("http://127.0.0.1:8200", true),
            ("http://localhost:8200", true),
            ("http://vault.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("vault.example.com", false),
            ("", false),
        ] {
            assert_eq!(base(address).is_ok(), expected, "{address}");
        }
    }
}

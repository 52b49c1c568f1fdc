//! The identity of a GitHub workflow's job: a token that says which repository, branch, workflow and
//! event it is, signed by GitHub, for one audience and a few minutes.
//!
//! Source: GitHub's page "OpenID Connect reference", and `getIDToken` of `@actions/core`.

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::token_http::{self, CallFault};
use crate::environment;
use crate::error::UserError;

/// The variable with the address that gives tokens; the runner sets it where the job may have them.
pub const URL_VARIABLE: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
/// The variable with what to show there.
const TOKEN_VARIABLE: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// The permission without which a job has none of them.
pub const PERMISSION: &str = "`permissions: {id-token: write}`";

/// Who was asked, in errors.
const ISSUER: &str = "the issuer of the workflow's identity";

/// The way to tokens of this job.
pub struct WorkflowIdentity {
    url: Url,
    token: SecretString,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFault {
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallFault),
    /// An answer without a token.
    #[error("the workflow got no identity token (status {0})")]
    Refused(u16),
}

impl IdentityFault {
    /// Whether trying again later may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Call(fault) => fault.is_passing(),
            Self::Refused(status) => *status >= 500 || *status == 429,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            _ if self.is_passing() => "check the runner's network and githubstatus.com; nothing was lost",
            // It ends with the job, and soon after it began if that takes long.
            _ => "run it within the job, and give the job `permissions: {id-token: write}`",
        }
    }
}

impl WorkflowIdentity {
    /// The job's own; `None` where it has none.
    pub fn from_environment() -> Result<Option<Self>, UserError> {
        let (Some(url), Some(token)) = (environment::text(URL_VARIABLE), environment::text(TOKEN_VARIABLE))
        else {
            return Ok(None);
        };
        let url = token_http::address(&url).map_err(|error| error.at(URL_VARIABLE))?;
        Ok(Some(Self { url, token: token.into() }))
    }

    /// A new token for this audience.
    pub async fn token_for(&self, audience: &str) -> anyhow::Result<Result<SecretString, IdentityFault>> {
        Ok(self.token_by(&token_http::client(None)?, audience).await)
    }

    /// A new token for this audience, asked for by this client.
    pub(super) async fn token_by(
        &self,
        http: &reqwest::Client,
        audience: &str,
    ) -> Result<SecretString, IdentityFault> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("audience", audience);
        let request = http.get(url).bearer_auth(self.token.expose_secret());
        let (status, body) = token_http::send(ISSUER, request).await?;
        match body["value"].as_str() {
            Some(token) if status == 200 => Ok(token.into()),
            _ => Err(IdentityFault::Refused(status)),
        }
    }
}

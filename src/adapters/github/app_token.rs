//! Tokens: `GITHUB_TOKEN`, or as a GitHub App a token for one repository and what is needed there.
//!
//! A minted token is valid for an hour. It is shared until shortly before that, and callers that want
//! the same one at the same time wait for one mint.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{GitHub, GitHubAnswer};
use crate::domain::github_answer::GitHubFault;
use crate::domain::name::Repository;
use crate::domain::publish::github::Author;
use crate::error::UserError;
use crate::output::workflow;

/// A token is no longer used when it is valid for less than this.
const LAST_MINUTES: Duration = Duration::from_secs(5 * 60);
/// The proof of the App counts from a little before now, since clocks differ, and for less than the
/// 10 minutes that GitHub allows.
const PROOF_FROM: i64 = -60;
const PROOF_UNTIL: i64 = 9 * 60;

/// Permissions of a token by name, such as `contents: write`.
pub type Permissions = BTreeMap<&'static str, &'static str>;

/// Where tokens come from.
pub enum Tokens {
    /// Somebody gave one.
    Given(SecretString),
    /// They are minted as a GitHub App.
    App(Box<App>),
}

/// A GitHub App.
pub struct App {
    id: String,
    key: EncodingKey,
    /// The lock is held while a token is minted: that is what makes it one mint.
    minted: Mutex<BTreeMap<(String, Permissions), Minted>>,
}

struct Minted {
    token: SecretString,
    expires_at: Timestamp,
}

#[derive(Serialize)]
struct Proof<'a> {
    iat: i64,
    exp: i64,
    iss: &'a str,
}

impl Tokens {
    /// The App of `ASTRA_APP_ID` and `ASTRA_APP_PRIVATE_KEY` (PEM), else `GITHUB_TOKEN`, else nobody.
    pub fn of_environment() -> Result<Option<Self>, UserError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        match (variable("ASTRA_APP_ID"), variable("ASTRA_APP_PRIVATE_KEY"), variable("GITHUB_TOKEN")) {
            (Some(id), Some(key), _) => {
                Ok(Some(Self::App(Box::new(App::new(id.trim(), &SecretString::from(key))?))))
            }
            (Some(_), None, _) => Err(UserError::usage(
                "ASTRA_APP_ID is set and ASTRA_APP_PRIVATE_KEY is not",
                "set it to the App's private key (PEM)",
            )),
            (None, Some(_), _) => Err(UserError::usage(
                "ASTRA_APP_PRIVATE_KEY is set and ASTRA_APP_ID is not",
                "set it to the App's id or client id",
            )),
            (None, None, Some(token)) => Ok(Some(Self::Given(SecretString::from(token.trim())))),
            (None, None, None) => Ok(None),
        }
    }

    /// Sends one request with such a token. One that GitHub does not know is not used again.
    pub async fn send(
        &self,
        github: &GitHub,
        repository: &Repository,
        permissions: &Permissions,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<GitHubAnswer, GitHubFault> {
        let token = self.token(github, repository, permissions).await?;
        let answer = github.request(method, path, &token, body).await;
        if matches!(answer, Err(GitHubFault::TokenRejected)) {
            self.forget(&token).await;
        }
        answer
    }

    /// A token for one repository with these permissions.
    pub async fn token(
        &self,
        github: &GitHub,
        repository: &Repository,
        permissions: &Permissions,
    ) -> Result<SecretString, GitHubFault> {
        match self {
            Self::Given(token) => Ok(token.clone()),
            Self::App(app) => app.token(github, repository, permissions).await,
        }
    }

    /// The App's installation that has this repository, as GitHub describes it; `None` for a given token.
    pub async fn installation(
        &self,
        github: &GitHub,
        repository: &Repository,
    ) -> Result<Option<Value>, GitHubFault> {
        match self {
            Self::Given(_) => Ok(None),
            Self::App(app) => app.installation(github, repository).await.map(Some),
        }
    }

    /// As whom what is written with these tokens appears.
    pub async fn author(&self, github: &GitHub, repository: &Repository) -> Result<Author, GitHubFault> {
        let text = |object: &Value, key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        match self {
            Self::Given(token) => match github.request(Method::GET, "/user", token, None).await {
                Ok(answer) => text(&answer.body, "login").map(Author::Login),
                // An installation is no user: so with a workflow's own token.
                Err(GitHubFault::NotAllowed) => Some(Author::SomeApp),
                Err(fault) => return Err(fault),
            },
            Self::App(app) => {
                let slug = text(&app.installation(github, repository).await?, "app_slug");
                slug.map(|slug| Author::Login(format!("{slug}[bot]")))
            }
        }
        .ok_or(GitHubFault::Unreadable("who we are"))
    }

    /// A token that only sees which repositories an installation reaches; a given token as it is.
    pub async fn seeing_token(
        &self,
        github: &GitHub,
        installation: u64,
    ) -> Result<SecretString, GitHubFault> {
        match self {
            Self::Given(token) => Ok(token.clone()),
            Self::App(app) => {
                let permissions = Permissions::from([("metadata", "read")]);
                let wanted = json!({"permissions": permissions});
                let proof = app.proof(Timestamp::now())?;
                Ok(mint(github, &proof, installation, &wanted, &permissions).await?.token)
            }
        }
    }

    /// Forgets a token that GitHub does not know any more.
    pub async fn forget(&self, rejected: &SecretString) {
        if let Self::App(app) = self {
            let is_other = |minted: &Minted| minted.token.expose_secret() != rejected.expose_secret();
            app.minted.lock().await.retain(|_, minted| is_other(minted));
        }
    }
}

impl App {
    /// The App with this id and private key (PEM).
    pub fn new(id: &str, key: &SecretString) -> Result<Self, UserError> {
        let key = EncodingKey::from_rsa_pem(key.expose_secret().as_bytes()).map_err(|_| {
            UserError::usage(
                "this is no RSA private key",
                "give the whole PEM file that GitHub made (-----BEGIN RSA PRIVATE KEY-----)",
            )
            .at("ASTRA_APP_PRIVATE_KEY")
        })?;
        Ok(Self { id: id.to_owned(), key, minted: Mutex::default() })
    }

    async fn token(
        &self,
        github: &GitHub,
        repository: &Repository,
        permissions: &Permissions,
    ) -> Result<SecretString, GitHubFault> {
        let mut all = self.minted.lock().await;
        let wanted = (repository.to_string().to_lowercase(), permissions.clone());
        if let Some(minted) = all.get(&wanted)
            && Timestamp::now() + LAST_MINUTES < minted.expires_at
        {
            return Ok(minted.token.clone());
        }
        let minted = self.mint(github, repository, permissions).await?;
        let token = minted.token.clone();
        all.insert(wanted, minted);
        Ok(token)
    }

    async fn mint(
        &self,
        github: &GitHub,
        repository: &Repository,
        permissions: &Permissions,
    ) -> Result<Minted, GitHubFault> {
        let installation = self.installation(github, repository).await?;
        let id = installation.get("id").and_then(Value::as_u64);
        let id = id.ok_or(GitHubFault::Unreadable("the id of the installation"))?;
        let wanted = json!({"repositories": [repository.name()], "permissions": permissions});
        mint(github, &self.proof(Timestamp::now())?, id, &wanted, permissions).await
    }

    async fn installation(&self, github: &GitHub, repository: &Repository) -> Result<Value, GitHubFault> {
        let proof = self.proof(Timestamp::now())?;
        let path = format!("/repos/{repository}/installation");
        Ok(github.request(Method::GET, &path, &proof, None).await?.body)
    }

    /// The JSON Web Token by which the App shows who it is.
    fn proof(&self, now: Timestamp) -> Result<SecretString, GitHubFault> {
        let now = now.as_second();
        let claims = Proof { iat: now + PROOF_FROM, exp: now + PROOF_UNTIL, iss: &self.id };
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &self.key)
            .map(SecretString::from)
            .map_err(|_| GitHubFault::TokenRejected)
    }
}

async fn mint(
    github: &GitHub,
    proof: &SecretString,
    installation: u64,
    wanted: &Value,
    permissions: &Permissions,
) -> Result<Minted, GitHubFault> {
    let path = format!("/app/installations/{installation}/access_tokens");
    let answer = github.request(Method::POST, &path, proof, Some(wanted)).await?.body;
    let minted = minted(&answer, permissions)?;
    workflow::hide([minted.token.expose_secret()]);
    Ok(minted)
}

/// Reads a token, and refuses one that may do less than was asked for.
fn minted(answer: &Value, permissions: &Permissions) -> Result<Minted, GitHubFault> {
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    let is_granted = |(name, level): (&&str, &&str)| {
        answer.pointer(&format!("/permissions/{name}")).and_then(Value::as_str) == Some(*level)
    };
    if !permissions.iter().all(is_granted) {
        return Err(GitHubFault::NotAllowed);
    }
    let token = text("token").ok_or(GitHubFault::Unreadable("the token"))?;
    let expires_at = text("expires_at").and_then(|text| text.parse().ok());
    let expires_at = expires_at.ok_or(GitHubFault::Unreadable("when the token expires"))?;
    Ok(Minted { token: SecretString::from(token), expires_at })
}

#[cfg(test)]
mod tests;

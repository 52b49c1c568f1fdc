//! Whether a key opens the model's API: asked by listing models, which costs nothing.
//!
//! Source: Anthropic's page "List Models" (`GET /v1/models`).

use secrecy::{ExposeSecret, SecretString};

use super::token_http::{self, CallFault};

/// Where the API is, unless `ANTHROPIC_BASE_URL` says otherwise.
pub const ADDRESS: &str = "https://api.anthropic.com";
/// Who was asked, in errors.
const API: &str = "the model's API";
/// The version of the API that the header names.
const VERSION: &str = "2023-06-01";

/// What the API says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It opens the API.
    Good,
    /// 401 or 403.
    Refused,
    /// Another answer, with this status: a gateway that lists no models, for one.
    Untold(u16),
}

/// Asks the API at this address.
pub async fn check(address: &str, key: &SecretString) -> anyhow::Result<Result<KeyState, CallFault>> {
    let mut url =
        token_http::address(address.trim_end_matches('/')).map_err(|error| error.at("ANTHROPIC_BASE_URL"))?;
    url.set_path(&format!("{}/v1/models", url.path().trim_end_matches('/')));
    let request = token_http::client(None)?
        .get(url)
        .header("x-api-key", key.expose_secret())
        .header("anthropic-version", VERSION)
        .query(&[("limit", "1")]);
    Ok(token_http::send(API, request).await.map(|(status, _)| match status {
        200..=299 => KeyState::Good,
        401 | 403 => KeyState::Refused,
        other => KeyState::Untold(other),
    }))
}

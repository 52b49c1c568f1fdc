//! HTTP for calls that carry a token: by https or to this machine only, without redirects, of bounded
//! time and length.

use std::path::Path;
use std::time::Duration;

use reqwest::{RequestBuilder, Url};
use serde_json::Value;

use super::tls;
use crate::error::UserError;

/// How long one request may take, from connecting to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A vault's secret of 64 values of 64 KiB, and more than Vault takes by itself.
const LONGEST_ANSWER: usize = 4 << 20;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallFault {
    /// No answer: name, connection, TLS.
    #[error("{what} cannot be reached: {cause}")]
    Unreachable {
        /// Who was asked.
        what: &'static str,
        /// The last of the causes, without the address.
        cause: String,
    },
    /// No whole answer in time.
    #[error("{what} did not answer within {} s", REQUEST_TIMEOUT.as_secs())]
    TimedOut {
        /// Who was asked.
        what: &'static str,
    },
    /// More than anybody would send.
    #[error("{what} answered at more length than can be right")]
    TooLong {
        /// Who was asked.
        what: &'static str,
    },
}

impl CallFault {
    /// Whether trying again later may help.
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::TooLong { .. })
    }
}

/// A client; `ca_file` adds authorities to the usual ones.
pub(super) fn client(ca_file: Option<&Path>) -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(ca_file)?)
        .timeout(REQUEST_TIMEOUT)
        .connect_timeout(Duration::from_secs(5))
        // A token is for this server and no other.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("astra-dispatch/", env!("CARGO_PKG_VERSION")))
        .build()?)
}

/// An address that a token may be sent to: https, or this machine.
pub(super) fn address(text: &str) -> Result<Url, UserError> {
    let wrong = |cause: &str| UserError::usage(cause, "give an address like https://host.example.com");
    let url = Url::parse(text).map_err(|_| wrong("this is no address"))?;
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        _ => Err(wrong("tokens are sent by https only")),
    }
}

/// Status and JSON of an answer; `null` where it has none.
pub(super) async fn send(what: &'static str, request: RequestBuilder) -> Result<(u16, Value), CallFault> {
    let fault = |error: reqwest::Error| {
        if error.is_timeout() {
            return CallFault::TimedOut { what };
        }
        // reqwest's own message names the address; the cause is in the chain.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        CallFault::Unreachable { what, cause: cause.to_string() }
    };
    let mut response = request.send().await.map_err(fault)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(fault)? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ANSWER {
            return Err(CallFault::TooLong { what });
        }
    }
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_sent_by_https_only() {
        for (text, expected) in [
            ("https://vault.example.com:8200", true),
            ("http://127.0.0.1:8200", true),
            ("http://localhost:8200", true),
            ("http://vault.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("vault.example.com", false),
            ("", false),
        ] {
            assert_eq!(address(text).is_ok(), expected, "{text}");
        }
    }
}

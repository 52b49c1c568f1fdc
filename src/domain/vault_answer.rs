//! What a HashiCorp Vault or OpenBao server answers, and what that means. The texts are those of
//! Vault 1.21, recorded in `fixtures/vault-server`; those of OpenBao 2.7 differ as noted. None of them is passed on: they may quote a token.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::Value;

use super::vault::{ValueFault, check_value};

/// Why a server gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultRefusal {
    /// The token is for somebody else.
    #[error("the vault server expects another audience in the workflow's token")]
    Audience,
    /// A claim has a value that the role does not allow.
    #[error("the vault server's role does not allow this workflow's `{0}`")]
    Claim(String),
    /// A claim is not there.
    #[error("the workflow's token has no claim `{0}`, which the vault server's role asks for")]
    ClaimMissing(String),
    /// Another issuer.
    #[error("the vault server trusts another issuer than the workflow's")]
    Issuer,
    /// Too late.
    #[error("the workflow's token had expired when the vault server saw it")]
    Expired,
    /// Too early.
    #[error("the workflow's token is not valid yet by the vault server's clock")]
    NotYetValid,
    /// No known key signed it.
    #[error("the vault server does not know the key that signed the workflow's token")]
    Signature,
    /// Nothing that it takes for a token.
    #[error("the vault server cannot read the workflow's token")]
    Malformed,
    /// No such role.
    #[error("the vault server has no such role")]
    Role,
    /// No login by JWT there.
    #[error("the vault server has no login by JWT at auth/jwt")]
    NoLogin,
    /// Refused for another reason.
    #[error("the vault server refused the login (status {0})")]
    Login(u16),
    /// The policy does not allow it, or the mount is not there.
    #[error("the vault server's policy does not allow reading the path")]
    Denied,
    /// The token is wrong, expired, revoked or used up.
    #[error("the vault server does not accept the token any more")]
    Token,
    /// Nothing at the path.
    #[error("the vault server has nothing at the path")]
    NoSecret,
    /// The newest version was deleted.
    #[error("the newest version at the path was deleted from the vault server")]
    Deleted,
    /// No such mount.
    #[error("the vault server has no secrets engine at the first part of the path")]
    NoMount,
    /// Mounted, but of another version.
    #[error("the secrets engine at the first part of the path is not KV version 2")]
    NotVersioned,
    /// Locked.
    #[error("the vault server is sealed")]
    Sealed,
    /// Something else.
    #[error("the vault server answered with something unexpected (status {0})")]
    Unexpected(u16),
    /// A value that cannot be a credential.
    #[error("{0} in the vault server cannot be used: {1}")]
    Value(String, ValueFault),
}

impl VaultRefusal {
    /// Whether trying again later may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Sealed => true,
            Self::Login(status) | Self::Unexpected(status) => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Audience => "let `bound_audiences` of the role be the value of VAULT_ADDR",
            Self::Claim(_) | Self::ClaimMissing(_) => {
                "run the workflow that the role's `bound_claims` name, or correct them"
            }
            Self::Issuer => "let `bound_issuer` of auth/jwt/config be the issuer of the workflow's tokens",
            Self::Expired | Self::NotYetValid => "check the clocks of the vault server and of this machine",
            Self::Signature => "correct the keys (`oidc_discovery_url` or `jwks_url`) of auth/jwt/config",
            Self::Malformed => "check that ACTIONS_ID_TOKEN_REQUEST_URL answers with a token",
            Self::Role => "make the role astra-<agent> of auth/jwt",
            Self::NoLogin => "enable it: `vault auth enable jwt`",
            Self::Login(_) | Self::Unexpected(_) => "look into the vault server's log",
            Self::Denied => "let the agent's policy allow `read` of <mount>/data/<rest of the path>",
            Self::Token => "log in again, or give another VAULT_TOKEN",
            Self::NoSecret => "write the agent's keys there with `vault kv put`",
            Self::Deleted => "restore it with `vault kv undelete`, or write a new version",
            Self::NoMount | Self::NotVersioned => {
                "let `credentials.vault` of the agent's file begin with the mount of a KV version 2 engine"
            }
            Self::Sealed => "unseal it, and try again",
            Self::Value(..) => "write it again as text of 8 characters to 64 KiB",
        }
    }
}

fn first_error(body: &Value) -> &str {
    body["errors"][0].as_str().unwrap_or_default()
}

/// The token of a login.
pub fn login(status: u16, body: &Value) -> Result<SecretString, VaultRefusal> {
    if let (200, Some(token)) = (status, body["auth"]["client_token"].as_str()) {
        return Ok(SecretString::from(token));
    }
    let error = first_error(body);
    let has = |part: &str| error.contains(part);
    Err(match status {
        503 if has("sealed") => VaultRefusal::Sealed,
        403 => VaultRefusal::NoLogin,
        _ if has("audience") => VaultRefusal::Audience,
        _ if has("(iss)") => VaultRefusal::Issuer,
        _ if has("token is expired") => VaultRefusal::Expired,
        _ if has("not yet valid") => VaultRefusal::NotYetValid,
        _ if has("does not match any associated bound claim") => VaultRefusal::Claim(claim(error)),
        _ if has("claim ") && (has("is missing") || has("not found in token")) => {
            VaultRefusal::ClaimMissing(claim(error))
        }
        _ if has("no known key") => VaultRefusal::Signature,
        _ if has("role ") && has("could not be found") || error == "missing role" => VaultRefusal::Role,
        _ if has("missing token") || has("malformed") || has("error validating token") => {
            VaultRefusal::Malformed
        }
        _ => VaultRefusal::Login(status),
    })
}

/// The name between the first quotes, where it is one.
fn claim(error: &str) -> String {
    let name = error.split('"').nth(1).unwrap_or_default();
    let is_name = name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name { name.to_owned() } else { "?".to_owned() }
}

/// Of what is at a path, the keys that are asked for and there.
pub fn secrets(
    status: u16,
    body: &Value,
    keys: &[&str],
) -> Result<BTreeMap<String, SecretString>, VaultRefusal> {
    let Some(held) = (status == 200).then(|| body["data"]["data"].as_object()).flatten() else {
        return Err(no_secrets(status, body));
    };
    let mut found = BTreeMap::new();
    for key in keys {
        let Some(value) = held.get(*key) else { continue };
        let text = value.as_str().ok_or(ValueFault::NotText);
        let text = text.and_then(|text| check_value(text).map(|()| text));
        let text = text.map_err(|fault| VaultRefusal::Value((*key).to_owned(), fault))?;
        found.insert((*key).to_owned(), SecretString::from(text));
    }
    Ok(found)
}

fn no_secrets(status: u16, body: &Value) -> VaultRefusal {
    let error = first_error(body);
    let warning = body["warnings"][0].as_str().unwrap_or_default();
    match status {
        503 if error.contains("sealed") => VaultRefusal::Sealed,
        // A policy's word is "1 error occurred: …"; without it, OpenBao (and Vault, without any token) does
        // not know the token.
        403 if error.contains("invalid token") || error == "permission denied" => VaultRefusal::Token,
        403 => VaultRefusal::Denied,
        404 if error.contains("no handler for route") => VaultRefusal::NoMount,
        404 if warning.contains("versioned") => VaultRefusal::NotVersioned,
        404 if body["data"]["metadata"].is_object() => VaultRefusal::Deleted,
        404 => VaultRefusal::NoSecret,
        // A KV version 1 engine keeps the keys one level higher.
        200 => VaultRefusal::NotVersioned,
        _ => VaultRefusal::Unexpected(status),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::domain::vault::LARGEST_VALUE;

    fn recorded(name: &str) -> (u16, Value) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/vault-server/{name}.json"));
        let text = std::fs::read_to_string(&path).expect("a recording");
        let recording: Value = serde_json::from_str(&text).expect("JSON");
        let response = &recording["response"];
        let status = response["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        (status.expect("a status"), response["body"].clone())
    }

    #[test]
    fn every_recorded_login_has_its_meaning() {
        let claim = |name: &str| VaultRefusal::Claim(name.to_owned());
        let missing = |name: &str| VaultRefusal::ClaimMissing(name.to_owned());
        for (name, expected) in [
            ("login-wrong-audience", VaultRefusal::Audience),
            ("login-missing-audience", VaultRefusal::Audience),
            ("login-role-no-bound-audiences", VaultRefusal::Audience),
            ("login-wrong-claim-ref", claim("ref")),
            ("login-wrong-claim-repository", claim("repository")),
            ("login-missing-claim", missing("job_workflow_ref")),
            ("login-missing-sub", missing("sub")),
            ("login-expired", VaultRefusal::Expired),
            ("login-expired-61s-ago", VaultRefusal::Expired),
            ("login-expired-300s-ago", VaultRefusal::Expired),
            ("login-not-yet-valid", VaultRefusal::NotYetValid),
            ("login-wrong-issuer", VaultRefusal::Issuer),
            ("login-bad-signature", VaultRefusal::Signature),
            ("login-alg-none-style", VaultRefusal::Signature),
            ("login-malformed-jwt", VaultRefusal::Malformed),
            ("login-malformed-json", VaultRefusal::Malformed),
            ("login-missing-jwt", VaultRefusal::Malformed),
            ("login-no-exp-no-iat", VaultRefusal::Malformed),
            ("login-missing-role", VaultRefusal::Role),
            ("login-unknown-role", VaultRefusal::Role),
            ("login-unmounted-path", VaultRefusal::NoLogin),
            ("sealed-login", VaultRefusal::Sealed),
        ] {
            let (status, body) = recorded(name);
            assert_eq!(login(status, &body).expect_err(name), expected, "{name}");
        }
        let (status, body) = recorded("login-ok");
        assert!(login(status, &body).expect("a token").expose_secret().starts_with("hvs."));
    }

    #[test]
    fn every_recorded_read_has_its_meaning() {
        for (name, expected) in [
            ("read-forbidden-other-agent", VaultRefusal::Denied),
            ("read-forbidden-missing-path", VaultRefusal::Denied),
            ("read-no-token", VaultRefusal::Token),
            ("read-bad-token", VaultRefusal::Token),
            ("read-after-revoke", VaultRefusal::Token),
            ("expired-token-read", VaultRefusal::Token),
            ("num-uses-second", VaultRefusal::Token),
            ("read-missing-secret-404", VaultRefusal::NoSecret),
            ("read-deleted-version", VaultRefusal::Deleted),
            ("read-kv1-path-on-kv2", VaultRefusal::NotVersioned),
            ("read-wrong-mount", VaultRefusal::NoMount),
            ("sealed-read", VaultRefusal::Sealed),
        ] {
            let (status, body) = recorded(name);
            assert_eq!(secrets(status, &body, &["KEY"]).expect_err(name), expected, "{name}");
        }
        let (status, body) = recorded("read-ok");
        let found = secrets(status, &body, &["ANTHROPIC_API_KEY", "NOT_THERE"]).expect("secrets");
        assert_eq!(found.keys().collect::<Vec<_>>(), ["ANTHROPIC_API_KEY"], "GH_TOKEN was not asked for");
    }

    #[test]
    fn a_value_must_fit_a_variable_and_no_word_of_the_server_is_passed_on() {
        for (value, fault) in [
            (serde_json::json!(12_345_678), ValueFault::NotText),
            ("".into(), ValueFault::Empty),
            ("seven77".into(), ValueFault::TooShort),
            ("eight888\0".into(), ValueFault::Nul),
            ("x".repeat(LARGEST_VALUE + 1).into(), ValueFault::TooLong),
        ] {
            let body = serde_json::json!({"data": {"data": {"KEY": value}, "metadata": {}}});
            let error = secrets(200, &body, &["KEY"]).expect_err("no value");
            assert_eq!(error, VaultRefusal::Value("KEY".to_owned(), fault));
        }
        let body = serde_json::json!({"errors": ["claim \"hvs.secret-token\" is missing"]});
        assert_eq!(login(400, &body).expect_err("refused"), VaultRefusal::ClaimMissing("?".to_owned()));
    }
}

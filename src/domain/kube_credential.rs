//! What a credential plugin of a kubeconfig answers.
//!
//! Source: Kubernetes, "client-go credential plugins", `client.authentication.k8s.io/v1`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Why a text is no token to sign in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// Not a JSON Web Token.
    #[error("what the workflow got as its identity token is none")]
    Malformed,
    /// It never ends, or does not say when.
    #[error("the workflow's identity token does not say when it expires")]
    NoExpiry,
}

/// The answer with this token, and when it expires, to the second. The signature is not looked at: the
/// API server does that.
pub fn exec_credential(token: &str) -> Result<Value, NoToken> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(NoToken::Malformed);
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| NoToken::Malformed)?;
    let claims: Value = serde_json::from_slice(&claims).map_err(|_| NoToken::Malformed)?;
    let expires = claims["exp"].as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let expires = expires.ok_or(NoToken::NoExpiry)?;
    Ok(json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token, "expirationTimestamp": expires.to_string()},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_answer_has_the_token_and_its_end() {
        let token = token(r#"{"sub": "repo:octo/app:ref:refs/heads/main", "exp": 1790000000}"#);
        let expected = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
            "status": {"token": token, "expirationTimestamp": "2026-09-21T14:13:20Z"},
        });
        assert_eq!(exec_credential(&token), Ok(expected));
    }

    #[test]
    fn what_is_no_token_is_said() {
        for (text, expected) in [
            (String::new(), NoToken::Malformed),
            ("e30.e30".to_owned(), NoToken::Malformed),
            ("a.b.c.d.e".to_owned(), NoToken::Malformed),
            ("e30.*.c2ln".to_owned(), NoToken::Malformed),
            (token("text"), NoToken::Malformed),
            (token("{}"), NoToken::NoExpiry),
            (token(r#"{"exp": "soon"}"#), NoToken::NoExpiry),
            (token(r#"{"exp": 9223372036854775807}"#), NoToken::NoExpiry),
        ] {
            assert_eq!(exec_credential(&text), Err(expected), "{text}");
        }
    }
}

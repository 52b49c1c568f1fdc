//! The signature of a webhook: `X-Plane-Signature` is the lower-case hexadecimal HMAC-SHA256 of the
//! raw body. The key is the whole secret as Plane shows it, `plane_wh_` included.

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// The header with the signature.
pub const HEADER: &str = "x-plane-signature";

/// The secrets that are accepted, at least one: several while one replaces another.
#[derive(Debug, Clone)]
pub struct Secrets(Vec<SecretString>);

impl Secrets {
    /// One secret a line; empty lines do not count. `None` if there is none.
    pub fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets: Vec<SecretString> = lines.map(SecretString::from).collect();
        (!secrets.is_empty()).then_some(Self(secrets))
    }

    /// Whether one of the secrets made this signature of these bytes. The time it takes says nothing
    /// about the secrets: every comparison is in constant time, and every secret is tried.
    pub fn admit(&self, body: &[u8], signature: Option<&[u8]>) -> bool {
        let Some(claimed) = signature.and_then(digest) else { return false };
        self.0.iter().fold(false, |admitted, secret| admitted | made_by(secret, body, &claimed))
    }
}

fn made_by(secret: &SecretString, body: &[u8], claimed: &[u8; 32]) -> bool {
    // An HMAC takes keys of every length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else { return false };
    mac.update(body);
    mac.verify_slice(claimed).is_ok()
}

/// 64 lower-case hexadecimal digits, and nothing else.
fn digest(signature: &[u8]) -> Option<[u8; 32]> {
    if signature.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut digest = [0; 32];
    hex::decode_to_slice(signature, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The first case of RFC 4231 whose key is text: "Jefe".
    const BODY: &[u8] = b"what do ya want for nothing?";
    const SIGNATURE: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    #[test]
    fn a_signature_is_of_one_of_the_secrets() {
        for (secrets, admitted) in
            [("Jefe", true), ("other\r\n\r\nJefe\n", true), ("other", false), ("jefe", false), ("Jef", false)]
        {
            let secrets = Secrets::parse(secrets).unwrap();
            assert_eq!(secrets.admit(BODY, Some(SIGNATURE.as_bytes())), admitted, "{secrets:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let secrets = Secrets::parse("Jefe").unwrap();
        let upper = SIGNATURE.to_uppercase();
        let prefixed = format!("sha256={SIGNATURE}");
        for wrong in [Some(""), None, Some(&SIGNATURE[1..]), Some(&upper), Some(&prefixed), Some("ÿ")] {
            assert!(!secrets.admit(BODY, wrong.map(str::as_bytes)), "{wrong:?}");
        }
    }

    #[test]
    fn one_flipped_bit_of_body_or_signature_is_refused() {
        let secrets = Secrets::parse("Jefe").unwrap();
        for place in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[place] ^= 1;
            assert!(!secrets.admit(&body, Some(SIGNATURE.as_bytes())));
        }
        for place in 0..SIGNATURE.len() {
            let mut signature = SIGNATURE.as_bytes().to_vec();
            signature[place] ^= 1;
            assert!(!secrets.admit(BODY, Some(&signature)));
        }
    }

    #[test]
    fn no_secret_is_no_relay() {
        assert!(Secrets::parse("").is_none());
        assert!(Secrets::parse(" \n\n").is_none());
    }
}

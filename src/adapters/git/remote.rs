//! Where a repository is fetched from and pushed to, and what opens it.

use secrecy::SecretString;

use crate::domain::name::Repository;
use crate::error::UserError;

/// The name that GitHub wants with a token (any name does for a personal one).
const USER: &str = "x-access-token";

/// A remote repository.
#[derive(Debug, Clone)]
pub struct Remote {
    url: String,
    transport: &'static str,
    credential: Option<Credential>,
}

/// A token, and the one place that it is shown to.
#[derive(Debug, Clone)]
pub struct Credential {
    base_url: String,
    token: SecretString,
}

impl Remote {
    /// The repository below `base_url`: `https://`, `file://`, or `http://` to this machine itself.
    /// A `file://` base takes no token.
    pub fn new(
        base_url: &str,
        repository: &Repository,
        token: Option<SecretString>,
    ) -> Result<Self, UserError> {
        let base_url = base_url.trim_end_matches('/');
        let refused = |cause: String| UserError::usage(cause, "use https:// or file://").at("--git-base-url");
        let (scheme, rest) =
            base_url.split_once("://").ok_or_else(|| refused(format!("{base_url:?} is no URL")))?;
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.contains('@') {
            // Not repeated: it may hold a password.
            return Err(refused("the URL names a user".to_owned()));
        }
        if rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?#'\"\\".contains(c)) {
            return Err(refused(format!("{base_url:?} has characters that a base URL cannot have")));
        }
        let transport = match scheme {
            "https" if !authority.is_empty() => "https",
            "file" if rest.starts_with('/') => "file",
            "http" if is_loopback(authority) => "http",
            _ => return Err(refused(format!("{base_url:?} is not a safe way to a repository"))),
        };
        let credential = token
            .filter(|_| transport != "file")
            .map(|token| Credential { base_url: base_url.to_owned(), token });
        Ok(Self { url: format!("{base_url}/{repository}.git"), transport, credential })
    }

    /// Its URL; holds no credential.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The one transport that git may use for it.
    pub fn transport(&self) -> &'static str {
        self.transport
    }

    pub(super) fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }
}

fn is_loopback(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    matches!(host, "127.0.0.1" | "localhost" | "[::1]")
}

impl Credential {
    pub(super) fn token(&self) -> &SecretString {
        &self.token
    }

    /// A setting that makes git ask a shell function, and only for URLs of this base: the shell's
    /// own `printf` reads the token from the environment.
    pub(super) fn helper(&self) -> (String, String) {
        let script = format!(
            "!f() {{ test \"$1\" = get && printf 'username={USER}\\npassword=%s\\n' \"${}\"; }}; f",
            super::TOKEN_VARIABLE
        );
        (format!("credential.{}.helper", self.base_url), script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(base: &str) -> Result<Remote, String> {
        Remote::new(base, &"astra/api".parse().unwrap(), Some("t0ken".into())).map_err(|error| error.cause)
    }

    #[test]
    fn safe_bases_only() {
        for (base, url, transport) in [
            ("https://github.com/", "https://github.com/astra/api.git", "https"),
            ("https://git.example.com:8443/code", "https://git.example.com:8443/code/astra/api.git", "https"),
            ("file:///srv/git", "file:///srv/git/astra/api.git", "file"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/astra/api.git", "http"),
        ] {
            let remote = remote(base).unwrap();
            assert_eq!((remote.url(), remote.transport()), (url, transport));
            assert_eq!(remote.credential().is_some(), transport != "file");
        }
        for base in [
            "",
            "github.com",
            "http://github.com",
            "http://127.0.0.1.evil.com",
            "ssh://git@github.com",
            "ext::sh -c id",
            "--upload-pack=id",
            "https://",
            "file://host/x",
            "https://a b",
            "https://x?y",
            "https://user:pass@github.com",
            "https://x/'y",
        ] {
            assert!(remote(base).is_err(), "{base}");
        }
        let error = remote("https://user:hunter2@github.com").unwrap_err();
        assert!(!error.contains("hunter2"));
    }

    #[test]
    fn the_helper_holds_no_token() {
        let remote = remote("https://github.com").unwrap();
        let (key, script) = remote.credential().unwrap().helper();
        assert_eq!(key, "credential.https://github.com.helper");
        assert!(!script.contains("t0ken") && !format!("{remote:?}").contains("t0ken"));
    }
}

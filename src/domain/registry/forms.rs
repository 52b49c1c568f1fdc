//! The forms of single values: text in, a legal value or a problem with its cure out.

use std::str::FromStr;
use std::time::Duration;

use globset::{Glob, GlobBuilder};
use jiff::SignedDuration;
use kube_quantity::ParsedQuantity;

use super::super::name::{InvalidName, TaskKey};
use super::fault::Rule;
use super::values::{Form, Problem};

/// A name that checks itself.
pub(super) fn name<T: FromStr<Err = InvalidName>>(text: &str) -> Form<T> {
    text.parse().map_err(|error: InvalidName| {
        Problem::invalid(format!("`{text}` is no {}", error.what), format!("write {}", error.rule))
    })
}

/// A UUID, as Plane shows it in URLs.
pub(super) fn uuid(text: &str) -> Form<uuid::Uuid> {
    uuid::Uuid::try_parse(text).map_err(|_| {
        Problem::invalid(
            format!("`{text}` is no UUID"),
            "copy the id from the URL of the project or workspace",
        )
    })
}

/// The letters of a project's task keys.
pub(super) fn identifier(text: &str) -> Form<String> {
    match TaskKey::new(text, 1) {
        Ok(key) if key.identifier() == text => Ok(text.to_owned()),
        Ok(key) => Err(Problem::invalid(
            format!("identifier `{text}` is not in upper case"),
            format!("write `{}`", key.identifier()),
        )),
        Err(_) => Err(Problem::invalid(
            format!("`{text}` is no project identifier"),
            "write the 1 to 12 letters and digits before the dash of its task keys",
        )),
    }
}

/// One line of text that says something.
pub(super) fn line(text: &str) -> Form<String> {
    let text = text.trim();
    if text.is_empty() || text.contains(['\n', '\r']) {
        return Err(Problem::invalid("this must be one line of text", "write one line"));
    }
    Ok(text.to_owned())
}

/// Text that says something.
pub(super) fn words(text: &str) -> Form<String> {
    match text.trim() {
        "" => Err(Problem::invalid("this text is empty", "write something, or remove it")),
        text => Ok(text.to_owned()),
    }
}

/// A skill or a model alias: what a label can name.
pub(super) fn word(text: &str) -> Form<String> {
    if is_word(text) {
        return Ok(text.to_owned());
    }
    let cure = match text.trim().to_ascii_lowercase().replace(' ', "-") {
        better if is_word(&better) => format!("write `{better}`"),
        _ => "write 1 to 40 lower-case letters, digits, dashes, dots, `_`, `+` and `#`".to_owned(),
    };
    Err(Problem::invalid(format!("`{text}` is no single lower-case word"), cure))
}

fn is_word(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.+#".contains(c);
    (1..=40).contains(&text.len()) && text.chars().all(legal) && !text.starts_with('-')
}

/// Base URL of a service; a trailing slash is dropped.
pub(super) fn url(text: &str) -> Form<String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let legal = host.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && rest.bytes().all(|b| b.is_ascii_graphic())
            && !rest.contains(['@', '?', '#', '"', '<', '>'])
    });
    if legal {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    Err(Problem::invalid(format!("`{text}` is no base URL"), "write it like https://plane.example.com"))
}

/// A Plane workspace's slug.
pub(super) fn slug(text: &str) -> Form<String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=48).contains(&text.len()) && text.bytes().all(legal) {
        return Ok(text.to_owned());
    }
    Err(Problem::invalid(
        format!("`{text}` is no workspace slug"),
        "copy the part of the workspace's URL after the host",
    ))
}

/// Kubernetes names of most objects (RFC 1123 subdomain).
pub(super) fn object_name(text: &str) -> Form<String> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if text.len() <= 253 && text.split('.').all(part) {
        return Ok(text.to_owned());
    }
    Err(Problem::invalid(
        format!("`{text}` is no Kubernetes name"),
        "write lower-case letters, digits, inner dashes and dots",
    ))
}

/// Name of a Kubernetes namespace (RFC 1123 label).
pub(super) fn namespace(text: &str) -> Form<String> {
    match object_name(text) {
        Ok(name) if name.len() <= 63 && !name.contains('.') => Ok(name),
        _ => Err(Problem::invalid(
            format!("`{text}` is no namespace"),
            "write 1 to 63 lower-case letters, digits and inner dashes",
        )),
    }
}

/// CPU; the text and thousandths.
pub(super) fn cpu(text: &str) -> Form<(String, u64)> {
    amount(text, 1_000.0).map(|millis| (text.to_owned(), millis)).ok_or_else(|| {
        Problem::invalid(format!("`{text}` is no amount of CPU"), "write it like `2`, `1.5` or `500m`")
    })
}

/// Memory; the text and bytes.
pub(super) fn memory(text: &str) -> Form<(String, u64)> {
    amount(text, 1.0).map(|bytes| (text.to_owned(), bytes)).ok_or_else(|| {
        Problem::invalid(format!("`{text}` is no amount of memory"), "write it like `4Gi` or `512Mi`")
    })
}

/// A positive quantity in Kubernetes' grammar, times `scale`, as a whole number of at least one.
fn amount(text: &str, scale: f64) -> Option<u64> {
    /// Far beyond any machine, and exact as a floating-point number.
    const MOST: f64 = (1_u64 << 52) as f64;
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value = ParsedQuantity::try_from(text).ok()?.to_bytes_f64()? * scale;
    (1.0..=MOST).contains(&value).then_some(value.round() as u64)
}

/// A length of time of at least a second.
pub(super) fn duration(text: &str) -> Form<Duration> {
    let parsed: Option<SignedDuration> = text.parse().ok();
    match parsed.and_then(|duration| Duration::try_from(duration).ok()) {
        Some(duration) if duration >= Duration::from_secs(1) => Ok(duration),
        _ => Err(Problem::invalid(
            format!("`{text}` is no length of time of a second or more"),
            "write it like `30m`, `90s` or `1h 10m`",
        )),
    }
}

/// An image reference that always means the same image.
pub(super) fn image(text: &str) -> Form<String> {
    let digest = text.rsplit_once("@sha256:").filter(|(name, digest)| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_graphic())
            && digest.len() == 64
            && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    });
    if digest.is_some() {
        return Ok(text.to_owned());
    }
    Err(Problem::new(
        Rule::UnpinnedImage,
        format!("image `{text}` is not pinned by digest"),
        "write `name@sha256:…` with the 64 digits that the registry shows for the image",
    ))
}

/// What a pattern of repositories means, for everybody who asks: `*` stays within one part, and GitHub
/// compares owners and names without regard to case.
pub fn repository_glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).case_insensitive(true).build()
}

/// A pattern over `owner/name` or paths; `*` stays within one part.
pub(super) fn pattern(text: &str) -> Form<String> {
    let relative = !text.starts_with('/') && !text.split('/').any(|part| part == "..");
    match GlobBuilder::new(text).literal_separator(true).build() {
        Ok(_) if !text.is_empty() && relative => Ok(text.to_owned()),
        Ok(_) => Err(Problem::invalid(
            format!("pattern `{text}` leaves the repository"),
            "write it relative to the repository's root, without `..`",
        )),
        Err(error) => Err(Problem::invalid(
            format!("`{text}` is no pattern: {}", error.kind()),
            "write it with `*`, `**`, `?`, `[ab]` and `{a,b}`",
        )),
    }
}

/// Path of a prompt within the registry.
pub(super) fn prompt_path(text: &str) -> Form<String> {
    let inside = text
        .strip_prefix("prompts/")
        .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
    if inside && !text.contains(['\\', '\0']) {
        return Ok(text.to_owned());
    }
    Err(Problem::new(
        Rule::PathEscapes,
        format!("`{text}` is not below prompts/"),
        "move the file to prompts/ and write its path like `prompts/vega.md`",
    ))
}

/// Mail address of a Plane member.
pub(super) fn mail(text: &str) -> Form<String> {
    let legal = text.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty()
            && host.contains('.')
            && !host.contains('@')
            && text.bytes().all(|b| b.is_ascii_graphic())
    });
    if legal {
        return Ok(text.to_owned());
    }
    Err(Problem::invalid(
        format!("`{text}` is no mail address"),
        "write the address that its Plane member signs in with",
    ))
}

/// GitHub login; GitHub Apps end in `[bot]`.
pub(super) fn github_login(text: &str) -> Form<String> {
    let account = text.strip_suffix("[bot]").unwrap_or(text);
    let legal = (1..=39).contains(&account.len())
        && !account.starts_with('-')
        && !account.ends_with('-')
        && account.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if legal {
        return Ok(text.to_owned());
    }
    Err(Problem::invalid(format!("`{text}` is no GitHub login"), "write the account's name without `@`"))
}

/// Path in the vault of the agent called `agent`.
pub(super) fn vault_path(text: &str, agent: &str) -> Form<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let legal_part = |part: &&str| {
        !matches!(*part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if parts.len() < 2 || !parts.iter().all(legal_part) {
        return Err(Problem::new(
            Rule::VaultPath,
            format!("`{text}` is no path in the vault"),
            "write at least two parts, such as `astra/agents/vega`",
        ));
    }
    if parts.last() != Some(&agent) {
        return Err(Problem::new(
            Rule::VaultPath,
            format!("vault path `{text}` does not end in the agent's name, so it may be another agent's"),
            format!("let it end in `/{agent}`"),
        ));
    }
    Ok(text.to_owned())
}

/// Variables that a run sets itself or that change how programs are loaded.
const RESERVED: &[&str] =
    &["HOME", "PATH", "TMPDIR", "LANG", "SHELL", "USER", "PWD", "IFS", "BASH_ENV", "ENV"];
/// Their beginnings.
const RESERVED_PREFIXES: &[&str] = &["ASTRA_", "RUN_", "LD_", "DYLD_", "GIT_", "KUBERNETES_"];

/// Name of an environment variable of the agent step.
pub(super) fn variable(text: &str) -> Form<String> {
    let legal = (1..=128).contains(&text.len())
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !legal {
        return Err(Problem::invalid(
            format!("`{text}` is no name of an environment variable"),
            "write letters, digits and `_`, such as ANTHROPIC_API_KEY",
        ));
    }
    let upper = text.to_ascii_uppercase();
    if upper == "GITHUB_TOKEN" || upper == "GH_TOKEN" {
        return Err(Problem::new(
            Rule::ForbiddenVariable,
            format!("`{text}` would give the agent step write access to the repository"),
            "remove it: prepare and deliver read it from the agent's vault path by themselves",
        ));
    }
    let reserved = RESERVED.contains(&upper.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| upper.starts_with(prefix));
    if reserved {
        return Err(Problem::new(
            Rule::ForbiddenVariable,
            format!("`{text}` is set by the run itself, or changes how programs are started"),
            "choose another name",
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;

//! Well-known shapes of tokens: secrets whoever they belong to.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// Name and pattern of each shape. Sources: the issuers' documentation of their prefixes (GitHub
/// "Token formats", Anthropic, OpenAI, AWS "IAM identifiers", Slack, Google, GitLab, npm, PyPI,
/// Stripe, HashiCorp Vault, Plane, Docker, DigitalOcean, age, RFC 7468, RFC 7519).
const SHAPES: &[(&str, &str)] = &[
    ("GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{82})"),
    ("GitHub installation token", r"\bghs_[A-Za-z0-9]+_[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}"),
    ("Anthropic key", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    ("OpenAI key", r"\bsk-(?:proj-|svcacct-|admin-|None-)?[A-Za-z0-9_-]{16,}T3BlbkFJ[A-Za-z0-9_-]{16,}"),
    ("AWS access key id", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    ("Slack token", r"\bxox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{20,}|\bxapp-[0-9]-[A-Za-z0-9-]{20,}"),
    (
        "Slack webhook",
        r"hooks\.slack\.com/(?:services|workflows)/T[A-Za-z0-9]+/[A-Za-z0-9]+/[A-Za-z0-9]{16,}",
    ),
    ("Google API key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("GitLab token", r"\bgl(?:pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{20,}"),
    ("npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("PyPI token", r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    ("Stripe key", r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    ("Vault token", r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}"),
    ("Plane key", r"\bplane_api_[A-Za-z0-9]{32}"),
    ("Docker token", r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}"),
    ("DigitalOcean token", r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    ("private key", r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"),
    ("age key", r"\bAGE-SECRET-KEY-(?:PQ-)?1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{50,}"),
    ("JSON Web Token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,}"),
];

static PATTERNS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the patterns are constants, and a test uses each")]
    let compiled = |pattern| Regex::new(&format!("(?-u){pattern}")).expect("a constant pattern");
    SHAPES.iter().map(|&(name, pattern)| (name, compiled(pattern))).collect()
});

/// Something that has the shape of a well-known token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token<'a> {
    /// Where it starts.
    pub at: usize,
    /// What it looks like.
    pub shape: &'static str,
    /// The token itself: not to be shown.
    pub text: &'a [u8],
}

/// Every well-known token in these bytes. Documentation's own examples (`…EXAMPLE`) are none.
pub fn tokens(bytes: &[u8]) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (shape, pattern) in PATTERNS.iter() {
        let found = pattern.find_iter(bytes).filter(|found| !found.as_bytes().ends_with(b"EXAMPLE"));
        tokens.extend(found.map(|found| Token { at: found.start(), shape, text: found.as_bytes() }));
    }
    tokens.sort();
    tokens
}

#[cfg(test)]
pub(super) fn count() -> usize {
    SHAPES.len()
}

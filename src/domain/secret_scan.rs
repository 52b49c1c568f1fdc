//! Finds the secrets of a run in what an agent delivers, without knowing them.
//!
//! Who has the secrets makes [`SecretPrints`] of them: for each usual encoding its length, a rolling
//! hash and a salted digest. Who looks for them has only that document and so can leak nothing.
//!
//! Most patterns are looked for in a *folded* view of the text: its ASCII letters and digits, in
//! lower case. A secret is found there whatever separates its parts: quotes, line ends, `" + "`,
//! colons of a hex dump, backslashes of a shell, NULs of UTF-16.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod encodings;
mod shapes;

pub use shapes::{Token, tokens};

/// The one version of the document that this program reads and writes.
pub const SECRET_PRINTS_VERSION: u32 = 1;
/// Shorter secrets are not looked for: they would be found everywhere.
pub const SHORTEST_SECRET: usize = 8;
/// Shorter patterns are looked for byte by byte only, not in the folded view.
const SHORTEST_FOLDED: usize = 12;

/// What `deliver` knows about the secrets of a run (`deliver-secrets.json`): nothing to take them from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretPrints {
    /// Always [`SECRET_PRINTS_VERSION`].
    pub version: u32,
    /// Drawn for this run, in hexadecimal digits; goes into every hash below.
    pub salt: String,
    /// One for each secret.
    pub secrets: Vec<SecretPrint>,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretPrint {
    /// What people call it: the environment variable's name.
    pub name: String,
    /// Its usual encodings; none where the secret is too short to be looked for.
    pub patterns: Vec<PatternPrint>,
}

/// One encoding of one secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternPrint {
    /// What the encoding is called.
    pub encoding: String,
    /// Where it is looked for.
    pub view: View,
    /// Its length in that view, in bytes.
    pub length: usize,
    /// Polynomial hash modulo 2⁶⁴, its base drawn from the salt.
    pub rolling: u64,
    /// SHA-256 of salt and pattern, in hexadecimal digits.
    pub digest: String,
}

/// A view of the bytes that are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// As they are.
    Exact,
    /// ASCII letters and digits only, in lower case.
    Folded,
}

impl SecretPrints {
    /// Makes the prints of named secrets. `salt` is drawn by the caller for this run.
    pub fn new<'a>(salt: [u8; 16], secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let print = |(name, value): (&str, &str)| SecretPrint {
            name: name.to_owned(),
            patterns: patterns(value.as_bytes(), &salt),
        };
        Self {
            version: SECRET_PRINTS_VERSION,
            salt: hex::encode(salt),
            secrets: secrets.into_iter().map(print).collect(),
        }
    }
}

fn patterns(secret: &[u8], salt: &[u8]) -> Vec<PatternPrint> {
    let secret = secret.trim_ascii();
    if secret.len() < SHORTEST_SECRET {
        return Vec::new();
    }
    let base = rolling_base(salt);
    let mut seen = BTreeMap::new();
    for (encoding, bytes) in encodings::of(secret) {
        let folded = fold(&bytes);
        let pattern = if folded.len() >= SHORTEST_FOLDED {
            (View::Folded, folded)
        } else if bytes.len() >= SHORTEST_SECRET {
            (View::Exact, bytes)
        } else {
            continue;
        };
        seen.entry(pattern).or_insert(encoding);
    }
    seen.into_iter()
        .map(|((view, bytes), encoding)| PatternPrint {
            encoding: encoding.to_owned(),
            view,
            length: bytes.len(),
            rolling: bytes.iter().fold(0, |hash, &byte| roll(hash, byte, base)),
            digest: hex::encode(digest(salt, &bytes)),
        })
        .collect()
}

/// A secret that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretHit {
    /// The line that it starts on, from 1.
    pub line: u32,
    /// The secret's name.
    pub name: String,
    /// How it was encoded.
    pub encoding: String,
}

/// Prints made ready for searching.
#[derive(Debug, Clone)]
pub struct Scanner {
    salt: Vec<u8>,
    base: u64,
    groups: BTreeMap<(View, usize), Vec<Wanted>>,
}

#[derive(Debug, Clone)]
struct Wanted {
    rolling: u64,
    digest: Vec<u8>,
    name: String,
    encoding: String,
}

/// Prints that cannot be searched with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrints {
    /// Another version of the document.
    #[error("version {0} of the secret prints is not known")]
    Version(u32),
    /// Not hexadecimal digits.
    #[error("the secret prints have a salt or digest that is not hexadecimal")]
    Digits,
    /// A pattern of no bytes.
    #[error("the secret prints have an empty pattern")]
    Empty,
}

impl Scanner {
    /// Makes all the given documents ready; each brings its own salt, so each has its own scanner.
    pub fn new(prints: &SecretPrints) -> Result<Self, InvalidPrints> {
        if prints.version != SECRET_PRINTS_VERSION {
            return Err(InvalidPrints::Version(prints.version));
        }
        let salt = hex::decode(&prints.salt).map_err(|_| InvalidPrints::Digits)?;
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for secret in &prints.secrets {
            for pattern in &secret.patterns {
                if pattern.length == 0 {
                    return Err(InvalidPrints::Empty);
                }
                groups.entry((pattern.view, pattern.length)).or_default().push(Wanted {
                    rolling: pattern.rolling,
                    digest: hex::decode(&pattern.digest).map_err(|_| InvalidPrints::Digits)?,
                    name: secret.name.clone(),
                    encoding: pattern.encoding.clone(),
                });
            }
        }
        Ok(Self { base: rolling_base(&salt), salt, groups })
    }

    /// Every secret in these bytes, where each of its encodings is found first, in order. Further places
    /// are not looked for, so that the time is linear in the size however often the secret is there.
    pub fn scan(&self, bytes: &[u8]) -> Vec<SecretHit> {
        let mut hits = Vec::new();
        let folded = fold(bytes);
        for (&(view, length), wanted) in &self.groups {
            let text = if view == View::Folded { &folded } else { bytes };
            for (at, wanted) in self.search(text, length, wanted) {
                let at = if view == View::Folded { unfold(bytes, at) } else { at };
                let (name, encoding) = (wanted.name.clone(), wanted.encoding.clone());
                hits.push(SecretHit { line: line_ends(&bytes[..at]) + 1, name, encoding });
            }
        }
        hits.sort();
        hits.dedup_by(|a, b| a.line == b.line && a.name == b.name);
        hits
    }

    fn search<'a>(&self, text: &[u8], length: usize, wanted: &'a [Wanted]) -> Vec<(usize, &'a Wanted)> {
        let mut found = Vec::new();
        let mut wanted: Vec<&Wanted> = wanted.iter().collect();
        if text.len() < length {
            return found;
        }
        let leaving = (0..length).fold(1u64, |power, _| power.wrapping_mul(self.base));
        let mut hash = 0;
        for (end, &byte) in text.iter().enumerate() {
            hash = roll(hash, byte, self.base);
            if end >= length {
                hash = hash.wrapping_sub((u64::from(text[end - length]) + 1).wrapping_mul(leaving));
            }
            if end + 1 >= length && wanted.iter().any(|wanted| wanted.rolling == hash) {
                let start = end + 1 - length;
                let digest = digest(&self.salt, &text[start..=end]);
                found.extend(wanted.extract_if(.., |wanted| wanted.digest == digest).map(|hit| (start, hit)));
                if wanted.is_empty() {
                    break;
                }
            }
        }
        found
    }
}

/// How many lines end in these bytes.
pub fn line_ends(bytes: &[u8]) -> u32 {
    let line_ends = bytes.iter().filter(|&&byte| byte == b'\n').count();
    u32::try_from(line_ends).unwrap_or(u32::MAX - 1)
}

fn fold(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
}

/// Where a place of the folded view is in the bytes themselves.
fn unfold(bytes: &[u8], at: usize) -> usize {
    let kept = bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric());
    kept.map(|(place, _)| place).nth(at).unwrap_or(bytes.len())
}

fn roll(hash: u64, byte: u8, base: u64) -> u64 {
    hash.wrapping_mul(base).wrapping_add(u64::from(byte) + 1)
}

/// Odd, so that no byte is shifted out of the hash.
fn rolling_base(salt: &[u8]) -> u64 {
    let digest = digest(salt, b"rolling base");
    digest.iter().take(8).fold(0, |base, &byte| (base << 8) | u64::from(byte)) | 1
}

fn digest(salt: &[u8], bytes: &[u8]) -> Vec<u8> {
    Sha256::new().chain_update(salt).chain_update(bytes).finalize().to_vec()
}

#[cfg(test)]
mod tests;

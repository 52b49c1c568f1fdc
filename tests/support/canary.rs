//! Searches whatever came out for secrets: as they are and in the usual encodings, whole and line by line.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::json;

/// Shorter lines are no secrets: they are found everywhere.
const SHORTEST_LINE: usize = 12;

/// Secrets in every usual encoding.
#[derive(Clone)]
pub struct Canaries(Vec<(String, String)>);

impl Canaries {
    /// Of these secrets, each with a name for the report.
    pub fn new<'s>(secrets: impl IntoIterator<Item = (&'s str, &'s str)>) -> Self {
        let mut needles = Vec::new();
        for (name, secret) in secrets {
            let is_own = |line: &&str| !line.starts_with("-----") && line.len() >= SHORTEST_LINE;
            for part in std::iter::once(secret).chain(secret.lines().filter(is_own)) {
                needles.extend(
                    encodings(part).map(|(how, needle)| (format!("{name} {how}"), searchable(&needle))),
                );
            }
        }
        Self(needles)
    }

    /// Fails where one of them is in these bytes.
    pub fn search(&self, place: &str, bytes: &[u8]) {
        // Also broken into lines of a fixed width.
        let text = searchable(bytes);
        let joined: String = text.chars().filter(|letter| !['\r', '\n'].contains(letter)).collect();
        for (name, needle) in &self.0 {
            assert!(!text.contains(needle), "{name} is in {place}");
            assert!(!joined.contains(needle), "{name} is in {place}, over several lines");
        }
    }

    /// Every file below a directory; its name too. How many there were.
    pub fn search_files(&self, directory: &Path) -> usize {
        let mut searched = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            self.search("the name of a file", path.as_os_str().as_encoded_bytes());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                searched += self.search_files(&path);
            } else if kind.is_file() {
                self.search(&path.display().to_string(), &std::fs::read(&path).unwrap());
                searched += 1;
            }
        }
        searched
    }

    /// While the process lives, no process of this machine has one of them among its arguments.
    pub fn watch_arguments(&self, pid: u32) {
        while Path::new(&format!("/proc/{pid}/exe")).exists() {
            for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
                let arguments = searchable(&std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
                for (name, needle) in &self.0 {
                    assert!(!arguments.contains(needle), "{name} is in the arguments of {:?}", entry.path());
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn encodings(part: &str) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let json = json!(part).to_string();
    let percent = |keep: fn(u8) -> bool, upper: bool| -> Vec<u8> {
        let one = |byte: u8| match (keep(byte), upper) {
            (true, _) => char::from(byte).to_string(),
            (false, true) => format!("%{byte:02X}"),
            (false, false) => format!("%{byte:02x}"),
        };
        part.bytes().map(one).collect::<String>().into()
    };
    let in_url = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut all = vec![
        ("as it is", part.into()),
        ("hex", hex::encode(part).into()),
        ("HEX", hex::encode_upper(part).into()),
        ("JSON", json[1..json.len() - 1].into()),
    ];
    for upper in [true, false] {
        all.push(("URL", percent(in_url, upper)));
        all.push(("URL, all of it", percent(|_| false, upper)));
    }
    for shift in 0..3 {
        // What of the text does not depend on what stands around it.
        let padded = [&vec![b'x'; shift], part.as_bytes()].concat();
        let whole = padded.len() / 3 * 3;
        let from = if shift == 0 { 0 } else { 4 };
        all.push(("base64", STANDARD_NO_PAD.encode(&padded[..whole])[from..].into()));
        all.push(("base64, URL", URL_SAFE_NO_PAD.encode(&padded[..whole])[from..].into()));
    }
    all.into_iter()
}

/// Bytes as text, one letter for each: the standard library searches text fast.
fn searchable(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// What a workflow's step said, without what it told the runner to hide.
pub fn without_masks(said: &str) -> String {
    said.lines().filter(|line| !line.starts_with("::add-mask::")).collect::<Vec<_>>().join("\n")
}

//! Faults of a registry as SARIF 2.1.0. Own types for the few keys that code scanning reads: the crate
//! for all of SARIF makes 7,000 lines of types at build time, with an old syn.

use serde::Serialize;

use super::fault_report::Checked;
use crate::domain::escape;
use crate::domain::registry::{Fault, Rule, Severity};

/// The whole document.
#[derive(Debug, Serialize)]
pub(super) struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    /// Our columns count characters, not UTF-16 units.
    column_kind: &'static str,
    results: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Debug, Serialize)]
struct Driver {
    name: &'static str,
    version: &'static str,
    rules: Vec<Described>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    id: &'static str,
    short_description: Message,
}

#[derive(Debug, Serialize)]
struct Message {
    text: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    rule_id: &'static str,
    rule_index: usize,
    level: Severity,
    message: Message,
    locations: [Location; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    region: Region,
}

#[derive(Debug, Serialize)]
struct ArtifactLocation {
    uri: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
    start_column: u32,
}

pub(super) fn log(checked: &Checked<'_>) -> Log {
    let mut rules: Vec<Rule> = checked.faults.iter().map(|fault| fault.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    let results = checked.faults.iter().map(|fault| finding(checked, fault, &rules)).collect();
    let rules = rules.into_iter().map(|rule| Described {
        id: rule.name(),
        short_description: Message { text: rule.promise().to_owned() },
    });
    let driver = Driver {
        name: "astra-dispatch agents check",
        version: env!("CARGO_PKG_VERSION"),
        rules: rules.collect(),
    };
    Log {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        version: "2.1.0",
        runs: [Run { tool: Tool { driver }, column_kind: "unicodeCodePoints", results }],
    }
}

fn finding(checked: &Checked<'_>, fault: &Fault, rules: &[Rule]) -> Finding {
    let text = format!("{}; {}", fault.cause, fault.cure);
    // A fault of the file as a whole is shown at its first line: code scanning asks for one.
    let (start_line, start_column) = fault.place.map_or((1, 1), |place| (place.line, place.column));
    Finding {
        rule_id: fault.rule.name(),
        rule_index: rules.binary_search(&fault.rule).unwrap_or_default(),
        level: fault.severity,
        message: Message { text: escape::terminal(&text).into_owned() },
        locations: [Location {
            physical_location: PhysicalLocation {
                artifact_location: ArtifactLocation { uri: relative_uri(&checked.path(fault)) },
                region: Region { start_line, start_column },
            },
        }],
    }
}

/// A path as a relative reference (RFC 3986, unreserved characters as they are).
fn relative_uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_relative_references() {
        assert_eq!(relative_uri(".astra/agents/vega.yaml"), ".astra/agents/vega.yaml");
        assert_eq!(relative_uri("a b/ö:%#?.yaml"), "a%20b/%C3%B6%3A%25%23%3F.yaml");
    }
}

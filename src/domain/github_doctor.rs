//! `agents doctor --github`: what GitHub's answers say about the App or the token that runs use, about
//! the rules for the branches that it may write, and about the workflows that such a branch starts.
//!
//! Facts: a repository's active rules for a branch name, existing or not, may be read by whoever may
//! see the repository, and so may whether the asker can bypass a ruleset (docs.github.com, "REST API
//! endpoints for rules"). Older branch protection may only be read by administrators.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::finding::{Finding, State};
use super::name::{Branch, Repository};

pub mod workflows;

/// What runs need in a repository; reading metadata comes with any permission.
const NEEDED: [(&str, &str); 2] = [("contents", "write"), ("pull_requests", "write")];
/// Levels of permissions, each with all before it.
const LEVELS: [&str; 3] = ["read", "write", "admin"];
/// A branch as runs push them.
pub const OWN_BRANCH: &str = "astra/doctor";
/// A branch as only people may push them.
pub const OTHER_BRANCH: &str = "doctor/astra";
/// Names in one fault.
const MOST_NAMES: usize = 10;
const RULESET: &str = "add a ruleset for all branches but `astra/**` that restricts creations, updates and \
                       deletions, with a bypass for people and none for the App";

/// A GitHub App in an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Its number.
    pub id: u64,
    /// The account's name.
    pub account: String,
    /// Permissions by name, with their levels.
    pub permissions: BTreeMap<String, String>,
    /// Whether it reaches every repository of the account.
    pub reaches_all: bool,
    /// Where a person changes it.
    pub settings: String,
    suspended: bool,
}

impl Installation {
    /// As GitHub describes it; `None` where that lacks something.
    pub fn read(answer: &Value) -> Option<Self> {
        let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let permissions = answer.get("permissions")?.as_object()?.iter();
        Some(Self {
            id: answer.get("id")?.as_u64()?,
            account: text("/account/login").or_else(|| text("/account/slug")).unwrap_or_default(),
            permissions: permissions
                .filter_map(|(name, level)| Some((name.clone(), level.as_str()?.to_owned())))
                .collect(),
            reaches_all: text("/repository_selection")? == "all",
            settings: text("/html_url").unwrap_or_default(),
            suspended: answer.get("suspended_at").is_some_and(|time| !time.is_null()),
        })
    }

    /// Whether runs can work with it.
    pub fn suffices(&self, repository: &Repository) -> Finding {
        let mut faults: Vec<String> = NEEDED
            .iter()
            .filter(|(name, level)| rank(self.permissions.get(*name).map(String::as_str)) < rank(Some(level)))
            .map(|(name, level)| match self.permissions.get(*name) {
                Some(has) => format!("it has `{name}: {has}` and needs `{level}`"),
                None => format!("it lacks `{name}: {level}`"),
            })
            .collect();
        if self.suspended {
            faults.push("it is suspended".to_owned());
        }
        Finding::new(
            format!("{repository}: the App is installed and may do what runs need"),
            faults,
            format!(
                "change the App's permissions, then let an owner of {} accept them at {}",
                self.account, self.settings
            ),
        )
    }

    /// Whether it may do more than runs need.
    pub fn excess(&self) -> Finding {
        let allowed =
            |name: &str| NEEDED.iter().find(|(needed, _)| *needed == name).map_or("read", |found| found.1);
        let is_more = |(name, level): &(&String, &String)| {
            let known = NEEDED.iter().any(|(needed, _)| needed == name) || *name == "metadata";
            !known || rank(Some(level)) > rank(Some(allowed(name)))
        };
        let more = self.permissions.iter().filter(is_more);
        Finding::warning(
            format!("{}: the App may do no more than runs need", self.account),
            more.map(|(name, level)| format!("it has `{name}: {level}`, which runs do not need")).collect(),
            "take it away in the App's settings, under Permissions",
        )
    }

    /// Whether it reaches more repositories than the registry names; `None`: which ones is unknown.
    pub fn reach(&self, repositories: &[Repository], reachable: Option<&[String]>) -> Finding {
        let check = format!("{}: the App reaches the registry's repositories and no others", self.account);
        let ours: BTreeSet<String> =
            repositories.iter().map(|repository| repository.to_string().to_lowercase()).collect();
        let mut others: Vec<&str> = reachable.unwrap_or_default().iter().map(String::as_str).collect();
        others.retain(|name| !ours.contains(&name.to_lowercase()));
        let faults = if self.reaches_all {
            vec![format!("it reaches every repository of {}, future ones too", self.account)]
        } else if others.is_empty() {
            Vec::new()
        } else {
            vec![format!("it also reaches {}", some(&others))]
        };
        let remedy = format!("choose `Only select repositories` and these repositories at {}", self.settings);
        Finding::warning(check, faults, remedy)
    }
}

fn rank(level: Option<&str>) -> usize {
    let known = |level: &str| LEVELS.iter().position(|known| *known == level).unwrap_or(LEVELS.len());
    level.map_or(0, |level| known(level) + 1)
}

fn some(names: &[&str]) -> String {
    let shown = names.iter().take(MOST_NAMES).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MOST_NAMES) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

/// Whether runs can work with a token that somebody gave, and whether it may do more. `repository` is
/// GitHub's answer; `scopes` those of a classic token.
pub fn token(name: &Repository, repository: &Value, scopes: Option<&str>) -> Vec<Finding> {
    let may = |what: &str| repository.pointer(&format!("/permissions/{what}")).and_then(Value::as_bool);
    let check = format!("{name}: the token may do what runs need");
    let remedy = "give it write access to the repository's contents and pull requests";
    let mut findings = vec![match may("push") {
        Some(true) => Finding::new(check, Vec::new(), remedy),
        Some(false) => Finding::new(check, vec!["it may not push".to_owned()], remedy),
        None => Finding::unknown(check, "GitHub does not say", remedy),
    }];
    let mut more = Vec::new();
    if may("admin") == Some(true) {
        more.push("it is an administrator's: it may change the repository's rules".to_owned());
    }
    let scopes = scopes.unwrap_or_default().split(',').map(str::trim).filter(|scope| !scope.is_empty());
    more.extend(scopes.map(|scope| match scope {
        "repo" | "public_repo" => {
            format!("it is a classic token: `{scope}` is write access to every repository")
        }
        other => format!("it has the scope `{other}`, which runs do not need"),
    }));
    findings.push(Finding::warning(
        format!("{name}: the token may do no more than runs need"),
        more,
        "use a GitHub App, or a fine-grained token for this repository alone",
    ));
    findings
}

/// The kinds of rules that hold for whoever asked: `rules` as GitHub lists them for a branch, without
/// those of rulesets that the asker can bypass.
pub fn holding(rules: &[Value], bypassed: &BTreeSet<u64>) -> BTreeSet<String> {
    rules
        .iter()
        .filter(|rule| !ruleset(rule).is_some_and(|id| bypassed.contains(&id)))
        .filter_map(|rule| rule.get("type")?.as_str().map(str::to_owned))
        .collect()
}

/// The ruleset of a rule.
pub fn ruleset(rule: &Value) -> Option<u64> {
    rule.get("ruleset_id")?.as_u64()
}

/// Whether the asker can bypass a ruleset with a push.
pub fn bypasses(ruleset: &Value) -> bool {
    let how = ruleset.get("current_user_can_bypass").and_then(Value::as_str);
    matches!(how, Some("always" | "exempt"))
}

/// Kinds of rules by branch.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// For [`OWN_BRANCH`].
    pub own: BTreeSet<String>,
    /// For [`OTHER_BRANCH`].
    pub other: BTreeSet<String>,
    /// For the branches that work starts from, and whether each has older protection.
    pub bases: BTreeMap<Branch, (BTreeSet<String>, bool)>,
}

/// Whether runs can push their branches, and nothing else.
pub fn rules(repository: &Repository, rules: &Rules) -> Vec<Finding> {
    let hindrances = [
        ("creation", "a ruleset forbids to create `astra/**`"),
        ("required_signatures", "a ruleset wants signed commits on `astra/**`, and those of runs are not"),
    ];
    let hindered = hindrances.iter().filter(|(kind, _)| rules.own.contains(*kind));
    let mut findings = vec![Finding::new(
        format!("{repository}: runs may push `astra/**`"),
        hindered.map(|(_, fault)| (*fault).to_owned()).collect(),
        "leave `astra/**` out of that ruleset",
    )];
    let missing: Vec<String> = ["creation", "update"]
        .iter()
        .filter(|kind| !rules.other.contains(**kind))
        .map(|kind| format!("no ruleset restricts the {kind} of other branches"))
        .collect();
    findings.push(Finding::warning(
        format!("{repository}: a ruleset limits the App to `astra/**`"),
        missing,
        RULESET,
    ));
    findings.extend(rules.bases.iter().map(|(branch, (kinds, protected))| {
        let check = format!("{repository}: `{branch}` takes no push without a pull request");
        if kinds.contains("update") || kinds.contains("pull_request") {
            return Finding::new(check, Vec::new(), "");
        }
        if *protected {
            let why = format!("`{branch}` has branch protection, which only administrators may read");
            return Finding::unknown(check, why, "look whether it requires pull requests, or use a ruleset");
        }
        Finding {
            state: State::Warned,
            ..Finding::new(check, vec!["nothing keeps the App from pushing to it".to_owned()], RULESET)
        }
    }));
    findings
}

#[cfg(test)]
mod tests;

//! Two people changed the vault: what both of them want.
//!
//! Where both set the same key to different values, the newest counts and the note says so. Failing
//! would be worse: Git would leave one side's file, and who takes that side loses all that the other
//! side did. Both values stay in Git's history.

use std::collections::BTreeSet;
use std::fmt;

use super::{Credential, Vault};
use crate::domain::name::AgentName;

/// What a person should look at after a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeNote {
    /// Both sides set the key; the newer value was taken.
    BothSet {
        /// Whose.
        agent: AgentName,
        /// Which.
        key: String,
        /// Whether the value of THEIRS was taken.
        theirs: bool,
    },
    /// One side removed the key and the other one set it anew; it stays.
    SetAndRemoved {
        /// Whose.
        agent: AgentName,
        /// Which.
        key: String,
    },
}

impl fmt::Display for MergeNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BothSet { agent, key, theirs } => {
                let side = if *theirs { "theirs" } else { "ours" };
                write!(
                    f,
                    "{agent} {key}: both sides set it; the newer value ({side}) was taken, \
                     and if it is the wrong one, `vault rotate {agent} {key}`"
                )
            }
            Self::SetAndRemoved { agent, key } => write!(
                f,
                "{agent} {key}: one side removed it and the other one set it anew; it stays, \
                 and if it should go, `vault remove {agent} {key}`"
            ),
        }
    }
}

/// Merges two vaults that both come from `base`.
pub fn merge(base: &Vault, ours: &Vault, theirs: &Vault) -> (Vault, Vec<MergeNote>) {
    let mut merged = Vault { recipients: recipients(base, ours, theirs), ..Vault::default() };
    let mut notes = Vec::new();
    let names: BTreeSet<(&AgentName, &str)> =
        ours.entries().chain(theirs.entries()).map(|(agent, key, _)| (agent, key)).collect();
    for (agent, key) in names {
        let at = |vault: &'_ Vault| vault.get(agent, key).cloned();
        let (taken, note) = one(agent, key, at(base), at(ours), at(theirs));
        notes.extend(note);
        if let Some(credential) = taken {
            merged.agents.entry(agent.clone()).or_default().insert(key.to_owned(), credential);
        }
    }
    (merged, notes)
}

fn one(
    agent: &AgentName,
    key: &str,
    base: Option<Credential>,
    ours: Option<Credential>,
    theirs: Option<Credential>,
) -> (Option<Credential>, Option<MergeNote>) {
    let unchanged =
        |side: &Credential| base.as_ref().is_some_and(|base| base.is(side) && base.set_at == side.set_at);
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => {
            let theirs_is_newer = theirs.set_at > ours.set_at;
            let both_changed = !unchanged(&ours) && !unchanged(&theirs) && !ours.is(&theirs);
            let note = both_changed.then(|| MergeNote::BothSet {
                agent: agent.clone(),
                key: key.to_owned(),
                theirs: theirs_is_newer,
            });
            let take_theirs = if unchanged(&ours) { true } else { !unchanged(&theirs) && theirs_is_newer };
            (Some(if take_theirs { theirs } else { ours }), note)
        }
        (Some(side), None) | (None, Some(side)) => {
            if unchanged(&side) {
                return (None, None);
            }
            let note = base
                .is_some()
                .then(|| MergeNote::SetAndRemoved { agent: agent.clone(), key: key.to_owned() });
            (Some(side), note)
        }
        (None, None) => (None, None),
    }
}

/// Whom one side added is in, whom one side removed is out.
fn recipients(base: &Vault, ours: &Vault, theirs: &Vault) -> BTreeSet<String> {
    let all = ours.recipients.union(&theirs.recipients);
    let stays = |one: &&String| {
        let held = [&ours.recipients, &theirs.recipients].iter().all(|side| side.contains(*one));
        held || !base.recipients.contains(*one)
    };
    all.filter(stays).cloned().collect()
}

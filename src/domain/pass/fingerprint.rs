//! Of item and registry: another one lifts a block.

use sha2::{Digest, Sha256};

use crate::domain::registry::RegistryStamp;
use crate::domain::work_item::WorkItem;

/// `<registry hash>/<hash of the item>`: what a person can change so that a refused task may be
/// accepted. State and time of change are left out, because our own writes change them.
pub(super) fn fingerprint(item: &WorkItem, registry: &RegistryStamp) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    };
    add(&item.name);
    add(&item.description);
    add(&format!("{:?}", item.priority));
    for texts in [&item.labels, &item.links] {
        add(&texts.len().to_string());
        texts.iter().for_each(|text| add(text));
    }
    item.assignees.iter().for_each(|member| add(&member.email));
    format!("{}/{}", registry.hash, hex::encode(&hash.finalize()[..16]))
}

/// Whether a fingerprint was taken with this registry.
pub(super) fn is_of_registry(fingerprint: &str, registry: &RegistryStamp) -> bool {
    fingerprint.rsplit_once('/').is_some_and(|(hash, _)| hash == registry.hash)
}

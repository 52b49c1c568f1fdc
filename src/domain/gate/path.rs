//! Paths as other file systems see them: case, invisible characters, trailing dots, short names.

use crate::domain::escape;

/// Longest path, in bytes.
const LONGEST_PATH: usize = 1024;

/// Why a path is not taken, if it is not.
pub(super) fn fault(path: &[u8]) -> Option<&'static str> {
    let Ok(text) = std::str::from_utf8(path) else {
        return Some("the path is not UTF-8");
    };
    if text.len() > LONGEST_PATH {
        return Some("the path is too long");
    }
    if text.chars().any(char::is_control) || escape::visible(text).1 > 0 {
        return Some("the path has characters that cannot be seen");
    }
    if text.contains('\\') {
        return Some("the path has a backslash, which separates directories elsewhere");
    }
    text.split('/').find_map(component_fault)
}

fn component_fault(component: &str) -> Option<&'static str> {
    if component.is_empty() || component == "." || component == ".." {
        return Some("the path leads elsewhere");
    }
    if component.ends_with(['.', ' ']) {
        return Some("the name ends in a dot or a space, which other file systems drop");
    }
    let canonical = canonical_component(component);
    // NTFS short names of .git, .github, .gitmodules, .gitattributes: GIT~1, GITHUB~1, GI7EBA~1.
    let is_short_name = canonical.starts_with("gi")
        && canonical.split_once('~').is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()));
    (canonical == ".git" || is_short_name).then_some("the name stands for a repository's own directory")
}

/// The path as the least distinguishing file system sees it.
pub(super) fn canonical(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path).replace('\\', "/");
    let components: Vec<String> = text.split('/').map(canonical_component).collect();
    components.join("/")
}

/// Lower case, without what cannot be seen (HFS+ ignores it), without an alternate data stream,
/// trailing dots and spaces (NTFS).
fn canonical_component(component: &str) -> String {
    let (visible, _) = escape::visible(component);
    // Joiners are visible in emoji, but HFS+ ignores them too.
    let visible = visible.replace(['\u{200c}', '\u{200d}'], "").to_lowercase();
    let name = visible.split(':').next().unwrap_or_default();
    let trimmed = name.trim_end_matches(['.', ' ']);
    if trimmed.is_empty() { name.to_owned() } else { trimmed.to_owned() }
}

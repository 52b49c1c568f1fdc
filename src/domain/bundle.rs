//! The head of a Git bundle, read strictly: version 2, what it stands on, what it brings.
//! Source: Git's `gitformat-bundle`.

/// The first line.
const SIGNATURE: &[u8] = b"# v2 git bundle\n";
/// A head that is longer is none of ours, in bytes.
const LONGEST_HEAD: usize = 4096;

/// The head of a bundle, and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// Commits that the receiver must have.
    pub prerequisites: Vec<&'a str>,
    /// Object names and the refs that point to them.
    pub refs: Vec<(&'a str, &'a str)>,
    /// The pack.
    pub pack: &'a [u8],
}

/// Takes a bundle apart; `None` if it is none, or of another version.
pub fn parse(bytes: &[u8]) -> Option<Bundle<'_>> {
    let rest = bytes.strip_prefix(SIGNATURE)?;
    let end = rest[..rest.len().min(LONGEST_HEAD)].windows(2).position(|pair| pair == b"\n\n")?;
    let head = &rest[..end];
    let mut bundle = Bundle { prerequisites: Vec::new(), refs: Vec::new(), pack: &rest[end + 2..] };
    for line in head.split(|&byte| byte == b'\n') {
        match line.strip_prefix(b"-") {
            // A comment, the commit's subject in any encoding, may follow the name.
            Some(prerequisite) => bundle.prerequisites.push(object_name(prerequisite.get(..40)?)?),
            None => {
                let (id, name) = std::str::from_utf8(line).ok()?.split_once(' ')?;
                bundle.refs.push((object_name(id.as_bytes())?, name));
            }
        }
    }
    Some(bundle)
}

/// A name as Git writes it: 40 lower-case hexadecimal digits.
pub fn object_name(bytes: &[u8]) -> Option<&str> {
    let legal = bytes.len() == 40 && bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    std::str::from_utf8(bytes).ok().filter(|_| legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_taken_apart() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!("# v2 git bundle\n-{a} subject\n{b} refs/heads/work\n\nPACKxyz\n\n");
        let bundle = parse(text.as_bytes()).unwrap();
        assert_eq!(bundle.prerequisites, [a.as_str()]);
        assert_eq!(bundle.refs, [(b.as_str(), "refs/heads/work")]);
        assert_eq!(bundle.pack, b"PACKxyz\n\n");
    }

    #[test]
    fn anything_else_is_none() {
        let a = "a".repeat(40);
        for text in [
            String::new(),
            "# v3 git bundle\n@filter=blob:none\n\nPACK".into(),
            format!("# v2 git bundle\n{a} refs/heads/work\nPACK"),
            "# v2 git bundle\nzz refs/heads/work\n\nPACK".into(),
            format!("# v2 git bundle\n-{} s\n\nPACK", &a[..39]),
            format!("# v2 git bundle\n{}\n\nPACK", a.to_uppercase()),
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = parse(&[SIGNATURE, &bytes].concat());
        }
    }
}

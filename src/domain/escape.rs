//! Untrusted text is escaped here, once for each way out.

use std::borrow::Cow;

/// For HTML text and quoted attributes.
pub fn html(text: &str) -> String {
    replace_each(text, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        _ => None,
    })
}

/// For one line of GitHub Markdown: no markup, no HTML, no mention, no issue reference and no
/// closing keyword takes effect. Newlines become spaces.
///
/// A zero-width joiner after `@` and `#` would show in copies, so both become entities; GitHub's
/// references are read before entities are decoded.
pub fn markdown(text: &str) -> String {
    replace_each(&visible(text).0, |c| match c {
        '\n' | '\r' | '\t' => Some(" "),
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '@' => Some("&#64;"),
        '#' => Some("&#35;"),
        '\\' => Some("\\\\"),
        '`' => Some("\\`"),
        '*' => Some("\\*"),
        '_' => Some("\\_"),
        '~' => Some("\\~"),
        '[' => Some("\\["),
        ']' => Some("\\]"),
        '|' => Some("\\|"),
        '!' => Some("\\!"),
        // `https://`, `www.` and `GH-1` would become links or references by themselves.
        ':' => Some("&#58;"),
        _ => None,
    })
    .replace("www.", "www&#46;")
    .replace("GH-", "GH&#45;")
    .replace("gh-", "gh&#45;")
}

/// For the message of a workflow command (`::error::…`).
/// Source: `@actions/core`, `escapeData`.
pub fn workflow_data(text: &str) -> String {
    replace_each(text, |c| match c {
        '%' => Some("%25"),
        '\r' => Some("%0D"),
        '\n' => Some("%0A"),
        _ => None,
    })
}

/// For a property of a workflow command (`file=…`).
/// Source: `@actions/core`, `escapeProperty`.
pub fn workflow_property(text: &str) -> String {
    replace_each(text, |c| match c {
        '%' => Some("%25"),
        '\r' => Some("%0D"),
        '\n' => Some("%0A"),
        ':' => Some("%3A"),
        ',' => Some("%2C"),
        _ => None,
    })
}

/// For a terminal or a log line: control characters (except newline and tab) and characters that
/// reorder or hide text become `�`, so that no escape sequence reaches the terminal.
pub fn terminal(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| (c.is_control() && c != '\n' && c != '\t') || is_invisible(c);
    if text.contains(harmful) {
        Cow::Owned(text.chars().map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Removes what cannot be seen: control characters (except newline and tab), bidirectional controls,
/// zero-width and tag characters. Returns the text and how many characters were removed.
pub fn visible(text: &str) -> (String, usize) {
    let mut removed = 0;
    let kept = text
        .chars()
        .filter(|&c| {
            let keep = !(is_invisible(c) || (c.is_control() && !matches!(c, '\n' | '\t' | '\r')));
            removed += usize::from(!keep);
            keep
        })
        .collect();
    (kept, removed)
}

/// Default-ignorable and bidirectional control characters (Unicode 16, UAX #9 and DerivedCoreProperties),
/// but the variation selectors and the joiner that emoji and Indic scripts are written with.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn replace_each(text: &str, replacement: impl Fn(char) -> Option<&'static str>) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match replacement(c) {
            Some(entity) => escaped.push_str(entity),
            None => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_out_has_its_own_rules() {
        assert_eq!(html("<a href='x'>\"&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;");
        assert_eq!(workflow_data("100%\r\n::add-mask::x"), "100%25%0D%0A::add-mask::x");
        assert_eq!(workflow_property("a:b,c%"), "a%3Ab%2Cc%25");
        assert_eq!(terminal("\u{1b}]0;title\u{7}ok\n\tyes\u{202e}"), "�]0;title�ok\n\tyes�");
        assert_eq!(terminal("plain"), Cow::Borrowed("plain"));
    }

    #[test]
    fn markdown_mentions_nobody_and_closes_nothing() {
        assert_eq!(markdown("Fixes #12, ask @ada"), "Fixes &#35;12, ask &#64;ada");
        assert_eq!(markdown("<img src=x> [a](b) `c`"), "&lt;img src=x&gt; \\[a\\](b) \\`c\\`");
        assert_eq!(markdown("see https://x.test/1\nGH-3"), "see https&#58;//x.test/1 GH&#45;3");
        assert_eq!(markdown("a\u{202e}b\u{200b}c"), "abc");
    }

    #[test]
    fn what_cannot_be_seen_is_removed_and_counted() {
        assert_eq!(visible("a\u{200b}b\u{202e}c\u{e0041}\u{7}"), ("abc".to_owned(), 4));
        assert_eq!(visible("line\n\ttab 👩\u{200d}🚀"), ("line\n\ttab 👩\u{200d}🚀".to_owned(), 0));
    }
}

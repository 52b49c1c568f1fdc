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

/// For one line of GitHub text without markup (a title, the subject of a commit): no mention, no
/// issue reference, no closing keyword and no link takes effect. Newlines become spaces.
///
/// A zero-width space breaks them. An entity would not: GitHub looks for mentions in the rendered
/// page, where entities are decoded (html-pipeline's `MentionFilter` reads text nodes; Renovate's
/// `sanitizeMarkdown` breaks `@` and `#` in the same way).
pub fn github_line(text: &str) -> String {
    const BREAK: char = '\u{200b}';
    let (visible, _) = visible(text);
    let mut inert = String::with_capacity(visible.len());
    let mut characters = visible.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).peekable();
    while let Some(character) = characters.next() {
        inert.push(character);
        let next = characters.peek().copied();
        let digit_follows = next.is_some_and(|c| c.is_ascii_digit());
        let breaks = match character {
            '@' => true,
            '#' => digit_follows,
            '-' => digit_follows && ends_with(&inert, "gh-"),
            ':' => next == Some('/'),
            'w' | 'W' => next == Some('.') && ends_with(&inert, "www"),
            _ => false,
        };
        if breaks {
            inert.push(BREAK);
        }
    }
    inert
}

/// Whether a text ends so, in any case of ASCII letters.
fn ends_with(text: &str, ending: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= ending.len() && bytes[bytes.len() - ending.len()..].eq_ignore_ascii_case(ending.as_bytes())
}

/// For one line of GitHub Markdown: as [`github_line`], and no markup and no HTML takes effect.
pub fn markdown(text: &str) -> String {
    let inert = github_line(text);
    let mut escaped = replace_each(&inert, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '\\' => Some("\\\\"),
        '`' => Some("\\`"),
        '*' => Some("\\*"),
        '_' => Some("\\_"),
        '~' => Some("\\~"),
        '[' => Some("\\["),
        ']' => Some("\\]"),
        '|' => Some("\\|"),
        '!' => Some("\\!"),
        '#' => Some("\\#"),
        '$' => Some("\\$"),
        _ => None,
    });
    // At the start of a line: lists, headings underlined, rules, numbered lists.
    if inert.starts_with(['-', '+', '=']) {
        escaped.insert(0, '\\');
    }
    let digits = inert.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 && inert[digits..].starts_with(['.', ')']) {
        escaped.insert(digits, '\\');
    }
    escaped
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

/// For lines that a workflow's runner reads too: no line starts with a workflow command (`::`, also
/// after blanks, and the older `##[`).
pub fn inert(text: &str) -> String {
    let is_command = |line: &str| {
        let line = line.trim_start();
        line.starts_with("::") || line.starts_with("##[")
    };
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| if is_command(line) { format!("| {line}") } else { line.to_owned() })
        .collect();
    lines.join("\n")
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
    fn github_text_mentions_nobody_and_closes_nothing() {
        let shown = |text: &str| text.replace('\u{200b}', "⎵");
        let line = "Fixes #12, GH-7\nand https://github.com/a/b/issues/3 @ada WWW.x.y";
        assert_eq!(
            shown(&github_line(line)),
            "Fixes #⎵12, GH-⎵7 and https:⎵//github.com/a/b/issues/3 @⎵ada WWW⎵.x.y"
        );
        assert_eq!(shown(&markdown("Fixes #12, ask @ada")), "Fixes \\#⎵12, ask @⎵ada");
        assert_eq!(markdown("<img src=x> [a](b) `c`"), "&lt;img src=x&gt; \\[a\\](b) \\`c\\`");
        assert_eq!(markdown("# a"), "\\# a");
        assert_eq!(markdown("- a"), "\\- a");
        assert_eq!(markdown("1. a"), "1\\. a");
        assert_eq!(markdown("a\u{202e}b\u{200b}c"), "abc");
    }

    proptest::proptest! {
        #[test]
        fn no_text_brings_html_or_a_mention(text in "([@#a-z0-9<>&\"' ]|\\PC){0,60}") {
            let has = |text: &str, characters: &[char]| text.contains(characters);
            proptest::prop_assert!(!has(&html(&text), &['<', '>', '"', '\'']));
            proptest::prop_assert!(!has(&markdown(&text), &['<', '>', '\n']));
            let line: Vec<char> = github_line(&text).chars().collect();
            for pair in line.windows(2) {
                proptest::prop_assert!(!(pair[0] == '@' && pair[1].is_alphanumeric()));
                proptest::prop_assert!(!(pair[0] == '#' && pair[1].is_ascii_digit()));
            }
        }
    }

    #[test]
    fn no_line_is_a_command() {
        assert_eq!(inert("a\n ::error::x\n##[warning]y\nb::c"), "a\n|  ::error::x\n| ##[warning]y\nb::c");
    }

    #[test]
    fn what_cannot_be_seen_is_removed_and_counted() {
        assert_eq!(visible("a\u{200b}b\u{202e}c\u{e0041}\u{7}"), ("abc".to_owned(), 4));
        assert_eq!(visible("line\n\ttab 👩\u{200d}🚀"), ("line\n\ttab 👩\u{200d}🚀".to_owned(), 0));
    }
}

//! An agent's own words, cut and made visible, before anybody repeats them.

use super::escape;
use super::result::{LineComment, Review};

/// Longest summary, in bytes.
pub const SUMMARY_BYTES: usize = 16 << 10;
/// Longest remark on a line, in bytes.
pub const REMARK_BYTES: usize = 4 << 10;
/// Remarks of one review.
pub const REMARKS: usize = 50;
/// Longest sentence about an ending, in bytes.
const SENTENCE_BYTES: usize = 500;
/// Longest path of a remark, in bytes.
const PATH_BYTES: usize = 1024;

/// A summary: visible characters, cut.
pub fn summary(text: &str) -> String {
    cut(&visible(text), SUMMARY_BYTES)
}

/// One line: visible characters, cut.
pub fn sentence(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    cut(&visible(&words.join(" ")), SENTENCE_BYTES)
}

/// A review: every text visible and cut, no more than [`REMARKS`] remarks.
pub fn review(review: Review) -> Review {
    let remark = |comment: LineComment| LineComment {
        path: cut(&visible(&comment.path), PATH_BYTES),
        body: cut(&visible(&comment.body), REMARK_BYTES),
        ..comment
    };
    Review {
        verdict: review.verdict,
        summary: summary(&review.summary),
        comments: review.comments.into_iter().take(REMARKS).map(remark).collect(),
    }
}

/// At most so many bytes, ending in `…` where something was cut off.
pub fn cut(text: &str, bytes: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes {
        return text.to_owned();
    }
    let start = text.floor_char_boundary(bytes.saturating_sub(MARK.len()));
    format!("{}{MARK}", text[..start].trim_end())
}

fn visible(text: &str) -> String {
    escape::visible(text).0.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::result::{Side, Verdict};

    #[test]
    fn words_are_cut_at_a_character() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("äöü", 5), "ä…");
        assert_eq!(cut("a b c d", 5), "a…");
        assert_eq!(summary(&"ä".repeat(20_000)).len(), SUMMARY_BYTES - 1);
        assert_eq!(summary("  a\u{202e}\u{1b}[31m\nb\n"), "a[31m\nb");
        assert_eq!(sentence(" a\n b\tc "), "a b c");
    }

    #[test]
    fn a_review_has_an_end() {
        let comment =
            LineComment { path: "p".repeat(9999), line: 1, side: Side::Right, body: "b".repeat(9999) };
        let long =
            Review { verdict: Verdict::Comment, summary: "s".repeat(99_999), comments: vec![comment; 99] };
        let short = review(long);
        assert_eq!((short.comments.len(), short.comments[0].body.len()), (REMARKS, REMARK_BYTES));
        assert_eq!((short.summary.len(), short.comments[0].path.len()), (SUMMARY_BYTES, PATH_BYTES));
    }
}

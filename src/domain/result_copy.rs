//! Copies of a result that fit where they are carried: whole, or cut and marked `complete: false`.

use super::result::RunResult;
use super::words::cut;

/// Kubernetes keeps so much of a termination message, in bytes.
pub const TERMINATION_MESSAGE_LIMIT: usize = 4096;
/// Container runtimes split longer log lines (containerd: at 16 KiB), in bytes.
pub const LOG_LINE_LIMIT: usize = 16 << 10;
/// How the last line of `deliver`'s log begins.
pub const LOG_LINE_PREFIX: &str = "astra-result: ";

/// Texts get shorter step by step, in bytes.
const STEPS: &[usize] = &[4096, 2048, 1024, 512, 256, 128, 32, 0];

/// The document as one line of JSON of at most `limit` bytes. Remarks go first, then findings, then
/// the ends of texts; outcome, branch, commits and class always stay.
pub fn copy(result: &RunResult, limit: usize) -> String {
    let whole = json(result);
    if whole.len() <= limit {
        return whole;
    }
    let mut short = RunResult { complete: false, ..result.clone() };
    if let Some(review) = &mut short.review {
        review.comments.clear();
    }
    for &bytes in STEPS {
        let line = json(&short);
        if line.len() <= limit {
            return line;
        }
        short.findings.truncate(bytes / 128);
        short.summary = cut(&short.summary, bytes);
        short.reason = cut(&short.reason, bytes.max(64));
        if let Some(review) = &mut short.review {
            review.summary = cut(&review.summary, bytes);
        }
    }
    json(&short)
}

fn json(result: &RunResult) -> String {
    // Plain data with string keys and finite numbers has a JSON form.
    serde_json::to_string(result).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::result::{
        Durations, Finding, LineComment, RESULT_VERSION, Review, RunOutcome, Side, Tokens, Verdict,
    };

    fn result(bytes: usize) -> RunResult {
        let comment = LineComment { path: "p".into(), line: 1, side: Side::Right, body: "b".repeat(bytes) };
        let finding =
            Finding { rule: "mode".into(), path: Some("p".repeat(300)), line: None, message: "m".into() };
        RunResult {
            version: RESULT_VERSION,
            run: "ast-1-x7k2p".parse().unwrap(),
            outcome: RunOutcome::Review,
            partial: false,
            branch: None,
            head: None,
            base: Some("b".repeat(40)),
            summary: "\"\n".repeat(bytes / 2),
            review: Some(Review {
                verdict: Verdict::Comment,
                summary: "r".repeat(bytes),
                comments: vec![comment],
            }),
            tokens: Tokens::default(),
            cost_usd: Some(0.5),
            durations: Durations::default(),
            model: Some("m".repeat(200)),
            class: None,
            reason: "w".repeat(500),
            findings: vec![finding; bytes / 100],
            complete: true,
        }
    }

    #[test]
    fn what_fits_is_whole() {
        let small = result(100);
        assert_eq!(serde_json::from_str::<RunResult>(&copy(&small, 4096)).unwrap(), small);
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        for bytes in [1_000, 5_000, 16_000] {
            for limit in [TERMINATION_MESSAGE_LIMIT, LOG_LINE_LIMIT] {
                let text = copy(&result(bytes), limit);
                assert!(text.len() <= limit, "{bytes} bytes in {limit}: {}", text.len());
                assert!(!text.contains('\n'));
                let read: RunResult = serde_json::from_str(&text).unwrap();
                assert_eq!(read.complete, text == copy(&result(bytes), usize::MAX));
                assert_eq!(read.base, result(bytes).base);
            }
        }
        // As much as fits is kept.
        let text = copy(&result(16_000), LOG_LINE_LIMIT);
        assert!(text.len() > LOG_LINE_LIMIT / 4, "{}", text.len());
    }
}

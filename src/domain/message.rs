//! The sentences and figures that people read outside the terminal, and how untrusted text is fitted
//! into them.

use super::escape;
use super::job::{CancelReason, JobFailure};
use super::registry::Trait;
use super::result::{FailureClass, RunOutcome, Tokens, Verdict};
use super::work_item::Priority;

/// Text on one line: unseen characters removed, white space folded, at most `longest` characters.
pub fn one_line(text: &str, longest: usize) -> String {
    let (visible, _) = escape::visible(text);
    cut(&visible.split_whitespace().collect::<Vec<_>>().join(" "), longest)
}

/// At most `longest` characters, an ellipsis being the last one where something was cut.
pub fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

/// One line of untrusted text for a title on GitHub.
pub fn title(text: &str, longest: usize) -> String {
    cut(&escape::github_line(&one_line(text, longest)), longest)
}

/// One line of untrusted text for Markdown; `longest` is counted before it is escaped.
pub fn markdown_line(text: &str, longest: usize) -> String {
    escape::markdown(&one_line(text, longest))
}

/// Untrusted text of several lines as a Markdown quotation; only leading list dashes keep a meaning.
pub fn markdown_quote(text: &str, longest: usize) -> String {
    let text = cut(text.trim(), longest);
    let quoted = |line: &str| {
        let item = line.trim_start().strip_prefix("- ").or_else(|| line.trim_start().strip_prefix("* "));
        match item {
            Some(item) => format!("> - {}", markdown_line(item, longest)),
            None => format!("> {}", markdown_line(line, longest)).trim_end().to_owned(),
        }
    };
    text.lines().map(quoted).collect::<Vec<_>>().join("\n")
}

/// Untrusted text for HTML; line breaks become `<br>`.
pub fn html(text: &str) -> String {
    escape::html(&escape::visible(text).0.replace("\r\n", "\n")).replace('\n', "<br>")
}

/// `vega` becomes `Vega`.
pub fn capitalised(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// A trait as people see it.
pub fn trait_name(trait_: Trait) -> &'static str {
    match trait_ {
        Trait::Thorough => "Thorough",
        Trait::Fast => "Fast",
        Trait::Creative => "Creative",
    }
}

/// A verdict as people see it.
pub fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approve => "approve",
        Verdict::Comment => "comment",
        Verdict::RequestChanges => "request changes",
    }
}

/// A priority as people see it.
pub fn priority_name(priority: Priority) -> &'static str {
    match priority {
        Priority::Urgent => "urgent",
        Priority::High => "high",
        Priority::Medium => "medium",
        Priority::Low => "low",
        Priority::None => "none",
    }
}

/// An outcome as documents spell it.
pub fn outcome_name(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Changed => "changed",
        RunOutcome::NoChange => "no_change",
        RunOutcome::Review => "review",
        RunOutcome::Refused => "refused",
        RunOutcome::TimedOut => "timed_out",
        RunOutcome::Failed => "failed",
    }
}

/// What an outcome means, in one sentence.
pub fn outcome_sentence(outcome: RunOutcome, partial: bool) -> &'static str {
    match (outcome, partial) {
        (RunOutcome::Changed, false) => "The work is done and waits for review.",
        (RunOutcome::Changed, true) => {
            "The agent was cut short; what it had done by then was pushed as partial work."
        }
        (RunOutcome::NoChange, _) => "The agent found nothing to change.",
        (RunOutcome::Review, _) => "The review is written.",
        (RunOutcome::Refused, _) => "The work was refused by the gate and not published.",
        (RunOutcome::TimedOut, true) => {
            "The agent's time was up; what it had done by then was pushed as partial work."
        }
        (RunOutcome::TimedOut, false) => "The agent's time was up before there was any work to keep.",
        (RunOutcome::Failed, _) => "The run failed.",
    }
}

/// What a failure class means, in one sentence.
pub fn class_sentence(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Infrastructure => "The machine, the cluster or the model's service failed.",
        FailureClass::Agent => "The agent itself failed.",
        FailureClass::Policy => "The work broke a rule of the gate.",
        FailureClass::Credentials => "A credential is missing, wrong or used up.",
        FailureClass::Task => "The task or the registry asks for something that is not there.",
        FailureClass::Cancelled => "Somebody stopped the run.",
    }
}

/// What to do about an attempt that failed with the machine.
pub const RETRIED: &str = "It is tried again by itself, `max_attempts` times in all.";

/// How a run is asked for again in Plane.
macro_rules! reopen {
    () => {
        "move the item back to a not yet started state"
    };
}

/// What to do after a failure of this class, in one sentence.
pub fn class_next_step(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Infrastructure => {
            concat!(
                "It was tried as often as `max_attempts` allows; check the machine or the service, then ",
                reopen!(),
                "."
            )
        }
        FailureClass::Agent => {
            concat!("Read the log of the run, make the task clearer or smaller, then ", reopen!(), ".")
        }
        FailureClass::Policy => {
            "Read which rule refused it and what it found; change the task, or do this part by hand, as a person must with protected files."
        }
        FailureClass::Credentials => {
            concat!("Renew the agent's credential in its vault, then ", reopen!(), ".")
        }
        FailureClass::Task => {
            concat!("Correct the task's lines or the registry, then ", reopen!(), ".")
        }
        FailureClass::Cancelled => {
            concat!("Nothing is to be done; to have it worked on again, ", reopen!(), ".")
        }
    }
}

/// The same where there is no Plane: the task is asked for by hand.
pub fn class_next_step_by_hand(class: FailureClass, task: &str) -> String {
    class_next_step(class).replace(reopen!(), &format!("run `astra-dispatch dispatch --task {task}`"))
}

/// What is said of a run that left nothing.
pub fn without_result() -> JobFailure {
    JobFailure { class: FailureClass::Infrastructure, reason: "it ended without a result".to_owned() }
}

/// Why a run was cancelled, in one sentence.
pub fn cancel_sentence(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::Unwanted => "The run was stopped because the work item is no longer to be worked on.",
        CancelReason::Person => "The run was stopped by a person.",
        CancelReason::Replaced => "The run was replaced by another attempt.",
    }
}

/// Seconds as `3 min 20 s`.
pub fn duration(seconds: f64) -> String {
    // A claim may be anything: `as` saturates, and NaN gives 0.
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) if seconds < 9.95 => format!("{:.1} s", seconds.max(0.0)),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Tokens as `12,345 in (1,000 cached), 678 out`.
pub fn tokens(tokens: &Tokens) -> String {
    let cached = match tokens.cache_read {
        0 => String::new(),
        cached => format!(" ({} more from the cache)", grouped(cached)),
    };
    let sent = tokens.input.saturating_add(tokens.cache_write);
    format!("{} in{cached}, {} out", grouped(sent), grouped(tokens.output))
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unseen_characters_go_and_lines_are_folded() {
        assert_eq!(one_line("a\u{202e}b\u{200b}c\u{1b}[31m\r\n d\u{e0041}", 50), "abc[31m d");
        assert_eq!(html("a\u{2066}\r\n<b onclick='x'>&"), "a<br>&lt;b onclick=&#39;x&#39;&gt;&amp;");
    }

    #[test]
    fn markdown_is_only_text() {
        insta::assert_snapshot!(
            markdown_quote("# Big\n- [x](javascript:y) `code`\n\n<img src=x>\n1. one |\n---\n=== ![a](b)", 500),
            @r"
        > \# Big
        > - \[x\](javascript:y) \`code\`
        >
        > &lt;img src=x&gt;
        > 1\. one \|
        > \---
        > \=== \!\[a\](b)
        ");
    }

    #[test]
    fn without_plane_nobody_is_told_to_move_an_item() {
        for class in [
            FailureClass::Infrastructure,
            FailureClass::Agent,
            FailureClass::Credentials,
            FailureClass::Task,
            FailureClass::Cancelled,
        ] {
            let step = class_next_step_by_hand(class, "AST-1");
            assert!(
                step.contains("`astra-dispatch dispatch --task AST-1`") && !step.contains("item"),
                "{step}"
            );
        }
    }

    #[test]
    fn numbers_are_readable() {
        let used = Tokens { input: 1_234_567, output: 89, cache_read: 1_000, cache_write: 0 };
        assert_eq!(tokens(&used), "1,234,567 in (1,000 more from the cache), 89 out");
        let cases =
            [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.0, "12 s"), (200.0, "3 min 20 s"), (3_720.0, "1 h 2 min")];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected);
        }
        assert_eq!(duration(f64::NAN), "NaN s".replace("NaN", "0"));
        assert_eq!(duration(-1.0), "0.0 s");
    }

    proptest::proptest! {
        #[test]
        fn a_cut_is_never_longer(text in "\\PC{0,60}", longest in 1_usize..50) {
            proptest::prop_assert!(one_line(&text, longest).chars().count() <= longest);
            proptest::prop_assert!(title(&text, longest).chars().count() <= longest);
        }
    }
}

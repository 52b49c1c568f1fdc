//! The texts of a publish plan.

use std::fmt::Write;

use super::super::message;
use super::super::result::{Review, RunResult};
use super::{BODY_LIMIT, Ending, Subject, TEXT_LIMIT};

/// The text of a pull request (Markdown).
pub(super) fn pull_request(subject: &Subject, result: &RunResult) -> String {
    let mut text = format!(
        "**{}** worked on {}: {}\n",
        subject.byline(),
        subject.linked_task(),
        message::outcome_sentence(result.outcome, result.partial),
    );
    if result.partial || result.class.is_some() {
        let _ = write!(text, "\nWhy it is not complete: {}\n", message::markdown_line(&result.reason, 500));
    }
    summary(&mut text, &result.summary);
    text.push_str("\n### Run\n\n");
    facts_table(&mut text, subject, result);
    decision_table(&mut text, subject);
    text.push_str(
        "\n### Checks\n\n\
         - The gate passed before the push: one commit on the prepared base, no protected path, no secret, \
         sizes and file modes within limits.\n\
         - Nothing was built or tested by us: what the repository's own checks say, counts.\n\
         - Summary, model, tokens and cost are what the agent's program reported.\n\
         \nAn agent never merges its own work: a person reviews and merges this.\n",
    );
    message::cut(&text, BODY_LIMIT)
}

/// The text of a review (Markdown); its first line is the verdict.
pub(super) fn review(subject: &Subject, result: &RunResult, review: &Review) -> String {
    let mut text = format!(
        "**Verdict: {}** by {} for {}.\n",
        message::verdict_name(review.verdict),
        subject.byline(),
        subject.linked_task(),
    );
    summary(&mut text, &review.summary);
    let _ = match review.comments.len() {
        0 => writeln!(text, "\nNo remarks on lines."),
        count if count > super::COMMENT_LIMIT => {
            writeln!(text, "\n{} of {count} remarks are on their lines.", super::COMMENT_LIMIT)
        }
        count => writeln!(text, "\n{count} remarks are on their lines."),
    };
    text.push('\n');
    facts_table(&mut text, subject, result);
    let _ = write!(
        text,
        "\nAn agent never approves: the decision is a person's.\n\n{}\n",
        super::github::review_mark(&subject.run)
    );
    text
}

/// The comment in Plane (HTML).
pub(super) fn tracker_comment(subject: &Subject, ending: Ending<'_>) -> String {
    let mut parts = vec![format!("<strong>{}</strong>", message::html(&subject.byline()))];
    match ending {
        Ending::Cancelled(reason) => parts.push(message::cancel_sentence(reason).to_owned()),
        Ending::Failure(failure) => {
            parts.push(message::class_sentence(failure.class).to_owned());
            parts.push(message::html(&message::one_line(&failure.reason, 500)));
            parts.push(message::html(message::class_next_step(failure.class)));
        }
        Ending::Result(result) => result_paragraphs(&mut parts, result),
    }
    parts.push(format!("Run <code>{}</code>, attempt {}", subject.run, subject.attempt));
    parts.iter().map(|part| format!("<p>{part}</p>")).collect()
}

fn result_paragraphs(parts: &mut Vec<String>, result: &RunResult) {
    parts.push(message::outcome_sentence(result.outcome, result.partial).to_owned());
    if let Some(class) = result.class {
        parts.push(message::html(message::class_sentence(class)));
        parts.push(message::html(&message::one_line(&result.reason, 500)));
    }
    for finding in result.findings.iter().take(20) {
        let place = match (&finding.path, finding.line) {
            (Some(path), Some(line)) => format!(" in {path}, line {line}"),
            (Some(path), None) => format!(" in {path}"),
            (None, _) => String::new(),
        };
        let sentence = format!("Rule {}{place}: {}", finding.rule, finding.message);
        parts.push(message::html(&message::one_line(&sentence, 500)));
    }
    if let Some(review) = &result.review {
        let verdict = message::verdict_name(review.verdict);
        parts.push(format!("Verdict: {verdict}, {} remarks on lines.", review.comments.len()));
    }
    let words = result.review.as_ref().map_or(&result.summary, |review| &review.summary);
    if !words.trim().is_empty() {
        parts.push(format!("<em>{}</em>", message::html(&message::cut(words.trim(), 2_000))));
    }
    if let Some(class) = result.class {
        parts.push(message::html(message::class_next_step(class)));
    }
    parts.push(message::html(&message::one_line(&facts_line(result), 500)));
}

fn facts_line(result: &RunResult) -> String {
    let model = result.model.as_deref().unwrap_or("no model");
    format!("{model}, {}, {}, {}", message::tokens(&result.tokens), cost(result), time(result))
}

fn cost(result: &RunResult) -> String {
    result
        .cost_usd
        .map_or_else(|| "no cost reported".to_owned(), |dollars| format!("{dollars:.2} US dollars"))
}

fn time(result: &RunResult) -> String {
    let spent = &result.durations;
    message::duration(spent.prepare + spent.agent + spent.collect + spent.deliver)
}

fn summary(text: &mut String, words: &str) {
    if !words.trim().is_empty() {
        let _ =
            write!(text, "\nIn the agent's own words:\n\n{}\n", message::markdown_quote(words, TEXT_LIMIT));
    }
}

fn facts_table(text: &mut String, subject: &Subject, result: &RunResult) {
    let model =
        result.model.as_deref().map_or_else(|| "none".to_owned(), |name| message::markdown_line(name, 100));
    let base = result.base.as_deref().map_or_else(String::new, |commit| format!(" at `{}`", short(commit)));
    let rows = [
        ("Run", format!("`{}`, attempt {}", subject.run, subject.attempt)),
        ("Agent", subject.byline()),
        ("Model", model),
        ("Tokens", message::tokens(&result.tokens)),
        ("Cost", cost(result)),
        ("Time", time(result)),
        ("Base", format!("`{}`{base}", subject.base)),
        ("Registry", format!("`{}`", subject.registry.hash)),
    ];
    text.push_str("| | |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
}

fn decision_table(text: &mut String, subject: &Subject) {
    if subject.decision.is_empty() {
        return;
    }
    let name = message::capitalised(subject.agent.as_str());
    let _ = write!(text, "\n### Why {name}\n\n| Agent | |\n|---|---|\n");
    for considered in &subject.decision {
        let agent = message::capitalised(considered.agent.as_str());
        let agent = if considered.chosen { format!("**{agent}**") } else { agent };
        let _ = writeln!(text, "| {agent} | {} |", message::markdown_line(&considered.why, 300));
    }
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

//! A decision for people: which agent, why, and what kept each of the others from it. Text for a
//! terminal, Markdown for a step summary.

use comfy_table::{ContentArrangement, Table, presets};

use crate::domain::escape;
use crate::domain::message;
use crate::domain::registry::{Agent, Registry};
use crate::domain::report::{AlsoReport, CandidateReport, DecisionReport, Outcome};

/// How many agents a table shows; the rest is counted.
const ROWS: usize = 20;
/// The longest text of one cell in Markdown, in characters.
const CELL: usize = 300;
/// Skill, availability and authorisation are three things, and three columns.
const HEADINGS: [&str; 5] = ["AGENT", "SKILLS", "AVAILABLE", "ALLOWED", "VERDICT"];

/// For a terminal. `explained` = nothing was changed.
pub fn text(report: &DecisionReport, registry: &Registry, explained: bool) -> String {
    let mut lines = vec![sentence(report, explained)];
    lines.extend(report.remedies.iter().map(|remedy| format!("  {remedy}")));
    let (rows, more) = rows(report, registry);
    if !rows.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(HEADINGS);
        table.add_rows(rows);
        lines.push(String::new());
        lines.extend(table.lines().map(|line| line.trim().to_owned()));
    }
    if let Some(more) = more {
        lines.extend([String::new(), more]);
    }
    lines.extend(begun(&report.also));
    escape::terminal(&lines.join("\n")).into_owned()
}

/// What a pass began besides: a line for each task that had waited, or whose run was lost.
pub fn begun(also: &[AlsoReport]) -> impl Iterator<Item = String> {
    let begun = also.iter().filter(|one| one.outcome == Outcome::Dispatched);
    begun.map(|one| {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "–".to_owned());
        let (task, agent, run) = (part(&one.task), part(&one.agent), part(&one.run));
        match &one.replaces {
            None => format!("{task} is dispatched to {agent} (run {run})"),
            Some(lost) => format!("{task} is tried again by {agent} (run {run}), since run {lost} was lost"),
        }
    })
}

/// For a step summary.
pub fn markdown(report: &DecisionReport, registry: &Registry, explained: bool) -> String {
    let cell = |text: &str| message::markdown_line(text, CELL);
    let mut lines = vec![cell(&sentence(report, explained))];
    if !report.remedies.is_empty() {
        lines.push(String::new());
        lines.extend(report.remedies.iter().map(|remedy| format!("- {}", cell(remedy))));
    }
    let (rows, more) = rows(report, registry);
    if !rows.is_empty() {
        let headings = HEADINGS.map(|heading| message::capitalised(&heading.to_lowercase()));
        let rows: Vec<_> = rows.iter().map(|cells| cells.each_ref().map(|text| cell(text))).collect();
        lines.extend([String::new(), markdown_table(&headings, &rows)]);
    }
    if let Some(more) = more {
        lines.extend([String::new(), cell(&more)]);
    }
    lines.join("\n") + "\n"
}

/// A table of cells that are Markdown already, without a last newline.
pub fn markdown_table<const N: usize>(headings: &[String; N], rows: &[[String; N]]) -> String {
    let row = |cells: &[String; N]| format!("| {} |", cells.join(" | "));
    let mut lines = vec![row(headings), format!("|{}", "---|".repeat(N))];
    lines.extend(rows.iter().map(row));
    lines.join("\n")
}

/// `AST-2 is dispatched to vega: …`
fn sentence(report: &DecisionReport, explained: bool) -> String {
    let key = report.task.as_ref().and_then(|task| task.key.as_deref());
    let task = key.unwrap_or(if report.task.is_some() { "The work item" } else { "The event" });
    let agent = report.agent.as_deref().unwrap_or("an agent");
    let run = report.run.as_ref().map(|run| format!(" (run {run})")).unwrap_or_default();
    let did = match (report.outcome, explained) {
        (Outcome::Dispatched, false) => format!("is dispatched to {agent}{run}"),
        (Outcome::Dispatched, true) => format!("would be dispatched to {agent}"),
        (Outcome::Waiting, false) => "waits".to_owned(),
        (Outcome::Waiting, true) => "would wait".to_owned(),
        (Outcome::Ignored, false) => "is ignored".to_owned(),
        (Outcome::Ignored, true) => "would be ignored".to_owned(),
        (Outcome::Refused, false) => "is refused".to_owned(),
        (Outcome::Refused, true) => "would be refused".to_owned(),
        (Outcome::Cancelled, false) => format!("is cancelled{run}"),
        (Outcome::Cancelled, true) => "would be cancelled".to_owned(),
        (Outcome::AlreadyRunning, _) => format!("runs already{run}"),
    };
    format!("{task} {did}: {}", report.reason)
}

/// The agents that have the task's role, the chosen one first, then by how far they came; and a line
/// about those that are not in the table.
fn rows(report: &DecisionReport, registry: &Registry) -> (Vec<[String; 5]>, Option<String>) {
    let is_other_role = |one: &&CandidateReport| one.failed().is_some_and(|gate| gate.gate == "role");
    let mut of_role: Vec<&CandidateReport> =
        report.candidates.iter().filter(|one| !is_other_role(one)).collect();
    of_role.sort_by_key(|one| {
        let passed = one.gates.iter().filter(|gate| gate.pass).count();
        (!one.chosen, std::cmp::Reverse(passed), std::cmp::Reverse(one.score.total))
    });
    let others: Vec<String> = report
        .candidates
        .iter()
        .filter(is_other_role)
        .map(|one| match agent(one, registry) {
            Some(agent) => format!("{} ({})", one.agent, agent.role),
            None => one.agent.clone(),
        })
        .collect();
    let mut more = Vec::new();
    if of_role.len() > ROWS {
        more.push(format!("{} more agents of the role.", of_role.len() - ROWS));
    }
    if !others.is_empty() {
        let named = others.iter().take(ROWS).cloned().collect::<Vec<_>>().join(", ");
        let rest = others.len().saturating_sub(ROWS);
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        more.push(format!("Another role: {named}{rest}."));
    }
    let rows = of_role.into_iter().take(ROWS).map(|one| row(one, registry)).collect();
    (rows, (!more.is_empty()).then(|| more.join(" ")))
}

fn row(one: &CandidateReport, registry: &Registry) -> [String; 5] {
    let name = match agent(one, registry) {
        Some(agent) => format!(
            "{} · {} · {}",
            message::capitalised(&one.agent),
            message::capitalised(agent.role.as_str()),
            message::trait_name(agent.trait_)
        ),
        None => message::capitalised(&one.agent),
    };
    let skills: Vec<String> = one
        .score
        .parts
        .iter()
        .map(|part| format!("{} {} ({})", part.skill, part.points, part.source))
        .collect();
    let verdict = if one.chosen {
        format!("chosen, score {}", one.score.total)
    } else if let Some(gate) = one.failed() {
        format!("{}: {}", gate.gate, gate.why)
    } else {
        format!("fits, score {}", one.score.total)
    };
    let available = match asked(one, &["status"]) {
        Some(status) => format!("{status}, {} of {}", one.load.running, one.load.max),
        None => format!("{} of {}", one.load.running, one.load.max),
    };
    [
        name,
        if skills.is_empty() { "–".to_owned() } else { skills.join(", ") },
        available,
        asked(one, &["repository", "model"]).unwrap_or_else(|| "–".to_owned()),
        verdict,
    ]
}

/// What the named gates said, where it came to them.
fn asked(one: &CandidateReport, gates: &[&str]) -> Option<String> {
    let said: Vec<&str> = one
        .gates
        .iter()
        .filter(|gate| gates.contains(&gate.gate.as_str()) && gate.why != "no model is asked for")
        .map(|gate| gate.why.as_str())
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

fn agent<'r>(one: &CandidateReport, registry: &'r Registry) -> Option<&'r Agent> {
    registry.agents.get(&one.agent.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::decision::{Situation, judge};
    use crate::domain::matching::{Running, Workforce};
    use crate::domain::registry;
    use crate::domain::task::tests::item;
    use crate::domain::work_item::WorkItem;

    fn both(item: &WorkItem, running: &Running, explained: bool) -> String {
        let workforce = Workforce::new(Arc::new(registry::sample()));
        let verdict = judge(Some(item), &workforce, &Situation::fresh(running));
        let report = DecisionReport::new(&verdict, None, Some(item), workforce.registry());
        let registry = workforce.registry();
        format!("{}\n\n{}", text(&report, registry, explained), markdown(&report, registry, explained))
    }

    #[test]
    fn a_choice_shows_who_and_why() {
        let mut item = item(&["agent:coder", "skill:protobuf"]);
        item.description = "Kotlin and React.".to_owned();
        insta::assert_snapshot!(both(&item, &Running::default(), true), @r"
    AST-12 would be dispatched to vega: vega has the skills that fit best: kotlin (the project), protobuf (a label)

    AGENT                    SKILLS                                  AVAILABLE       ALLOWED                VERDICT
    Vega · Coder · Thorough  kotlin 2 (project), protobuf 8 (label)  active, 0 of 1  may work in astra/api  chosen, score 10
    Rigel · Coder · Fast     react 1 (mention)                       active, 0 of 1  may work in astra/api  fits, score 1

    Another role: altair (ops), lyra (docs), sirius (reviewer).

    AST-12 would be dispatched to vega: vega has the skills that fit best: kotlin (the project), protobuf (a label)

    | Agent | Skills | Available | Allowed | Verdict |
    |---|---|---|---|---|
    | Vega · Coder · Thorough | kotlin 2 (project), protobuf 8 (label) | active, 0 of 1 | may work in astra/api | chosen, score 10 |
    | Rigel · Coder · Fast | react 1 (mention) | active, 0 of 1 | may work in astra/api | fits, score 1 |

    Another role: altair (ops), lyra (docs), sirius (reviewer).
    ");
    }

    #[test]
    fn an_agent_that_lacks_something_here_takes_nothing() {
        let lacks = [("vega", "the program `claude`"), ("rigel", "GITHUB_TOKEN")];
        let lacks = lacks.map(|(name, what)| (name.parse().unwrap(), what.to_owned())).into();
        let workforce = Workforce::new(Arc::new(registry::sample())).lacking(&lacks);
        let item = item(&["agent:coder"]);
        let verdict = judge(Some(&item), &workforce, &Situation::fresh(&Running::default()));
        let report = DecisionReport::new(&verdict, None, Some(&item), workforce.registry());
        insta::assert_snapshot!(text(&report, workforce.registry(), true), @r"
    AST-12 would wait: no fitting agent of the role coder can work on the machine that dispatches: rigel needs GITHUB_TOKEN; vega needs the program `claude`

    AGENT                    SKILLS              AVAILABLE       ALLOWED                VERDICT
    Vega · Coder · Thorough  kotlin 2 (project)  active, 0 of 1  may work in astra/api  equipment: needs the program `claude`
    Rigel · Coder · Fast     –                   active, 0 of 1  may work in astra/api  equipment: needs GITHUB_TOKEN

    Another role: altair (ops), lyra (docs), sirius (reviewer).
    ");
    }

    #[test]
    fn a_waiting_task_shows_what_stopped_each_agent() {
        let mut running = Running::default();
        running.add(&"vega".parse().unwrap());
        let item = item(&["agent:coder", "model:opus"]);
        insta::assert_snapshot!(both(&item, &running, false), @r"
    AST-12 waits: every fitting agent of the role coder is busy (vega)

    AGENT                    SKILLS              AVAILABLE       ALLOWED                                            VERDICT
    Vega · Coder · Thorough  kotlin 2 (project)  active, 1 of 1  may work in astra/api; may use the model opus      capacity: works on 1 of at most 1
    Rigel · Coder · Fast     –                   active, 0 of 1  may work in astra/api; may not use the model opus  model: may not use the model opus

    Another role: altair (ops), lyra (docs), sirius (reviewer).

    AST-12 waits: every fitting agent of the role coder is busy (vega)

    | Agent | Skills | Available | Allowed | Verdict |
    |---|---|---|---|---|
    | Vega · Coder · Thorough | kotlin 2 (project) | active, 1 of 1 | may work in astra/api; may use the model opus | capacity: works on 1 of at most 1 |
    | Rigel · Coder · Fast | – | active, 0 of 1 | may work in astra/api; may not use the model opus | model: may not use the model opus |

    Another role: altair (ops), lyra (docs), sirius (reviewer).
    ");
    }

    #[test]
    fn text_of_strangers_has_no_effect() {
        let item = item(&["agent:<img src=x>|`\u{1b}[31m\u{202e}::error::@org/team #1 [x](http://x.test)"]);
        let shown = both(&item, &Running::default(), false);
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
        let (_, markdown) = shown.split_once("\n\n").unwrap();
        insta::assert_snapshot!(markdown.replace('\u{200b}', "·"), @r#"
    AST-12 is refused: the registry has no role "&lt;img src=x&gt;\|\`\\u{1b}\[31m\\u{202e}::error::@·org/team \#·1 \[x\](http:·//x.test)" (it has characters outside plain ASCII)

    - Use one of \`agent:coder\`, \`agent:docs\`, \`agent:ops\`, \`agent:reviewer\`.
    "#);
    }
}

//! What checks found, for people.

use crate::domain::escape;
use crate::domain::finding::{Finding, State};

/// One line a check, its faults and their cure below it, and the sum at the end.
pub fn text(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let mark = match finding.state {
            State::Passed => "ok     ",
            State::Failed => "FAILED ",
            State::Warned => "warning",
            State::Unknown | State::Unanswered => "unknown",
        };
        lines.push(format!("{mark} {}", finding.check));
        lines.extend(finding.faults.iter().map(|fault| format!("          {fault}")));
        lines.extend(finding.remedy.iter().map(|remedy| format!("          → {remedy}")));
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let [passed, failed, warned] = [State::Passed, State::Failed, State::Warned].map(count);
    let unknown = findings.len() - passed - failed - warned;
    let warned = if warned == 0 { String::new() } else { format!("{warned} warnings, ") };
    lines.push(format!("{passed} passed, {failed} failed, {warned}{unknown} unknown"));
    escape::terminal(&lines.join("\n")).into_owned()
}

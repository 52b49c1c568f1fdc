//! What the CLIs print is JSON for machines; the transcript is for people.

use std::fmt::Write as _;

use serde_json::Value;

/// Longest piece of a tool's input or output that is shown, in characters.
const PIECE_LIMIT: usize = 4_000;

/// One line of Claude Code's `stream-json`. A line that is no event is shown as it is; `None`: the
/// event says nothing to people.
pub fn claude_code(line: &str) -> Option<String> {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return Some(line.to_owned()) };
    match (text(&event["type"]), text(&event["subtype"])) {
        ("system", "init") => Some(format!(
            "Claude Code {}, model {}, tools {}",
            text(&event["claude_code_version"]),
            text(&event["model"]),
            array(&event["tools"]).map(text).collect::<Vec<_>>().join(", ")
        )),
        ("system", "api_retry") => Some(format!(
            "(the API did not answer: {} {}; try {} of {})",
            event["error_status"],
            text(&event["error"]),
            event["attempt"],
            event["max_retries"]
        )),
        ("assistant" | "user", _) => blocks(&event["message"]["content"]),
        ("result", subtype) => {
            let mut words =
                format!("(end: {subtype}, {} turns, ${})", event["num_turns"], event["total_cost_usd"]);
            let error = event["is_error"] == true;
            let said =
                error.then(|| text(&event["result"])).into_iter().chain(array(&event["errors"]).map(text));
            for said in said.filter(|said| !said.is_empty()) {
                let _ = write!(words, "\n{}", cut(said));
            }
            Some(words)
        }
        _ => None,
    }
}

/// One line of Codex's `--json`, likewise.
pub fn codex(line: &str) -> Option<String> {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return Some(line.to_owned()) };
    let item = &event["item"];
    match (text(&event["type"]), text(&item["type"])) {
        ("item.started", "command_execution") => Some(format!("> {}", cut(text(&item["command"])))),
        ("item.completed", "command_execution") => {
            let output = indented(text(&item["aggregated_output"]));
            Some(format!("{output}  (exit code {})", item["exit_code"]))
        }
        ("item.completed", "agent_message") => Some(text(&item["text"]).to_owned()),
        ("item.completed", "error") => Some(format!("({})", text(&item["message"]))),
        ("error", _) => Some(format!("({})", text(&event["message"]))),
        ("turn.failed", _) => Some(format!("(end: {})", text(&event["error"]["message"]))),
        ("turn.completed", _) => Some("(end: completed)".to_owned()),
        _ => None,
    }
}

/// The content of a message: words, calls of tools and what they gave.
fn blocks(content: &Value) -> Option<String> {
    let mut shown: Vec<String> = Vec::new();
    for block in array(content) {
        match text(&block["type"]) {
            "text" => shown.push(text(&block["text"]).to_owned()),
            "tool_use" => {
                let input = &block["input"];
                let input = match &input["command"] {
                    Value::String(command) => command.clone(),
                    _ => input.to_string(),
                };
                shown.push(format!("> {}: {}", text(&block["name"]), cut(&input)));
            }
            "tool_result" => {
                let content = &block["content"];
                let words = array(content).map(|part| text(&part["text"])).collect::<Vec<_>>().join("\n");
                let words = content.as_str().unwrap_or(&words);
                shown.push(indented(words).trim_end_matches('\n').to_owned());
            }
            _ => {}
        }
    }
    (!shown.is_empty()).then(|| shown.join("\n"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn indented(text: &str) -> String {
    cut(text).lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "  {line}");
        all
    })
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(PIECE_LIMIT) {
        Some((end, _)) => format!("{} … ({} more characters)", &text[..end], text[end..].chars().count()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(name: &str, render: fn(&str) -> Option<String>) -> String {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/agent-runtimes").join(name);
        let recording: Value = serde_json::from_slice(&std::fs::read(path).expect(name)).expect(name);
        let events = recording["events"].as_array().expect("events");
        events.iter().filter_map(|event| render(&event.to_string())).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn recorded_runs_read_like_a_log() {
        insta::assert_snapshot!("claude-edit", rendered("claude-stream-edit.json", claude_code));
        insta::assert_snapshot!("claude-retry", rendered("claude-stream-retry-recovers.json", claude_code));
        insta::assert_snapshot!("codex-edit", rendered("codex-stream-edit.json", codex));
        insta::assert_snapshot!("codex-401", rendered("codex-401.json", codex));
    }

    #[test]
    fn what_is_no_event_is_shown_as_it_is_and_what_is_long_is_cut() {
        assert_eq!(claude_code("Segmentation fault").as_deref(), Some("Segmentation fault"));
        assert_eq!(codex("not json").as_deref(), Some("not json"));
        assert_eq!(claude_code("{\"type\":\"news\"}"), None);
        let long = serde_json::json!({"type": "assistant", "message": {"content": [
            {"type": "tool_use", "name": "Write", "input": {"content": "é".repeat(5000)}}]}});
        let shown = claude_code(&long.to_string()).expect("shown");
        assert!(shown.ends_with(" … (1014 more characters)"), "{}", &shown[shown.len() - 60..]);
    }
}

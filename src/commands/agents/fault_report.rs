//! Faults of a registry as text with excerpts, as JSON and as GitHub annotations.

use std::fmt::Write as _;
use std::path::Path;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use crate::domain::escape;
use crate::domain::registry::{Fault, Registry, Severity, Sources};

/// What a check found.
pub(super) struct Checked<'a> {
    /// The registry's directory, as people shall see it.
    pub(super) directory: &'a Path,
    pub(super) sources: &'a Sources,
    /// `None` where there are errors.
    pub(super) registry: Option<&'a Registry>,
    pub(super) faults: &'a [Fault],
}

impl Checked<'_> {
    pub(super) fn path(&self, fault: &Fault) -> String {
        escape::terminal(&self.directory.join(&fault.file).display().to_string()).into_owned()
    }

    fn count(&self, severity: Severity) -> usize {
        self.faults.iter().filter(|fault| fault.severity == severity).count()
    }
}

/// For people: each fault with an excerpt of its file, and a last line that sums up.
pub(super) fn text(checked: &Checked<'_>, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let mut text = String::new();
    for fault in checked.faults {
        text.push_str(&renderer.render(&[group(checked, fault)]));
        text.push_str("\n\n");
    }
    text.push_str(&summary(checked));
    text
}

fn group<'a>(checked: &Checked<'_>, fault: &'a Fault) -> Group<'a> {
    let level = match fault.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let path = checked.path(fault);
    let group = Group::with_title(
        level.primary_title(escape::terminal(&fault.cause).into_owned()).id(fault.rule.name()),
    );
    let source = checked.sources.text(&fault.file).filter(|source| !source.is_empty());
    let group = match fault.place.zip(source) {
        Some((place, source)) => {
            let range = place.start as usize..place.end as usize;
            let annotation = AnnotationKind::Primary.span(range);
            group.element(Snippet::source(printable(source)).path(path).annotation(annotation))
        }
        None => group.element(Origin::path(path)),
    };
    group.element(Level::HELP.message(escape::terminal(&fault.cure).into_owned()))
}

/// The source with each byte of a harmful character as `?`, so that places stay right and no escape
/// sequence reaches the terminal.
fn printable(source: &str) -> String {
    let mut buffer = [0; 4];
    source
        .chars()
        .flat_map(|c| {
            let harmless = escape::terminal(c.encode_utf8(&mut buffer)) == c.to_string();
            let (shown, times) = if harmless || c == '\r' { (c, 1) } else { ('?', c.len_utf8()) };
            std::iter::repeat_n(shown, times)
        })
        .collect()
}

fn summary(checked: &Checked<'_>) -> String {
    let errors = counted(checked.count(Severity::Error), "error");
    let warnings = counted(checked.count(Severity::Warning), "warning");
    match checked.registry {
        None => format!("{errors}, {warnings}"),
        Some(registry) => format!(
            "{}, {}, {}: {errors}, {warnings}",
            counted(registry.agents.len(), "agent"),
            counted(registry.roles.len(), "role"),
            counted(registry.projects.len(), "project"),
        ),
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// For scripts.
#[derive(Debug, Serialize)]
pub(super) struct CheckJson {
    /// Of this document: 1.
    version: u32,
    /// `sha256:…` of the registry's files.
    registry: String,
    /// Whether the registry can be used.
    usable: bool,
    errors: usize,
    warnings: usize,
    faults: Vec<FaultJson>,
}

#[derive(Debug, Serialize)]
struct FaultJson {
    severity: Severity,
    rule: &'static str,
    /// Path within the registry.
    file: String,
    line: Option<u32>,
    column: Option<u32>,
    cause: String,
    cure: String,
}

pub(super) fn json(checked: &Checked<'_>) -> CheckJson {
    let faults = checked.faults.iter().map(|fault| FaultJson {
        severity: fault.severity,
        rule: fault.rule.name(),
        file: fault.file.clone(),
        line: fault.place.map(|place| place.line),
        column: fault.place.map(|place| place.column),
        cause: fault.cause.clone(),
        cure: fault.cure.clone(),
    });
    CheckJson {
        version: 1,
        registry: checked.sources.hash(),
        usable: checked.registry.is_some(),
        errors: checked.count(Severity::Error),
        warnings: checked.count(Severity::Warning),
        faults: faults.collect(),
    }
}

/// Workflow commands that GitHub shows beside the lines of a pull request.
pub(super) fn github(checked: &Checked<'_>) -> String {
    let mut text = String::new();
    for fault in checked.faults {
        let command = match fault.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = write!(text, "::{command} file={}", escape::workflow_property(&checked.path(fault)));
        if let Some(place) = fault.place {
            let _ = write!(text, ",line={},col={}", place.line, place.column);
        }
        let title = format!("agents check: {}", fault.rule.name());
        let message = escape::terminal(&format!("{}\n{}", fault.cause, fault.cure)).into_owned();
        let _ = writeln!(
            text,
            ",title={}::{}",
            escape::workflow_property(&title),
            escape::workflow_data(&message)
        );
    }
    text.push_str(&summary(checked));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::registry::{Content, SourceFile, parse};

    fn hostile() -> Sources {
        let text = "version: 1\n\"\\e[31m\u{202e}%0A::x,y:\\r\\n::error::owned\": 1\r\n";
        let content = Content::Bytes(text.into());
        Sources { files: vec![SourceFile { path: "astra.yaml".to_owned(), content }], ordinal: 0 }
    }

    #[test]
    fn nothing_of_a_hostile_file_reaches_the_terminal_or_the_runner() {
        let sources = hostile();
        let faults = parse(&sources).unwrap_err();
        let checked =
            Checked { directory: Path::new("a,b:c"), sources: &sources, registry: None, faults: &faults };
        let shown = text(&checked, false);
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\r']), "{shown:?}");
        let annotations = github(&checked);
        assert!(!annotations.contains(['\u{1b}', '\u{202e}', '\r']), "{annotations:?}");
        let commands = annotations.lines().filter(|line| line.starts_with("::")).count();
        assert_eq!(commands, faults.len(), "{annotations}");
        assert!(annotations.contains("file=a%2Cb%3Ac/astra.yaml,line=2,col=1,"), "{annotations}");
    }

    #[test]
    fn an_annotation_has_place_title_cause_and_cure() {
        let sources = Sources::default();
        let faults = parse(&sources).unwrap_err();
        let checked =
            Checked { directory: Path::new(".astra"), sources: &sources, registry: None, faults: &faults };
        assert_eq!(
            github(&checked),
            "::error file=.astra/astra.yaml,title=agents check%3A files::there is no astra.yaml%0Amake one, or \
             give the registry's directory with --registry\n1 error, 0 warnings"
        );
    }
}

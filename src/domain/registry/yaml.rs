//! YAML as a tree in which everything has its place. Scalars stay text: what a key means decides how
//! its value is read, so `0123` stays a name and `no` stays a word.
//!
//! granit-parser's events instead of a serde reader of YAML: such a reader stops at the first value
//! that does not fit, and `agents check` reports all of them.

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::fault::{Findings, Place, Rule};

/// Collections within collections, at most. Registry files need four.
const DEEPEST: usize = 16;

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
}

/// A value.
#[derive(Debug)]
pub(super) enum Value {
    /// Text; `plain` = without quotes.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file, each key once.
    Map(Vec<(Key, Node)>),
    /// Something that was already reported.
    Faulty,
}

/// A key and its place.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) at: Place,
    pub(super) text: String,
}

impl Node {
    /// Nothing: `null`, `~` or empty, without quotes.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for people.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            _ if self.is_null() => "nothing".to_owned(),
            Value::Scalar { text, .. } => format!("`{}`", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) | Value::Faulty => "a mapping".to_owned(),
        }
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Reads one document. `None` where its syntax is wrong, which is then noted.
pub(super) fn parse(text: &str, findings: &Findings<'_>) -> Option<Node> {
    let options = granit_parser::options! {
        emit_comments: false,
        disallow_directives: true,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut builder = Builder { events: Parser::new_from_str_with_options(text, options), text, findings };
    let mut root = None;
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
            _ if root.is_some() => {
                findings.error(
                    Rule::Syntax,
                    builder.place(&span),
                    "a second document begins here",
                    "keep one document in a file",
                );
                return None;
            }
            first => root = Some(builder.node(first, &span)?),
        }
    }
    Some(root.unwrap_or(Node { at: Place::TOP, value: Value::Map(Vec::new()) }))
}

/// Reads a YAML file that is none of ours, with every value as text. `None` where its syntax is wrong;
/// what we do not read, such as an alias, is `null`.
pub(in crate::domain) fn foreign(text: &str) -> Option<serde_json::Value> {
    fn plain(node: Node) -> serde_json::Value {
        match node.value {
            _ if node.is_null() => serde_json::Value::Null,
            Value::Scalar { text, .. } => text.into(),
            Value::List(items) => items.into_iter().map(plain).collect(),
            Value::Map(entries) => entries.into_iter().map(|(key, value)| (key.text, plain(value))).collect(),
            Value::Faulty => serde_json::Value::Null,
        }
    }
    parse(text, &Findings::new("")).map(plain)
}

struct Builder<'t, 'f> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    text: &'t str,
    findings: &'f Findings<'f>,
}

impl<'t> Builder<'t, '_> {
    /// The next event; outer `None` where the syntax is wrong.
    #[expect(clippy::option_option, reason = "the outer one is for `?`, the inner one says: at the end")]
    fn next(&mut self) -> Option<Option<(Event<'t>, Span)>> {
        match self.events.next() {
            None => Some(None),
            Some(Ok(next)) => Some(Some(next)),
            Some(Err(error)) => {
                let at = self.place(&Span::empty(*error.marker()));
                let cause = format!("this is not YAML: {}", error.info());
                self.findings.error(Rule::Syntax, at, cause, "mend the syntax; often it is the indentation");
                None
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: &Span) -> Option<Node> {
        let mut at = self.place(span);
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_decoration(at, anchor, tag.is_some());
                Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_decoration(at, anchor, tag.is_some());
                let (items, end) = self.list()?;
                at.end = self.clipped(at.start, end);
                Value::List(items)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_decoration(at, anchor, tag.is_some());
                let (entries, end) = self.map()?;
                at.end = self.clipped(at.start, end);
                Value::Map(entries)
            }
            _ => {
                self.refuse_decoration(at, 1, false);
                Value::Faulty
            }
        };
        Some(Node { at, value })
    }

    fn list(&mut self) -> Option<(Vec<Node>, Marker)> {
        let mut items = Vec::new();
        loop {
            match self.next()?? {
                (Event::SequenceEnd, span) => return Some((items, span.end)),
                (event, span) => items.push(self.node(event, &span)?),
            }
        }
    }

    fn map(&mut self) -> Option<(Vec<(Key, Node)>, Marker)> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let key = match self.next()?? {
                (Event::MappingEnd, span) => return Some((entries, span.end)),
                (event, span) => self.node(event, &span)?,
            };
            let (event, span) = self.next()??;
            let value = self.node(event, &span)?;
            let Value::Scalar { text, .. } = key.value else {
                let cause = format!("a key must be text, found {}", key.describe());
                self.findings.error(Rule::Syntax, key.at, cause, "write `key: value`");
                continue;
            };
            match entries.iter().find(|(earlier, _)| earlier.text == text) {
                Some((earlier, _)) => self.findings.error(
                    Rule::DuplicateKey,
                    key.at,
                    format!("key `{}` is already on line {}", shortened(&text), earlier.at.line),
                    "keep one of the two",
                ),
                None => entries.push((Key { at: key.at, text }, value)),
            }
        }
    }

    /// Anchors and aliases would let a small file grow without bound, and tags mean nothing here.
    fn refuse_decoration(&self, at: Place, anchor: usize, tagged: bool) {
        if anchor != 0 {
            let cause = "anchors and aliases are not read here";
            self.findings.error(Rule::Syntax, at, cause, "write the value out where it is needed");
        }
        if tagged {
            self.findings.error(Rule::Syntax, at, "tags are not read here", "remove the `!…`");
        }
    }

    fn place(&self, span: &Span) -> Place {
        let start = offset(&span.start).min(self.text.len());
        Place {
            line: small(span.start.line()),
            column: small(span.start.col() + 1),
            start: small(start),
            end: self.clipped(small(start), span.end),
        }
    }

    /// The end of a range, at most the end of the line that it begins on.
    fn clipped(&self, start: u32, end: Marker) -> u32 {
        let start = start as usize;
        let rest = self.text.get(start..).unwrap_or_default();
        let line_end = start + rest.find(['\n', '\r']).unwrap_or(rest.len());
        small(offset(&end).clamp(start, line_end))
    }
}

fn offset(marker: &Marker) -> usize {
    marker.byte_offset().unwrap_or(usize::MAX)
}

/// Files are capped far below 4 GiB.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

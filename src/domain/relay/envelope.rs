//! What GitHub is told: Plane's body with the same keys, long strings cut, and what the relay has to
//! say under the key `relay`.
//!
//! GitHub takes at most 10 top-level properties and less than 64 KB (GitHub REST API, "Create a
//! repository dispatch event"). A body of any size and form becomes one that fits.

use serde_json::{Map, Value};

use crate::domain::event::Relay;

/// The most bytes that an envelope has.
pub const LARGEST: usize = 60_000;
/// Of these, room for what the relay says.
const ROOM_FOR_RELAY: usize = 6_000;
/// The most top-level keys, besides `relay`.
const MOST_TOP_KEYS: usize = 9;
/// How many places of cuts are listed, and how long each may be.
const MOST_PLACES: usize = 20;
const LONGEST_PLACE: usize = 100;
/// Keys longer than this are left out.
const LONGEST_KEY: usize = 100;
/// What a cut string ends with.
const CUT: &str = "…";

/// The keys that mean something to `dispatch`; they are the last to go.
const TOP_KEYS: &[&str] = &["event", "action", "webhook_id", "workspace_id", "data", "activity"];
const ITEM_KEYS: &[&str] = &[
    "id",
    "project",
    "sequence_id",
    "name",
    "description_html",
    "labels",
    "state",
    "priority",
    "assignees",
    "updated_at",
    "archived_at",
    "deleted_at",
    "is_draft",
];
const OTHER_KEYS: &[&str] =
    &["id", "name", "group", "email", "display_name", "field", "actor", "old_value", "new_value"];

/// A body that fits, without the key `relay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// The body.
    pub body: Map<String, Value>,
    /// JSON paths of what was cut or left out.
    pub truncated: Vec<String>,
}

/// What is cut at one step.
#[derive(Clone, Copy)]
struct Limits {
    /// Bytes of a string.
    string: usize,
    /// Elements of a list, members of an object.
    members: usize,
    /// Levels.
    depth: usize,
    /// Only the keys that mean something.
    known_only: bool,
}

/// From nothing cut to what always fits.
const STEPS: &[Limits] = &[
    Limits { string: usize::MAX, members: usize::MAX, depth: usize::MAX, known_only: false },
    Limits { string: 40_000, members: usize::MAX, depth: usize::MAX, known_only: false },
    Limits { string: 20_000, members: 2_000, depth: 32, known_only: false },
    Limits { string: 10_000, members: 1_000, depth: 32, known_only: false },
    Limits { string: 4_000, members: 200, depth: 16, known_only: false },
    Limits { string: 1_000, members: 100, depth: 8, known_only: false },
    Limits { string: 10_000, members: 100, depth: 6, known_only: true },
    Limits { string: 1_000, members: 50, depth: 6, known_only: true },
    Limits { string: 260, members: 20, depth: 4, known_only: true },
    Limits { string: 64, members: 20, depth: 3, known_only: true },
    Limits { string: 64, members: 5, depth: 2, known_only: true },
];

/// Makes a body fit. Something that is no object becomes an empty one.
pub fn fit(body: &Value) -> Fitted {
    let nothing = Map::new();
    let body = body.as_object().unwrap_or(&nothing);
    let mut fitted = Fitted { body: Map::new(), truncated: Vec::new() };
    for limits in STEPS {
        fitted = cut(body, *limits);
        if size(&fitted.body) <= LARGEST - ROOM_FOR_RELAY {
            return fitted;
        }
    }
    fitted
}

/// The envelope.
pub fn wrap(mut body: Map<String, Value>, relay: &Relay) -> serde_json::Result<Map<String, Value>> {
    body.insert("relay".to_owned(), serde_json::to_value(relay)?);
    Ok(body)
}

/// The length as JSON, in bytes.
fn size(body: &Map<String, Value>) -> usize {
    serde_json::to_vec(body).map_or(usize::MAX, |json| json.len())
}

fn cut(body: &Map<String, Value>, limits: Limits) -> Fitted {
    let mut cutter = Cutter { limits, truncated: Vec::new() };
    let mut fitted = Map::new();
    let known = TOP_KEYS.iter().filter_map(|key| body.get_key_value(*key));
    let others = body.iter().filter(|(key, _)| !TOP_KEYS.contains(&key.as_str()));
    // Plane has no such key; whoever sends it does not speak for the relay.
    for (key, value) in known.chain(others.filter(|(key, _)| *key != "relay")) {
        let is_kept = TOP_KEYS.contains(&key.as_str()) || !limits.known_only;
        if is_kept && fitted.len() < MOST_TOP_KEYS && key.len() <= LONGEST_KEY {
            fitted.insert(key.clone(), cutter.value(value, key, 1));
        } else {
            cutter.note(key);
        }
    }
    Fitted { body: fitted, truncated: cutter.truncated }
}

struct Cutter {
    limits: Limits,
    truncated: Vec<String>,
}

impl Cutter {
    fn value(&mut self, value: &Value, place: &str, depth: usize) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text, place)),
            Value::Array(_) | Value::Object(_) if depth > self.limits.depth => {
                self.note(place);
                Value::Null
            }
            Value::Array(elements) => Value::Array(self.list(elements, place, depth)),
            Value::Object(members) => Value::Object(self.object(members, place, depth)),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn text(&mut self, text: &str, place: &str) -> String {
        // The same text without its markup is worth least.
        let limit = match place {
            "data.description_stripped" => self.limits.string.saturating_mul(2) / 100,
            _ => self.limits.string,
        };
        if json_length(text) <= limit || self.limits.string == usize::MAX {
            return text.to_owned();
        }
        self.note(place);
        let mut left = limit.saturating_sub(CUT.len());
        let kept = text.chars().take_while(|character| {
            let length = json_length(character.encode_utf8(&mut [0; 4]));
            let fits = length <= left;
            left = left.saturating_sub(length);
            fits
        });
        kept.chain(CUT.chars()).collect()
    }

    fn list(&mut self, elements: &[Value], place: &str, depth: usize) -> Vec<Value> {
        if elements.len() > self.limits.members {
            self.note(place);
        }
        let kept = elements.iter().take(self.limits.members).enumerate();
        kept.map(|(index, element)| self.value(element, &format!("{place}[{index}]"), depth + 1)).collect()
    }

    fn object(&mut self, members: &Map<String, Value>, place: &str, depth: usize) -> Map<String, Value> {
        let important = if place == "data" { ITEM_KEYS } else { OTHER_KEYS };
        let known = important.iter().filter_map(|key| members.get_key_value(*key));
        let others = members.iter().filter(|(key, _)| !important.contains(&key.as_str()));
        if members.len() <= self.limits.members && !self.limits.known_only {
            // The order of Plane.
            return self.members(members.iter(), place, depth);
        }
        let mut kept: Vec<_> = known.collect();
        if !self.limits.known_only {
            kept.extend(others.take(self.limits.members.saturating_sub(kept.len())));
        }
        if kept.len() < members.len() {
            self.note(&format!("{place}.*"));
        }
        self.members(kept.into_iter(), place, depth)
    }

    fn members<'a>(
        &mut self,
        members: impl Iterator<Item = (&'a String, &'a Value)>,
        place: &str,
        depth: usize,
    ) -> Map<String, Value> {
        let mut kept = Map::new();
        for (key, value) in members {
            if key.len() > LONGEST_KEY {
                self.note(&format!("{place}.*"));
                continue;
            }
            kept.insert(key.clone(), self.value(value, &format!("{place}.{key}"), depth + 1));
        }
        kept
    }

    fn note(&mut self, place: &str) {
        let printable =
            place.chars().map(|character| if character.is_ascii_graphic() { character } else { '?' });
        let place: String = printable.take(LONGEST_PLACE).collect();
        if self.truncated.len() < MOST_PLACES && !self.truncated.contains(&place) {
            self.truncated.push(place);
        }
    }
}

/// How long a text is as JSON, without its quotation marks: at most 6 bytes for a control character.
fn json_length(text: &str) -> usize {
    let length = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(length).sum()
}

#[cfg(test)]
mod tests;

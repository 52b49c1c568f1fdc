//! Reads a YAML tree into the structs of [`files`](super::files). serde's derive gives the reader the
//! known keys of each struct, so it can report all unknown, missing and wrong ones and go on.

mod access;

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;

use access::{FreeEntries, Items, KnownKeys, PlaceThenValue, Word};

use super::fault::{Findings, Place, Rule, nearest, quoted_list, suggestion};
use super::field::FIELD;
use super::yaml::{Key, Node, Value};

/// Reads a whole file; `None` where not even its outermost mapping can be read.
pub(super) fn read<'de, T: serde::Deserialize<'de>>(root: &'de Node, findings: &Findings<'_>) -> Option<T> {
    T::deserialize(Reader { node: Some(root), name: "", at: Place::TOP, findings }).ok()
}

/// A value to be read, or the lack of one.
#[derive(Clone, Copy)]
struct Reader<'de, 'f> {
    /// `None`: the key is missing.
    node: Option<&'de Node>,
    /// The key that the value belongs to.
    name: &'de str,
    /// Where to report what is missing: the key, or the beginning of what should hold it.
    at: Place,
    findings: &'f Findings<'f>,
}

/// Already noted, or not yet.
#[derive(Debug)]
enum ReadError {
    Noted,
    UnknownVariant { found: String, known: &'static [&'static str] },
    Other(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noted => f.write_str("already reported"),
            Self::UnknownVariant { found, .. } => write!(f, "unknown value `{found}`"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ReadError {}

impl Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownVariant { found: found.to_owned(), known }
    }
}

impl<'de> Reader<'de, '_> {
    /// The value, or a note that it is missing or was found faulty.
    fn node(self) -> Result<&'de Node, ReadError> {
        match self.node {
            Some(Node { value: Value::Faulty, .. }) => Err(ReadError::Noted),
            Some(node) => Ok(node),
            None => {
                let cause = format!("key `{}` is missing", self.name);
                self.findings.error(Rule::MissingKey, self.at, cause, format!("add `{}: …`", self.name));
                Err(ReadError::Noted)
            }
        }
    }

    /// What a fault is about, for people.
    fn subject(self) -> String {
        if self.name.is_empty() { "the file".to_owned() } else { format!("`{}`", self.name) }
    }

    fn wrong(self, node: &Node, wanted: &str, cure: impl Into<String>) -> ReadError {
        let cause = format!("{} takes {wanted}, found {}", self.subject(), node.describe());
        self.findings.error(Rule::WrongType, node.at, cause, cure);
        ReadError::Noted
    }

    fn text(self) -> Result<&'de str, ReadError> {
        let node = self.node()?;
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => Ok(text),
            Value::Scalar { .. } => {
                Err(self.wrong(node, "text", "write a value, or remove the key if it is optional"))
            }
            _ => Err(self.wrong(node, "text", "write one value on the line of the key")),
        }
    }

    fn plain<T: FromStr>(self, wanted: &str) -> Result<T, ReadError> {
        let node = self.node()?;
        match &node.value {
            Value::Scalar { text, plain: true } => {
                text.parse().map_err(|_| self.wrong(node, wanted, format!("write {wanted}")))
            }
            Value::Scalar { plain: false, .. } => Err(self.wrong(node, wanted, "remove the quotes")),
            _ => Err(self.wrong(node, wanted, format!("write {wanted}"))),
        }
    }

    /// Notes an error that came from a visitor and not from here.
    fn settle<T>(self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        result.map_err(|error| {
            let at = self.node.map_or(self.at, |node| node.at);
            match error {
                ReadError::Noted => {}
                ReadError::UnknownVariant { found, known } => self.findings.error(
                    Rule::InvalidValue,
                    at,
                    format!("{} takes one of {}, found `{found}`", self.subject(), quoted_list(known)),
                    suggestion(&found, known.iter().copied()),
                ),
                ReadError::Other(message) => {
                    let cause = format!("{}: {message}", self.subject());
                    self.findings.error(Rule::InvalidValue, at, cause, "correct the value");
                }
            }
            ReadError::Noted
        })
    }
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let result = self.text().and_then(|text| visitor.visit_borrowed_str(text));
        self.settle(result)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let result = self.plain("true or false").and_then(|value| visitor.visit_bool(value));
        self.settle(result)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let result = self.plain("a whole number up to 65535").and_then(|value| visitor.visit_u16(value));
        self.settle(result)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let result = self.plain("a whole number").and_then(|value| visitor.visit_u32(value));
        self.settle(result)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let result = self.plain("a number").and_then(|value| visitor.visit_f64(value));
        self.settle(result)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node {
            None => visitor.visit_none(),
            Some(node) if node.is_null() => visitor.visit_none(),
            Some(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == FIELD {
            visitor.visit_seq(PlaceThenValue { reader: self, given: 0 })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let node = self.node()?;
        let Value::List(items) = &node.value else {
            let cure = match &node.value {
                Value::Scalar { text, .. } if !node.is_null() => format!("write `[{text}]`"),
                _ => "write `[…]`".to_owned(),
            };
            return Err(self.wrong(node, "a list", cure));
        };
        let result = visitor.visit_seq(Items { reader: self, items: items.iter() });
        self.settle(result)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let entries = self.entries()?;
        let result = visitor.visit_map(FreeEntries { reader: self, entries: entries.iter(), value: None });
        self.settle(result)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let entries = self.entries()?;
        for (key, _) in entries.iter().filter(|(key, _)| !fields.contains(&key.text.as_str())) {
            let within = if self.name.is_empty() { String::new() } else { format!(" in `{}`", self.name) };
            let cause = format!("unknown key `{}`{within}", key.text);
            let unused =
                fields.iter().copied().filter(|field| !entries.iter().any(|(key, _)| key.text == *field));
            let cure = match nearest(&key.text, unused) {
                Some(field) => format!("did you mean `{field}`?"),
                None => format!("remove it; known are {}", quoted_list(fields)),
            };
            self.findings.error(Rule::UnknownKey, key.at, cause, cure);
        }
        let result =
            visitor.visit_map(KnownKeys { reader: self, entries, fields: fields.iter(), current: None });
        self.settle(result)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let result = self.text().and_then(|text| visitor.visit_enum(Word(text)));
        self.settle(result)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u64 u128 f32 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct identifier ignored_any
    }
}

impl<'de> Reader<'de, '_> {
    fn entries(self) -> Result<&'de [(Key, Node)], ReadError> {
        let node = self.node()?;
        match &node.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.wrong(node, "a mapping", "write `key: value` lines below it, or `{key: value}`")),
        }
    }
}

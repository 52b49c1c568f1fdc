//! What serde is handed piece by piece: places and values, items, entries and words.

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::super::yaml::{Key, Node};
use super::{ReadError, Reader};

/// For [`Field`](super::super::field::Field): its place, then its value.
pub(super) struct PlaceThenValue<'de, 'f> {
    pub(super) reader: Reader<'de, 'f>,
    pub(super) given: u8,
}

impl<'de> SeqAccess<'de> for PlaceThenValue<'de, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        self.given += 1;
        if self.given == 1 {
            let at = self.reader.node.map_or(self.reader.at, |node| node.at);
            let numbers = [at.line, at.column, at.start, at.end];
            seed.deserialize(SeqDeserializer::new(numbers.into_iter())).map(Some)
        } else {
            seed.deserialize(self.reader).map(Some)
        }
    }
}

pub(super) struct Items<'de, 'f> {
    pub(super) reader: Reader<'de, 'f>,
    pub(super) items: std::slice::Iter<'de, Node>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader { node: Some(node), at: node.at, ..self.reader }).map(Some)
    }
}

/// Entries with free keys.
pub(super) struct FreeEntries<'de, 'f> {
    pub(super) reader: Reader<'de, 'f>,
    pub(super) entries: std::slice::Iter<'de, (Key, Node)>,
    pub(super) value: Option<&'de (Key, Node)>,
}

impl<'de> MapAccess<'de> for FreeEntries<'de, '_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        seed.deserialize(KeyReader(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let (key, node) = self.value.take().ok_or_else(|| ReadError::custom("a value without a key"))?;
        seed.deserialize(Reader { node: Some(node), name: &key.text, at: key.at, ..self.reader })
    }
}

/// A free key, read as a `Field<String>`.
struct KeyReader<'de>(&'de Key);

impl<'de> Deserializer<'de> for KeyReader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_seq(PlaceThenText { key: self.0, given: 0 })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct PlaceThenText<'de> {
    key: &'de Key,
    given: u8,
}

impl<'de> SeqAccess<'de> for PlaceThenText<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        self.given += 1;
        if self.given == 1 {
            let at = self.key.at;
            let numbers = [at.line, at.column, at.start, at.end];
            seed.deserialize(SeqDeserializer::new(numbers.into_iter())).map(Some)
        } else {
            seed.deserialize(StrDeserializer::new(&self.key.text)).map(Some)
        }
    }
}

/// All keys that a struct knows, in its order, there or not.
pub(super) struct KnownKeys<'de, 'f> {
    pub(super) reader: Reader<'de, 'f>,
    pub(super) entries: &'de [(Key, Node)],
    pub(super) fields: std::slice::Iter<'static, &'static str>,
    pub(super) current: Option<&'static str>,
}

impl<'de> MapAccess<'de> for KnownKeys<'de, '_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        self.current = self.fields.next().copied();
        let Some(name) = self.current else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let name = self.current.take().ok_or_else(|| ReadError::custom("a value without a key"))?;
        let found = self.entries.iter().find(|(key, _)| key.text == name);
        let (node, at) = found.map_or((None, self.reader.at), |(key, node)| (Some(node), key.at));
        seed.deserialize(Reader { node, name, at, ..self.reader })
    }
}

/// A word that names a variant.
pub(super) struct Word<'de>(pub(super) &'de str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = ReadError;
    type Variant = Unit;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Unit), ReadError> {
        Ok((seed.deserialize(StrDeserializer::new(self.0))?, Unit))
    }
}

/// The enums of registry files have no content.
pub(super) struct Unit;

impl<'de> VariantAccess<'de> for Unit {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, ReadError> {
        Err(ReadError::custom("takes a single word"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, ReadError> {
        Err(ReadError::custom("takes a single word"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, ReadError> {
        Err(ReadError::custom("takes a single word"))
    }
}

//! JSON Schema of the registry's files, for editors and other checkers.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};

use super::files::{AgentFile, AstraFile};

/// Schema of `astra.yaml`.
pub fn astra_schema() -> Schema {
    schema_of::<AstraFile>("astra.yaml of an astra dispatch registry")
}

/// Schema of `agents/NAME.yaml`.
pub fn agent_schema() -> Schema {
    schema_of::<AgentFile>("Agent of an astra dispatch registry")
}

fn schema_of<T: JsonSchema>(title: &str) -> Schema {
    let mut schema = SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema
}

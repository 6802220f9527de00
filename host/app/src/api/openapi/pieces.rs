//! Pieces that schemas are put together from.

use super::super::query::MAX_ID;
use serde_json::{Value, json};

/// A property that is always there.
pub(super) type Field = (&'static str, Value);

/// A property by its name.
pub(super) fn field(name: &'static str, schema: Value) -> Field {
    (name, schema)
}

/// An object that has all of these.
pub(super) fn object(fields: Vec<Field>) -> Value {
    let mut object = json!({ "type": "object", "properties": {}, "required": [] });
    add(&mut object, fields);
    object
}

/// Adds properties to an object.
pub(super) fn add(object: &mut Value, fields: Vec<Field>) {
    for (name, schema) in fields {
        object["properties"][name] = schema;
        match &mut object["required"] {
            Value::Array(required) => required.push(name.into()),
            missing => *missing = json!([name]),
        }
    }
}

/// A text.
pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

/// True or false.
pub(super) fn boolean() -> Value {
    json!({ "type": "boolean" })
}

/// A count.
pub(super) fn number() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// The id of a row.
pub(super) fn id() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": MAX_ID })
}

/// An instant.
pub(super) fn instant() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

/// A UUID.
pub(super) fn uuid() -> Value {
    json!({ "type": "string", "format": "uuid" })
}

/// A list of these.
pub(super) fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// This or nothing.
pub(super) fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// One of these words.
pub(super) fn words(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

/// `next_cursor` of a list.
pub(super) fn cursor() -> Value {
    json!({ "type": ["string", "null"] })
}

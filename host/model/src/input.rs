//! Reading a JSON object field by field: every problem is collected with its pointer, unknown keys are
//! refused with the nearest known name, and nothing is half-read. The same readers describe what they take
//! ([`Fields::describe`]), so that a document about the API cannot say anything else than what is checked.

use crate::Timestamp;
use crate::json::escape;
use crate::problem::{Invalid, Problem};
use crate::text::{nearest, one_line};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// A reader over one JSON object. Each getter consumes a key; [`Fields::finish`] refuses what is left.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
    /// What was asked for so far, when nothing is read and only that is of interest.
    description: Option<Description>,
}

/// What a reader takes.
#[derive(Default)]
struct Description {
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

/// What a description reads.
static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// The one-word JSON type of a value, for messages.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl<'a> Fields<'a> {
    /// A reader for `value`, which must be an object, standing at `pointer` in its document.
    ///
    /// # Errors
    /// When `value` is not an object.
    pub fn new(value: &'a Value, pointer: impl Into<String>) -> Result<Self, Invalid> {
        let pointer = pointer.into();
        match value {
            Value::Object(map) => Ok(Self {
                map,
                pointer,
                known: Vec::new(),
                problems: Vec::new(),
                description: None,
            }),
            other => Err(Invalid::one(
                pointer,
                format!("must be an object, not {}", type_name(other)),
            )),
        }
    }

    /// Reads `value` wholly with `read`: its problems and its unknown keys refuse it.
    ///
    /// # Errors
    /// Everything that was wrong.
    pub fn read<T>(
        value: &Value,
        pointer: &str,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> Result<T, Invalid> {
        let mut fields = Fields::new(value, pointer)?;
        let result = read(&mut fields);
        fields.finish().map(|()| result)
    }

    /// What `read` takes, as a JSON Schema: `read` is run over nothing, and what it asks for is noted. Null counts
    /// as absent, so that every property that may be left out may be null.
    pub fn describe<T>(read: impl FnOnce(&mut Fields<'_>) -> T) -> Value {
        let mut fields = Fields {
            map: &NOTHING,
            pointer: String::new(),
            known: Vec::new(),
            problems: Vec::new(),
            description: Some(Description::default()),
        };
        read(&mut fields);
        let Description {
            mut properties,
            required,
        } = fields.description.unwrap_or_default();
        for (key, property) in &mut properties {
            if !required.contains(&key.as_str()) {
                allow_null(property);
            }
        }
        let mut schema = json!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }

    /// Notes the schema of `key`, when this is a description.
    fn note(&mut self, key: &'static str, schema: impl FnOnce() -> Value) {
        if let Some(description) = &mut self.description {
            description.properties.insert(key.to_owned(), schema());
        }
    }

    /// Says more of `key`, which was just read, than its reader knows: keywords of JSON Schema, merged into its
    /// schema. Nothing happens unless this is a description.
    pub fn shape(&mut self, key: &'static str, keywords: impl FnOnce() -> Value) {
        let Some(description) = &mut self.description else {
            return;
        };
        let known = description
            .properties
            .entry(key)
            .or_insert_with(|| json!({}));
        if let (Some(known), Value::Object(keywords)) = (known.as_object_mut(), keywords()) {
            known.extend(keywords);
        }
    }

    /// Whether nothing is read and only what would be is noted.
    pub fn is_description(&self) -> bool {
        self.description.is_some()
    }

    /// `key` must be there and is not: a problem, and in a description that it is required.
    pub fn missing(&mut self, key: &'static str, detail: impl Into<String>) {
        match &mut self.description {
            Some(description) if !description.required.contains(&key) => {
                description.required.push(key);
            }
            Some(_) => {}
            None => self.problem(key, detail),
        }
    }

    /// The pointer to `key` in the document.
    pub fn pointer_to(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, escape(key))
    }

    /// Adds a problem with `key`.
    pub fn problem(&mut self, key: &str, detail: impl Into<String>) {
        if self.is_description() {
            return;
        }
        let pointer = self.pointer_to(key);
        self.problems.push(Problem::at(pointer, detail));
    }

    /// Adds a problem with `key` at a position inside its text.
    pub fn problem_at(&mut self, key: &str, detail: impl Into<String>, position: Option<usize>) {
        let pointer = self.pointer_to(key);
        self.problems
            .push(Problem::at(pointer, detail).position(position));
    }

    /// Adds problems found elsewhere, whose pointers are complete.
    pub fn merge(&mut self, problems: Vec<Problem>) {
        self.problems.extend(problems);
    }

    /// Whether anything was wrong so far.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// The raw value of `key`; null counts as absent.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        if let Some(description) = &mut self.description {
            description
                .properties
                .entry(key)
                .or_insert_with(|| json!({}));
        }
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// A string of `min..=max` characters.
    pub fn text(&mut self, key: &'static str, min: usize, max: usize) -> Option<String> {
        self.note(key, || {
            let mut schema = json!({ "type": "string" });
            if min > 0 {
                schema["minLength"] = min.into();
            }
            if max < usize::MAX {
                schema["maxLength"] = max.into();
            }
            schema
        });
        match self.value(key)? {
            Value::String(s) => {
                let count = s.chars().count();
                if count < min || count > max {
                    self.problem(
                        key,
                        format!("has {count} characters; {min} to {max} are allowed"),
                    );
                    return None;
                }
                Some(s.clone())
            }
            other => {
                self.problem(key, format!("must be a string, not {}", type_name(other)));
                None
            }
        }
    }

    /// A boolean.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.note(key, || json!({ "type": "boolean" }));
        match self.value(key)? {
            Value::Bool(b) => Some(*b),
            other => {
                self.problem(
                    key,
                    format!("must be true or false, not {}", type_name(other)),
                );
                None
            }
        }
    }

    /// An integer of `min..=max`.
    pub fn integer(&mut self, key: &'static str, min: i64, max: i64) -> Option<i64> {
        self.note(
            key,
            || json!({ "type": "integer", "minimum": min, "maximum": max }),
        );
        let value = self.value(key)?;
        match value.as_i64() {
            Some(n) if (min..=max).contains(&n) => Some(n),
            _ if value.is_number() => {
                self.problem(
                    key,
                    format!("is {value}; it must be a whole number from {min} to {max}"),
                );
                None
            }
            _ => {
                self.problem(
                    key,
                    format!(
                        "must be a whole number from {min} to {max}, not {}",
                        type_name(value)
                    ),
                );
                None
            }
        }
    }

    /// A non-negative integer of `min..=max`, as u64.
    pub fn unsigned(&mut self, key: &'static str, min: u64, max: u64) -> Option<u64> {
        self.note(
            key,
            || json!({ "type": "integer", "minimum": min, "maximum": max }),
        );
        let value = self.value(key)?;
        match value.as_u64() {
            Some(n) if (min..=max).contains(&n) => Some(n),
            _ => {
                let shown = if value.is_number() {
                    value.to_string()
                } else {
                    type_name(value).to_owned()
                };
                self.problem(
                    key,
                    format!("is {shown}; it must be a whole number from {min} to {max}"),
                );
                None
            }
        }
    }

    /// A number of `min..=max`.
    pub fn number(&mut self, key: &'static str, min: f64, max: f64) -> Option<f64> {
        self.note(
            key,
            || json!({ "type": "number", "minimum": min, "maximum": max }),
        );
        let value = self.value(key)?;
        match value.as_f64() {
            Some(n) if (min..=max).contains(&n) => Some(n),
            _ => {
                let shown = if value.is_number() {
                    value.to_string()
                } else {
                    type_name(value).to_owned()
                };
                self.problem(
                    key,
                    format!("is {shown}; it must be a number from {min} to {max}"),
                );
                None
            }
        }
    }

    /// One of a few words, any case accepted.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        self.note(key, || {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            json!({ "type": "string", "enum": words })
        });
        let value = self.value(key)?;
        let words = || {
            choices
                .iter()
                .map(|(w, _)| *w)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let Value::String(text) = value else {
            self.problem(
                key,
                format!("must be one of {}, not {}", words(), type_name(value)),
            );
            return None;
        };
        if let Some((_, chosen)) = choices.iter().find(|(w, _)| w.eq_ignore_ascii_case(text)) {
            return Some(*chosen);
        }
        let hint = nearest(text, choices.iter().map(|(w, _)| *w))
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        self.problem(
            key,
            format!("`{}` is not one of {}{hint}", one_line(text, 40), words()),
        );
        None
    }

    /// An RFC 3339 instant with an offset.
    pub fn instant(&mut self, key: &'static str) -> Option<Timestamp> {
        self.note(key, || json!({ "type": "string", "format": "date-time" }));
        let value = self.value(key)?;
        let Value::String(text) = value else {
            self.problem(
                key,
                format!(
                    "must be an instant like 2030-01-31T09:00:00+01:00, not {}",
                    type_name(value)
                ),
            );
            return None;
        };
        match parse_instant(text) {
            Ok(instant) => Some(instant),
            Err(detail) => {
                self.problem(key, detail);
                None
            }
        }
    }

    /// An object, read by `read` with its own pointer; problems are merged into this reader.
    pub fn object<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> Option<T> {
        if self.is_description() {
            let schema = Fields::describe(read);
            self.note(key, || schema);
            return None;
        }
        let value = self.value(key)?;
        match Self::read(value, &self.pointer_to(key), read) {
            Ok(result) => Some(result),
            Err(Invalid(problems)) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    /// The raw map of an object.
    pub fn map(&mut self, key: &'static str) -> Option<Map<String, Value>> {
        self.note(key, || json!({ "type": "object" }));
        match self.value(key)? {
            Value::Object(map) => Some(map.clone()),
            other => {
                self.problem(key, format!("must be an object, not {}", type_name(other)));
                None
            }
        }
    }

    /// A list of at most `max` items, each read by `read`.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        max: usize,
        mut read: impl FnMut(&Value) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        self.note(key, || json!({ "type": "array", "maxItems": max }));
        let value = self.value(key)?;
        let Value::Array(items) = value else {
            self.problem(key, format!("must be an array, not {}", type_name(value)));
            return None;
        };
        if items.len() > max {
            self.problem(
                key,
                format!("has {} items; at most {max} are allowed", items.len()),
            );
            return None;
        }
        let mut out = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match read(item) {
                Ok(item) => out.push(item),
                Err(detail) => {
                    let pointer = format!("{}/{index}", self.pointer_to(key));
                    self.problems.push(Problem::at(pointer, detail));
                }
            }
        }
        Some(out)
    }

    /// A list of at most `max` objects, each read by `read` with its own pointer; problems are merged into
    /// this reader.
    pub fn objects<T>(
        &mut self,
        key: &'static str,
        max: usize,
        mut read: impl FnMut(&mut Fields<'_>) -> T,
    ) -> Option<Vec<T>> {
        let items = self.list(key, max, |item| Ok(item.clone()));
        if self.is_description() {
            let schema = Fields::describe(&mut read);
            self.shape(key, || json!({ "items": schema }));
        }
        let items = items?;
        let mut out = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let pointer = format!("{}/{index}", self.pointer_to(key));
            match Self::read(item, &pointer, &mut read) {
                Ok(item) => out.push(item),
                Err(Invalid(problems)) => self.problems.extend(problems),
            }
        }
        Some(out)
    }

    /// Refuses unknown keys and returns every problem found.
    ///
    /// # Errors
    /// When anything was wrong.
    pub fn finish(mut self) -> Result<(), Invalid> {
        for key in self.map.keys() {
            if !self.known.iter().any(|k| k == key) {
                let shown = one_line(key, 60);
                let hint = match nearest(key, self.known.iter().copied()) {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None if self.known.is_empty() => "; no keys are known here".to_owned(),
                    None => format!("; known are {}", self.known.join(", ")),
                };
                let pointer = self.pointer_to(&shown);
                self.problems
                    .push(Problem::at(pointer, format!("unknown key `{shown}`{hint}")));
            }
        }
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Invalid(self.problems))
        }
    }
}

/// Lets a schema of an object take null too, by its `type`, `enum`, `oneOf` or `anyOf`.
pub fn allow_null(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    match schema.get_mut("type") {
        Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind == "null") => return,
        Some(Value::Array(kinds)) => kinds.push("null".into()),
        Some(Value::String(kind)) if kind == "null" => return,
        Some(kind) => *kind = json!([kind.take(), "null"]),
        None => {}
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.push(Value::Null);
    }
    let null = json!({ "type": "null" });
    for several in ["oneOf", "anyOf"] {
        if let Some(Value::Array(schemas)) = schema.get_mut(several)
            && !schemas.contains(&null)
        {
            schemas.push(null.clone());
        }
    }
}

/// Parses an RFC 3339 instant that carries an offset.
///
/// # Errors
/// A sentence for the user.
pub fn parse_instant(text: &str) -> Result<Timestamp, String> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(instant) => Ok(instant.with_timezone(&Utc)),
        Err(_) => {
            let shown = one_line(text, 40);
            let no_offset = [
                "%Y-%m-%dT%H:%M:%S%.f",
                "%Y-%m-%d %H:%M:%S%.f",
                "%Y-%m-%dT%H:%M",
            ]
            .iter()
            .any(|format| chrono::NaiveDateTime::parse_from_str(text, format).is_ok());
            Err(if no_offset {
                format!("`{shown}` has no offset; write {shown}Z for UTC or add one like +01:00")
            } else {
                format!("`{shown}` is not an RFC 3339 instant like 2030-01-31T09:00:00+01:00")
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_describes_what_it_takes() {
        let schema = Fields::describe(|fields| {
            if fields.text("name", 1, 9).is_none() {
                fields.missing("name", "is missing");
            }
            fields.choice("kind", &[("a", 1), ("b", 2)]);
            fields.unsigned("count", 1, u64::MAX);
            fields.object("inner", |inner| inner.boolean("deep"));
            fields.objects("steps", 3, |step| step.instant("at"));
            fields.list("words", 2, |_| Ok(()));
            fields.shape("words", || json!({ "items": { "type": "string" } }));
            fields.value("any");
            fields.problem("name", "only what is missing counts");
        });
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 9},
                    "kind": {"type": ["string", "null"], "enum": ["a", "b", null]},
                    "count": {"type": ["integer", "null"], "minimum": 1, "maximum": u64::MAX},
                    "inner": {"type": ["object", "null"], "additionalProperties": false,
                        "properties": {"deep": {"type": ["boolean", "null"]}}},
                    "steps": {"type": ["array", "null"], "maxItems": 3, "items": {
                        "type": "object", "additionalProperties": false,
                        "properties": {"at": {"type": ["string", "null"], "format": "date-time"}}}},
                    "words": {"type": ["array", "null"], "maxItems": 2, "items": {"type": "string"}},
                    "any": {},
                },
            })
        );
    }

    #[test]
    fn outside_a_description_nothing_changes() {
        let read = |value: Value| {
            Fields::read(&value, "", |fields| {
                let name = fields.text("name", 1, 9);
                if name.is_none() && !fields.has_problems() {
                    fields.missing("name", "is missing");
                }
                fields.shape("name", || panic!("nobody describes"));
                name
            })
        };
        assert_eq!(read(json!({"name": "x"})), Ok(Some("x".into())));
        let missing = read(json!({})).expect_err("refused").to_string();
        assert_eq!(missing, "/name: is missing");
    }
}

//! Reading a JSON object field by field: every problem is collected with its pointer, unknown keys are
//! refused with the nearest known name, and nothing is half-read.

use crate::Timestamp;
use crate::json::escape;
use crate::problem::{Invalid, Problem};
use crate::text::{nearest, one_line};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// A reader over one JSON object. Each getter consumes a key; [`Fields::finish`] refuses what is left.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

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

    /// The pointer to `key` in the document.
    pub fn pointer_to(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, escape(key))
    }

    /// Adds a problem with `key`.
    pub fn problem(&mut self, key: &str, detail: impl Into<String>) {
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
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// A string of `min..=max` characters.
    pub fn text(&mut self, key: &'static str, min: usize, max: usize) -> Option<String> {
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
        let items = self.list(key, max, |item| Ok(item.clone()))?;
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

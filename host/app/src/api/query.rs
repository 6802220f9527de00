//! Query strings: every parameter is known, written once, and of its type, or the request is refused.

use super::error::ApiError;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use horarium_core::store::Page;
use horarium_model::input::parse_instant;
use horarium_model::text::{nearest, one_line};
use horarium_model::{Problem, Timestamp};
use serde_json::{Value, json};
use std::str::FromStr;

/// Highest id of a row: numbers up to here are exact in every JSON reader.
pub(super) const MAX_ID: i64 = (1 << 53) - 1;

/// The parameters of a query, consumed one by one; [`Params::finish`] refuses what is left.
#[derive(Debug, Default)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
    /// What was asked for so far, when nothing is read and only that is of interest.
    description: Option<Vec<Value>>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|e| ApiError::bad_request(format!("the query cannot be read: {e}")))?;
        Ok(Self {
            pairs,
            ..Self::default()
        })
    }
}

/// Refuses any query parameter.
#[derive(Debug)]
pub(super) struct NoParams;

impl<S: Send + Sync> FromRequestParts<S> for NoParams {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Params::from_request_parts(parts, state)
            .await?
            .finish()
            .map(|()| Self)
    }
}

impl Params {
    /// What `read` takes, as parameters of an OpenAPI document: `read` is run over nothing, and what it asks for is
    /// noted.
    pub(super) fn describe<T>(read: impl FnOnce(&mut Params) -> T) -> Vec<Value> {
        let mut params = Self {
            description: Some(Vec::new()),
            ..Self::default()
        };
        read(&mut params);
        params.description.unwrap_or_default()
    }

    fn note(&mut self, key: &'static str, schema: impl FnOnce() -> Value) {
        if let Some(description) = &mut self.description {
            description.push(json!({ "name": key, "in": "query", "schema": schema() }));
        }
    }

    /// Adds a problem with `key`.
    pub(super) fn problem(&mut self, key: &str, detail: impl Into<String>) {
        let detail = detail.into();
        let detail = format!("query parameter `{}`: {detail}", one_line(key, 60));
        self.problems
            .push(Problem::at(format!("/{}", one_line(key, 60)), detail));
    }

    /// The text of a parameter.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.note(key, || json!({ "type": "string" }));
        self.given(key)
    }

    /// A text of `min..=max` characters.
    pub(super) fn bounded(&mut self, key: &'static str, min: usize, max: usize) -> Option<String> {
        let schema = || json!({ "type": "string", "minLength": min, "maxLength": max });
        self.read(key, schema, |text| match text.chars().count() {
            count if (min..=max).contains(&count) => Ok(text.to_owned()),
            count => Err(format!(
                "has {count} characters; {min} to {max} are allowed"
            )),
        })
    }

    /// The text of a parameter that is a JSON document.
    pub(super) fn json(&mut self, key: &'static str) -> Option<String> {
        if let Some(description) = &mut self.description {
            let schema = json!({ "$ref": "#/components/schemas/Json" });
            let content = json!({ "application/json": { "schema": schema, "example": 7 } });
            description.push(json!({ "name": key, "in": "query", "content": content }));
        }
        self.given(key)
    }

    fn given(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        let mut found = self
            .pairs
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.clone());
        let first = found.next();
        if found.next().is_some() {
            self.problem(key, "is given more than once");
        }
        first
    }

    /// A parameter of this schema, read by `read`.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        schema: impl FnOnce() -> Value,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.note(key, schema);
        let text = self.given(key)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.problem(key, detail);
                None
            }
        }
    }

    /// A whole number of `min..=max`.
    pub(super) fn integer(&mut self, key: &'static str, min: u32, max: u32) -> Option<u32> {
        let schema = || json!({ "type": "integer", "minimum": min, "maximum": max });
        self.read(key, schema, |text| {
            text.parse()
                .ok()
                .filter(|n| (min..=max).contains(n))
                .ok_or_else(|| {
                    format!(
                        "`{}` is not a whole number from {min} to {max}",
                        one_line(text, 40)
                    )
                })
        })
    }

    /// The id of a row.
    pub(super) fn id(&mut self, key: &'static str) -> Option<i64> {
        let schema = || json!({ "type": "integer", "minimum": 1, "maximum": MAX_ID });
        self.read(key, schema, |text| {
            text.parse()
                .ok()
                .filter(|id| (1..=MAX_ID).contains(id))
                .ok_or_else(|| format!("`{}` is no id", one_line(text, 40)))
        })
    }

    /// One of a few words, in any case.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let schema = || json!({ "type": "string", "enum": words });
        self.read(key, schema, |text| {
            let found = choices
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(text));
            found.map(|(_, value)| *value).ok_or_else(|| {
                format!(
                    "`{}` is not one of {}",
                    one_line(text, 40),
                    words.join(", ")
                )
            })
        })
    }

    /// One of the words of `T`, which are these.
    pub(super) fn word<T: FromStr<Err = String>>(
        &mut self,
        key: &'static str,
        words: impl Iterator<Item = &'static str>,
    ) -> Option<T> {
        let schema = || json!({ "type": "string", "enum": words.collect::<Vec<_>>() });
        self.read(key, schema, T::from_str)
    }

    /// Words of `T`, which are these, separated by commas or given repeatedly.
    pub(super) fn words<T: FromStr<Err = String>>(
        &mut self,
        key: &'static str,
        words: impl Iterator<Item = &'static str>,
    ) -> Vec<T> {
        self.note(key, || {
            let word = json!({ "type": "string", "enum": words.collect::<Vec<_>>() });
            json!({ "type": "array", "items": word })
        });
        self.known.push(key);
        let texts: Vec<String> = self
            .pairs
            .iter()
            .filter(|(k, _)| k == key)
            .flat_map(|(_, v)| v.split(','))
            .map(|word| word.trim().to_owned())
            .collect();
        let mut words = Vec::new();
        for text in texts {
            match text.parse() {
                Ok(word) => words.push(word),
                Err(detail) => self.problem(key, detail),
            }
        }
        words
    }

    /// An instant with an offset.
    pub(super) fn instant(&mut self, key: &'static str) -> Option<Timestamp> {
        let schema = || json!({ "type": "string", "format": "date-time" });
        self.read(key, schema, parse_instant)
    }

    /// True or false.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.read(
            key,
            || json!({ "type": "boolean" }),
            |text| {
                text.parse()
                    .map_err(|_| format!("`{}` is neither true nor false", one_line(text, 40)))
            },
        )
    }

    /// `limit`.
    pub(super) fn limit(&mut self) -> u32 {
        self.integer("limit", 1, Page::MAX).unwrap_or(Page::DEFAULT)
    }

    /// `cursor`, which `read` reads and whose texts look like `pattern`.
    pub(super) fn cursor<T>(
        &mut self,
        pattern: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let schema = || json!({ "type": "string", "pattern": pattern });
        self.read("cursor", schema, |text| {
            read(text).ok_or_else(|| not_a_cursor(text))
        })
    }

    /// `limit` and `cursor`.
    pub(super) fn page(&mut self) -> Page {
        let limit = self.limit();
        let after = self.cursor("^c[0-9a-f]{1,15}$", parse_cursor);
        Page { limit, after }
    }

    /// Refuses unknown parameters and reports every problem.
    pub(super) fn finish(mut self) -> Result<(), ApiError> {
        let keys: Vec<String> = self.pairs.iter().map(|(k, _)| k.clone()).collect();
        for key in keys {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let detail = match nearest(&key, self.known.iter().copied()) {
                Some(near) => format!("is not known here; did you mean `{near}`?"),
                None if self.known.is_empty() => "is not known; this path takes none".to_owned(),
                None => format!("is not known here; known are {}", self.known.join(", ")),
            };
            self.problem(&key, detail);
        }
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(ApiError::bad_input(self.problems))
        }
    }
}

/// What a refused cursor is told.
fn not_a_cursor(text: &str) -> String {
    format!(
        "`{}` is not a cursor; take `next_cursor` of the page before",
        one_line(text, 40)
    )
}

/// Where the next page starts, as clients see it: opaque.
pub(super) fn cursor_text(next: i64) -> String {
    format!("c{next:x}")
}

/// Reads what [`cursor_text`] wrote.
pub(super) fn parse_cursor(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('c')?;
    i64::from_str_radix(digits, 16)
        .ok()
        .filter(|n| *n >= 0 && !digits.starts_with('+'))
}

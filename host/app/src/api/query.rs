//! Query strings: every parameter is known, written once, and of its type, or the request is refused.

use super::error::ApiError;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use horarium_core::store::Page;
use horarium_model::input::parse_instant;
use horarium_model::text::{nearest, one_line};
use horarium_model::{Problem, Timestamp};
use std::str::FromStr;

/// The parameters of a query, consumed one by one; [`Params::finish`] refuses what is left.
#[derive(Debug, Default)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
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
    fn problem(&mut self, key: &str, detail: impl Into<String>) {
        let detail = detail.into();
        let detail = format!("query parameter `{}`: {detail}", one_line(key, 60));
        self.problems
            .push(Problem::at(format!("/{}", one_line(key, 60)), detail));
    }

    /// The text of a parameter.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
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

    /// A parameter read by `read`.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
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
        self.read(key, |text| {
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

    /// One of the words of `T`.
    pub(super) fn word<T: FromStr<Err = String>>(&mut self, key: &'static str) -> Option<T> {
        self.read(key, T::from_str)
    }

    /// Words of `T`, separated by commas or given repeatedly.
    pub(super) fn words<T: FromStr<Err = String>>(&mut self, key: &'static str) -> Vec<T> {
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
        self.read(key, parse_instant)
    }

    /// True or false.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, |text| {
            text.parse()
                .map_err(|_| format!("`{}` is neither true nor false", one_line(text, 40)))
        })
    }

    /// `limit`.
    pub(super) fn limit(&mut self) -> u32 {
        self.integer("limit", 1, Page::MAX).unwrap_or(Page::DEFAULT)
    }

    /// `limit` and `cursor`.
    pub(super) fn page(&mut self) -> Page {
        let limit = self.limit();
        let after = self.read("cursor", |text| {
            parse_cursor(text).ok_or_else(|| not_a_cursor(text))
        });
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
pub(super) fn not_a_cursor(text: &str) -> String {
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

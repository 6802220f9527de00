//! What was wrong with an input, where, and what would be right.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One fault of an input document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// JSON pointer (RFC 6901) to the faulty value; empty for the document as a whole.
    pub pointer: String,
    /// One line for a person: what is wrong and what would be right.
    pub detail: String,
    /// Character index inside the value (a cron field, a grant) or byte offset in the document.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub position: Option<usize>,
}

impl Problem {
    /// A problem at `pointer`.
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
            position: None,
        }
    }

    /// The same problem with a position inside the value.
    #[must_use]
    pub fn position(mut self, position: Option<usize>) -> Self {
        self.position = position;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.detail)
        } else {
            write!(f, "{}: {}", self.pointer, self.detail)
        }
    }
}

/// A refused input: at least one problem, and nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Invalid(pub Vec<Problem>);

impl Invalid {
    /// A refusal for a single reason.
    pub fn one(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self(vec![Problem::at(pointer, detail)])
    }
}

impl From<Problem> for Invalid {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

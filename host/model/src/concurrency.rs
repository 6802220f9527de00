//! How many executions of a task run at once, start in a time, and wait (rule E3).

use crate::input::Fields;
use serde::{Deserialize, Serialize};

/// `concurrency`: how many executions with the same key run at once, how fast they may start, and how
/// many of the config may wait (rule E3). At least one of the bounds is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Concurrency {
    /// How many run at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max: Option<u32>,
    /// JSON pointer into the parameters; executions with equal values there share `max` and `rate`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// How often attempts start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<Rate>,
    /// How many of the config's executions may wait.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backlog: Option<u32>,
}

/// A token bucket: it holds `count` tokens, is full at first, and gets `count` more in `seconds`, evenly.
/// Each attempt takes one as it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Tokens that the bucket holds.
    pub count: u32,
    /// In how many seconds an empty one fills.
    pub seconds: u32,
}

impl Rate {
    /// Microseconds until the next token comes, rounded up so that the rate is never exceeded.
    pub fn interval_micros(self) -> i64 {
        let micros = i64::from(self.seconds) * 1_000_000;
        let count = i64::from(self.count.max(1));
        (micros + count - 1) / count
    }

    fn read(fields: &mut Fields<'_>) -> Self {
        let mut number = |key, least| {
            let number = fields.integer(key, least, 1_000_000).map(|n| n as u32);
            if number.is_none() && !fields.has_problems() {
                fields.missing(
                    key,
                    "is missing; a rate is like {\"count\": 10, \"seconds\": 60}",
                );
            }
            number.unwrap_or(1)
        };
        Self {
            count: number("count", 1),
            seconds: number("seconds", 1),
        }
    }
}

pub(crate) fn read_concurrency(fields: &mut Fields<'_>) -> Option<Concurrency> {
    fields.object("concurrency", |inner| {
        let max = inner.integer("max", 1, 100_000).map(|n| n as u32);
        let rate = inner.object("rate", Rate::read);
        let backlog = inner.integer("backlog", 1, 10_000_000).map(|n| n as u32);
        if max.is_none() && rate.is_none() && backlog.is_none() && !inner.has_problems() {
            inner.problem(
                "max",
                "is missing; say how many may run at once (max), how often they start (rate), or how many may wait (backlog)",
            );
        }
        let key = inner.text("key", 0, 200);
        inner.shape("key", || serde_json::json!({ "pattern": "^(/.*)?$" }));
        if key
            .as_deref()
            .is_some_and(|k| !k.is_empty() && !k.starts_with('/'))
        {
            inner.problem("key", "must be a JSON pointer like /site");
        }
        Concurrency {
            max,
            key,
            rate,
            backlog,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_there_not_too_early() {
        assert_eq!(
            Rate {
                count: 3,
                seconds: 10
            }
            .interval_micros(),
            3_333_334
        );
    }
}

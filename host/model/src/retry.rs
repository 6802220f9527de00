//! When a failed attempt runs again (rule E4).

use crate::error_kind::ErrorKind;
use crate::input::Fields;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How delays are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetryJitter {
    /// Uniform between one second and the computed delay.
    #[default]
    Full,
    /// The computed delay itself.
    None,
}

/// `retry_policy` of a task config: exponential backoff with a cap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Delay before the second attempt, in seconds; at least 1.
    pub initial_seconds: f64,
    /// Each further delay is this many times the one before; 1 to 100.
    pub factor: f64,
    /// No delay is longer, in seconds.
    pub max_seconds: f64,
    /// How delays are spread.
    pub jitter: RetryJitter,
    /// The error kinds that are tried again; the default set when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_on: Option<Vec<ErrorKind>>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial_seconds: 10.0,
            factor: 2.0,
            max_seconds: 3600.0,
            jitter: RetryJitter::Full,
            retry_on: None,
        }
    }
}

impl RetryPolicy {
    /// Shortest delay between two attempts.
    pub const MIN_DELAY: Duration = Duration::from_secs(1);

    /// Reads the policy from its JSON object; problems are collected in `fields`.
    pub fn read(fields: &mut Fields<'_>) -> Self {
        let default = Self::default();
        let policy = Self {
            initial_seconds: fields
                .number("initial_seconds", 1.0, 86_400.0)
                .unwrap_or(default.initial_seconds),
            factor: fields
                .number("factor", 1.0, 100.0)
                .unwrap_or(default.factor),
            max_seconds: fields
                .number("max_seconds", 1.0, 604_800.0)
                .unwrap_or(default.max_seconds),
            jitter: fields
                .choice(
                    "jitter",
                    &[("full", RetryJitter::Full), ("none", RetryJitter::None)],
                )
                .unwrap_or_default(),
            retry_on: fields.list("retry_on", 64, |item| match item.as_str() {
                Some(name) => name.parse::<ErrorKind>(),
                None => Err("an error kind is a string".into()),
            }),
        };
        fields.shape("retry_on", || {
            let kinds: Vec<&str> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
            serde_json::json!({ "items": { "type": "string", "enum": kinds } })
        });
        if policy.max_seconds < policy.initial_seconds {
            fields.problem(
                "max_seconds",
                "is below initial_seconds; the cap cannot be shorter than the first delay",
            );
        }
        policy
    }

    /// Whether a failure of this kind is tried again at all.
    pub fn retries(&self, kind: ErrorKind) -> bool {
        self.retry_on
            .as_ref()
            .map_or(kind.retried_by_default(), |kinds| kinds.contains(&kind))
    }

    /// The delay before the attempt after `attempt` (which counts from 1). `unit` is a random number
    /// in [0, 1); `not_before` is the guest's wish, honoured up to `max_seconds`.
    pub fn delay(&self, attempt: u32, unit: f64, not_before: Option<Duration>) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let full = (self.initial_seconds * self.factor.powi(exponent))
            .min(self.max_seconds)
            .max(1.0);
        let chosen = match self.jitter {
            RetryJitter::Full => 1.0 + (full - 1.0) * unit.clamp(0.0, 1.0),
            RetryJitter::None => full,
        };
        let wish = not_before
            .unwrap_or_default()
            .min(Duration::from_secs_f64(self.max_seconds));
        Duration::from_secs_f64(chosen)
            .max(wish)
            .max(Self::MIN_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap() {
        let policy = RetryPolicy {
            jitter: RetryJitter::None,
            ..RetryPolicy::default()
        };
        let seconds: Vec<u64> = (1..=12)
            .map(|a| policy.delay(a, 0.5, None).as_secs())
            .collect();
        assert_eq!(seconds[..4], [10, 20, 40, 80]);
        assert_eq!(seconds[11], 3600);
        assert_eq!(policy.delay(u32::MAX, 0.0, None).as_secs(), 3600);
    }

    #[test]
    fn jitter_stays_between_one_second_and_the_full_delay() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(3, 0.0, None), Duration::from_secs(1));
        assert!(policy.delay(3, 0.999, None) < Duration::from_secs(40));
        let one = RetryPolicy {
            initial_seconds: 1.0,
            ..RetryPolicy::default()
        };
        assert_eq!(one.delay(1, 0.7, None), Duration::from_secs(1));
    }

    #[test]
    fn a_guests_wish_is_honoured_up_to_the_cap() {
        let policy = RetryPolicy {
            jitter: RetryJitter::None,
            max_seconds: 60.0,
            ..RetryPolicy::default()
        };
        assert_eq!(
            policy
                .delay(1, 0.0, Some(Duration::from_secs(30)))
                .as_secs(),
            30
        );
        assert_eq!(
            policy
                .delay(1, 0.0, Some(Duration::from_secs(3600)))
                .as_secs(),
            60
        );
    }

    #[test]
    fn the_default_set_is_the_contracts() {
        let policy = RetryPolicy::default();
        let retried: Vec<&str> = ErrorKind::ALL
            .iter()
            .filter(|k| policy.retries(**k))
            .map(|k| k.as_str())
            .collect();
        assert_eq!(
            retried,
            [
                "retryable",
                "timeout",
                "trap",
                "exit",
                "state_conflict",
                "load_failed",
                "host_error",
                "host_memory",
                "host_lost"
            ]
        );
        let only = RetryPolicy {
            retry_on: Some(vec![ErrorKind::OutOfFuel]),
            ..policy
        };
        assert!(only.retries(ErrorKind::OutOfFuel) && !only.retries(ErrorKind::Trap));
    }
}

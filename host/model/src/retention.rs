//! How long ended executions are kept, by how they ended, and how many of each task.

use crate::execution::State;
use crate::input::Fields;
use crate::problem::Invalid;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A century: longer is never.
const MAX_SECONDS: u64 = 36_500 * 86_400;
/// More of one task than this nobody keeps by count.
const MAX_KEEP: u64 = 1_000_000_000;

/// One value for each way an execution can end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerEnd<T> {
    /// Of `succeeded`.
    pub succeeded: T,
    /// Of `failed`.
    pub failed: T,
    /// Of `cancelled`.
    pub cancelled: T,
    /// Of `skipped`.
    pub skipped: T,
}

impl<T: Copy> PerEnd<T> {
    /// The same for all.
    pub fn all(value: T) -> Self {
        Self {
            succeeded: value,
            failed: value,
            cancelled: value,
            skipped: value,
        }
    }

    /// The value of a state; none of one that is no end.
    pub fn get(&self, state: State) -> Option<T> {
        match state {
            State::Succeeded => Some(self.succeeded),
            State::Failed => Some(self.failed),
            State::Cancelled => Some(self.cancelled),
            State::Skipped => Some(self.skipped),
            _ => None,
        }
    }

    /// Another value for each.
    pub fn map<U>(self, change: impl Fn(T) -> U) -> PerEnd<U> {
        PerEnd {
            succeeded: change(self.succeeded),
            failed: change(self.failed),
            cancelled: change(self.cancelled),
            skipped: change(self.skipped),
        }
    }

    /// The values, in the order of the fields.
    pub fn values(self) -> [T; 4] {
        [self.succeeded, self.failed, self.cancelled, self.skipped]
    }
}

/// What is kept. What is absent is not bounded by this level; of several levels (host, tenant, task) the tightest
/// holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Seconds that a success is kept after its end.
    pub succeeded_seconds: Option<u64>,
    /// Seconds that a failure is kept.
    pub failed_seconds: Option<u64>,
    /// Seconds that a cancelled execution is kept.
    pub cancelled_seconds: Option<u64>,
    /// Seconds that a row of skipped slots is kept.
    pub skipped_seconds: Option<u64>,
    /// How many ended executions of each task are kept, the newest.
    pub keep: Option<u64>,
}

impl Retention {
    /// Reads `{"succeeded_seconds", "failed_seconds", "cancelled_seconds", "skipped_seconds", "keep"}`.
    ///
    /// # Errors
    /// What is wrong, with its pointer.
    pub fn from_json(body: &Value) -> Result<Self, Invalid> {
        Fields::read(body, "", Self::read)
    }

    /// The schema of what is read.
    pub fn describe() -> Value {
        Fields::describe(Self::read)
    }

    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            succeeded_seconds: fields.unsigned("succeeded_seconds", 60, MAX_SECONDS),
            failed_seconds: fields.unsigned("failed_seconds", 60, MAX_SECONDS),
            cancelled_seconds: fields.unsigned("cancelled_seconds", 60, MAX_SECONDS),
            skipped_seconds: fields.unsigned("skipped_seconds", 60, MAX_SECONDS),
            keep: fields.unsigned("keep", 1, MAX_KEEP),
        }
    }

    /// Whether everything is kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something goes by its age.
    pub fn has_ages(&self) -> bool {
        self.ages().values().iter().any(Option::is_some)
    }

    /// Seconds after its end, by how it ended.
    pub fn ages(&self) -> PerEnd<Option<u64>> {
        PerEnd {
            succeeded: self.succeeded_seconds,
            failed: self.failed_seconds,
            cancelled: self.cancelled_seconds,
            skipped: self.skipped_seconds,
        }
    }

    /// The tighter of both, bound by bound.
    #[must_use]
    pub fn tightest(&self, other: &Self) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            succeeded_seconds: least(self.succeeded_seconds, other.succeeded_seconds),
            failed_seconds: least(self.failed_seconds, other.failed_seconds),
            cancelled_seconds: least(self.cancelled_seconds, other.cancelled_seconds),
            skipped_seconds: least(self.skipped_seconds, other.skipped_seconds),
            keep: least(self.keep, other.keep),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_tightest_of_two_levels_holds() {
        let host = Retention::from_json(&json!({"succeeded_seconds": 3600, "keep": 10}));
        let host = host.expect("good");
        let task = json!({"succeeded_seconds": 7200, "failed_seconds": 60, "keep": 5});
        let task = Retention::from_json(&task).expect("good");
        let both = host.tightest(&task);
        assert_eq!(both, task.tightest(&host));
        assert_eq!(
            both.ages(),
            PerEnd {
                succeeded: Some(3600),
                failed: Some(60),
                ..PerEnd::default()
            }
        );
        assert_eq!(both.keep, Some(5));
        assert!(Retention::default().is_empty() && !both.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, pointer) in [
            (json!({"succeeded_seconds": 59}), "/succeeded_seconds"),
            (json!({"keep": 0}), "/keep"),
            (json!({"keeps": 1}), "/keeps"),
        ] {
            let Invalid(problems) = Retention::from_json(&body).expect_err("refused");
            assert_eq!(problems[0].pointer, pointer);
        }
    }

    #[test]
    fn only_ends_have_a_value() {
        let each = PerEnd::all(1);
        assert_eq!(each.get(State::Failed), Some(1));
        assert_eq!(each.get(State::Running), None);
    }
}

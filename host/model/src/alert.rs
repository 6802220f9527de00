//! What is told to whoever watches.

use crate::execution::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

words! {
    /// What an alert tells.
    AlertEvent {
        /// An execution failed and is not tried again.
        ExecutionFailed = "execution_failed",
        /// Executions of a task failed so many times in a row.
        FailureStreak = "failure_streak",
        /// Slots passed and no host was there to fire them (rule S4).
        MissedRuns = "missed_runs",
        /// What waits for a slot has waited for too long.
        QueueStuck = "queue_stuck",
    }
}

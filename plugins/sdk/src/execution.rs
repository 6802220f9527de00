//! Facts about the attempt in progress.

use std::time::{Duration, SystemTime};

use crate::sys;

/// The same over all attempts of an execution: an idempotency key towards others.
pub fn task_id() -> String {
    sys::task_id()
}

/// Which attempt this is, from 1.
pub fn attempt() -> u32 {
    sys::attempt()
}

/// How many attempts there are at most.
pub fn max_attempts() -> u32 {
    sys::max_attempts()
}

/// The name of the task config.
pub fn task_name() -> String {
    sys::task_name()
}

/// The id of the task config, unless it is gone or there never was one.
pub fn config_id() -> Option<String> {
    sys::config_id()
}

/// The instant the schedule meant, which jitter, queueing and catch-up do not move.
pub fn scheduled_for() -> Option<SystemTime> {
    sys::scheduled_for()
        .and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)))
}

/// Wall-clock time left before the host stops this attempt.
pub fn remaining() -> Duration {
    Duration::from_millis(sys::remaining())
}

/// True once the host wants the attempt to end by itself soon: at shutdown, or at a cancel with grace.
pub fn stop_requested() -> bool {
    sys::stop_requested()
}

/// Anything else the host knows, by name: `trigger`, `parent-task-id`, `traceparent` and others.
pub fn attribute(name: &str) -> Option<String> {
    sys::attribute(name)
}

//! Plain data and rules of Horarium: task configs, executions and their states, schedules and cron,
//! retry, limits, grants, and the one door through which JSON enters. No I/O, no clock, no tokio.

// What users, guests, disks and databases bring ends in an error, never in a panic.
#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod access;
pub mod alert;
pub mod cached;
pub mod chain;
pub mod concurrency;
pub mod config;
pub mod cron;
pub mod descriptor;
pub mod error_kind;
pub mod execution;
pub mod firing;
#[doc(hidden)]
pub mod fuzz;
pub mod grant;
pub mod input;
pub mod json;
pub mod limits;
pub mod parameters;
pub mod problem;
pub mod program;
pub mod quota;
pub mod retention;
pub mod retry;
pub mod schedule;
pub mod task_type;
pub mod text;
pub mod trace;
pub mod usage;

pub use config::{TaskConfig, TaskSpec};
pub use error_kind::ErrorKind;
pub use execution::{Execution, State, Trigger};
pub use limits::Limits;
pub use problem::{Invalid, Problem};
pub use usage::Usage;

/// An instant in UTC. RFC 3339 on the wire, integer microseconds in databases.
pub type Timestamp = chrono::DateTime<chrono::Utc>;
/// Row id of a tenant. All row ids are positive and below 2^53, so that JSON readers keep them exact.
pub type TenantId = i64;
/// Row id of a task config.
pub type ConfigId = i64;
/// Row id of an execution, the same while it lives and in history.
pub type ExecutionId = i64;
/// The stable, public id of an execution: a UUIDv7, the same over all its attempts.
pub type TaskId = uuid::Uuid;

/// The tenant that exists from the first migration on.
pub const DEFAULT_TENANT: &str = "default";
/// Row id of [`DEFAULT_TENANT`].
pub const DEFAULT_TENANT_ID: TenantId = 1;
/// Owner of the task types that the host shares with every tenant. No tenant has this id, and nothing runs as it.
pub const HOST_TENANT_ID: TenantId = 0;

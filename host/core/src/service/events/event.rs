//! Events as they are told.

use super::EventPlace;
use horarium_model::execution::{Progress, SkipReason, State, Trigger};
use horarium_model::schedule::wire_time;
use horarium_model::{ConfigId, ErrorKind, Execution, ExecutionId, TaskConfig, TaskId, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// What happened to what.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What: `execution.created`, `execution.started`, `execution.retry`, `execution.requeued`, `execution.finished`,
    /// `execution.cancelled`, `execution.skipped`, `task.created`, `task.changed`, `task.paused`, `plugin.changed` or
    /// `plugin.activated`.
    pub kind: &'static str,
    /// Where the stream goes on after this.
    pub place: EventPlace,
    /// The execution, task or type as it stands.
    pub data: Value,
}

/// Every kind of event.
pub const EVENT_KINDS: &[&str] = &[
    "execution.created",
    "execution.started",
    "execution.retry",
    "execution.requeued",
    "execution.finished",
    "execution.cancelled",
    "execution.skipped",
    "task.created",
    "task.changed",
    "task.paused",
    "plugin.changed",
    "plugin.activated",
];

/// An execution, as events tell of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ExecutionEvent {
    /// Public id.
    pub task_id: TaskId,
    /// Row id.
    pub id: ExecutionId,
    /// The task; null when it is gone.
    pub config_id: Option<ConfigId>,
    /// Registered name of the plugin.
    pub task_type: String,
    /// Where it stands.
    pub state: State,
    /// What brought it about.
    pub trigger: Trigger,
    /// Attempts used so far.
    pub attempt: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// True for `succeeded`, false for `failed` and `cancelled`, null otherwise.
    pub is_success: Option<bool>,
    /// Class of the last failure.
    pub error_kind: Option<ErrorKind>,
    /// One line about it.
    pub error_message: Option<String>,
    /// Why it was skipped.
    pub skip_reason: Option<SkipReason>,
    /// The instant the schedule meant.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub slot: Option<Timestamp>,
    /// When it may start.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub due_at: Option<Timestamp>,
    /// When it was enqueued.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub created_at: Timestamp,
    /// Start of the last attempt.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub started_at: Option<Timestamp>,
    /// End of the last attempt.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub completed_at: Option<Timestamp>,
    /// Duration of the last attempt.
    pub duration_seconds: Option<f64>,
    /// Latest progress report.
    pub progress: Option<Progress>,
}

impl From<&Execution> for ExecutionEvent {
    fn from(execution: &Execution) -> Self {
        let e = execution.clone();
        Self {
            task_id: e.task_id,
            id: e.id,
            config_id: e.config_id,
            task_type: e.task_type,
            state: e.state,
            trigger: e.trigger,
            attempt: e.attempt,
            max_attempts: e.max_attempts,
            is_success: e.is_success,
            error_kind: e.error_kind,
            error_message: e.error_message,
            skip_reason: e.skip_reason,
            slot: e.slot,
            due_at: e.due_at,
            created_at: e.created_at,
            started_at: e.started_at,
            completed_at: e.completed_at,
            duration_seconds: e.duration_seconds,
            progress: e.progress,
        }
    }
}

/// A task, as events tell of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskEvent {
    /// Row id.
    pub id: ConfigId,
    /// Its slug.
    pub key: Option<String>,
    /// For people.
    pub name: String,
    /// The plugin's registered name.
    pub task_type: String,
    /// Rises by one with every change.
    pub version: i64,
    /// No new slots while true.
    pub paused: bool,
    /// Why.
    pub pause_reason: Option<String>,
    /// When the next slot fires.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub next_fire_at: Option<Timestamp>,
    /// When it was last changed.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub updated_at: Timestamp,
}

impl From<&TaskConfig> for TaskEvent {
    fn from(config: &TaskConfig) -> Self {
        Self {
            id: config.id,
            key: config.spec.key.clone(),
            name: config.spec.name.clone(),
            task_type: config.spec.task_type.clone(),
            version: config.version,
            paused: config.spec.paused,
            pause_reason: config.spec.pause_reason.clone(),
            next_fire_at: config.schedule_state.next_fire_at,
            updated_at: config.updated_at,
        }
    }
}

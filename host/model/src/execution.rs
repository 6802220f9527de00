//! One run of a task: its states and legal moves, and the row that is kept of it.

use crate::error_kind::ErrorKind;
use crate::limits::Limits;
use crate::schedule::wire_time;
use crate::usage::Usage;
use crate::{ConfigId, ExecutionId, TaskId, TenantId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// The stored and shown word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(s: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|v| v.as_str().eq_ignore_ascii_case(s)).ok_or_else(|| {
                    let known: Vec<&str> = Self::ALL.iter().map(|v| v.as_str()).collect();
                    format!("`{}` is not one of {}", crate::text::one_line(s, 40), known.join(", "))
                })
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

pub(crate) use words;

words! {
    /// Where an execution stands.
    State {
        /// Waits for its instant.
        Scheduled = "scheduled",
        /// Waits for a slot on a host.
        Available = "available",
        /// An attempt is in progress.
        Running = "running",
        /// Waits for its next attempt.
        Retryable = "retryable",
        /// Ended well.
        Succeeded = "succeeded",
        /// Ended badly.
        Failed = "failed",
        /// Ended on somebody's wish.
        Cancelled = "cancelled",
        /// Never ran: the slot (or streak of slots) and the reason are kept.
        Skipped = "skipped",
    }
}

impl State {
    /// Whether the execution has ended.
    pub const fn is_end(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Skipped
        )
    }

    /// Whether it waits for a claim (now or later).
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Scheduled | Self::Available | Self::Retryable)
    }

    /// `is_success` as the contract defines it.
    pub const fn is_success(self) -> Option<bool> {
        match self {
            Self::Succeeded => Some(true),
            Self::Failed | Self::Cancelled => Some(false),
            _ => None,
        }
    }

    /// The table of legal moves (design section 4); `None` is "did not exist". Every store asserts it.
    pub const fn may_become(from: Option<Self>, to: Self) -> bool {
        use State::*;
        match from {
            None => matches!(to, Scheduled | Available | Skipped),
            Some(Scheduled) => matches!(to, Available | Cancelled | Failed),
            Some(Available) => matches!(to, Running | Cancelled | Failed),
            Some(Running) => matches!(to, Succeeded | Failed | Cancelled | Retryable | Available),
            Some(Retryable) => matches!(to, Available | Cancelled | Failed),
            Some(Succeeded | Failed | Cancelled | Skipped) => false,
        }
    }
}

words! {
    /// What brought an execution about.
    Trigger {
        /// Its slot came.
        Schedule = "schedule",
        /// A missed slot was made up.
        CatchUp = "catch_up",
        /// A person.
        Manual = "manual",
        /// A program.
        Api = "api",
        /// One of a batch.
        Batch = "batch",
        /// The end of another execution.
        Chain = "chain",
        /// `execution retry` of an ended one.
        Retry = "retry",
        /// A backfill over past slots.
        Backfill = "backfill",
    }
}

words! {
    /// Why a slot did not run.
    SkipReason {
        /// No host was there in time (rule S4).
        Missed = "missed",
        /// An earlier execution was still live (rule S6).
        Overlap = "overlap",
        /// The config was paused (rule S9).
        Paused = "paused",
        /// Too much was waiting.
        BacklogCap = "backlog_cap",
        /// The tenant's quota was used up.
        Quota = "quota",
        /// The task type was disabled.
        TypeDisabled = "type_disabled",
        /// The clock was set back (rule S12).
        Clock = "clock",
        /// A chain was as deep as chains may be (rule E7).
        ChainDepth = "chain_depth",
    }
}

/// A waiting, running or ended execution, as every surface shows it. The first ten fields of the
/// contract describe the last attempt; earlier ones are [`AttemptRecord`]s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Execution {
    /// Row id.
    pub id: ExecutionId,
    /// The config, null when it never had one or the config is gone.
    pub config_id: Option<ConfigId>,
    /// Public id, the same over all attempts.
    pub task_id: TaskId,
    /// True for `succeeded`, false for `failed` and `cancelled`, null otherwise.
    pub is_success: Option<bool>,
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
    /// What the plugin returned.
    pub result: Option<Value>,
    /// One line a person understands.
    pub error_message: Option<String>,
    /// Guest backtrace and the tail of its stderr.
    pub error_traceback: Option<String>,
    /// Owner.
    pub tenant_id: TenantId,
    /// Registered name of the plugin.
    pub task_type: String,
    /// Where it stands.
    pub state: State,
    /// What brought it about.
    pub trigger: Trigger,
    /// The instant the schedule meant.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub slot: Option<Timestamp>,
    /// Last slot of a skipped streak.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub slot_last: Option<Timestamp>,
    /// Number of slots of a skipped streak.
    pub slot_count: Option<i64>,
    /// Why it was skipped.
    pub skip_reason: Option<SkipReason>,
    /// Frozen priority, higher first.
    pub priority: i32,
    /// Attempts used so far: claims less those handed back or lost.
    pub attempt: u32,
    /// Attempts allowed: 1 + max_retries.
    pub max_attempts: u32,
    /// How often its host was lost.
    pub lost: u32,
    /// Frozen parameters.
    pub parameters: Option<Value>,
    /// Class of the failure.
    pub error_kind: Option<ErrorKind>,
    /// What the last attempt used.
    pub usage: Option<Usage>,
    /// What it was allowed.
    pub limits: Option<Limits>,
    /// Its wall-clock limit.
    pub timeout_seconds: Option<u32>,
    /// Plugin version of the last attempt.
    pub plugin_digest: Option<String>,
    /// Name of the host of the last attempt.
    pub host: Option<String>,
    /// When it was enqueued.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub created_at: Timestamp,
    /// Start of the first attempt.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub first_started_at: Option<Timestamp>,
    /// When it may (or might) start.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub due_at: Option<Timestamp>,
    /// When waiting ends by `expires_after_seconds`.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub expires_at: Option<Timestamp>,
    /// When a cancel was asked for.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub cancel_requested_at: Option<Timestamp>,
    /// Latest progress report.
    pub progress: Option<Progress>,
    /// The execution whose end enqueued this one.
    pub parent_task_id: Option<TaskId>,
    /// The execution this one repeats.
    pub retry_of: Option<TaskId>,
}

/// The latest progress report of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// From 0 to 1, null when unknown.
    pub fraction: Option<f64>,
    /// One line.
    pub message: String,
}

/// One attempt of an execution, kept with its error, usage and log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Attempt")]
pub struct AttemptRecord {
    /// Counts from 1; a lost or handed-back claim keeps the number it would have had.
    pub attempt: u32,
    /// The claim it ran under, which never falls.
    pub claim: u32,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Start.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub started_at: Timestamp,
    /// End.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub completed_at: Timestamp,
    /// Class of the failure.
    pub error_kind: Option<ErrorKind>,
    /// One line.
    pub error_message: Option<String>,
    /// Guest backtrace and the tail of its stderr.
    pub error_traceback: Option<String>,
    /// The plugin's own word for machines.
    pub error_code: Option<String>,
    /// Further facts from the plugin.
    pub error_details: Option<Value>,
    /// What it used.
    pub usage: Option<Usage>,
    /// What it was allowed.
    pub limits: Option<Limits>,
    /// Its wall-clock limit.
    pub timeout_seconds: Option<u32>,
    /// Plugin version.
    pub plugin_digest: Option<String>,
    /// Host name.
    pub host: Option<String>,
}

impl AttemptRecord {
    /// One of which no more is known.
    pub fn new(
        attempt: u32,
        claim: u32,
        outcome: AttemptOutcome,
        started_at: Timestamp,
        completed_at: Timestamp,
    ) -> Self {
        Self {
            attempt,
            claim,
            outcome,
            started_at,
            completed_at,
            error_kind: None,
            error_message: None,
            error_traceback: None,
            error_code: None,
            error_details: None,
            usage: None,
            limits: None,
            timeout_seconds: None,
            plugin_digest: None,
            host: None,
        }
    }
}

words! {
    /// How one attempt ended.
    AttemptOutcome {
        /// It returned a result.
        Succeeded = "succeeded",
        /// It failed.
        Failed = "failed",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// The host gave it back unfinished; no attempt was used.
        HandedBack = "handed_back",
        /// The host was lost; no attempt was used.
        Lost = "lost",
    }
}

words! {
    /// Severity of a log line.
    LogLevel {
        /// Finest detail.
        Trace = "trace",
        /// For developers.
        Debug = "debug",
        /// Ordinary news; stdout counts as this.
        Info = "info",
        /// Something is off.
        Warn = "warn",
        /// Something failed; stderr counts as this.
        Error = "error",
    }
}

words! {
    /// Where a log line came from.
    LogSource {
        /// The `log` interface.
        Log = "log",
        /// Standard output.
        Stdout = "stdout",
        /// Standard error.
        Stderr = "stderr",
        /// The host itself, about the run (a denied request, dropped lines).
        Host = "host",
    }
}

/// One line of a run's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// Counts from 0 within the attempt; gaps show where lines were dropped.
    pub line: u64,
    /// The attempt (claim) it belongs to.
    pub attempt: u32,
    /// When.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub at: Timestamp,
    /// Severity.
    pub level: LogLevel,
    /// Where it came from.
    pub source: LogSource,
    /// The text, sanitised, one line.
    pub message: String,
    /// Structured facts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fields: Option<Value>,
}

/// One outgoing request of a run, kept with its attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpCall {
    /// Counts from 0 within the attempt.
    pub call: u64,
    /// The attempt (claim) it belongs to.
    pub attempt: u32,
    /// When it was made.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub at: Timestamp,
    /// Its method.
    pub method: String,
    /// Where it went, with `[secret NAME]` in the place of every secret.
    pub url: String,
    /// The answer's status; null while there is none.
    pub status: Option<u16>,
    /// Bytes of the request's body that were sent.
    pub request_bytes: u64,
    /// Bytes of the answer's body that were received.
    pub response_bytes: u64,
    /// From the call until the answer's body was read or dropped; null while it goes on.
    pub duration_seconds: Option<f64>,
    /// Why it was denied or broke off.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_final_and_every_live_state_is_reachable() {
        for from in State::ALL {
            for to in State::ALL {
                if from.is_end() {
                    assert!(!State::may_become(Some(*from), *to));
                }
            }
            let reachable = State::may_become(None, *from)
                || State::ALL
                    .iter()
                    .any(|s| State::may_become(Some(*s), *from));
            assert!(reachable, "{from}");
        }
        assert!(!State::may_become(Some(State::Available), State::Succeeded));
        assert!(State::may_become(Some(State::Running), State::Available));
    }
}

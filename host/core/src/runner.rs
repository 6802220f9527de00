//! Running guests, as traits: the sandbox implements them, the simulator has its own.

use crate::control::{RunControl, StopReason};
use crate::secrets::RunSecret;
use crate::trace::RunTrace;
use futures_util::future::BoxFuture;
use horarium_model::grant::Grant;
use horarium_model::limits::Limits;
use horarium_model::task_type::PluginVersion;
use horarium_model::{ConfigId, ErrorKind, Invalid, TaskId, TenantId, Timestamp, Trigger, Usage};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Runs attempts of loaded plugin versions.
#[async_trait::async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Makes a version runnable here, compiling it first when its compiled form is not at hand.
    /// `bytes` is only called when they are needed. Cheap when already prepared.
    ///
    /// # Errors
    /// A sentence on why it cannot be loaded.
    async fn prepare(&self, version: &PluginVersion, bytes: ComponentSource) -> Result<(), String>;

    /// Checks parameters against the version's schema and fills in the schema's defaults. Without a
    /// schema everything passes unchanged.
    ///
    /// # Errors
    /// Each violation with the pointer into the parameters.
    async fn check_parameters(
        &self,
        version: &PluginVersion,
        parameters: Value,
    ) -> Result<Value, Invalid>;

    /// Bytes that a run of this version is expected to need: the larger of what it has at its start and
    /// 1.25 times its recent peak. It is claimed only when the host's memory has as many.
    fn expected_memory(&self, _version: &PluginVersion) -> u64 {
        0
    }

    /// Runs one attempt in a fresh sandbox and never panics on what a guest does. Ends soon after
    /// `control` is stopped.
    async fn run(&self, attempt: Attempt, control: Arc<RunControl>) -> Outcome;
}

/// Where a component's bytes come from when they must be compiled.
pub type ComponentSource =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

/// Takes in components: checked, then compiled and described, in a child process.
#[async_trait::async_trait]
pub trait Intake: Send + Sync + 'static {
    /// Checks untrusted bytes (size, header, world, imports). The compile goes on in the future that
    /// comes with the answer.
    ///
    /// # Errors
    /// What is wrong with the component and what would be right; nothing was kept.
    async fn inspect(&self, bytes: Vec<u8>) -> Result<(Inspection, PendingCompile), Invalid>;

    /// Weighs the schemas of a descriptor: size, shape, whether they compile, whether the examples fit.
    ///
    /// # Errors
    /// Each fault with its pointer into the descriptor.
    async fn check_descriptor(
        &self,
        descriptor: &horarium_model::descriptor::Descriptor,
    ) -> Result<(), Invalid>;
}

/// Compiles an inspected component, keeps the compiled form, and calls `describe`: the description as
/// JSON, none when the component has none; or a sentence on what failed.
pub type PendingCompile = BoxFuture<'static, Result<Option<Value>, String>>;

/// The [`Inspection::kind`] of a WASI program.
pub const COMMAND: &str = "command";

/// What the check of a component found.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Inspection {
    /// `blake3:…` over the bytes as they came.
    pub digest: String,
    /// Their number.
    pub size_bytes: u64,
    /// `task` (exports horarium:task/run) or `command` (a WASI program).
    pub kind: String,
    /// Interfaces imported.
    pub imports: Vec<String>,
    /// Interfaces exported.
    pub exports: Vec<String>,
    /// Remarks for the operator.
    pub warnings: Vec<String>,
}

/// One attempt to run.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Stable over attempts.
    pub task_id: TaskId,
    /// Owner.
    pub tenant_id: TenantId,
    /// The config, if it still exists.
    pub config_id: Option<ConfigId>,
    /// The config's name.
    pub task_name: String,
    /// The version that runs.
    pub version: Arc<PluginVersion>,
    /// Canonical JSON text, already checked.
    pub parameters: Arc<str>,
    /// Counts from 1.
    pub attempt: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// The instant the schedule meant.
    pub slot: Option<Timestamp>,
    /// What brought it about.
    pub trigger: Trigger,
    /// The execution whose end enqueued this one.
    pub parent_task_id: Option<TaskId>,
    /// The execution this one repeats.
    pub retry_of: Option<TaskId>,
    /// The trace it belongs to: told to whoever its requests go to.
    pub trace: Option<RunTrace>,
    /// Wall-clock limit.
    pub timeout: Duration,
    /// Effective limits, complete.
    pub limits: Limits,
    /// What the operator allows.
    pub grants: Arc<[Grant]>,
    /// The task's state as of now; none when it was not granted.
    pub state: Option<StateSnapshot>,
    /// What the operator gave its type, read at the claim.
    pub given: Given,
}

/// What an operator gave a task type, as an attempt finds it.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Settings that are not secret.
    pub config: Arc<BTreeMap<String, String>>,
    /// The secrets its grants name.
    pub secrets: Arc<[RunSecret]>,
    /// What `dev run` fixes.
    pub fixed: Fixed,
}

/// What is the same each time, so that a run can be repeated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fixed {
    /// The instant the run begins at. Its clocks start there, and each reading moves them on by 1 µs.
    pub at: Option<Timestamp>,
    /// What its randomness is made of.
    pub seed: Option<u64>,
}

/// A task's state as an attempt sees it: value and version of each key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateSnapshot {
    /// By key, in byte order.
    pub entries: BTreeMap<String, StateEntry>,
}

/// One value of a task's state.
#[derive(Debug, Clone, PartialEq)]
pub struct StateEntry {
    /// The bytes.
    pub value: Vec<u8>,
    /// Rises with each write; 0 is "no such key".
    pub version: i64,
}

/// What an attempt wants committed together with its success.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateCommit {
    /// Keys that were read or written, with the version the snapshot had (0 = absent): if any differs
    /// at commit, the attempt ends `state_conflict`.
    pub expected: BTreeMap<String, i64>,
    /// Writes; none = delete.
    pub writes: BTreeMap<String, Option<Vec<u8>>>,
}

/// How an attempt ended, and what it used.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub end: AttemptEnd,
    /// What it used; `duration_seconds` and `queued_seconds` are the executor's to fill in.
    pub usage: Usage,
    /// State to commit with a success.
    pub state: Option<StateCommit>,
}

/// How an attempt ended, before retry is considered.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptEnd {
    /// A result, as canonical JSON text.
    Succeeded(Arc<str>),
    /// A failure of its own.
    Failed(Failure),
    /// Stopped from outside, other than by its timeout.
    Stopped(StopReason),
    /// The host could not run it now: it runs again without using an attempt.
    HandedBack(String),
    /// The host's memory for guests (or its pool) was used up: likewise.
    NoMemory(String),
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Class.
    pub kind: ErrorKind,
    /// One line for a person.
    pub message: String,
    /// Guest backtrace with function names, and the tail of stderr.
    pub traceback: Option<String>,
    /// The plugin's own word.
    pub code: Option<String>,
    /// Further facts from the plugin.
    pub details: Option<Value>,
    /// Not earlier than this after the failure.
    pub not_before: Option<Duration>,
}

impl Failure {
    /// A failure with a message alone.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            traceback: None,
            code: None,
            details: None,
            not_before: None,
        }
    }
}

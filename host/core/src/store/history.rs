//! What ran: live and ended executions as every surface shows them.

use super::{Listing, Page, StoreResult, rules};
use horarium_model::execution::{
    AttemptRecord, HttpCall, LogLevel, LogLine, LogSource, State, Trigger,
};
use horarium_model::{ConfigId, ErrorKind, Execution, ExecutionId, TaskId, TenantId, Timestamp};
use serde_json::Value;

/// Reading executions, and taking in those that ended elsewhere.
#[async_trait::async_trait]
pub trait History: Send + Sync + 'static {
    /// One execution, live or ended.
    async fn execution(&self, tenant: TenantId, task_id: TaskId) -> StoreResult<Option<Execution>>;

    /// Executions, live and ended, newest (highest id) first. Lists leave out `parameters`, `result` and
    /// `error_traceback`, which can be large; `execution` has them.
    async fn executions(
        &self,
        tenant: TenantId,
        filter: &ExecutionFilter,
        page: &Page,
    ) -> StoreResult<Listing<Execution>>;

    /// What happened to executions of a tenant since `after`, at most `limit` of what is new and of what ended, and at most
    /// `running` of what runs. Executions are as in a list. What runs is read first, so that what ends meanwhile is seen
    /// to run or to have ended, never neither.
    async fn news(
        &self,
        tenant: TenantId,
        after: NewsMark,
        limit: u32,
        running: u32,
    ) -> StoreResult<News>;

    /// Attempts that ended, oldest first.
    async fn attempts(&self, tenant: TenantId, task_id: TaskId) -> StoreResult<Vec<AttemptRecord>>;

    /// Log lines of ended attempts in the order of (claim, line); `page.after` counts lines already seen.
    async fn logs(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        page: &Page,
    ) -> StoreResult<Listing<LogLine>>;

    /// Outgoing requests of ended attempts in the order of (claim, call); `page.after` counts requests
    /// already seen.
    async fn http_calls(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        page: &Page,
    ) -> StoreResult<Listing<HttpCall>>;

    /// Takes in executions that ended in another system, all in one transaction; their ids are given anew, in their
    /// order. Of each whether it was taken: one whose `task_id` is known is left as it is, so that the same may be
    /// given again.
    ///
    /// # Errors
    /// `NotFound` when the tenant is deleted.
    async fn take_in(&self, tenant: TenantId, items: Vec<EndedElsewhere>)
    -> StoreResult<Vec<bool>>;
}

/// An execution that ended in another system.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedElsewhere {
    /// Its public id.
    pub task_id: TaskId,
    /// The config that stands for the one it had there.
    pub config_id: Option<ConfigId>,
    /// The name its plugin has here.
    pub task_type: String,
    /// How it ended.
    pub is_success: bool,
    /// When it started, if that is known.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Timestamp,
    /// How long it took, if that is known.
    pub duration_seconds: Option<f64>,
    /// What it returned.
    pub result: Option<Value>,
    /// One line.
    pub error_message: Option<String>,
    /// What else was kept of the failure.
    pub error_traceback: Option<String>,
    /// What could not be taken as it was, a line each in its log.
    pub notes: Vec<ImportNote>,
}

/// A remark on an execution that was taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportNote {
    /// One line.
    pub message: String,
    /// Facts for machines.
    pub fields: Option<Value>,
}

/// The host of executions that ended in another system.
pub const IMPORT_HOST: &str = "import";

impl EndedElsewhere {
    /// Its state.
    pub fn state(&self) -> State {
        match self.is_success {
            true => State::Succeeded,
            false => State::Failed,
        }
    }

    /// When it came into being, as far as is known.
    pub fn created_at(&self) -> Timestamp {
        self.started_at.unwrap_or(self.completed_at)
    }

    /// Its log.
    pub fn log(&self) -> Vec<LogLine> {
        let lines = self.notes.iter().zip(0..);
        lines
            .map(|(note, line)| LogLine {
                line,
                attempt: 1,
                at: self.completed_at,
                level: LogLevel::Info,
                source: LogSource::Host,
                message: note.message.clone(),
                fields: note.fields.clone(),
            })
            .collect()
    }

    /// As reads show it.
    pub fn execution(&self, id: ExecutionId, tenant_id: TenantId) -> Execution {
        Execution {
            is_success: Some(self.is_success),
            started_at: self.started_at,
            completed_at: Some(self.completed_at),
            duration_seconds: self.duration_seconds,
            result: self.result.clone(),
            error_message: self.error_message.clone(),
            error_traceback: self.error_traceback.clone(),
            state: self.state(),
            trigger: Trigger::Api,
            attempt: 1,
            host: Some(IMPORT_HOST.to_owned()),
            first_started_at: self.started_at,
            ..rules::blank(
                id,
                self.task_id,
                tenant_id,
                self.config_id,
                &self.task_type,
                self.created_at(),
            )
        }
    }
}

/// From where on something is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewsMark {
    /// Executions with higher ids are new.
    pub id: ExecutionId,
    /// What ended later has ended newly,
    pub ended_at: Timestamp,
    /// and what ended then with a higher id.
    pub ended_id: ExecutionId,
}

impl ExecutionFilter {
    /// Whether what ended well cannot fit.
    pub fn is_of_trouble(&self) -> bool {
        let states = !self.states.is_empty() && !self.states.contains(&State::Succeeded);
        states || self.error_kind.is_some() || self.text.is_some()
    }
}

/// What happened to executions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct News {
    /// What is new, live or ended since the mark, in the order of ids.
    pub created: Vec<Execution>,
    /// What runs.
    pub running: Vec<Execution>,
    /// What has ended, in the order of ends.
    pub ended: Vec<Execution>,
}

/// Which executions to list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecutionFilter {
    /// Only of this config.
    pub config_id: Option<ConfigId>,
    /// Only of this type.
    pub task_type: Option<String>,
    /// Only in these states; empty = all.
    pub states: Vec<State>,
    /// Only brought about like this.
    pub trigger: Option<Trigger>,
    /// Only failed like this.
    pub error_kind: Option<ErrorKind>,
    /// Only with this in their `error_message`, whatever the case of ASCII letters.
    pub text: Option<String>,
    /// Only created at or after.
    pub created_from: Option<Timestamp>,
    /// Only created before.
    pub created_until: Option<Timestamp>,
}

impl ExecutionFilter {
    /// Whether an execution fits, of whatever tenant it is.
    pub fn fits(&self, e: &Execution) -> bool {
        self.config_id.is_none_or(|id| e.config_id == Some(id))
            && self.task_type.as_ref().is_none_or(|t| e.task_type == *t)
            && (self.states.is_empty() || self.states.contains(&e.state))
            && self.trigger.is_none_or(|t| e.trigger == t)
            && self.error_kind.is_none_or(|k| e.error_kind == Some(k))
            && self.text.as_ref().is_none_or(|text| {
                let message = e.error_message.as_deref().unwrap_or_default();
                message
                    .to_ascii_lowercase()
                    .contains(&text.to_ascii_lowercase())
            })
            && self.created_from.is_none_or(|at| e.created_at >= at)
            && self.created_until.is_none_or(|at| e.created_at < at)
    }
}

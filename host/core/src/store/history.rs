//! What ran: live and ended executions as every surface shows them.

use super::{Listing, Page, StoreResult};
use horarium_model::execution::{AttemptRecord, HttpCall, LogLine, State, Trigger};
use horarium_model::{ConfigId, ErrorKind, Execution, ExecutionId, TaskId, TenantId, Timestamp};

/// Reading executions.
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

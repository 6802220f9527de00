//! The operations of the business, as every surface (REST, later pages and imports) calls them: checked
//! input, one meaning of each verb, and the bells rung afterwards. A surface only translates.

mod apply;
mod audit;
mod batch;
mod bulk;
mod care;
pub mod events;
mod executions;
mod finish;
mod import;
mod logs;
mod next;
mod once;
mod owner;
mod parameters;
mod plugin_config;
mod plugin_versions;
pub mod plugins;
mod register;
mod registration;
mod secrets;
mod state;
mod tasks;
pub mod tenants;
pub mod tokens;
mod trigger;
mod validate;
mod why;
mod why_execution;

pub use apply::{
    Action, Apply, ApplyItem, ApplyOutcome, ApplyRequest, Change, Existing, PluginWish, Subject,
    Unfit,
};
pub use audit::Audit;
pub use batch::{BatchOutcome, BatchRequest, Taken};
pub use bulk::{Bulk, BulkOutcome, BulkRequest};
pub use care::{UsageReport, Usages};
pub use events::{Event, EventPlace, EventStream, Events};
pub use executions::{ExecutionView, Executions};
pub use import::{ImportOutcome, ImportRequest};
pub use logs::{LogCursor, LogPage};
pub use next::{NextSlots, PreviewSlot};
pub use once::{Once, RequestKey, Requests};
pub use parameters::ParametersView;
pub use plugin_versions::VersionDiff;
pub use plugins::Plugins;
pub use registration::Registration;
pub use secrets::{Rekeyed, SecretView, Secrets};
pub use tasks::{TaskRef, Tasks};
pub use tenants::Tenants;
pub use tokens::{FreshToken, Tokens};
pub use trigger::{Due, TriggerRequest};
pub use why::{WhySlot, WhyTask};
pub use why_execution::{LimitReached, Why};

use crate::clock::Clock;
use crate::config_cache::ConfigCache;
use crate::control::RunControl;
use crate::registry::Registry;
use crate::runner::Intake;
use crate::secrets::Keyring;
use crate::store::{BacklogOf, FullBacklog, Store, StoreError};
use crate::wake::Wakes;
use horarium_model::limits::{Level, Levels, LimitOverrides};
use horarium_model::quota::QuotaHit;
use horarium_model::task_type::PluginVersion;
use horarium_model::{Invalid, Limits, TaskConfig, TaskId, Timestamp};
use std::sync::Arc;

/// What the host allows at most, whatever a plugin or a task asks for.
#[derive(Debug, Clone, Default)]
pub struct HostPolicy {
    /// `limits.*` of the settings.
    pub limits: LimitOverrides,
    /// `engine.memory`: bytes that all guests together may hold; none = not bounded here.
    pub engine_memory: Option<u64>,
}

impl HostPolicy {
    /// What the levels above a task config state, the host first.
    pub fn levels<'a>(&self, version: Option<&'a PluginVersion>) -> Levels<'a> {
        let levels = Levels::new().and(Level::Host, self.limits);
        match version {
            Some(version) => levels.and(Level::Plugin(&version.task_type), version.limits),
            None => levels,
        }
    }

    /// The limits that hold for a run of `config` by `version`: the tightest of all levels.
    pub fn effective(
        &self,
        version: Option<&PluginVersion>,
        config: Option<&TaskConfig>,
    ) -> Limits {
        let task = config.map(|c| c.spec.limits).unwrap_or_default();
        self.levels(version).and(Level::Task, task).effective()
    }
}

/// Runs in progress on this host, for logs and progress that are not stored yet.
pub trait LiveRuns: Send + Sync + 'static {
    /// The control of a run in progress here.
    fn control_of(&self, task_id: TaskId) -> Option<Arc<RunControl>>;
}

/// No run is in progress here: for hosts that only answer, and for tests.
#[derive(Debug, Default)]
pub struct NoRuns;

impl LiveRuns for NoRuns {
    fn control_of(&self, _task_id: TaskId) -> Option<Arc<RunControl>> {
        None
    }
}

/// What the services work with; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Durable truth.
    pub store: Arc<dyn Store>,
    /// What the types are.
    pub registry: Arc<Registry>,
    /// Compiled configs.
    pub configs: Arc<ConfigCache>,
    /// Takes in components.
    pub intake: Arc<dyn Intake>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Hints to scheduler and executor.
    pub wakes: Arc<Wakes>,
    /// What the host allows.
    pub policy: Arc<HostPolicy>,
    /// Runs in progress.
    pub live: Arc<dyn LiveRuns>,
    /// Seals secrets.
    pub keyring: Arc<Keyring>,
    /// Keyed requests in progress.
    pub requests: Arc<Requests>,
}

/// All services of one host.
#[derive(Clone)]
pub struct Services {
    /// Task configs.
    pub tasks: Tasks,
    /// Declarations of plugins and tasks.
    pub apply: Apply,
    /// Registered plugins.
    pub plugins: Plugins,
    /// Executions.
    pub executions: Executions,
    /// What happens.
    pub events: Events,
    /// Tenants.
    pub tenants: Tenants,
    /// Who may ask.
    pub tokens: Tokens,
    /// Who did what.
    pub audit: Audit,
    /// Secrets of plugins.
    pub secrets: Secrets,
    /// What was used.
    pub usages: Usages,
}

impl Services {
    /// The services over one context.
    pub fn new(context: Context) -> Self {
        let plugins = Plugins::new(context.clone());
        Self {
            tasks: Tasks(context.clone()),
            events: Events(context.clone()),
            apply: Apply {
                cx: context.clone(),
                plugins: plugins.clone(),
            },
            plugins,
            tenants: Tenants(context.clone()),
            tokens: Tokens(context.clone()),
            audit: Audit::new(context.clone()),
            secrets: Secrets::new(context.clone()),
            usages: Usages(context.clone()),
            executions: Executions(context),
        }
    }

    /// The instant that requests are read at.
    pub fn now(&self) -> Timestamp {
        self.executions.0.clock.now()
    }
}

/// Why an operation did not happen. Nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No such thing in this tenant.
    #[error("{0}")]
    NotFound(String),
    /// It is not the caller's to change.
    #[error("{0}")]
    Forbidden(String),
    /// It stands in a state that forbids this.
    #[error("{0}")]
    Conflict(String),
    /// It is not the version the caller named.
    #[error("{0}")]
    VersionMismatch(String),
    /// The input is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// As many executions wait as may.
    #[error("{detail}")]
    Backlog {
        /// Whose backlog is full.
        detail: String,
        /// Seconds after which it is worth trying again.
        retry_after: u32,
    },
    /// A quota of the tenant is used up.
    #[error("{0}")]
    Quota(QuotaHit),
    /// The database cannot be reached or is busy; the same call may succeed later.
    #[error("{0}")]
    Unavailable(String),
    /// A bug or a damaged file.
    #[error("{0}")]
    Internal(String),
}

impl ServiceError {
    /// Seconds after which a full backlog may have room.
    const RETRY_AFTER: u32 = 10;

    /// Of `what`, a task, no execution can be taken because a backlog is full.
    fn backlog(what: &str, full: FullBacklog) -> Self {
        Self::Backlog {
            detail: full_backlog(what, full),
            retry_after: Self::RETRY_AFTER,
        }
    }
}

/// Why `what` cannot wait.
fn full_backlog(what: &str, full: FullBacklog) -> String {
    let whose = match full.of {
        BacklogOf::Config => "its task's",
        BacklogOf::Type => "its plugin's",
        BacklogOf::Tenant => "the tenant's",
    };
    format!(
        "{what} cannot be enqueued: {whose} backlog is full, {} executions wait; try again later",
        full.backlog
    )
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(detail) => Self::NotFound(detail),
            StoreError::Conflict(detail) => Self::Conflict(detail),
            StoreError::Invalid(invalid) => Self::Invalid(invalid),
            StoreError::Quota(hit) => Self::Quota(hit),
            StoreError::Unavailable(_) => Self::Unavailable(error.to_string()),
            StoreError::Internal(_) => Self::Internal(error.to_string()),
        }
    }
}

/// The answer of a service.
pub type ServiceResult<T> = Result<T, ServiceError>;

/// The same problems, their pointers below `prefix`.
fn below(prefix: &str, Invalid(mut problems): Invalid) -> Invalid {
    for problem in &mut problems {
        if !problem.pointer.starts_with(prefix) {
            problem.pointer.insert_str(0, prefix);
        }
    }
    Invalid(problems)
}

impl LiveRuns for crate::executor::Executor {
    fn control_of(&self, task_id: TaskId) -> Option<Arc<RunControl>> {
        crate::executor::Executor::control_of(self, task_id)
    }
}

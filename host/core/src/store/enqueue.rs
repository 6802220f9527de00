//! What is asked of the queue: new executions, one or many at once, and the answers kept for repeated requests
//! (rule E8).

use super::{FullBacklog, RateBound};
use horarium_model::execution::{State, Trigger};
use horarium_model::trace::TraceContext;
use horarium_model::{ConfigId, ExecutionId, TaskId, TenantId, Timestamp};
use std::sync::Arc;

/// Executions to be inserted together.
#[derive(Debug, Clone)]
pub struct Enqueue {
    /// What to insert.
    pub items: Vec<NewExecution>,
    /// All or nothing: if one is refused, none is inserted.
    pub atomic: bool,
    /// The request that brings them, when it may be repeated.
    pub request: Option<KeyedRequest<Vec<EnqueueReceipt>>>,
}

impl Enqueue {
    /// Items that are refused one by one.
    pub fn each(items: Vec<NewExecution>) -> Self {
        Self {
            items,
            atomic: false,
            request: None,
        }
    }
}

/// What became of an [`Enqueue`].
#[derive(Debug, Clone, PartialEq)]
pub enum Enqueued {
    /// One receipt per item, in order.
    Done(Vec<EnqueueReceipt>),
    /// The key was used before; nothing was done.
    Repeated(KeptAnswer),
}

/// A request that is carried out once, however often it is sent (rule E8).
#[derive(Clone)]
pub struct KeyedRequest<T> {
    /// Owner of the key.
    pub tenant_id: TenantId,
    /// As the client chose it.
    pub key: String,
    /// Tells this request from others.
    pub hash: String,
    /// The answer to keep, from what was done; none where the request was refused, which is not kept.
    pub answer: MakeAnswer<T>,
}

/// Makes the answer of a request from what was done.
pub type MakeAnswer<T> = Arc<dyn Fn(&T) -> Option<Answer> + Send + Sync>;

impl<T> std::fmt::Debug for KeyedRequest<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "KeyedRequest({}, {}, {})",
            self.tenant_id, self.key, self.hash
        )
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON text.
    pub body: Arc<str>,
}

/// An answer with the request it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Hash of the request that was answered.
    pub hash: String,
    /// What it was answered.
    pub answer: Answer,
}

/// How long answers are kept (rule E8).
pub const ANSWERS_KEPT: chrono::Duration = chrono::Duration::hours(24);

/// An execution to be inserted.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExecution {
    /// Its public id.
    pub task_id: TaskId,
    /// Owner.
    pub tenant_id: TenantId,
    /// Its config.
    pub config_id: Option<ConfigId>,
    /// The version of its config that it was made from, where that was remembered and not read: if there is another
    /// one by now, the config it was made from is no more.
    pub remembered: Option<i64>,
    /// The plugin.
    pub task_type: String,
    /// What brings it about.
    pub trigger: Trigger,
    /// The instant the schedule meant.
    pub slot: Option<Timestamp>,
    /// Frozen priority.
    pub priority: i32,
    /// 1 + max_retries.
    pub max_attempts: u32,
    /// Frozen parameters, canonical JSON text of an object.
    pub parameters: Arc<str>,
    /// When it may start.
    pub due_at: Timestamp,
    /// When waiting ends.
    pub expires_at: Option<Timestamp>,
    /// Executions with equal keys share `run_max`.
    pub run_key: Option<String>,
    /// How many of the key run at once.
    pub run_max: u32,
    /// How often attempts start.
    pub rate: Option<RateBound>,
    /// How many executions of the config may wait, this one among them.
    pub backlog: Option<u32>,
    /// The execution whose end enqueued this one.
    pub parent_task_id: Option<TaskId>,
    /// The execution this one repeats.
    pub retry_of: Option<TaskId>,
    /// Refuse instead of queueing when an execution of the config lives (rule S8).
    pub refuse_if_live: bool,
    /// Frozen chain steps, as [`horarium_model::chain::to_text`] writes them.
    pub chain: Option<Arc<str>>,
    /// Links between this execution and the start of its chain.
    pub chain_depth: u32,
    /// The trace that its trigger belongs to.
    pub trace: Option<TraceContext>,
}

impl NewExecution {
    /// One of no config that nothing bounds, with no parameters, tried once.
    pub fn plain(task_id: TaskId, tenant_id: TenantId, task_type: &str, due_at: Timestamp) -> Self {
        Self {
            task_id,
            tenant_id,
            config_id: None,
            remembered: None,
            task_type: task_type.to_owned(),
            trigger: Trigger::Manual,
            slot: None,
            priority: 0,
            max_attempts: 1,
            parameters: Arc::from("{}"),
            due_at,
            expires_at: None,
            run_key: None,
            run_max: 1,
            rate: None,
            backlog: None,
            parent_task_id: None,
            retry_of: None,
            refuse_if_live: false,
            chain: None,
            chain_depth: 0,
            trace: None,
        }
    }
}

/// What became of a [`NewExecution`].
#[derive(Debug, Clone, PartialEq)]
pub enum EnqueueReceipt {
    /// Inserted.
    Enqueued {
        /// Its row id.
        id: ExecutionId,
        /// `scheduled` or `available`.
        state: State,
    },
    /// `refuse_if_live`, and one lives.
    Live,
    /// Its config does not exist (any more).
    NoConfig,
    /// As many wait as may.
    Full(FullBacklog),
    /// An execution with this `task_id` exists.
    Duplicate,
    /// Not inserted, because another item of an atomic batch was refused.
    Void,
}

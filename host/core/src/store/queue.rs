//! What waits and runs.

use super::{
    Bucket, Enqueue, EnqueueReceipt, Enqueued, Heartbeat, HostFacts, HostRow, KeptAnswer,
    NewExecution, StoreError, StoreResult, TakenOver,
};
use crate::runner::{StateCommit, StateSnapshot};
use horarium_model::config::ScheduleState;
use horarium_model::execution::{
    AttemptRecord, HttpCall, LogLine, Progress, SkipReason, State, Trigger,
};
use horarium_model::firing::Plan;
use horarium_model::quota::{Allowance, QuotaHit};
use horarium_model::schedule::Overlap;
use horarium_model::trace::TraceContext;
use horarium_model::{ConfigId, ExecutionId, TaskId, TenantId, Timestamp};
use std::sync::Arc;

/// The live side of the store. `now` is the instant the operation counts as: the host's clock on
/// SQLite and in memory.
#[async_trait::async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Whether operations are carried out in the order in which they were begun, each seeing what those before it
    /// did, so that a claim may be begun before what it is to find is answered.
    fn is_in_order(&self) -> bool {
        false
    }

    /// Schedules whose `next_fire_at` has come, the most overdue first.
    async fn due_schedules(&self, now: Timestamp, limit: u32) -> StoreResult<Vec<DueSchedule>>;

    /// Schedules that wait for an instant computed with another release of the zone database than `zone_data`
    /// (rule S13), by rising config id, those after `after`. Whatever writes a schedule's next instant notes
    /// [`ZONE_DATA`](horarium_model::cron::ZONE_DATA) beside it.
    async fn schedules_by_other_zone_data(
        &self,
        zone_data: &str,
        after: ConfigId,
        limit: u32,
    ) -> StoreResult<Vec<DueSchedule>>;

    /// The earliest instant at which time alone makes something happen: a schedule fires, a waiting
    /// execution becomes available or expires, a rate that something waits for has tokens again.
    async fn next_due(&self) -> StoreResult<Option<Timestamp>>;

    /// Carries out what the scheduler decided for each config (rules S1, S5, S6, S7): if the schedule
    /// state and version are still those it looked at, advance it and insert the executions or extend
    /// the open skip streak. A slot that fires or is skipped for another reason first closes the open
    /// streak as a `skipped` row. One receipt per order, in order.
    async fn fire_due(
        &self,
        now: Timestamp,
        orders: Vec<FireOrder>,
    ) -> StoreResult<Vec<FireReceipt>>;

    /// Inserts executions: `scheduled` when due later than `now`, else `available`. One answer per item,
    /// in order; a refused item leaves the others in, unless the batch is `atomic`. With a request key that
    /// was used within the last day nothing is done and the kept answer returned (rule E8); else the answer is
    /// kept in the same transaction.
    async fn enqueue(&self, now: Timestamp, batch: Enqueue) -> StoreResult<Enqueued>;

    /// [`Self::enqueue`] of items that are refused one by one, without a key.
    async fn enqueue_many(
        &self,
        now: Timestamp,
        items: Vec<NewExecution>,
    ) -> StoreResult<Vec<EnqueueReceipt>> {
        match self.enqueue(now, Enqueue::each(items)).await? {
            Enqueued::Done(receipts) => Ok(receipts),
            Enqueued::Repeated(_) => Err(StoreError::Internal("an answer without a key".into())),
        }
    }

    /// The answer kept under a request key that was used within the day before `now`.
    async fn kept_answer(
        &self,
        now: Timestamp,
        tenant: TenantId,
        key: &str,
    ) -> StoreResult<Option<KeptAnswer>>;

    /// Removes up to `limit` answers that are older than a day. Returns how many went.
    async fn purge_answers(&self, now: Timestamp, limit: u32) -> StoreResult<u64>;

    /// Moves due `scheduled` and `retryable` executions to `available`, ends those whose `expires_at` passed
    /// before they ran (`failed`, `expired`), and looks again at what waited for a rate. At most `limit` of
    /// each.
    async fn sweep_due(&self, now: Timestamp, limit: u32) -> StoreResult<Swept>;

    /// Takes up to `limit` available executions of the given types for a host incarnation: tenants by turns,
    /// within a tenant in the order of rule E2 (`queue_key = due_at - priority * 60 s`, then id). Never more
    /// of a `run_key` than its `run_max` at once, of a type or tenant than it allows, or of a rate than its
    /// bucket holds; suspects (lost 3 times or more) one at a time over all hosts. `claim` rises.
    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claims>;

    /// What runs under an incarnation according to the store: after a claim whose answer was lost, the
    /// host finds here what it holds without knowing, and hands it back.
    async fn held(&self, incarnation: i64) -> StoreResult<Vec<Held>>;

    /// Records ends of attempts, guarded by (id, claim, incarnation): a success, failure or cancel moves the
    /// execution into history together with its log, its attempt and its state, and enqueues its chain (as every
    /// end does, see [`super::chain`]); a retry makes it wait. One receipt
    /// per item, in order. See [`Completion`] for what the store itself decides.
    async fn complete_many(
        &self,
        now: Timestamp,
        items: Arc<[Completion]>,
    ) -> StoreResult<Vec<CompletionReceipt>>;

    /// Hands back claimed executions unfinished: `available` again, no attempt used (rule E6). One whose
    /// cancel was asked for ends `cancelled`. Returns how many were still ours.
    async fn release(&self, now: Timestamp, items: Vec<Release>) -> StoreResult<u64>;

    /// Asks for the end of one execution (rule E7): a waiting one ends at once, a running one gets the flag.
    async fn cancel(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_id: TaskId,
    ) -> StoreResult<CancelReceipt>;

    /// Keeps the latest progress of running executions, guarded as completions are.
    async fn report_progress(&self, items: Vec<ProgressReport>) -> StoreResult<()>;

    /// Registers a started host. Its incarnation is new and higher than any before.
    async fn start_host(&self, now: Timestamp, name: &str) -> StoreResult<i64>;

    /// Keeps what a host tells of itself, for people; replaces what it told before.
    async fn describe_host(&self, incarnation: i64, facts: HostFacts) -> StoreResult<()>;

    /// The incarnations that are alive, oldest first, with what each runs.
    async fn hosts(&self) -> StoreResult<Vec<HostRow>>;

    /// Marks a host incarnation as gone; it must run nothing any more.
    async fn stop_host(&self, now: Timestamp, incarnation: i64) -> StoreResult<()>;

    /// Proves an incarnation alive, and brings what others want of it.
    async fn heartbeat(&self, now: Timestamp, incarnation: i64) -> StoreResult<Heartbeat>;

    /// Whether several hosts share the store, so that each holds what it runs by a lease (rule E5).
    fn gives_leases(&self) -> bool {
        false
    }

    /// Takes over what dead hosts were running (rules E5, E6): back to `available` with `lost` one higher
    /// and no attempt used; `failed`/`host_lost` when lost 5 times; `cancelled` when a cancel was asked for.
    /// Each lost claim is kept as an attempt with outcome `lost`. In one process without leases (SQLite,
    /// memory) every incarnation but `mine` is dead; elsewhere one whose lease is over.
    async fn take_over(&self, now: Timestamp, mine: i64) -> StoreResult<TakenOver>;

    /// The state of a config as of now.
    async fn state_snapshot(&self, config_id: ConfigId) -> StoreResult<StateSnapshot>;

    /// What a waiting execution waits behind (rule E9); none when it does not wait.
    async fn waits(&self, tenant: TenantId, task_id: TaskId) -> StoreResult<Option<Waits>>;

    /// How many executions stand in each live state.
    async fn queue_counts(&self) -> StoreResult<QueueCounts>;

    /// Of each of these types, what is claimed next of what no key or rate is known to hold up. Types of which
    /// nothing waits are left out.
    async fn waiting_heads(&self, types: &[(TenantId, String)]) -> StoreResult<Vec<WaitingHead>>;
}

/// A schedule that wants a decision.
#[derive(Debug, Clone, PartialEq)]
pub struct DueSchedule {
    /// Its config.
    pub config_id: ConfigId,
    /// Version of the config at this moment.
    pub version: i64,
    /// The state to decide from.
    pub state: ScheduleState,
}

/// A decision for one schedule.
#[derive(Debug, Clone)]
pub struct FireOrder {
    /// The schedule that was looked at; the order is void if it changed meanwhile.
    pub seen: DueSchedule,
    /// Owner.
    pub tenant_id: TenantId,
    /// What the slots become.
    pub plan: Plan,
    /// Every slot of the plan that would fire is skipped for this reason instead.
    pub skip_all: Option<SkipReason>,
    /// The rule for slots that meet live executions.
    pub overlap: Overlap,
    /// What each execution is made of; its `task_id`, `slot`, `trigger` and `due_at` are replaced.
    pub template: Arc<NewExecution>,
    /// One id for each fire of the plan.
    pub task_ids: Vec<TaskId>,
}

/// What became of a [`FireOrder`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FireReceipt {
    /// False: the schedule had changed, nothing was done.
    pub applied: bool,
    /// Executions inserted.
    pub enqueued: Vec<TaskId>,
    /// How many slots were skipped for what reason, in the order of the slots.
    pub skips: Vec<(SkipReason, u64)>,
    /// Running executions that were asked to stop (`cancel_running`).
    pub cancel_requested: Vec<TaskId>,
}

impl FireReceipt {
    /// How many slots were skipped, for whatever reason.
    pub fn skipped(&self) -> u64 {
        let counts = self.skips.iter().map(|(_, count)| *count);
        counts.fold(0, u64::saturating_add)
    }
}

/// What [`Queue::sweep_due`] moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Became available.
    pub available: u64,
    /// Ended `expired`.
    pub expired: u64,
    /// Rates whose bucket has tokens again for what waits.
    pub refilled: u64,
}

/// What a host can take.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The instant of the claim.
    pub now: Timestamp,
    /// Who claims; it must be alive.
    pub incarnation: i64,
    /// Types that are enabled and loaded here.
    pub types: Arc<[(TenantId, String)]>,
    /// Free slots.
    pub limit: u32,
}

/// The answer to a claim.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims {
    /// What was claimed.
    pub claimed: Vec<Claimed>,
    /// A rate was touched: [`Queue::next_due`] may be earlier now.
    pub rates: bool,
}

/// A claimed execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// Row id.
    pub id: ExecutionId,
    /// Public id.
    pub task_id: TaskId,
    /// Rises with every claim of this execution; guards its writes.
    pub claim: u32,
    /// The attempt this claim is, from 1.
    pub attempt: u32,
    /// Owner.
    pub tenant_id: TenantId,
    /// Its config; none when it is gone.
    pub config_id: Option<ConfigId>,
    /// Version of the config at the claim, so that a cached one can be told stale.
    pub config_version: Option<i64>,
    /// The plugin.
    pub task_type: String,
    /// What brought it about.
    pub trigger: Trigger,
    /// The instant the schedule meant.
    pub slot: Option<Timestamp>,
    /// When it was due.
    pub due_at: Timestamp,
    /// 1 + max_retries.
    pub max_attempts: u32,
    /// Frozen parameters.
    pub parameters: Arc<str>,
    /// The execution whose end enqueued this one.
    pub parent_task_id: Option<TaskId>,
    /// The execution this one repeats.
    pub retry_of: Option<TaskId>,
    /// Whether its end may enqueue others.
    pub chained: bool,
    /// The trace its trigger belongs to.
    pub trace: Option<TraceContext>,
    /// What is reserved for it of its tenant's quotas.
    pub allowance: Allowance,
}

/// A claim as the store knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Row id.
    pub id: ExecutionId,
    /// Public id.
    pub task_id: TaskId,
    /// The claim it runs under.
    pub claim: u32,
}

/// The end of one attempt. The store decides three things itself, because only it knows: a retry of an
/// execution whose cancel was asked for ends `cancelled`; one whose config was deleted ends as `failed`;
/// state whose versions differ is not committed and the item answered [`CompletionReceipt::StateConflict`],
/// with nothing written. A deleted config's state is never written.
#[derive(Debug, Clone)]
pub struct Completion {
    /// Row id.
    pub id: ExecutionId,
    /// Public id.
    pub task_id: TaskId,
    /// Whose it is, as its claim said.
    pub tenant_id: TenantId,
    /// The plugin, as its claim said.
    pub task_type: String,
    /// The claim it ran under.
    pub claim: u32,
    /// Who ran it.
    pub incarnation: i64,
    /// What to record.
    pub end: End,
    /// The attempt as it is kept (its outcome and error are those of `end`).
    pub record: AttemptRecord,
    /// The attempt's log.
    pub logs: Vec<LogLine>,
    /// The attempt's outgoing requests.
    pub calls: Vec<HttpCall>,
    /// State to commit with a success.
    pub state: Option<StateCommit>,
    /// The last progress report.
    pub progress: Option<Progress>,
    /// Pause the config after this many failed executions in a row.
    pub pause_after_failures: Option<u32>,
    /// What its claim said: whether its end may enqueue others.
    pub chained: bool,
    /// The attempt's place in a trace, to which what its end enqueues belongs.
    pub trace: Option<TraceContext>,
}

/// What an attempt's end means for its execution.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// Ends `succeeded` with this canonical JSON result.
    Succeeded(Arc<str>),
    /// Ends `failed`; the error is the record's.
    Failed,
    /// Ends `cancelled`.
    Cancelled,
    /// Waits until this instant for its next attempt.
    Retry(Timestamp),
}

/// What became of a [`Completion`].
#[derive(Debug, Clone, PartialEq)]
pub enum CompletionReceipt {
    /// Recorded; the execution now stands here.
    Recorded(State),
    /// Not ours any more (claimed again, ended, or the incarnation is dead): refused, nothing written.
    Stale,
    /// A state key changed meanwhile; nothing written. The message names the key.
    StateConflict(String),
    /// Its state would be more than its tenant may have; nothing written.
    StateQuota(QuotaHit),
}

/// A claimed execution given back.
#[derive(Debug, Clone)]
pub struct Release {
    /// Row id.
    pub id: ExecutionId,
    /// The claim.
    pub claim: u32,
    /// Who had it.
    pub incarnation: i64,
    /// The attempt as it is kept, outcome `handed_back`; none when it never started.
    pub record: Option<AttemptRecord>,
    /// When it may be claimed again.
    pub due_at: Option<Timestamp>,
}

/// What became of a cancel.
#[derive(Debug, Clone, PartialEq)]
pub enum CancelReceipt {
    /// It waited and has ended.
    Ended,
    /// It runs; it was asked to stop.
    Requested,
    /// It had ended before.
    AlreadyEnded(State),
    /// No such execution.
    NotFound,
}

/// Latest progress of one running execution.
#[derive(Debug, Clone)]
pub struct ProgressReport {
    /// Row id.
    pub id: ExecutionId,
    /// The claim it runs under.
    pub claim: u32,
    /// The report.
    pub progress: Progress,
}

/// What a waiting execution waits behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Available executions that are claimed before it would be; counted up to [`Waits::COUNTED`].
    pub ahead: u64,
    /// How many run of its key, and how many may.
    pub bound: Option<(u32, u32)>,
    /// How many run of its type, and how many may.
    pub of_type: Option<(u32, u32)>,
    /// How many run of its tenant, and how many may.
    pub of_tenant: Option<(u32, u32)>,
    /// What its attempts take a token from.
    pub bucket: Option<Bucket>,
}

impl Waits {
    /// As far as [`Waits::ahead`] counts.
    pub const COUNTED: u32 = 10_000;
}

/// The first of those of a type that wait for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingHead {
    /// Owner.
    pub tenant_id: TenantId,
    /// The plugin.
    pub task_type: String,
    /// Public id.
    pub task_id: TaskId,
    /// Since when it could start.
    pub due_at: Timestamp,
}

/// Live executions by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Wait for their instant.
    pub scheduled: u64,
    /// Wait for a slot.
    pub available: u64,
    /// Run.
    pub running: u64,
    /// Wait for their next attempt.
    pub retryable: u64,
}

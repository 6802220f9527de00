//! Decisions that every store takes alike, as pure functions: what a due schedule becomes, what the end
//! of an attempt means, and the words that are written.

mod fire;
mod words;

pub use fire::{FireStep, Firing, first_fire, reposition, same_position, skip_trigger};
pub use words::{
    CANCELLED_OVERLAP, CANCELLED_RETRY, CANCELLED_WAITING, CONFIG_DELETED, EXPIRED, LOST,
    LOST_TOO_OFTEN, key_taken, name_is_shared, no_config, no_tenant, no_token, no_type, no_version,
    other_active, pause_reason, refuse_beyond, refuse_busy_tenant, refuse_state, refuse_taken_name,
    refuse_used_type, state_conflict, tenant_taken, too_few_ids, version_conflict, version_not,
};

use crate::runner::StateEntry;
use crate::store::{ANSWERS_KEPT, Backlogs, Completion, End, EnqueueReceipt, NewExecution};
use horarium_model::config::SkipStreak;
use horarium_model::execution::{AttemptOutcome, AttemptRecord, State, Trigger};
use horarium_model::limits::LimitOverrides;
use horarium_model::quota::Ask;
use horarium_model::{ConfigId, ErrorKind, Execution, ExecutionId, TaskId, TenantId, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// Rule E2: executions are claimed in the order of this key, then of their ids. Microseconds.
pub fn queue_key(due_at: Timestamp, priority: i32) -> i64 {
    due_at
        .timestamp_micros()
        .saturating_sub(i64::from(priority).saturating_mul(60_000_000))
}

/// Where a new or requeued execution waits.
pub fn waiting_state(due_at: Timestamp, now: Timestamp) -> State {
    if due_at > now {
        State::Scheduled
    } else {
        State::Available
    }
}

/// An execution as it was just inserted.
pub fn fresh(new: &NewExecution, id: ExecutionId, state: State, now: Timestamp) -> Execution {
    Execution {
        state,
        trigger: new.trigger,
        slot: new.slot,
        due_at: Some(new.due_at),
        priority: new.priority,
        max_attempts: new.max_attempts,
        parameters: serde_json::from_str(&new.parameters).ok(),
        expires_at: new.expires_at,
        parent_task_id: new.parent_task_id,
        retry_of: new.retry_of,
        ..blank(
            id,
            new.task_id,
            new.tenant_id,
            new.config_id,
            &new.task_type,
            now,
        )
    }
}

/// An execution of which nothing more is known.
pub(super) fn blank(
    id: ExecutionId,
    task_id: TaskId,
    tenant_id: TenantId,
    config_id: Option<ConfigId>,
    task_type: &str,
    now: Timestamp,
) -> Execution {
    Execution {
        id,
        config_id,
        task_id,
        is_success: None,
        started_at: None,
        completed_at: None,
        duration_seconds: None,
        result: None,
        error_message: None,
        error_traceback: None,
        tenant_id,
        task_type: task_type.to_owned(),
        state: State::Scheduled,
        trigger: Trigger::Schedule,
        slot: None,
        slot_last: None,
        slot_count: None,
        skip_reason: None,
        priority: 0,
        attempt: 0,
        max_attempts: 1,
        lost: 0,
        parameters: None,
        error_kind: None,
        usage: None,
        limits: None,
        timeout_seconds: None,
        plugin_digest: None,
        host: None,
        created_at: now,
        first_started_at: None,
        due_at: None,
        expires_at: None,
        cancel_requested_at: None,
        progress: None,
        parent_task_id: None,
        retry_of: None,
    }
}

/// The public id of a `skipped` row: a UUIDv7 that follows from what it describes, so that a simulated
/// run repeats exactly.
pub fn skip_task_id(
    now: Timestamp,
    id: ExecutionId,
    config: ConfigId,
    streak: &SkipStreak,
) -> TaskId {
    let first = streak.first.timestamp_micros();
    let mut hasher = blake3::Hasher::new();
    for part in [now.timestamp_micros(), id, config, first] {
        hasher.update(&part.to_le_bytes());
    }
    derived_task_id(now, &hasher)
}

/// The public id of what the end of `parent` enqueues of a config: it follows from both, so that no end
/// enqueues the same twice.
pub fn chain_task_id(now: Timestamp, parent: TaskId, target: ConfigId) -> TaskId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(parent.as_bytes());
    hasher.update(&target.to_le_bytes());
    derived_task_id(now, &hasher)
}

fn derived_task_id(now: Timestamp, from: &blake3::Hasher) -> TaskId {
    let mut random = [0; 10];
    random.copy_from_slice(&from.finalize().as_bytes()[..10]);
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// Answers to requests at or before this instant are forgotten (rule E8).
pub fn answers_from(now: Timestamp) -> Timestamp {
    now - ANSWERS_KEPT
}

/// Which items of a batch are refused, and why: `known` says whether the store has the task id, `version` of
/// which version the item's config is, if it exists, `lives` whether an execution of a config lives. Each item sees
/// the ones before it.
pub fn refusals(
    items: &[NewExecution],
    known: impl Fn(&NewExecution) -> bool,
    version: impl Fn(TenantId, ConfigId) -> Option<i64>,
    lives: impl Fn(ConfigId) -> bool,
    backlogs: &mut Backlogs,
) -> Vec<Option<EnqueueReceipt>> {
    let (mut tasks, mut configs) = (HashSet::new(), HashSet::new());
    let mut judge = |item: &NewExecution| {
        let task = (item.tenant_id, item.task_id);
        if tasks.contains(&task) || known(item) {
            return Some(EnqueueReceipt::Duplicate);
        }
        if let Some(config) = item.config_id {
            let found = version(item.tenant_id, config);
            if found.is_none_or(|found| item.remembered.is_some_and(|ours| ours != found)) {
                return Some(EnqueueReceipt::NoConfig);
            }
            if item.refuse_if_live && (configs.contains(&config) || lives(config)) {
                return Some(EnqueueReceipt::Live);
            }
        }
        if let Err(full) = backlogs.take(item) {
            return Some(EnqueueReceipt::Full(full));
        }
        configs.extend(item.config_id);
        tasks.insert(task);
        None
    };
    items.iter().map(&mut judge).collect()
}

/// What an atomic batch becomes when one of its items is refused; none when all are taken.
pub fn void_batch(refusals: &[Option<EnqueueReceipt>]) -> Option<Vec<EnqueueReceipt>> {
    refusals.iter().any(Option::is_some).then(|| {
        let told = |refusal: &Option<_>| refusal.clone().unwrap_or(EnqueueReceipt::Void);
        refusals.iter().map(told).collect()
    })
}

/// Where the end of an attempt takes its execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The state it moves to.
    pub state: State,
    /// When it is due again, for `retryable`.
    pub due_at: Option<Timestamp>,
    /// Whether the execution's final row is a full account of the attempt. When not (a retry, or a retry
    /// that became a cancel), the attempt is kept as a row of its own.
    pub is_account: bool,
    /// Class of the failure, for the execution.
    pub error_kind: Option<ErrorKind>,
    /// Message, for the execution.
    pub error_message: Option<String>,
}

impl Settled {
    /// What the store itself decides about a completion (see [`Completion`]).
    pub fn decide(completion: &Completion, cancel_requested: bool, config_deleted: bool) -> Self {
        let record = &completion.record;
        let end = |state| Self {
            state,
            due_at: None,
            is_account: true,
            error_kind: record.error_kind,
            error_message: record.error_message.clone(),
        };
        match &completion.end {
            End::Succeeded(_) => end(State::Succeeded),
            End::Failed => end(State::Failed),
            End::Cancelled => end(State::Cancelled),
            End::Retry(_) if cancel_requested => Self {
                is_account: false,
                error_kind: Some(ErrorKind::Cancelled),
                error_message: Some(CANCELLED_RETRY.to_owned()),
                ..end(State::Cancelled)
            },
            End::Retry(_) if config_deleted => end(State::Failed),
            End::Retry(at) => Self {
                due_at: Some(*at),
                is_account: false,
                ..end(State::Retryable)
            },
        }
    }

    /// How the attempt itself ended, whatever its execution became.
    pub fn outcome(end: &End) -> AttemptOutcome {
        match end {
            End::Succeeded(_) => AttemptOutcome::Succeeded,
            End::Failed | End::Retry(_) => AttemptOutcome::Failed,
            End::Cancelled => AttemptOutcome::Cancelled,
        }
    }
}

/// Duration of an attempt in seconds: as measured, else between its instants, never below 0.
pub fn duration_seconds(record: &AttemptRecord) -> f64 {
    match &record.usage {
        Some(usage) => usage.duration_seconds.max(0.0),
        None => {
            let micros = (record.completed_at - record.started_at)
                .num_microseconds()
                .unwrap_or(0);
            micros.max(0) as f64 / 1e6
        }
    }
}

/// The record of an attempt whose host was lost (rule E6).
pub fn lost_record(
    now: Timestamp,
    attempt: u32,
    claim: u32,
    started_at: Option<Timestamp>,
    host: Option<String>,
) -> AttemptRecord {
    let began = started_at.unwrap_or(now);
    AttemptRecord {
        error_kind: Some(ErrorKind::HostLost),
        error_message: Some(LOST.to_owned()),
        host,
        ..AttemptRecord::new(attempt, claim, AttemptOutcome::Lost, began, now)
    }
}

/// A result as it is shown: `null` and no result are the same.
pub fn shown_result(text: &str) -> Result<Option<Value>, serde_json::Error> {
    serde_json::from_str::<Value>(text).map(|value| Some(value).filter(|v| !v.is_null()))
}

/// Version of a key, 0 when it does not exist.
pub fn version_of(entries: &BTreeMap<String, StateEntry>, key: &str) -> i64 {
    entries.get(key).map_or(0, |entry| entry.version)
}

/// What a run asks for of its tenant's quotas, by the limits of its plugin and its task.
pub fn ask(plugin: LimitOverrides, task: LimitOverrides) -> Ask {
    let limits = plugin.tightest(&task).complete();
    Ask {
        fuel: limits.fuel,
        memory_bytes: limits.memory_bytes,
        log_bytes: limits.log_bytes,
    }
}

/// Bytes that a key of a task's state takes.
pub fn state_size(key: &str, value: &[u8]) -> i64 {
    i64::try_from(key.len() + value.len()).unwrap_or(i64::MAX)
}

//! Decisions that every store takes alike, as pure functions: what a due schedule becomes, what the end
//! of an attempt means, and the words that are written.

use super::{
    ANSWERS_KEPT, Backlogs, Completion, ConfigUpdate, End, EnqueueReceipt, FireOrder, NewExecution,
    StoreError, StoreResult, TokenId,
};
use crate::runner::StateEntry;
use horarium_model::config::{ScheduleState, SkipStreak};
use horarium_model::execution::{AttemptOutcome, AttemptRecord, SkipReason, State, Trigger};
use horarium_model::firing::{LiveCount, OverlapVerdict, Timetable, judge_overlap};
use horarium_model::limits::LimitOverrides;
use horarium_model::quota::{Ask, QuotaHit};
use horarium_model::schedule::{Overlap, SchedulerType};
use horarium_model::{
    ConfigId, ErrorKind, Execution, ExecutionId, Invalid, TaskConfig, TaskId, TaskSpec, TenantId,
    Timestamp,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// Message of an execution that was cancelled while it waited.
pub const CANCELLED_WAITING: &str = "cancelled while it waited";
/// Message of an execution that was to be tried again, but whose cancel had been asked for.
pub const CANCELLED_RETRY: &str = "cancelled before its next attempt";
/// Message of an execution that a newer slot replaced (overlap `cancel_running`).
pub const CANCELLED_OVERLAP: &str = "cancelled: a newer slot came while it waited";
/// Message of an execution whose config was deleted while it waited.
pub const CONFIG_DELETED: &str = "config_deleted: its task config was deleted while it waited";
/// Message of an execution that waited too long.
pub const EXPIRED: &str = "expired: it did not start before its expires_at";
/// Message of an attempt whose host was lost.
pub const LOST: &str = "the host that ran it was lost";
/// Message of an execution that lost its host too often.
pub const LOST_TOO_OFTEN: &str = "its host was lost 5 times while running it";

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

/// What one step of a [`Firing`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum FireStep {
    /// Write this streak as a `skipped` row.
    CloseStreak(SkipStreak),
    /// End what waits of the config, ask what runs to stop.
    CancelLive,
    /// Insert the execution of the plan's fire with this index.
    Enqueue(usize),
}

/// What becomes of a [`FireOrder`], step by step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Firing {
    /// To be done in this order.
    pub steps: Vec<FireStep>,
    /// The streak that stays open.
    pub open_skip: Option<SkipStreak>,
    /// Slots skipped by this order, by reason.
    pub skips: Vec<(SkipReason, u64)>,
}

impl Firing {
    /// Judges every slot of the order (rules S5, S6, S7), given the open streak, what lives of the config, and
    /// how many more may wait.
    pub fn decide(
        order: &FireOrder,
        open: Option<SkipStreak>,
        mut live: LiveCount,
        backlogs: &mut Backlogs,
    ) -> Self {
        let mut firing = Self {
            open_skip: open,
            ..Self::default()
        };
        if let Some(streak) = &order.plan.skipped {
            firing.skip(streak.clone());
        }
        let queues_up =
            order.plan.made_up_all && matches!(order.overlap, Overlap::Skip | Overlap::QueueOne);
        for (index, fire) in order.plan.fires.iter().enumerate() {
            let verdict = match order.skip_all {
                Some(reason) => Err(reason),
                None if queues_up => Ok(OverlapVerdict::Enqueue),
                None => Ok(judge_overlap(order.overlap, live)),
            };
            let skipped = |reason| SkipStreak {
                reason,
                first: fire.slot,
                last: fire.slot,
                count: 1,
            };
            match verdict {
                Err(reason) => firing.skip(skipped(reason)),
                Ok(OverlapVerdict::Skip) => firing.skip(skipped(SkipReason::Overlap)),
                // Nothing is cancelled for a slot that finds no place itself.
                Ok(OverlapVerdict::CancelThenEnqueue) => {
                    match backlogs.take_after(&order.template, live.waiting) {
                        Ok(()) => {
                            firing.steps.push(FireStep::CancelLive);
                            live.waiting = 0;
                            firing.enqueue(index);
                        }
                        Err(_) => firing.skip(skipped(SkipReason::BacklogCap)),
                    }
                }
                Ok(OverlapVerdict::Enqueue) => match backlogs.take(&order.template) {
                    Ok(()) => firing.enqueue(index),
                    Err(_) => firing.skip(skipped(SkipReason::BacklogCap)),
                },
            }
            if firing.steps.last() == Some(&FireStep::Enqueue(index)) {
                live.waiting += 1;
            }
        }
        firing
    }

    fn enqueue(&mut self, index: usize) {
        if let Some(open) = self.open_skip.take() {
            self.steps.push(FireStep::CloseStreak(open));
        }
        self.steps.push(FireStep::Enqueue(index));
    }

    fn skip(&mut self, streak: SkipStreak) {
        let count = u64::try_from(streak.count).unwrap_or(0);
        match self.skips.iter_mut().find(|(r, _)| *r == streak.reason) {
            Some((_, skipped)) => *skipped = skipped.saturating_add(count),
            None => self.skips.push((streak.reason, count)),
        }
        match &mut self.open_skip {
            Some(open) if open.reason == streak.reason => {
                open.last = streak.last;
                open.count = open.count.saturating_add(streak.count);
            }
            Some(open) => {
                self.steps
                    .push(FireStep::CloseStreak(std::mem::replace(open, streak)));
            }
            None => self.open_skip = Some(streak),
        }
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

/// Which items of a batch are refused, and why: `known` says whether the store has the task id, `alive`
/// whether the item's config exists, `lives` whether an execution of a config lives. Each item sees the ones
/// before it.
pub fn refusals(
    items: &[NewExecution],
    known: impl Fn(&NewExecution) -> bool,
    alive: impl Fn(&NewExecution) -> bool,
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
            if !alive(item) {
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

/// What brought a skipped streak about.
pub fn skip_trigger(reason: SkipReason) -> Trigger {
    match reason {
        SkipReason::Missed => Trigger::CatchUp,
        _ => Trigger::Schedule,
    }
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
    AttemptRecord {
        attempt,
        claim,
        outcome: AttemptOutcome::Lost,
        started_at: started_at.unwrap_or(now),
        completed_at: now,
        error_kind: Some(ErrorKind::HostLost),
        error_message: Some(LOST.to_owned()),
        error_traceback: None,
        error_code: None,
        error_details: None,
        usage: None,
        limits: None,
        timeout_seconds: None,
        plugin_digest: None,
        host,
    }
}

/// A result as it is shown: `null` and no result are the same.
pub fn shown_result(text: &str) -> Result<Option<Value>, serde_json::Error> {
    serde_json::from_str::<Value>(text).map(|value| Some(value).filter(|v| !v.is_null()))
}

/// The first key whose version is not the expected one, as a sentence.
pub fn state_conflict(
    expected: &BTreeMap<String, i64>,
    version: impl Fn(&str) -> i64,
) -> Option<String> {
    expected.iter().find_map(|(key, seen)| {
        let found = version(key);
        (found != *seen).then(|| {
            format!("state key `{key}` changed during the run: version {found}, expected {seen}")
        })
    })
}

/// Version of a key, 0 when it does not exist.
pub fn version_of(entries: &BTreeMap<String, StateEntry>, key: &str) -> i64 {
    entries.get(key).map_or(0, |entry| entry.version)
}

/// Why a config paused by itself.
pub fn pause_reason(failures: u32) -> String {
    format!("paused by itself: {failures} executions in a row failed")
}

/// The sentence of a version that is not the expected one.
pub fn version_conflict(id: ConfigId, found: i64, expected: i64) -> String {
    format!(
        "task {id} changed meanwhile: it has version {found}, the change was made from version {expected}; read it again"
    )
}

/// The sentence of a key that is taken.
pub fn key_taken(key: &str) -> String {
    format!("the key `{key}` belongs to another task; keys are unique")
}

/// The sentence of a config that does not exist.
pub fn no_config(id: ConfigId) -> String {
    format!("there is no task {id}")
}

/// The sentence of a tenant that does not exist.
pub fn no_tenant(tenant: TenantId) -> String {
    format!("there is no tenant {tenant}")
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

/// Refuses one more where there are as many as a quota allows.
///
/// # Errors
/// `Quota`.
pub fn refuse_beyond(quota: &'static str, limit: Option<u64>, used: u64) -> StoreResult<()> {
    let Some(limit) = limit.filter(|limit| used >= *limit) else {
        return Ok(());
    };
    Err(StoreError::Quota(QuotaHit {
        quota,
        used,
        limit,
        resets_at: None,
    }))
}

/// Refuses state that would grow beyond a quota; `grows` is by how much.
///
/// # Errors
/// The hit.
pub fn refuse_state(limit: Option<u64>, used: u64, grows: i64) -> Result<(), QuotaHit> {
    let Some(limit) = limit.filter(|_| grows > 0) else {
        return Ok(());
    };
    match used.saturating_add_signed(grows) > limit {
        true => Err(QuotaHit {
            quota: "state_bytes",
            used,
            limit,
            resets_at: None,
        }),
        false => Ok(()),
    }
}

/// Bytes that a key of a task's state takes.
pub fn state_size(key: &str, value: &[u8]) -> i64 {
    i64::try_from(key.len() + value.len()).unwrap_or(i64::MAX)
}

/// The sentence of a tenant's name that is in use.
pub fn tenant_taken(name: &str) -> String {
    format!("there is a tenant `{name}` already")
}

/// The sentence of a token that does not exist.
pub fn no_token(id: TokenId) -> String {
    format!("there is no token {id}")
}

/// A tenant is deleted only when nothing in it can start any more.
///
/// # Errors
/// `Conflict` naming what it still has.
pub fn refuse_busy_tenant(tasks: u64, live: u64) -> StoreResult<()> {
    if tasks == 0 && live == 0 {
        return Ok(());
    }
    Err(StoreError::Conflict(format!(
        "the tenant still has {tasks} tasks and {live} executions that have not ended; delete its tasks first"
    )))
}

/// The sentence of a type that does not exist.
pub fn no_type(task_type: &str) -> String {
    format!("no plugin is registered as `{task_type}`")
}

/// The sentence of a tenant's plugin whose name the host shares.
pub fn name_is_shared(task_type: &str) -> String {
    format!("`{task_type}` is a plugin that the host shares with every tenant; take another name")
}

/// A name that some tenant uses cannot be shared.
///
/// # Errors
/// `Conflict` naming those tenants, which a host-admin may know.
pub fn refuse_taken_name(task_type: &str, tenants: &[String]) -> StoreResult<()> {
    let named: Vec<String> = tenants
        .iter()
        .take(5)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = match tenants.len().saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match named[..] {
        [] => Ok(()),
        _ => Err(StoreError::Conflict(format!(
            "`{task_type}` is a plugin of its own for {}{more}; a name is a tenant's or shared, never both: \
             remove it there first, or share it under another name",
            named.join(", ")
        ))),
    }
}

/// A type is removed only when nothing of it can start or end any more.
///
/// # Errors
/// `Conflict` naming what there still is.
pub fn refuse_used_type(
    task_type: &str,
    tasks: u64,
    waiting: u64,
    running: u64,
) -> StoreResult<()> {
    let (found, advice) = match (tasks, waiting, running) {
        (0, 0, 0) => return Ok(()),
        (0, 0, _) => (
            format!("{running} executions of it run"),
            "wait for them or cancel them",
        ),
        (0, ..) => (
            format!("{waiting} executions of it wait"),
            "let them run, or say that they be cancelled (`--cancel-waiting`, `cancel_waiting=true`)",
        ),
        _ => (format!("{tasks} tasks name it"), "delete them first"),
    };
    Err(StoreError::Conflict(format!(
        "`{task_type}` is in use: {found}; {advice}"
    )))
}

/// The sentence of a version that does not exist.
pub fn no_version(task_type: &str, digest: &str) -> String {
    format!("`{task_type}` has no version {digest}")
}

/// The sentence of a version in a state that forbids the wish.
pub fn version_not(task_type: &str, digest: &str, found: &str, wanted: &str) -> String {
    format!("version {digest} of `{task_type}` is {found}, not {wanted}")
}

/// The sentence of a declaration that was made from another active version.
pub fn other_active(task_type: &str) -> String {
    format!("another version of `{task_type}` was made active meanwhile")
}

/// The sentence of a fire order without an id for each of its fires.
pub fn too_few_ids(config: ConfigId) -> String {
    format!("the order for task {config} has fewer task ids than slots that fire")
}

/// Whether a schedule still stands where it was seen (rule S1). The failure count may have moved on: no
/// decision rests on it.
pub fn same_position(now: &ScheduleState, seen: &ScheduleState) -> bool {
    (
        now.next_fire_at,
        now.last_slot,
        now.anchor_at,
        &now.open_skip,
    ) == (
        seen.next_fire_at,
        seen.last_slot,
        seen.anchor_at,
        &seen.open_skip,
    )
}

/// When a new config fires first: after `now`, and not at all while it is paused.
///
/// # Errors
/// `Invalid` when its schedule does not compile.
pub fn first_fire(spec: &TaskSpec, id: ConfigId, now: Timestamp) -> StoreResult<Option<Timestamp>> {
    if spec.paused {
        return Ok(None);
    }
    let table = Timetable::new(&spec.schedule, id)
        .map_err(|error| Invalid::one("/schedule_config", error.message))?;
    Ok(table.next_fire_at(now))
}

/// The schedule state after an update, and the streaks that must be written first, oldest first. A paused
/// or manual config has no next fire whatever the update says; one that is resumed counts failures anew.
pub fn reposition(old: &TaskConfig, update: &ConfigUpdate) -> (ScheduleState, Vec<SkipStreak>) {
    let mut state = old.schedule_state.clone();
    let mut streaks = Vec::new();
    if let Some(reanchor) = &update.reanchor {
        streaks.extend(state.open_skip.take());
        streaks.extend(reanchor.skipped.clone());
        state.anchor_at = reanchor.anchor_at;
        state.next_fire_at = reanchor.next_fire_at;
    }
    if update.spec.paused || update.spec.schedule.kind() == SchedulerType::Manual {
        state.next_fire_at = None;
    }
    if old.spec.paused && !update.spec.paused {
        state.failures_in_a_row = 0;
    }
    (state, streaks)
}

//! Moves of live executions that several operations share.

use super::{Inner, Row, move_state};
use crate::store::{Backlogs, NewExecution, Waiter, rules};
use horarium_model::config::SkipStreak;
use horarium_model::execution::{AttemptRecord, Execution, State};
use horarium_model::firing::LiveCount;
use horarium_model::quota::Allowance;
use horarium_model::{ConfigId, ErrorKind, ExecutionId, TaskConfig, TaskId, Timestamp};

impl Inner {
    pub(super) fn next_id(&mut self) -> ExecutionId {
        self.last_execution += 1;
        self.last_execution
    }

    /// What lives of a config (rule S6).
    pub(super) fn live_count(&self, config: ConfigId) -> LiveCount {
        let mut count = LiveCount::default();
        for row in self.live.values() {
            if row.shown.config_id == Some(config) {
                if row.shown.state == State::Running {
                    count.running += 1;
                } else {
                    count.waiting += 1;
                }
            }
        }
        count
    }

    /// What caps the backlogs that executions would wait in.
    pub(super) fn backlogs<'a>(&self, items: impl Iterator<Item = &'a NewExecution>) -> Backlogs {
        let waiting = |wanted: &dyn Fn(&Execution) -> bool| {
            let rows = self.live.values().map(|row| &row.shown);
            let count = rows.filter(|e| e.state.is_waiting() && wanted(e)).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let mut backlogs = Backlogs::default();
        for item in items.map(Waiter::from) {
            let (tenant, task_type) = (item.tenant_id, item.task_type);
            if let Some(config) = item.capped {
                backlogs.know_config(config, waiting(&|e| e.config_id == Some(config)));
            }
            let of_type = self.type_of(tenant, task_type);
            if let Some(cap) = of_type.and_then(|row| row.concurrency.backlog) {
                let count = waiting(&|e| e.tenant_id == tenant && e.task_type == task_type);
                backlogs.know_type(tenant, task_type, cap, count);
            }
            if let Some(cap) = self.bounds.get(&tenant).and_then(|bounds| bounds.backlog) {
                backlogs.know_tenant(tenant, cap, waiting(&|e| e.tenant_id == tenant));
            }
        }
        backlogs
    }

    /// Ids of the live executions of a config in these states.
    pub(super) fn live_of(
        &self,
        config: ConfigId,
        wanted: impl Fn(State) -> bool,
    ) -> Vec<ExecutionId> {
        self.live
            .iter()
            .filter(|(_, row)| row.shown.config_id == Some(config) && wanted(row.shown.state))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn insert(
        &mut self,
        now: Timestamp,
        new: &NewExecution,
        fresh: Fresh,
    ) -> (ExecutionId, State) {
        let id = self.next_id();
        let state = rules::waiting_state(fresh.due_at, now);
        assert!(State::may_become(None, state));
        let shown = Execution {
            task_id: fresh.task_id,
            trigger: fresh.trigger,
            slot: fresh.slot,
            due_at: Some(fresh.due_at),
            ..rules::fresh(new, id, state, now)
        };
        self.by_task.insert((new.tenant_id, fresh.task_id), id);
        let row = Row {
            shown,
            parameters: new.parameters.clone(),
            claim: 0,
            incarnation: 0,
            allowance: Allowance::default(),
            run_key: new.run_key.clone(),
            run_max: new.run_max,
            rate: new.rate.clone(),
            chain: new.chain.clone(),
            chain_depth: new.chain_depth,
            trace: new.trace.clone(),
        };
        self.put_live(row);
        (id, state)
    }

    /// Files a live row under its state.
    pub(super) fn put_live(&mut self, row: Row) {
        if row.shown.state == State::Available {
            let lane = self.available.entry(lane(&row.shown)).or_default();
            lane.insert(order(&row.shown));
        }
        self.live.insert(row.shown.id, row);
    }

    pub(super) fn take_live(&mut self, id: ExecutionId) -> Option<Row> {
        let row = self.live.remove(&id)?;
        if let Some(lane) = self.available.get_mut(&lane(&row.shown)) {
            lane.remove(&order(&row.shown));
        }
        Some(row)
    }

    /// Moves an execution that ended into history, or drops it if its history goes with its config.
    pub(super) fn file(&mut self, mut row: Row, to: State) {
        move_state(&mut row.shown, to);
        self.note_chain(&row);
        if self.deletes_history(row.shown.config_id) {
            self.forget(&row.shown);
        } else {
            let now = row.shown.completed_at.unwrap_or(row.shown.created_at);
            self.alert_of_end(now, &row.shown);
            self.history.insert(row.shown.id, row.shown);
        }
    }

    /// Removes what is kept beside an execution.
    pub(super) fn forget(&mut self, shown: &Execution) {
        self.by_task.remove(&(shown.tenant_id, shown.task_id));
        self.attempts.remove(&shown.id);
        self.logs.remove(&shown.id);
        self.calls.remove(&shown.id);
    }

    /// Ends an execution without an attempt that would account for it.
    pub(super) fn end_bare(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        to: State,
        kind: ErrorKind,
        message: &str,
    ) {
        let Some(mut row) = self.take_live(id) else {
            return;
        };
        let shown = &mut row.shown;
        clear_attempt(shown);
        shown.completed_at = Some(now);
        shown.error_kind = Some(kind);
        shown.error_message = Some(message.to_owned());
        self.file(row, to);
    }

    /// Ends an execution that waits, because somebody cancelled it.
    pub(super) fn cancel_waiting(&mut self, now: Timestamp, id: ExecutionId, message: &str) {
        self.end_bare(now, id, State::Cancelled, ErrorKind::Cancelled, message);
    }

    pub(super) fn keep_attempt(&mut self, id: ExecutionId, record: AttemptRecord) {
        self.attempts.entry(id).or_default().push(record);
    }

    /// Gives a claimed execution back to the queue, or ends it when it must not run again. `row` is
    /// running and taken out of `live`; its attempt number goes back.
    pub(super) fn requeue(
        &mut self,
        now: Timestamp,
        mut row: Row,
        record: Option<AttemptRecord>,
        due_at: Option<Timestamp>,
    ) -> State {
        let orphan = self.is_orphan(row.shown.config_id);
        let shown = &mut row.shown;
        shown.attempt = shown.attempt.saturating_sub(1);
        match &record {
            Some(record) => show_attempt(shown, record),
            None => {
                if shown.first_started_at == shown.started_at {
                    shown.first_started_at = None;
                }
                shown.started_at = None;
            }
        }
        let id = shown.id;
        let cancelled = shown.cancel_requested_at.is_some();
        if let Some(record) = record {
            self.keep_attempt(id, record);
        }
        if cancelled || orphan {
            let message = if cancelled {
                rules::CANCELLED_RETRY
            } else {
                rules::CONFIG_DELETED
            };
            self.put_live(row);
            self.cancel_waiting(now, id, message);
            return State::Cancelled;
        }
        let shown = &mut row.shown;
        let to = match due_at {
            Some(due) if due > now => State::Retryable,
            _ => State::Available,
        };
        if due_at.is_some() {
            shown.due_at = due_at;
        }
        move_state(shown, to);
        row.incarnation = 0;
        self.put_live(row);
        to
    }

    /// Writes a streak as a `skipped` row.
    pub(super) fn write_skip(&mut self, now: Timestamp, config: &TaskConfig, streak: &SkipStreak) {
        let id = self.next_id();
        let shown = Execution {
            task_id: rules::skip_task_id(now, id, config.id, streak),
            trigger: rules::skip_trigger(streak.reason),
            slot: Some(streak.first),
            slot_last: Some(streak.last),
            slot_count: Some(streak.count),
            skip_reason: Some(streak.reason),
            ..skipped(id, config, now)
        };
        self.alert_of_missed(now, config.tenant_id, config.id, streak);
        self.file_skipped(shown);
    }

    /// Files a row of what did not run.
    pub(super) fn file_skipped(&mut self, shown: Execution) {
        assert!(State::may_become(None, State::Skipped));
        let key = (shown.tenant_id, shown.task_id);
        self.by_task.insert(key, shown.id);
        self.history.insert(shown.id, shown);
    }
}

/// A row of something of a config that did not run; the caller says what and why.
pub(super) fn skipped(id: ExecutionId, config: &TaskConfig, now: Timestamp) -> Execution {
    let task_type = &config.spec.task_type;
    Execution {
        state: State::Skipped,
        completed_at: Some(now),
        priority: config.spec.priority,
        max_attempts: config.spec.max_retries.saturating_add(1),
        ..rules::blank(
            id,
            TaskId::nil(),
            config.tenant_id,
            Some(config.id),
            task_type,
            now,
        )
    }
}

/// What differs between the executions made of one template.
pub(super) struct Fresh {
    pub(super) task_id: TaskId,
    pub(super) trigger: horarium_model::Trigger,
    pub(super) slot: Option<Timestamp>,
    pub(super) due_at: Timestamp,
}

/// The tenant and type an execution waits among.
fn lane(shown: &Execution) -> (horarium_model::TenantId, String) {
    (shown.tenant_id, shown.task_type.clone())
}

impl Fresh {
    /// As the template itself says.
    pub(super) fn of(new: &NewExecution) -> Self {
        Self {
            task_id: new.task_id,
            trigger: new.trigger,
            slot: new.slot,
            due_at: new.due_at,
        }
    }
}

/// Position in the queue (rule E2).
pub(super) fn order(shown: &Execution) -> (i64, ExecutionId) {
    let due = shown.due_at.unwrap_or(shown.created_at);
    (rules::queue_key(due, shown.priority), shown.id)
}

/// Shows the end of an attempt in its execution.
pub(super) fn show_attempt(shown: &mut Execution, record: &AttemptRecord) {
    // The claim's instant stood in for the start; the record knows better.
    if shown.first_started_at == shown.started_at {
        shown.first_started_at = Some(record.started_at);
    }
    shown.started_at = Some(record.started_at);
    shown.completed_at = Some(record.completed_at);
    shown.duration_seconds = Some(rules::duration_seconds(record));
    shown.error_kind = record.error_kind;
    shown.error_message.clone_from(&record.error_message);
    shown.error_traceback.clone_from(&record.error_traceback);
    shown.usage.clone_from(&record.usage);
    shown.limits = record.limits;
    shown.timeout_seconds = record.timeout_seconds;
    shown.plugin_digest.clone_from(&record.plugin_digest);
    shown.host.clone_from(&record.host);
}

/// Forgets the last attempt's end: another begins, or the execution ends without one. The start stays.
pub(super) fn clear_attempt(shown: &mut Execution) {
    shown.completed_at = None;
    shown.duration_seconds = None;
    shown.error_kind = None;
    shown.error_message = None;
    shown.error_traceback = None;
    shown.usage = None;
    shown.limits = None;
    shown.timeout_seconds = None;
    shown.plugin_digest = None;
    shown.host = None;
}

//! The operations of the queue on the data itself; [`super::queue`] takes the lock and answers.

use super::live::{Fresh, show_attempt};
use super::{Inner, Row, move_state};
use crate::store::rules::{self, FireStep, Firing, Settled};
use crate::store::{
    Completion, CompletionReceipt, End, Enqueue, EnqueueReceipt, FAILED_AFTER_LOST, FireOrder,
    FireReceipt, HostRun, NewExecution, Swept, TakenOver, Tally,
};
use horarium_model::execution::State;
use horarium_model::{ConfigId, ErrorKind, ExecutionId, TaskId, Timestamp};
use std::time::Duration;

impl Inner {
    /// How many run of an execution's key, and how many may.
    pub(super) fn bound(&self, row: &Row) -> Option<(u32, u32)> {
        let key = row.run_key.as_ref()?;
        let rows = self.live.values();
        let running = rows.filter(|other| {
            let shown = &other.shown;
            shown.state == State::Running
                && shown.tenant_id == row.shown.tenant_id
                && other.run_key.as_ref() == Some(key)
        });
        let running = u32::try_from(running.count()).unwrap_or(u32::MAX);
        Some((running, row.run_max))
    }

    /// What runs under an incarnation that is not alive.
    pub(super) fn orphaned(&self, mine: i64) -> impl Iterator<Item = ExecutionId> + '_ {
        self.live
            .values()
            .filter(move |row| {
                row.shown.state == State::Running
                    && row.incarnation != mine
                    && !self.is_alive(row.incarnation)
            })
            .map(|row| row.shown.id)
    }

    pub(super) fn runs_of(&self, incarnation: i64) -> Vec<HostRun> {
        let rows = self.live.values();
        let running =
            rows.filter(|row| row.shown.state == State::Running && row.incarnation == incarnation);
        running
            .map(|row| HostRun {
                id: row.shown.id,
                task_id: row.shown.task_id,
                tenant_id: row.shown.tenant_id,
                config_id: row.shown.config_id.filter(|id| !self.is_orphan(Some(*id))),
                task_type: row.shown.task_type.clone(),
                attempt: row.shown.attempt,
                started_at: row.shown.started_at,
            })
            .collect()
    }

    /// `Queue::next_due`.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let schedules = self
            .configs
            .values()
            .filter(|row| !row.config.spec.paused && row.config.deleted_at.is_none())
            .filter_map(|row| row.config.schedule_state.next_fire_at);
        let waits = self
            .live
            .values()
            .filter(|row| row.shown.state.is_waiting());
        let instants = waits.flat_map(|row| {
            let due = row
                .shown
                .due_at
                .filter(|_| row.shown.state != State::Available);
            [due, row.shown.expires_at].into_iter().flatten()
        });
        let rates = self.rates.values().filter_map(|rate| rate.ready_at);
        let rates = rates.filter_map(Timestamp::from_timestamp_micros);
        schedules.chain(instants).chain(rates).min()
    }

    /// See [`Heartbeat::next_take_over`].
    pub(super) fn next_take_over(&self, at: Duration, mine: i64) -> Option<Duration> {
        if self.orphaned(mine).next().is_some() {
            return Some(Duration::ZERO);
        }
        let others = self
            .hosts
            .iter()
            .filter(|(incarnation, host)| **incarnation != mine && host.alive);
        let ends = others.map(|(_, host)| host.lease_end.saturating_sub(at));
        ends.min()
    }

    /// Whether the execution runs under exactly this claim of a living host.
    pub(super) fn owns(&self, id: ExecutionId, claim: u32, incarnation: i64) -> bool {
        self.is_alive(incarnation)
            && self.live.get(&id).is_some_and(|row| {
                row.shown.state == State::Running
                    && row.claim == claim
                    && row.incarnation == incarnation
            })
    }

    pub(super) fn fire(&mut self, now: Timestamp, order: &FireOrder) -> FireReceipt {
        let id = order.seen.config_id;
        let Some(row) = self.config(order.tenant_id, id) else {
            return FireReceipt::default();
        };
        let config = row.config.clone();
        let state = &config.schedule_state;
        if config.spec.paused
            || config.version != order.seen.version
            || !rules::same_position(state, &order.seen.state)
        {
            return FireReceipt::default();
        }
        let mut backlogs = self.backlogs(std::iter::once(&*order.template));
        let live = self.live_count(id);
        let firing = Firing::decide(order, state.open_skip.clone(), live, &mut backlogs);
        let mut receipt = FireReceipt {
            applied: true,
            skips: firing.skips.clone(),
            ..FireReceipt::default()
        };
        for step in &firing.steps {
            match step {
                FireStep::CloseStreak(streak) => self.write_skip(now, &config, streak),
                FireStep::CancelLive => {
                    receipt.cancel_requested.extend(self.cancel_live(now, id));
                }
                FireStep::Enqueue(index) => {
                    let (fire, task_id) = (&order.plan.fires[*index], order.task_ids[*index]);
                    let fresh = Fresh {
                        task_id,
                        trigger: fire.trigger,
                        slot: Some(fire.slot),
                        due_at: fire.fires_at,
                    };
                    self.insert(now, &order.template, fresh);
                    receipt.enqueued.push(task_id);
                }
            }
        }
        if let Some(streak) = &firing.open_skip {
            self.alert_of_missed(now, config.tenant_id, id, streak);
        }
        if let Some(row) = self.configs.get_mut(&id) {
            let state = &mut row.config.schedule_state;
            state.last_slot = order.plan.last_slot;
            state.next_fire_at = order.plan.next_fire_at;
            state.open_skip = firing.open_skip;
        }
        receipt
    }

    /// `cancel_running`: ends what waits of a config, asks what runs to stop.
    pub(super) fn cancel_live(&mut self, now: Timestamp, config: ConfigId) -> Vec<TaskId> {
        for id in self.live_of(config, State::is_waiting) {
            self.cancel_waiting(now, id, rules::CANCELLED_OVERLAP);
        }
        let mut asked = Vec::new();
        for row in self.live.values_mut() {
            let shown = &mut row.shown;
            if shown.config_id == Some(config) && shown.cancel_requested_at.is_none() {
                shown.cancel_requested_at = Some(now);
                asked.push(shown.task_id);
            }
        }
        asked
    }

    pub(super) fn enqueue(&mut self, now: Timestamp, batch: &Enqueue) -> Vec<EnqueueReceipt> {
        let mut backlogs = self.backlogs(batch.items.iter());
        let refusals = rules::refusals(
            &batch.items,
            |item| self.by_task.contains_key(&(item.tenant_id, item.task_id)),
            |tenant, config| {
                self.config(tenant, config)
                    .map(|config| config.config.version)
            },
            |config| !self.live_of(config, |_| true).is_empty(),
            &mut backlogs,
        );
        if batch.atomic
            && let Some(void) = rules::void_batch(&refusals)
        {
            return void;
        }
        let mut place = |item: &NewExecution| {
            let (id, state) = self.insert(now, item, Fresh::of(item));
            EnqueueReceipt::Enqueued { id, state }
        };
        let items = batch.items.iter().zip(refusals);
        items
            .map(|(item, refusal)| refusal.unwrap_or_else(|| place(item)))
            .collect()
    }

    pub(super) fn sweep(&mut self, now: Timestamp, limit: usize) -> Swept {
        let waiting = |key: fn(&Row) -> Option<Timestamp>, inner: &Self| {
            let mut found: Vec<_> = inner
                .live
                .values()
                .filter(|row| row.shown.state.is_waiting())
                .filter_map(|row| {
                    key(row)
                        .filter(|at| *at <= now)
                        .map(|at| (at, row.shown.id))
                })
                .collect();
            found.sort_unstable();
            found.truncate(limit);
            found
        };
        let mut swept = Swept::default();
        for (_, id) in waiting(|row| row.shown.expires_at, self) {
            self.end_bare(now, id, State::Failed, ErrorKind::Expired, rules::EXPIRED);
            swept.expired += 1;
        }
        let due = |row: &Row| {
            row.shown
                .due_at
                .filter(|_| row.shown.state != State::Available)
        };
        for (_, id) in waiting(due, self) {
            if let Some(mut row) = self.take_live(id) {
                move_state(&mut row.shown, State::Available);
                self.put_live(row);
                swept.available += 1;
            }
        }
        swept.refilled = self.refill(now, limit);
        swept
    }

    pub(super) fn complete(&mut self, now: Timestamp, item: Completion) -> CompletionReceipt {
        if !self.owns(item.id, item.claim, item.incarnation) {
            return CompletionReceipt::Stale;
        }
        // A database that lost its last transactions may give a row id anew.
        let named = |row: &&Row| row.shown.task_id == item.task_id;
        let Some(shown) = self.live.get(&item.id).filter(named).map(|row| &row.shown) else {
            return CompletionReceipt::Stale;
        };
        let config_id = shown.config_id;
        let orphan = self.is_orphan(config_id);
        let settled = Settled::decide(&item, shown.cancel_requested_at.is_some(), orphan);
        if settled.state == State::Succeeded
            && let Some(refused) = self.commit_state(config_id, &item)
        {
            return refused;
        }
        let Some(mut row) = self.take_live(item.id) else {
            return CompletionReceipt::Stale;
        };
        let lane = (row.shown.tenant_id, row.shown.task_type.clone());
        self.use_up(now, &lane, Tally::of_end(&item, settled.state));
        self.note_health(now, lane, &item);
        show_attempt(&mut row.shown, &item.record);
        self.keep_attempt(item.id, item.record);
        if !item.logs.is_empty() {
            self.logs.entry(item.id).or_default().extend(item.logs);
        }
        if !item.calls.is_empty() {
            self.calls.entry(item.id).or_default().extend(item.calls);
        }
        let shown = &mut row.shown;
        shown.error_kind = settled.error_kind;
        shown.error_message = settled.error_message;
        if item.progress.is_some() {
            shown.progress = item.progress;
        }
        if let End::Succeeded(result) = &item.end {
            shown.result = rules::shown_result(result).ok().flatten();
        }
        if settled.state == State::Retryable {
            move_state(shown, State::Retryable);
            shown.due_at = settled.due_at;
            row.incarnation = 0;
            self.put_live(row);
        } else {
            row.trace = item.trace;
            self.file(row, settled.state);
            self.count_failures(now, config_id, settled.state, item.pause_after_failures);
        }
        CompletionReceipt::Recorded(settled.state)
    }

    /// Writes what a successful attempt wants kept; what refuses it otherwise.
    pub(super) fn commit_state(
        &mut self,
        config_id: Option<ConfigId>,
        item: &Completion,
    ) -> Option<CompletionReceipt> {
        let commit = item.state.as_ref()?;
        let config = self
            .configs
            .get(&config_id?)
            .filter(|row| row.config.deleted_at.is_none())?;
        let version = |key: &str| rules::version_of(&config.state, key);
        if let Some(message) = rules::state_conflict(&commit.expected, version) {
            return Some(CompletionReceipt::StateConflict(message));
        }
        let size = |key: &str, value: &[u8]| rules::state_size(key, value);
        let grows = commit.writes.iter().map(|(key, value)| {
            let old = config
                .state
                .get(key)
                .map_or(0, |entry| size(key, &entry.value));
            value.as_ref().map_or(0, |value| size(key, value)) - old
        });
        let (grows, tenant) = (grows.sum(), config.config.tenant_id);
        if let Err(hit) = self.refuse_state(tenant, grows) {
            return Some(CompletionReceipt::StateQuota(hit));
        }
        let config = self.configs.get_mut(&config_id?)?;
        for (key, value) in &commit.writes {
            config.write(key, value.clone());
        }
        None
    }

    /// Counts failed executions in a row and pauses the config when there are too many.
    pub(super) fn count_failures(
        &mut self,
        now: Timestamp,
        config_id: Option<ConfigId>,
        ended: State,
        pause_after: Option<u32>,
    ) {
        let Some(row) = config_id.and_then(|id| self.configs.get_mut(&id)) else {
            return;
        };
        let config = &mut row.config;
        if config.deleted_at.is_some() {
            return;
        }
        let failures = &mut config.schedule_state.failures_in_a_row;
        match ended {
            State::Succeeded => *failures = 0,
            State::Failed => *failures = failures.saturating_add(1),
            _ => return,
        }
        let failures = *failures;
        let (tenant, config_id) = (config.tenant_id, config.id);
        if ended == State::Failed
            && !config.spec.paused
            && pause_after.is_some_and(|after| failures >= after)
        {
            config.spec.paused = true;
            config.spec.pause_reason = Some(rules::pause_reason(failures));
            config.schedule_state.next_fire_at = None;
            config.version += 1;
            config.updated_at = now;
            self.epoch += 1;
        }
        if ended == State::Failed {
            self.alert_of_streak(now, tenant, config_id, failures);
        }
    }

    /// `at` is the store's monotonic clock; without one every other incarnation is dead.
    pub(super) fn take_over(
        &mut self,
        now: Timestamp,
        at: Option<Duration>,
        mine: i64,
    ) -> TakenOver {
        for (incarnation, host) in &mut self.hosts {
            let over = at.is_none_or(|at| host.lease_end <= at);
            host.alive &= *incarnation == mine || !over;
        }
        let lost: Vec<ExecutionId> = self.orphaned(mine).collect();
        let mut taken = TakenOver::default();
        for id in lost {
            let Some(mut row) = self.take_live(id) else {
                continue;
            };
            row.shown.lost += 1;
            let host = self.hosts.get(&row.incarnation).map(|h| h.name.clone());
            let shown = &row.shown;
            let record = rules::lost_record(now, shown.attempt, row.claim, shown.started_at, host);
            let wanted = shown.cancel_requested_at.is_none() && !self.is_orphan(shown.config_id);
            if wanted && shown.lost >= FAILED_AFTER_LOST {
                row.shown.attempt = row.shown.attempt.saturating_sub(1);
                self.keep_attempt(id, record);
                self.put_live(row);
                let message = rules::LOST_TOO_OFTEN;
                self.end_bare(now, id, State::Failed, ErrorKind::HostLost, message);
                taken.failed += 1;
            } else if self.requeue(now, row, Some(record), None) == State::Cancelled {
                taken.cancelled += 1;
            } else {
                taken.requeued += 1;
            }
        }
        taken
    }
}

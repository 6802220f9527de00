//! The live side.

use super::live::{Fresh, clear_attempt, show_attempt};
use super::{Host, Inner, MemoryStore, Row, move_state};
use crate::runner::StateSnapshot;
use crate::store::rules::{self, FireStep, Firing, Settled};
use crate::store::{
    CancelReceipt, ClaimRequest, Claimed, Completion, CompletionReceipt, DueSchedule, End, Enqueue,
    EnqueueReceipt, Enqueued, FAILED_AFTER_LOST, FireOrder, FireReceipt, Heartbeat, Held,
    HostFacts, HostRow, HostRun, KeptAnswer, NewExecution, ProgressReport, Queue, QueueCounts,
    Release, SUSPECT_AFTER_LOST, StoreError, StoreResult, Swept, TakenOver, Waits,
};
use horarium_model::execution::State;
use horarium_model::{ConfigId, ErrorKind, ExecutionId, Invalid, TaskId, TenantId, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

#[async_trait::async_trait]
impl Queue for MemoryStore {
    async fn due_schedules(&self, now: Timestamp, limit: u32) -> StoreResult<Vec<DueSchedule>> {
        let inner = self.lock();
        let mut due: Vec<_> = inner
            .configs
            .values()
            .filter_map(|row| {
                let config = &row.config;
                let at = config.schedule_state.next_fire_at?;
                let fires = at <= now && !config.spec.paused && config.deleted_at.is_none();
                fires.then_some((at, config))
            })
            .collect();
        due.sort_by_key(|(at, config)| (*at, config.id));
        due.truncate(limit as usize);
        Ok(due
            .into_iter()
            .map(|(_, config)| DueSchedule {
                config_id: config.id,
                version: config.version,
                state: config.schedule_state.clone(),
            })
            .collect())
    }

    async fn next_due(&self) -> StoreResult<Option<Timestamp>> {
        Ok(self.lock().next_due())
    }

    async fn fire_due(
        &self,
        now: Timestamp,
        orders: Vec<FireOrder>,
    ) -> StoreResult<Vec<FireReceipt>> {
        if let Some(order) = orders
            .iter()
            .find(|order| order.task_ids.len() < order.plan.fires.len())
        {
            return Err(StoreError::Invalid(Invalid::one(
                "",
                rules::too_few_ids(order.seen.config_id),
            )));
        }
        let mut inner = self.lock();
        let receipts = orders.iter().map(|order| inner.fire(now, order)).collect();
        inner.run_chains(now);
        Ok(receipts)
    }

    async fn enqueue(&self, now: Timestamp, batch: Enqueue) -> StoreResult<Enqueued> {
        let mut inner = self.lock();
        if let Some(request) = &batch.request
            && let Some(kept) = inner.answer(now, request.tenant_id, &request.key)
        {
            return Ok(Enqueued::Repeated(kept));
        }
        let receipts = inner.enqueue(now, &batch);
        if let Some(request) = &batch.request {
            inner.keep_answer(now, request, &receipts);
        }
        Ok(Enqueued::Done(receipts))
    }

    async fn kept_answer(
        &self,
        now: Timestamp,
        tenant: TenantId,
        key: &str,
    ) -> StoreResult<Option<KeptAnswer>> {
        Ok(self.lock().answer(now, tenant, key))
    }

    async fn purge_answers(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        let mut inner = self.lock();
        let from = rules::answers_from(now);
        let old = inner.answers.iter().filter(|(_, (at, _))| *at <= from);
        let old: Vec<_> = old
            .map(|(key, _)| key.clone())
            .take(limit as usize)
            .collect();
        inner.answers.retain(|key, _| !old.contains(key));
        Ok(old.len() as u64)
    }

    async fn sweep_due(&self, now: Timestamp, limit: u32) -> StoreResult<Swept> {
        let mut inner = self.lock();
        let swept = inner.sweep(now, limit as usize);
        inner.run_chains(now);
        Ok(swept)
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Vec<Claimed>> {
        Ok(self.lock().claim(&request))
    }

    async fn held(&self, incarnation: i64) -> StoreResult<Vec<Held>> {
        let inner = self.lock();
        let running = inner
            .live
            .values()
            .filter(|row| row.shown.state == State::Running && row.incarnation == incarnation);
        Ok(running
            .map(|row| Held {
                id: row.shown.id,
                task_id: row.shown.task_id,
                claim: row.claim,
            })
            .collect())
    }

    async fn complete_many(
        &self,
        now: Timestamp,
        items: Vec<Completion>,
    ) -> StoreResult<Vec<CompletionReceipt>> {
        let mut inner = self.lock();
        let receipts = items.into_iter().map(|item| inner.complete(now, item));
        let receipts = receipts.collect();
        inner.run_chains(now);
        Ok(receipts)
    }

    async fn release(&self, now: Timestamp, items: Vec<Release>) -> StoreResult<u64> {
        let mut inner = self.lock();
        let mut ours = 0;
        for item in items {
            if inner.owns(item.id, item.claim, item.incarnation)
                && let Some(row) = inner.take_live(item.id)
            {
                inner.requeue(now, row, item.record, item.due_at);
                ours += 1;
            }
        }
        inner.run_chains(now);
        Ok(ours)
    }

    async fn cancel(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_id: TaskId,
    ) -> StoreResult<CancelReceipt> {
        let mut inner = self.lock();
        let Some(id) = inner.by_task.get(&(tenant, task_id)).copied() else {
            return Ok(CancelReceipt::NotFound);
        };
        if let Some(ended) = inner.history.get(&id) {
            return Ok(if inner.deletes_history(ended.config_id) {
                CancelReceipt::NotFound
            } else {
                CancelReceipt::AlreadyEnded(ended.state)
            });
        }
        let Some(row) = inner.live.get_mut(&id) else {
            return Ok(CancelReceipt::NotFound);
        };
        row.shown.cancel_requested_at.get_or_insert(now);
        if row.shown.state == State::Running {
            return Ok(CancelReceipt::Requested);
        }
        inner.cancel_waiting(now, id, rules::CANCELLED_WAITING);
        inner.run_chains(now);
        Ok(CancelReceipt::Ended)
    }

    async fn report_progress(&self, items: Vec<ProgressReport>) -> StoreResult<()> {
        let mut inner = self.lock();
        for item in items {
            if let Some(row) = inner.live.get_mut(&item.id)
                && row.shown.state == State::Running
                && row.claim == item.claim
            {
                row.shown.progress = Some(item.progress);
            }
        }
        Ok(())
    }

    async fn start_host(&self, now: Timestamp, name: &str) -> StoreResult<i64> {
        let lease_end = self.lease_end();
        let mut inner = self.lock();
        // By the clock, where the store may go back to an earlier state: nobody is given another's number.
        let clock = self.leases.as_ref();
        let clock = clock.map_or(0, |clock| clock.now().timestamp_micros());
        inner.last_incarnation = clock.max(inner.last_incarnation + 1);
        let incarnation = inner.last_incarnation;
        let host = Host {
            name: name.to_owned(),
            alive: true,
            started_at: now,
            seen_at: now,
            facts: HostFacts::default(),
            lease_end,
        };
        inner.hosts.insert(incarnation, host);
        Ok(incarnation)
    }

    async fn describe_host(&self, incarnation: i64, facts: HostFacts) -> StoreResult<()> {
        if let Some(host) = self.lock().hosts.get_mut(&incarnation) {
            host.facts = facts;
        }
        Ok(())
    }

    async fn hosts(&self) -> StoreResult<Vec<HostRow>> {
        let inner = self.lock();
        let alive = inner.hosts.iter().filter(|(_, host)| host.alive);
        Ok(alive
            .map(|(incarnation, host)| HostRow {
                incarnation: *incarnation,
                name: host.name.clone(),
                started_at: host.started_at,
                seen_at: host.seen_at,
                facts: host.facts.clone(),
                running: inner.runs_of(*incarnation),
            })
            .collect())
    }

    async fn stop_host(&self, _now: Timestamp, incarnation: i64) -> StoreResult<()> {
        if let Some(host) = self.lock().hosts.get_mut(&incarnation) {
            host.alive = false;
        }
        Ok(())
    }

    async fn heartbeat(&self, now: Timestamp, incarnation: i64) -> StoreResult<Heartbeat> {
        let lease_end = self.lease_end();
        let mut inner = self.lock();
        let cancels = inner
            .live
            .values()
            .filter(|row| row.shown.state == State::Running && row.incarnation == incarnation)
            .filter(|row| row.shown.cancel_requested_at.is_some())
            .map(|row| row.shown.task_id)
            .collect();
        let alive = inner.is_alive(incarnation);
        if let Some(host) = inner.hosts.get_mut(&incarnation).filter(|_| alive) {
            host.lease_end = lease_end;
            host.seen_at = now;
        }
        let leases = self.leases.as_ref();
        Ok(Heartbeat {
            alive,
            cancels,
            catalog_epoch: inner.epoch,
            database_now: leases.map(|clock| clock.now()),
            next_take_over: leases
                .and_then(|clock| inner.next_take_over(clock.monotonic(), incarnation)),
            next_due: inner.next_due(),
            running: inner
                .live
                .values()
                .filter(|row| row.shown.state == State::Running && row.incarnation == incarnation)
                .count() as u64,
            available: !inner.available.is_empty(),
        })
    }

    fn gives_leases(&self) -> bool {
        self.leases.is_some()
    }

    async fn take_over(&self, now: Timestamp, mine: i64) -> StoreResult<TakenOver> {
        let at = self.leases.as_ref().map(|clock| clock.monotonic());
        let mut inner = self.lock();
        let taken = inner.take_over(now, at, mine);
        inner.run_chains(now);
        Ok(taken)
    }

    async fn state_snapshot(&self, config_id: ConfigId) -> StoreResult<StateSnapshot> {
        let inner = self.lock();
        let entries = inner
            .configs
            .get(&config_id)
            .filter(|row| row.config.deleted_at.is_none())
            .map(|row| row.state.clone())
            .unwrap_or_default();
        Ok(StateSnapshot { entries })
    }

    async fn waits(&self, tenant: TenantId, task_id: TaskId) -> StoreResult<Option<Waits>> {
        let inner = self.lock();
        let id = inner.by_task.get(&(tenant, task_id));
        let row = id.and_then(|id| inner.live.get(id));
        let Some(row) = row.filter(|row| row.shown.state.is_waiting()) else {
            return Ok(None);
        };
        let blocked = |id: &ExecutionId| {
            let other = inner.live.get(id);
            other
                .and_then(|other| inner.bound(other))
                .is_some_and(|(running, max)| running >= max)
        };
        let before = inner.available.range(..super::live::order(&row.shown));
        let ahead = before.filter(|(_, id)| !blocked(id));
        Ok(Some(Waits {
            ahead: ahead.take(Waits::COUNTED as usize).count() as u64,
            bound: inner.bound(row),
        }))
    }

    async fn queue_counts(&self) -> StoreResult<QueueCounts> {
        let mut counts = QueueCounts::default();
        for row in self.lock().live.values() {
            match row.shown.state {
                State::Scheduled => counts.scheduled += 1,
                State::Available => counts.available += 1,
                State::Running => counts.running += 1,
                _ => counts.retryable += 1,
            }
        }
        Ok(counts)
    }
}

impl Inner {
    /// How many run of an execution's key, and how many may.
    fn bound(&self, row: &Row) -> Option<(u32, u32)> {
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
    fn orphaned(&self, mine: i64) -> impl Iterator<Item = ExecutionId> + '_ {
        self.live
            .values()
            .filter(move |row| {
                row.shown.state == State::Running
                    && row.incarnation != mine
                    && !self.is_alive(row.incarnation)
            })
            .map(|row| row.shown.id)
    }

    fn runs_of(&self, incarnation: i64) -> Vec<HostRun> {
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
    fn next_due(&self) -> Option<Timestamp> {
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
        schedules.chain(instants).min()
    }

    /// See [`Heartbeat::next_take_over`].
    fn next_take_over(&self, at: Duration, mine: i64) -> Option<Duration> {
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
    fn owns(&self, id: ExecutionId, claim: u32, incarnation: i64) -> bool {
        self.is_alive(incarnation)
            && self.live.get(&id).is_some_and(|row| {
                row.shown.state == State::Running
                    && row.claim == claim
                    && row.incarnation == incarnation
            })
    }

    fn fire(&mut self, now: Timestamp, order: &FireOrder) -> FireReceipt {
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
        let firing = Firing::decide(order, state.open_skip.clone(), self.live_count(id));
        let mut receipt = FireReceipt {
            applied: true,
            skipped: firing.skipped,
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

    fn enqueue(&mut self, now: Timestamp, batch: &Enqueue) -> Vec<EnqueueReceipt> {
        let refusals = rules::refusals(
            &batch.items,
            |item| self.by_task.contains_key(&(item.tenant_id, item.task_id)),
            |item| {
                let config = item.config_id;
                config.is_none_or(|id| self.config(item.tenant_id, id).is_some())
            },
            |config| !self.live_of(config, |_| true).is_empty(),
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

    fn sweep(&mut self, now: Timestamp, limit: usize) -> Swept {
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
        swept
    }

    fn claim(&mut self, request: &ClaimRequest) -> Vec<Claimed> {
        if !self.is_alive(request.incarnation) {
            return Vec::new();
        }
        let mut running: BTreeMap<(TenantId, String), u32> = BTreeMap::new();
        let mut suspect_runs = false;
        for row in self.live.values() {
            if row.shown.state == State::Running {
                suspect_runs |= row.shown.lost >= SUSPECT_AFTER_LOST;
                if let Some(key) = &row.run_key {
                    *running
                        .entry((row.shown.tenant_id, key.clone()))
                        .or_default() += 1;
                }
            }
        }
        let mut chosen = Vec::new();
        for (_, id) in &self.available {
            if chosen.len() >= request.limit as usize {
                break;
            }
            let Some(row) = self.live.get(id) else {
                continue;
            };
            let shown = &row.shown;
            let suspect = shown.lost >= SUSPECT_AFTER_LOST;
            let loadable = request
                .types
                .iter()
                .any(|(tenant, name)| *tenant == shown.tenant_id && *name == shown.task_type);
            let expired = shown.expires_at.is_some_and(|at| at <= request.now);
            if !loadable || expired || (suspect && suspect_runs) {
                continue;
            }
            if let Some(key) = &row.run_key {
                let count = running.entry((shown.tenant_id, key.clone())).or_default();
                if *count >= row.run_max {
                    continue;
                }
                *count += 1;
            }
            suspect_runs |= suspect;
            chosen.push(*id);
        }
        chosen
            .into_iter()
            .filter_map(|id| self.start(request, id))
            .collect()
    }

    /// Makes one available execution run.
    fn start(&mut self, request: &ClaimRequest, id: ExecutionId) -> Option<Claimed> {
        let mut row = self.take_live(id)?;
        let config_id = row.shown.config_id.filter(|id| !self.is_orphan(Some(*id)));
        let shown = &mut row.shown;
        move_state(shown, State::Running);
        clear_attempt(shown);
        row.claim += 1;
        row.incarnation = request.incarnation;
        shown.attempt += 1;
        shown.started_at = Some(request.now);
        shown.first_started_at.get_or_insert(request.now);
        let claimed = Claimed {
            id,
            task_id: shown.task_id,
            claim: row.claim,
            attempt: shown.attempt,
            tenant_id: shown.tenant_id,
            config_id,
            config_version: config_id
                .and_then(|id| self.configs.get(&id))
                .map(|row| row.config.version),
            task_type: shown.task_type.clone(),
            trigger: shown.trigger,
            slot: shown.slot,
            due_at: shown.due_at.unwrap_or(shown.created_at),
            max_attempts: shown.max_attempts,
            parameters: row.parameters.clone(),
            parent_task_id: shown.parent_task_id,
            retry_of: shown.retry_of,
            chained: row.chain.is_some(),
        };
        self.put_live(row);
        Some(claimed)
    }

    fn complete(&mut self, now: Timestamp, item: Completion) -> CompletionReceipt {
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
            && let Some(message) = self.commit_state(config_id, &item)
        {
            return CompletionReceipt::StateConflict(message);
        }
        let Some(mut row) = self.take_live(item.id) else {
            return CompletionReceipt::Stale;
        };
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
            self.file(row, settled.state);
            self.count_failures(now, config_id, settled.state, item.pause_after_failures);
        }
        CompletionReceipt::Recorded(settled.state)
    }

    /// Writes what a successful attempt wants kept; the message of a conflict otherwise.
    fn commit_state(&mut self, config_id: Option<ConfigId>, item: &Completion) -> Option<String> {
        let commit = item.state.as_ref()?;
        let config = self
            .configs
            .get_mut(&config_id?)
            .filter(|row| row.config.deleted_at.is_none())?;
        let version = |key: &str| rules::version_of(&config.state, key);
        if let Some(message) = rules::state_conflict(&commit.expected, version) {
            return Some(message);
        }
        for (key, value) in &commit.writes {
            config.write(key, value.clone());
        }
        None
    }

    /// Counts failed executions in a row and pauses the config when there are too many.
    fn count_failures(
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
    }

    /// `at` is the store's monotonic clock; without one every other incarnation is dead.
    fn take_over(&mut self, now: Timestamp, at: Option<Duration>, mine: i64) -> TakenOver {
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

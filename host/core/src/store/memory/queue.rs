//! The live side.

use super::{Host, MemoryStore};
use crate::runner::StateSnapshot;
use crate::store::rules::{self};
use crate::store::{
    CancelReceipt, ClaimRequest, Claims, Completion, CompletionReceipt, DueSchedule, Enqueue,
    Enqueued, FireOrder, FireReceipt, Heartbeat, Held, HostFacts, HostRow, KeptAnswer,
    ProgressReport, Queue, QueueCounts, Release, StoreError, StoreResult, Swept, TakenOver, Tally,
    WaitingHead, Waits,
};
use horarium_model::cron::ZONE_DATA;
use horarium_model::execution::State;
use horarium_model::{ConfigId, ExecutionId, Invalid, TaskConfig, TaskId, TenantId, Timestamp};
use std::sync::Arc;

/// A schedule as the scheduler sees it.
fn seen(config: &TaskConfig) -> DueSchedule {
    DueSchedule {
        config_id: config.id,
        version: config.version,
        state: config.schedule_state.clone(),
    }
}

#[async_trait::async_trait]
impl Queue for MemoryStore {
    fn is_in_order(&self) -> bool {
        true
    }

    async fn due_schedules(&self, now: Timestamp, limit: u32) -> StoreResult<Vec<DueSchedule>> {
        let inner = self.lock();
        let waiting = inner.waiting_schedules();
        let mut due: Vec<_> = waiting.filter(|(at, _)| *at <= now).collect();
        due.sort_by_key(|(at, config)| (*at, config.id));
        due.truncate(limit as usize);
        Ok(due.into_iter().map(|(_, config)| seen(config)).collect())
    }

    async fn schedules_by_other_zone_data(
        &self,
        zone_data: &str,
        after: ConfigId,
        limit: u32,
    ) -> StoreResult<Vec<DueSchedule>> {
        // Nothing here is older than this process.
        if zone_data == ZONE_DATA {
            return Ok(Vec::new());
        }
        let inner = self.lock();
        let waiting = inner.waiting_schedules();
        let later = waiting.filter(|(_, config)| config.id > after);
        Ok(later
            .map(|(_, config)| seen(config))
            .take(limit as usize)
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

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claims> {
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
        items: Arc<[Completion]>,
    ) -> StoreResult<Vec<CompletionReceipt>> {
        let mut inner = self.lock();
        let receipts = items.iter().map(|item| inner.complete(now, item.clone()));
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
                if let Some(record) = &item.record {
                    let lane = (row.shown.tenant_id, row.shown.task_type.clone());
                    inner.use_up(now, &lane, Tally::of_record(record));
                }
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
            access_epoch: inner.access_epoch,
            database_now: leases.map(|clock| clock.now()),
            next_take_over: leases
                .and_then(|clock| inner.next_take_over(clock.monotonic(), incarnation)),
            next_due: inner.next_due(),
            running: inner
                .live
                .values()
                .filter(|row| row.shown.state == State::Running && row.incarnation == incarnation)
                .count() as u64,
            available: inner.available.values().any(|lane| !lane.is_empty()),
            alerts: inner.has_due_alerts(now),
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
        let place = super::live::order(&row.shown);
        let lanes = inner.available.values();
        let before = lanes.flat_map(|lane| lane.range(..place));
        let ahead = before.filter(|(_, id)| !blocked(id));
        Ok(Some(Waits {
            ahead: ahead.take(Waits::COUNTED as usize).count() as u64,
            bound: inner.bound(row),
            of_type: inner.bound_of_type(row),
            of_tenant: inner.bound_of_tenant(row),
            bucket: row
                .rate
                .as_ref()
                .map(|bound| inner.bucket(row.shown.tenant_id, bound)),
        }))
    }

    async fn waiting_heads(&self, types: &[(TenantId, String)]) -> StoreResult<Vec<WaitingHead>> {
        let inner = self.lock();
        let free = |id: &ExecutionId| {
            let row = inner.live.get(id)?;
            let full = inner
                .bound(row)
                .is_some_and(|(running, max)| running >= max);
            (!full).then_some(row)
        };
        let heads = types.iter().filter_map(|key| {
            let lane = inner.available.get(key)?;
            let row = lane.iter().find_map(|(_, id)| free(id))?;
            Some(WaitingHead {
                tenant_id: key.0,
                task_type: key.1.clone(),
                task_id: row.shown.task_id,
                due_at: row.shown.due_at?,
            })
        });
        Ok(heads.collect())
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

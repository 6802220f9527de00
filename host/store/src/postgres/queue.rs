//! The live side.

use super::rows::{self, Cells as _, Reader};
use super::tx::{AtOnce, query};
use super::{
    PostgresStore, answers, claim, complete, complete_plain, end, enqueue, fire, hosts, jsonb,
    keys, sql, task_state,
};
use crate::columns::{micros, progress_text};
use horarium_core::runner::StateSnapshot;
use horarium_core::store::{
    CancelReceipt, ClaimRequest, Claims, Completion, CompletionReceipt, DueSchedule, Enqueue,
    EnqueueReceipt, Enqueued, FireOrder, FireReceipt, Heartbeat, Held, HostFacts, HostRow,
    KeptAnswer, ProgressReport, Queue, QueueCounts, Release, StoreResult, Swept, TakenOver,
    WaitingHead, Waits,
};
use horarium_model::{ConfigId, TaskId, TenantId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often each host looks for what is stuck. Microseconds.
const UNSTICK_EVERY: i64 = 60_000_000;

impl PostgresStore {
    /// Whether this host has not looked for what is stuck for a while. It is taken to do so now.
    fn is_time_to_unstick(&self, now: Timestamp) -> bool {
        let (last, now) = (&self.shared.unstuck_at, micros(now));
        let seen = last.load(Ordering::Relaxed);
        // A clock that was set back looks at once.
        let is_new = seen <= now && now < seen.saturating_add(UNSTICK_EVERY);
        !is_new
            && last
                .compare_exchange(seen, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl PostgresStore {
    /// A claim in one statement; none when that cannot be.
    async fn claim_plain(&self, request: &ClaimRequest) -> StoreResult<Option<Claims>> {
        let (bounded, now) = (&self.shared.claims, request.now);
        if bounded.lately(now) || !claim::may_be_plain(request) {
            return Ok(None);
        }
        let request = request.clone();
        let claimed = self.at_once(move |connection| {
            let request = request.clone();
            Box::pin(async move { claim::claim_plain(connection, &request).await })
        });
        match claimed.await? {
            AtOnce::Done(claims) => Ok(Some(claims)),
            AtOnce::Not => {
                bounded.met(now);
                Ok(None)
            }
            // What was claimed so is found by who hears of the error.
            AtOnce::Lost(error) => Err(error),
        }
    }

    /// Ends in one statement; none when that cannot be.
    async fn complete_plain(
        &self,
        now: Timestamp,
        items: &Arc<[Completion]>,
    ) -> StoreResult<Option<Vec<CompletionReceipt>>> {
        let bounded = &self.shared.ends;
        if bounded.lately(now) || !complete_plain::may_be_plain(items) {
            return Ok(None);
        }
        let items = items.clone();
        let completed = self.at_once(move |connection| {
            let items = items.clone();
            Box::pin(async move { complete_plain::complete_plain(connection, now, &items).await })
        });
        match completed.await? {
            AtOnce::Done(receipts) => Ok(Some(receipts)),
            AtOnce::Not => {
                bounded.met(now);
                Ok(None)
            }
            // If it was done the same ends are stale now, as when the answer to a COMMIT is lost.
            AtOnce::Lost(_) => Ok(None),
        }
    }
}

#[async_trait::async_trait]
impl Queue for PostgresStore {
    async fn due_schedules(&self, now: Timestamp, limit: u32) -> StoreResult<Vec<DueSchedule>> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows = query(sql::DUE_SCHEDULES)
                    .bind(micros(now))
                    .bind(i64::from(limit))
                    .fetch_all(connection)
                    .await?;
                Ok(rows
                    .iter()
                    .map(rows::due_schedule)
                    .collect::<StoreResult<_>>()?)
            })
        })
        .await
    }

    async fn schedules_by_other_zone_data(
        &self,
        zone_data: &str,
        after: ConfigId,
        limit: u32,
    ) -> StoreResult<Vec<DueSchedule>> {
        let zone_data: Arc<str> = zone_data.into();
        self.read(move |connection| {
            let zone_data = zone_data.clone();
            Box::pin(async move {
                let rows = query(sql::OTHER_ZONE_DATA)
                    .bind(&*zone_data)
                    .bind(after)
                    .bind(i64::from(limit))
                    .fetch_all(connection)
                    .await?;
                Ok(rows
                    .iter()
                    .map(rows::due_schedule)
                    .collect::<StoreResult<_>>()?)
            })
        })
        .await
    }

    async fn next_due(&self) -> StoreResult<Option<Timestamp>> {
        self.read(|connection| {
            Box::pin(async move {
                let row = query(sql::NEXT_DUE).fetch_one(connection).await?;
                Ok(Reader::plain(&row, "live_executions").opt_instant("due_at")?)
            })
        })
        .await
    }

    async fn fire_due(
        &self,
        now: Timestamp,
        orders: Vec<FireOrder>,
    ) -> StoreResult<Vec<FireReceipt>> {
        let orders = Arc::new(orders);
        self.write(move |tx| {
            let orders = orders.clone();
            Box::pin(async move { fire::fire_due(tx, now, &orders).await })
        })
        .await
    }

    async fn enqueue(&self, now: Timestamp, batch: Enqueue) -> StoreResult<Enqueued> {
        let batch = Arc::new(batch);
        let mut doubt = None;
        if enqueue::may_be_plain(&batch) {
            let plain = batch.clone();
            let plain = self.at_once(move |connection| {
                let batch = plain.clone();
                Box::pin(async move { enqueue::enqueue_plain(connection, now, &batch).await })
            });
            match plain.await? {
                AtOnce::Done(receipts) => return Ok(Enqueued::Done(receipts)),
                AtOnce::Not => {}
                AtOnce::Lost(error) => doubt = Some(error),
            }
        }
        let enqueued = self.write(move |tx| {
            let batch = batch.clone();
            Box::pin(async move { enqueue::enqueue(tx, now, &batch).await })
        });
        match (enqueued.await?, doubt) {
            // It was done before the connection was lost.
            (Enqueued::Done(receipts), Some(error))
                if receipts.contains(&EnqueueReceipt::Duplicate) =>
            {
                Err(error)
            }
            (enqueued, _) => Ok(enqueued),
        }
    }

    async fn kept_answer(
        &self,
        now: Timestamp,
        tenant: TenantId,
        key: &str,
    ) -> StoreResult<Option<KeptAnswer>> {
        let key: Arc<str> = key.into();
        self.read(move |connection| {
            let key = key.clone();
            Box::pin(async move { answers::find(connection, now, tenant, &key).await })
        })
        .await
    }

    async fn purge_answers(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        self.write(move |tx| Box::pin(answers::purge(tx, now, limit)))
            .await
    }

    async fn sweep_due(&self, now: Timestamp, limit: u32) -> StoreResult<Swept> {
        let swept = self
            .write(move |tx| Box::pin(end::sweep_due(tx, now, limit)))
            .await?;
        if self.is_time_to_unstick(now) {
            self.write(move |tx| Box::pin(keys::unstick(tx, now)))
                .await?;
        }
        Ok(swept)
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claims> {
        if let Some(claims) = self.claim_plain(&request).await? {
            return Ok(claims);
        }
        let mut claims = Claims::default();
        let mut request = request;
        let mut first = 0;
        loop {
            let part = Arc::new(request.clone());
            let part = self
                .write(move |tx| {
                    let part = part.clone();
                    Box::pin(async move { claim::claim(tx, &part, first).await })
                })
                .await;
            let part = match part {
                Ok(part) => part,
                // What is claimed is claimed.
                Err(_) if !claims.claimed.is_empty() => return Ok(claims),
                Err(error) => return Err(error),
            };
            let found = u32::try_from(part.claims.claimed.len()).unwrap_or(u32::MAX);
            request.limit = request.limit.saturating_sub(found);
            claims.claimed.extend(part.claims.claimed);
            claims.rates |= part.claims.rates;
            match part.go_on {
                Some(rows) if request.limit > 0 => first = rows,
                _ => return Ok(claims),
            }
        }
    }

    async fn held(&self, incarnation: i64) -> StoreResult<Vec<Held>> {
        self.write(move |tx| Box::pin(hosts::held(tx, incarnation)))
            .await
    }

    async fn complete_many(
        &self,
        now: Timestamp,
        items: Arc<[Completion]>,
    ) -> StoreResult<Vec<CompletionReceipt>> {
        if let Some(receipts) = self.complete_plain(now, &items).await? {
            return Ok(receipts);
        }
        let items = (items, Arc::new(AtomicBool::new(false)));
        self.write(move |tx| {
            let items = items.clone();
            Box::pin(async move { complete::complete_many(tx, now, &items.0, &items.1).await })
        })
        .await
    }

    async fn release(&self, now: Timestamp, items: Vec<Release>) -> StoreResult<u64> {
        let items = Arc::new(items);
        self.write(move |tx| {
            let items = items.clone();
            Box::pin(async move { end::release(tx, now, &items).await })
        })
        .await
    }

    async fn cancel(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_id: TaskId,
    ) -> StoreResult<CancelReceipt> {
        self.write(move |tx| Box::pin(end::cancel(tx, now, tenant, task_id)))
            .await
    }

    async fn report_progress(&self, items: Vec<ProgressReport>) -> StoreResult<()> {
        // Of several reports of one execution the last counts.
        let last: BTreeMap<(i64, i64), &ProgressReport> = items
            .iter()
            .map(|item| ((item.id, i64::from(item.claim)), item))
            .collect();
        let (mut ids, mut claims, mut reports) = (Vec::new(), Vec::new(), Vec::new());
        for ((id, claim), item) in last {
            ids.push(id);
            claims.push(claim);
            reports.push(jsonb::text(&progress_text(&item.progress)?).into_owned());
        }
        let columns = Arc::new((ids, claims, reports));
        self.write(move |tx| {
            let columns = columns.clone();
            Box::pin(async move {
                query(sql::PROGRESS)
                    .bind(&columns.0)
                    .bind(&columns.1)
                    .bind(&columns.2)
                    .execute(tx.connection())
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn start_host(&self, now: Timestamp, name: &str) -> StoreResult<i64> {
        let (name, lease): (Arc<str>, _) = (name.into(), self.shared.options.lease);
        self.write(move |tx| {
            let name = name.clone();
            Box::pin(async move { hosts::start(tx, now, &name, lease).await })
        })
        .await
    }

    async fn stop_host(&self, now: Timestamp, incarnation: i64) -> StoreResult<()> {
        self.write(move |tx| Box::pin(hosts::stop(tx, now, incarnation)))
            .await
    }

    async fn describe_host(&self, incarnation: i64, facts: HostFacts) -> StoreResult<()> {
        let facts = Arc::new(facts);
        self.write(move |tx| {
            let facts = facts.clone();
            Box::pin(async move { hosts::describe(tx, incarnation, &facts).await })
        })
        .await
    }

    async fn hosts(&self) -> StoreResult<Vec<HostRow>> {
        self.read(|connection| Box::pin(hosts::hosts(connection)))
            .await
    }

    async fn heartbeat(&self, _now: Timestamp, incarnation: i64) -> StoreResult<Heartbeat> {
        let lease = self.shared.options.lease;
        // Not in a transaction of several statements: idle hosts do little else, and sending it twice does no harm.
        self.read(move |connection| Box::pin(hosts::heartbeat(connection, incarnation, lease)))
            .await
    }

    fn gives_leases(&self) -> bool {
        true
    }

    async fn take_over(&self, now: Timestamp, mine: i64) -> StoreResult<TakenOver> {
        self.write(move |tx| Box::pin(end::bury(tx, now, mine)))
            .await?;
        let mut taken = TakenOver::default();
        loop {
            let (batch, more) = self
                .write(move |tx| Box::pin(end::take_over(tx, now)))
                .await?;
            taken.requeued += batch.requeued;
            taken.failed += batch.failed;
            taken.cancelled += batch.cancelled;
            if !more {
                return Ok(taken);
            }
        }
    }

    async fn state_snapshot(&self, config_id: ConfigId) -> StoreResult<StateSnapshot> {
        self.read(move |connection| {
            Box::pin(async move {
                let entries = task_state::entries(connection, config_id).await?;
                Ok(StateSnapshot { entries })
            })
        })
        .await
    }

    async fn waits(&self, tenant: TenantId, task_id: TaskId) -> StoreResult<Option<Waits>> {
        self.read(move |connection| {
            Box::pin(async move {
                let row = query(sql::WAITS_BEHIND)
                    .bind(tenant)
                    .bind(task_id.to_string())
                    .bind(i64::from(Waits::COUNTED))
                    .fetch_optional(connection)
                    .await?;
                let read = |row| crate::rows::waits(&mut Reader::plain(row, "live_executions"));
                Ok(row.as_ref().map(read).transpose()?)
            })
        })
        .await
    }

    async fn queue_counts(&self) -> StoreResult<QueueCounts> {
        self.read(|connection| {
            Box::pin(async move {
                let row = query(sql::QUEUE_COUNTS).fetch_one(connection).await?;
                let mut r = Reader::plain(&row, "live_executions");
                Ok(QueueCounts {
                    scheduled: r.number("scheduled")?,
                    available: r.number("available")?,
                    running: r.number("running")?,
                    retryable: r.number("retryable")?,
                })
            })
        })
        .await
    }

    async fn waiting_heads(&self, types: &[(TenantId, String)]) -> StoreResult<Vec<WaitingHead>> {
        let types: Arc<(Vec<i64>, Vec<String>)> = Arc::new(types.iter().cloned().unzip());
        self.read(move |connection| {
            let types = types.clone();
            Box::pin(async move {
                let rows = query(sql::WAITING_HEADS)
                    .bind(&types.0)
                    .bind(&types.1)
                    .fetch_all(connection)
                    .await?;
                let read =
                    |row| crate::rows::waiting_head(&mut Reader::plain(row, "live_executions"));
                Ok(rows.iter().map(read).collect::<StoreResult<_>>()?)
            })
        })
        .await
    }
}

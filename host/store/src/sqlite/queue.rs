//! The live side: each operation runs in the writer's next transaction; what only reads has a reader.

use super::gather::FEW;
use super::rows::{self, Cells as _, Reader};
use super::{SqliteStore, answers, claim, complete, db, end, enqueue, fire, hosts, sql};
use crate::columns::{micros, progress_text, text};
use horarium_core::runner::{StateEntry, StateSnapshot};
use horarium_core::store::{
    CancelReceipt, ClaimRequest, Claims, Completion, CompletionReceipt, DueSchedule, Enqueue,
    Enqueued, FireOrder, FireReceipt, Heartbeat, Held, HostFacts, HostRow, KeptAnswer,
    ProgressReport, Queue, QueueCounts, Release, StoreError, StoreResult, Swept, TakenOver,
    WaitingHead, Waits,
};
use horarium_model::{ConfigId, TaskId, TenantId, Timestamp};
use serde_json::value::RawValue;
use sqlx::Row;
use std::sync::Arc;

#[async_trait::async_trait]
impl Queue for SqliteStore {
    /// There is one writer.
    fn is_in_order(&self) -> bool {
        true
    }

    async fn due_schedules(&self, now: Timestamp, limit: u32) -> StoreResult<Vec<DueSchedule>> {
        self.read(move |connection| {
            Box::pin(async move {
                let query = sqlx::query(sql::DUE_SCHEDULES)
                    .bind(micros(now))
                    .bind(limit);
                let rows = query.fetch_all(connection).await.map_err(db)?;
                rows.iter().map(rows::due_schedule).collect()
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
        let zone_data = zone_data.to_owned();
        self.read(move |connection| {
            Box::pin(async move {
                let query = sqlx::query(sql::OTHER_ZONE_DATA)
                    .bind(zone_data)
                    .bind(after)
                    .bind(limit);
                let rows = query.fetch_all(connection).await.map_err(db)?;
                rows.iter().map(rows::due_schedule).collect()
            })
        })
        .await
    }

    async fn next_due(&self) -> StoreResult<Option<Timestamp>> {
        self.read(|connection| {
            Box::pin(async move {
                let row = sqlx::query(sql::NEXT_DUE)
                    .fetch_one(connection)
                    .await
                    .map_err(db)?;
                Reader::plain(&row, "live_executions").opt_instant("due_at")
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
        let each = !batch.atomic || batch.items.len() == 1;
        if each && batch.request.is_none() && batch.items.len() <= FEW {
            let done = self.writer.enqueue(now, batch.items);
            return done.await.map(Enqueued::Done);
        }
        let batch = Arc::new(batch);
        self.write(move |tx| {
            let batch = batch.clone();
            Box::pin(async move { enqueue::enqueue(tx, now, &batch).await })
        })
        .await
    }

    async fn kept_answer(
        &self,
        now: Timestamp,
        tenant: TenantId,
        key: &str,
    ) -> StoreResult<Option<KeptAnswer>> {
        let key = key.to_owned();
        self.read(move |connection| {
            Box::pin(async move { answers::find(connection, now, tenant, &key).await })
        })
        .await
    }

    async fn purge_answers(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        self.write(move |tx| Box::pin(answers::purge(tx, now, limit)))
            .await
    }

    async fn sweep_due(&self, now: Timestamp, limit: u32) -> StoreResult<Swept> {
        self.write(move |tx| Box::pin(end::sweep_due(tx, now, limit)))
            .await
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claims> {
        let request = Arc::new(request);
        self.write(move |tx| {
            let request = request.clone();
            Box::pin(async move { claim::claim(tx, &request).await })
        })
        .await
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
        self.write(move |tx| {
            let items = items.clone();
            Box::pin(async move { complete::complete_many(tx, now, &items).await })
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
        let mut reports = Vec::with_capacity(items.len());
        for item in &items {
            let progress = RawValue::from_string(progress_text(&item.progress)?)
                .map_err(|error| StoreError::Internal(format!("progress is not JSON: {error}")))?;
            reports.push((item.id, item.claim, progress));
        }
        let reports: Arc<str> = text(&reports)?.into();
        self.write(move |tx| {
            let reports = reports.to_string();
            Box::pin(async move {
                sqlx::query(sql::PROGRESS)
                    .bind(reports)
                    .execute(tx.write())
                    .await
                    .map_err(db)?;
                Ok(())
            })
        })
        .await
    }

    async fn start_host(&self, now: Timestamp, name: &str) -> StoreResult<i64> {
        let name = name.to_owned();
        self.write(move |tx| {
            let name = name.clone();
            Box::pin(async move { hosts::start(tx, now, &name).await })
        })
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

    async fn stop_host(&self, now: Timestamp, incarnation: i64) -> StoreResult<()> {
        self.write(move |tx| Box::pin(hosts::stop(tx, now, incarnation)))
            .await
    }

    async fn heartbeat(&self, now: Timestamp, incarnation: i64) -> StoreResult<Heartbeat> {
        self.write(move |tx| Box::pin(hosts::heartbeat(tx, now, incarnation)))
            .await
    }

    async fn take_over(&self, now: Timestamp, mine: i64) -> StoreResult<TakenOver> {
        self.write(move |tx| Box::pin(end::take_over(tx, now, mine)))
            .await
    }

    async fn state_snapshot(&self, config_id: ConfigId) -> StoreResult<StateSnapshot> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(sql::STATE)
                    .bind(config_id)
                    .fetch_all(connection)
                    .await
                    .map_err(db)?;
                let mut snapshot = StateSnapshot::default();
                for row in rows {
                    let entry = StateEntry {
                        value: row.try_get(1).map_err(db)?,
                        version: row.try_get(2).map_err(db)?,
                    };
                    snapshot.entries.insert(row.try_get(0).map_err(db)?, entry);
                }
                Ok(snapshot)
            })
        })
        .await
    }

    async fn waits(&self, tenant: TenantId, task_id: TaskId) -> StoreResult<Option<Waits>> {
        self.read(move |connection| {
            Box::pin(async move {
                let row = sqlx::query(sql::WAITS_BEHIND)
                    .bind(tenant)
                    .bind(task_id.to_string())
                    .bind(Waits::COUNTED)
                    .fetch_optional(connection)
                    .await
                    .map_err(db)?;
                let read = |row| crate::rows::waits(&mut Reader::plain(row, "live_executions"));
                row.as_ref().map(read).transpose()
            })
        })
        .await
    }

    async fn queue_counts(&self) -> StoreResult<QueueCounts> {
        self.read(|connection| {
            Box::pin(async move {
                let row = sqlx::query(sql::QUEUE_COUNTS)
                    .fetch_one(connection)
                    .await
                    .map_err(db)?;
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
        let types = text(&types)?;
        self.read(move |connection| {
            Box::pin(async move {
                let query = sqlx::query(sql::WAITING_HEADS).bind(types);
                let rows = query.fetch_all(connection).await.map_err(db)?;
                let read =
                    |row| crate::rows::waiting_head(&mut Reader::plain(row, "live_executions"));
                rows.iter().map(read).collect()
            })
        })
        .await
    }
}

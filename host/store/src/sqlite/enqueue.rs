//! Inserting executions.

use super::db;
use super::sql;
use super::writer::Tx;
use crate::columns::{micros, opt_micros, raw, text};
use horarium_core::store::{EnqueueReceipt, NewExecution, StoreResult, rules};
use horarium_model::execution::State;
use horarium_model::{ConfigId, ExecutionId, TaskId, TenantId, Timestamp, Trigger};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::Row;
use std::collections::{HashMap, HashSet};

/// Parameters larger than this live in a table of their own.
const ASIDE: usize = 1024;

/// A row of `INSERT_LIVE`.
#[derive(Serialize)]
struct LiveRow<'a>(
    i64,
    TenantId,
    TaskId,
    Option<ConfigId>,
    &'a str,
    &'static str,
    &'static str,
    Option<i64>,
    i32,
    i64,
    u32,
    Option<&'a str>,
    u32,
    i64,
    Option<i64>,
    Option<TaskId>,
    Option<TaskId>,
    Option<&'a RawValue>,
);

/// What differs between the executions made of one template.
pub(super) struct Fresh {
    pub(super) task_id: TaskId,
    pub(super) trigger: Trigger,
    pub(super) slot: Option<Timestamp>,
    pub(super) due_at: Timestamp,
}

/// Executions to be inserted together.
#[derive(Default)]
pub(super) struct Batch<'a> {
    rows: Vec<LiveRow<'a>>,
    aside: Vec<(i64, &'a RawValue)>,
}

impl<'a> Batch<'a> {
    /// Adds an execution under a new id.
    pub(super) fn add(
        &mut self,
        tx: &mut Tx,
        now: Timestamp,
        new: &'a NewExecution,
        fresh: &Fresh,
    ) -> StoreResult<(ExecutionId, State)> {
        let parameters = raw(&new.parameters)?;
        let id = tx.next_execution();
        let state = rules::waiting_state(fresh.due_at, now);
        let small = new.parameters.len() <= ASIDE;
        if !small {
            self.aside.push((id, parameters));
        }
        self.rows.push(LiveRow(
            id,
            new.tenant_id,
            fresh.task_id,
            new.config_id,
            &new.task_type,
            state.as_str(),
            fresh.trigger.as_str(),
            opt_micros(fresh.slot),
            new.priority,
            rules::queue_key(fresh.due_at, new.priority),
            new.max_attempts,
            new.run_key.as_deref(),
            new.run_max,
            micros(fresh.due_at),
            opt_micros(new.expires_at),
            new.parent_task_id,
            new.retry_of,
            small.then_some(parameters),
        ));
        Ok((id, state))
    }

    /// Writes what was added and forgets it.
    pub(super) async fn flush(&mut self, tx: &mut Tx, now: Timestamp) -> StoreResult<()> {
        if !self.rows.is_empty() {
            sqlx::query(sql::INSERT_LIVE)
                .bind(text(&self.rows)?)
                .bind(micros(now))
                .execute(tx.write())
                .await
                .map_err(db)?;
            self.rows.clear();
        }
        if !self.aside.is_empty() {
            sqlx::query(sql::INSERT_PARAMETERS)
                .bind(text(&self.aside)?)
                .execute(tx.write())
                .await
                .map_err(db)?;
            self.aside.clear();
        }
        Ok(())
    }
}

/// `Queue::enqueue_many`.
pub(super) async fn run(
    tx: &mut Tx,
    now: Timestamp,
    items: &[NewExecution],
) -> StoreResult<Vec<EnqueueReceipt>> {
    let known = known_tasks(tx, items).await?;
    let configs: HashSet<ConfigId> = items.iter().filter_map(|i| i.config_id).collect();
    let owners = owners(tx, &configs).await?;
    let asked: HashSet<ConfigId> = items
        .iter()
        .filter(|i| i.refuse_if_live)
        .filter_map(|i| i.config_id)
        .collect();
    let mut live: HashSet<ConfigId> = live_counts(tx, &asked).await?.into_keys().collect();
    let mut taken = HashSet::new();
    let mut batch = Batch::default();
    let mut receipts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let task = (item.tenant_id, item.task_id);
        if known.contains(&index) || taken.contains(&task) {
            receipts.push(EnqueueReceipt::Duplicate);
            continue;
        }
        if let Some(config) = item.config_id {
            if owners.get(&config) != Some(&item.tenant_id) {
                receipts.push(EnqueueReceipt::NoConfig);
                continue;
            }
            if item.refuse_if_live && live.contains(&config) {
                receipts.push(EnqueueReceipt::Live);
                continue;
            }
            live.insert(config);
        }
        taken.insert(task);
        let fresh = Fresh {
            task_id: item.task_id,
            trigger: item.trigger,
            slot: item.slot,
            due_at: item.due_at,
        };
        let (id, state) = batch.add(tx, now, item, &fresh)?;
        receipts.push(EnqueueReceipt::Enqueued { id, state });
    }
    batch.flush(tx, now).await?;
    Ok(receipts)
}

/// Indexes of the items whose task id exists already.
async fn known_tasks(tx: &mut Tx, items: &[NewExecution]) -> StoreResult<HashSet<usize>> {
    let tasks: Vec<_> = items.iter().map(|i| (i.tenant_id, i.task_id)).collect();
    if tasks.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query(sql::KNOWN_TASKS)
        .bind(text(&tasks)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    rows.iter()
        .map(|row| {
            let index: i64 = row.try_get(0).map_err(db)?;
            Ok(usize::try_from(index).unwrap_or(usize::MAX))
        })
        .collect()
}

async fn owners(
    tx: &mut Tx,
    configs: &HashSet<ConfigId>,
) -> StoreResult<HashMap<ConfigId, TenantId>> {
    if configs.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(sql::CONFIGS_ALIVE)
        .bind(text(configs)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    rows.iter()
        .map(|row| {
            Ok((
                row.try_get(0).map_err(db)?,
                row.try_get(1).map_err(db)?,
            ))
        })
        .collect()
}

/// What lives of each config; configs of which nothing lives are left out.
pub(super) async fn live_counts(
    tx: &mut Tx,
    configs: &HashSet<ConfigId>,
) -> StoreResult<HashMap<ConfigId, horarium_model::firing::LiveCount>> {
    let mut counts: HashMap<ConfigId, horarium_model::firing::LiveCount> = HashMap::new();
    if configs.is_empty() {
        return Ok(counts);
    }
    let rows = sqlx::query(sql::LIVE_COUNTS)
        .bind(text(configs)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    for row in &rows {
        let config: ConfigId = row.try_get(0).map_err(db)?;
        let running: bool = row.try_get(1).map_err(db)?;
        let count = u32::try_from(row.try_get::<i64, _>(2).map_err(db)?).unwrap_or(u32::MAX);
        let entry = counts.entry(config).or_default();
        if running {
            entry.running = count;
        } else {
            entry.waiting = count;
        }
    }
    Ok(counts)
}

//! Ends and hand-backs that are not an attempt's own: cancels, expiry, lost hosts.

use super::rows::{Cells as _, Reader};
use super::tx::Tx;
use super::{care, chain, db, sql};
use crate::chain::in_order;
use crate::columns::{AttemptRow, micros, opt_micros, text};
use crate::give_back::{GivingBack, LostRun, Returned};
use horarium_core::store::chain::Parent;
use horarium_core::store::{CancelReceipt, Release, StoreResult, Swept, TakenOver, rules};
use horarium_model::execution::State;
use horarium_model::trace::TraceContext;
use horarium_model::{ConfigId, ErrorKind, TaskId, TenantId, Timestamp};
use serde_json::Value;
use sqlx::Row;

/// Ends executions without an attempt that would account for it. The history of a config that is deleted
/// with its history gets no row. Returns those that have a chain, which is still to be run.
pub(super) async fn end_bare(
    tx: &mut Tx,
    now: Timestamp,
    ids: &[i64],
    state: State,
    kind: ErrorKind,
    message: &str,
) -> StoreResult<Vec<Parent>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut parents = Vec::new();
    let list = text(&ids)?;
    let written = sqlx::query(sql::END_BARE)
        .bind(&list)
        .bind(micros(now))
        .bind(state.as_str())
        .bind(kind.as_str())
        .bind(message)
        .execute(tx.write())
        .await
        .map_err(db)?
        .rows_affected();
    if written < ids.len() as u64 {
        let rows = sqlx::query(sql::UNRECORDED)
            .bind(&list)
            .fetch_all(tx.read())
            .await
            .map_err(db)?;
        let gone: Vec<i64> = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(db)?;
        forget(tx, &gone).await?;
    }
    let removed = sqlx::query(sql::DELETE_LIVE_KEYS)
        .bind(&list)
        .fetch_all(tx.write())
        .await
        .map_err(db)?;
    for row in removed {
        let mut r = Reader::new(&row, "live_executions")?;
        let tenant = r.get("tenant_id")?;
        let key: Option<String> = r.get("run_key")?;
        tx.freed.extend(key.map(|key| (tenant, key)));
        if let Some(chain) = r.opt_text("chain")? {
            let task = (r.word("task_id")?, tenant);
            let chain = (chain, r.number("chain_depth")?);
            let trace = r.opt_text("trace")?.and_then(TraceContext::from_text);
            let parent = Parent::read(task, chain, (state, Value::Null))?;
            parents.push((r.place().id, parent.traced(trace)));
        }
    }
    sqlx::query(sql::DELETE_PARAMETERS)
        .bind(&list)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(in_order(ids, parents))
}

/// Removes what is kept beside executions that leave no history.
pub(super) async fn forget(tx: &mut Tx, ids: &[i64]) -> StoreResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    tx.keep_last_execution().await?;
    let list = text(&ids)?;
    for statement in [sql::DELETE_ATTEMPTS, sql::DELETE_LOGS, sql::DELETE_HTTP] {
        sqlx::query(statement)
            .bind(&list)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}

/// Executions of a config that wait.
pub(super) async fn waiting_of(tx: &mut Tx, config: ConfigId) -> StoreResult<Vec<i64>> {
    let rows = sqlx::query(sql::WAITING_OF_CONFIG)
        .bind(config)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    rows.iter().map(|row| row.try_get(0).map_err(db)).collect()
}

/// `Queue::sweep_due`.
pub(super) async fn sweep_due(tx: &mut Tx, now: Timestamp, limit: u32) -> StoreResult<Swept> {
    let rows = sqlx::query(sql::EXPIRED)
        .bind(micros(now))
        .bind(limit)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let expired: Vec<i64> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()
        .map_err(db)?;
    let (to, kind) = (State::Failed, ErrorKind::Expired);
    let parents = end_bare(tx, now, &expired, to, kind, rules::EXPIRED).await?;
    chain::run(tx, now, parents).await?;
    let available = sqlx::query(sql::SWEEP_AVAILABLE)
        .bind(micros(now))
        .bind(limit)
        .execute(tx.write())
        .await
        .map_err(db)?
        .rows_affected();
    Ok(Swept {
        available,
        expired: expired.len() as u64,
        refilled: super::rates::refill(tx, now, limit).await?,
    })
}

/// `Queue::cancel`.
pub(super) async fn cancel(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_id: TaskId,
) -> StoreResult<CancelReceipt> {
    let task_id = task_id.to_string();
    let live = sqlx::query(sql::FIND_LIVE)
        .bind(tenant)
        .bind(&task_id)
        .fetch_optional(tx.read())
        .await
        .map_err(db)?;
    let Some(row) = live else {
        let ended = sqlx::query(sql::FIND_ENDED)
            .bind(tenant)
            .bind(&task_id)
            .fetch_optional(tx.read())
            .await
            .map_err(db)?;
        return match ended {
            Some(row) => Ok(CancelReceipt::AlreadyEnded(super::rows::state(
                &row,
                0,
                "task_executions",
            )?)),
            None => Ok(CancelReceipt::NotFound),
        };
    };
    let mut r = Reader::new(&row, "live_executions")?;
    let state: State = r.word("state")?;
    sqlx::query(sql::ASK_CANCEL)
        .bind(r.place.id)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    if state == State::Running {
        return Ok(CancelReceipt::Requested);
    }
    let (to, kind) = (State::Cancelled, ErrorKind::Cancelled);
    let message = rules::CANCELLED_WAITING;
    let parents = end_bare(tx, now, &[r.place.id], to, kind, message).await?;
    chain::run(tx, now, parents).await?;
    Ok(CancelReceipt::Ended)
}

/// Gives claims back; `lost` is added to their count of lost hosts. How many became what.
pub(super) async fn give_back(
    tx: &mut Tx,
    now: Timestamp,
    back: GivingBack<'_>,
    lost: u32,
) -> StoreResult<TakenOver> {
    let attempts: Vec<AttemptRow<'_>> = back.attempts.into_iter().map(|(_, row)| row).collect();
    insert_attempts(tx, &attempts).await?;
    tx.freed.extend(back.freed);
    care::use_up(tx, now, &back.usages).await?;
    let returned = Returned::decide(now, &back.claims);
    if back.claims.is_empty() {
        return Ok(returned.counts());
    }
    let rows: Vec<(i64, &str, Option<i64>, Option<i64>)> = returned
        .rows
        .iter()
        .map(|row| {
            (
                row.id,
                row.state.as_str(),
                opt_micros(row.due_at),
                opt_micros(row.started_at),
            )
        })
        .collect();
    sqlx::query(sql::GIVE_BACK)
        .bind(text(&rows)?)
        .bind(lost)
        .execute(tx.write())
        .await
        .map_err(db)?;
    let mut parents = Vec::new();
    for (ids, state, kind, message) in returned.ends() {
        parents.extend(end_bare(tx, now, ids, state, kind, message).await?);
    }
    chain::run(tx, now, parents).await?;
    Ok(returned.counts())
}

/// `Queue::release`.
pub(super) async fn release(tx: &mut Tx, now: Timestamp, items: &[Release]) -> StoreResult<u64> {
    let ids: Vec<i64> = items.iter().map(|item| item.id).collect();
    let running = super::complete::running(tx, &ids).await?;
    let alive = super::hosts::alive(tx).await?;
    let back = GivingBack::released(items, running, &alive);
    let count = back.claims.len() as u64;
    give_back(tx, now, back, 0).await?;
    Ok(count)
}

/// Keeps attempts that the row of their execution does not describe.
pub(super) async fn insert_attempts(tx: &mut Tx, attempts: &[AttemptRow<'_>]) -> StoreResult<()> {
    if !attempts.is_empty() {
        sqlx::query(sql::INSERT_ATTEMPTS)
            .bind(text(&attempts)?)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}

/// `Queue::take_over`.
pub(super) async fn take_over(tx: &mut Tx, now: Timestamp, mine: i64) -> StoreResult<TakenOver> {
    tx.alive = None;
    sqlx::query(sql::BURY_OTHERS)
        .bind(mine)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    let rows = sqlx::query(sql::LOST_RUNS)
        .bind(mine)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let read = |row| -> StoreResult<(LostRun, bool)> {
        let mut r = Reader::new(row, "live_executions")?;
        Ok((LostRun::read(&mut r, now)?, r.flag("config_id")?))
    };
    let runs: Vec<_> = rows.iter().map(read).collect::<StoreResult<_>>()?;
    let lost = runs.iter().map(|(run, orphan)| (run, *orphan));
    give_back(tx, now, GivingBack::lost(lost), 1).await
}

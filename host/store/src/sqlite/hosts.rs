//! Hosts, and taking over what dead ones ran (rules E5, E6).

use super::end::{self, Bare};
use super::rows::Reader;
use super::writer::Tx;
use super::{db, sql};
use crate::columns::{AttemptRow, micros, text};
use horarium_core::store::{FAILED_AFTER_LOST, Heartbeat, StoreResult, TakenOver, rules};
use horarium_model::execution::{AttemptRecord, State};
use horarium_model::{ErrorKind, TaskId, Timestamp};
use sqlx::Row;
use std::collections::HashSet;

/// Whether an incarnation may claim and write.
pub(super) async fn is_alive(tx: &mut Tx, incarnation: i64) -> StoreResult<bool> {
    if tx.alive.is_none() {
        let alive = end::ids(tx, sqlx::query(sql::ALIVE)).await?;
        tx.alive = Some(alive.into_iter().collect::<HashSet<i64>>());
    }
    Ok(tx
        .alive
        .as_ref()
        .is_some_and(|alive| alive.contains(&incarnation)))
}

/// `Queue::start_host`.
pub(super) async fn start(tx: &mut Tx, now: Timestamp, name: &str) -> StoreResult<i64> {
    tx.alive = None;
    let row = sqlx::query(sql::START_HOST)
        .bind(name)
        .bind(micros(now))
        .fetch_one(tx.write())
        .await
        .map_err(db)?;
    row.try_get(0).map_err(db)
}

/// `Queue::stop_host`.
pub(super) async fn stop(tx: &mut Tx, now: Timestamp, incarnation: i64) -> StoreResult<()> {
    tx.alive = None;
    sqlx::query(sql::STOP_HOST)
        .bind(incarnation)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

/// `Queue::heartbeat`.
pub(super) async fn heartbeat(
    tx: &mut Tx,
    now: Timestamp,
    incarnation: i64,
) -> StoreResult<Heartbeat> {
    let seen = sqlx::query(sql::SEE_HOST)
        .bind(incarnation)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?
        .rows_affected();
    let rows = sqlx::query(sql::CANCELS_OF)
        .bind(incarnation)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let cancels = rows
        .iter()
        .map(|row| Reader::plain(row, "live_executions").word("task_id"))
        .collect::<StoreResult<Vec<TaskId>>>()?;
    let epoch = sqlx::query(sql::EPOCH)
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    Ok(Heartbeat {
        alive: seen > 0,
        cancels,
        catalog_epoch: epoch.try_get(0).map_err(db)?,
    })
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
    let mut lost = Lost::default();
    for row in &rows {
        let mut r = Reader::new(row, "live_executions")?;
        let (claim, attempt) = (r.number("claim")?, r.number("attempt")?);
        let times = r.number::<u32>("lost")?.saturating_add(1);
        let started_at = r.opt_instant("started_at")?;
        let cancelled: bool = r.get("cancel_requested_at")?;
        let orphan: bool = r.get("config_id")?;
        let host = r.get("host")?;
        let tenant = r.get("tenant_id")?;
        if let Some(key) = r.get("run_key")? {
            tx.freed.insert((tenant, key));
        }
        let id = r.place.id;
        let record = rules::lost_record(now, attempt, claim, started_at, host);
        let to = if cancelled {
            lost.cancelled.push(id);
            State::Running
        } else if orphan {
            lost.orphaned.push(id);
            State::Running
        } else if times >= FAILED_AFTER_LOST {
            lost.failed.push(id);
            State::Running
        } else {
            lost.requeued += 1;
            State::Available
        };
        let started = Some(micros(record.started_at));
        lost.back.push((id, to.as_str(), None, started));
        lost.records.push((id, record));
    }
    lost.write(tx, now).await
}

/// What dead hosts left, sorted by what becomes of it.
#[derive(Default)]
struct Lost {
    records: Vec<(i64, AttemptRecord)>,
    /// Rows of `GIVE_BACK`; those that end stay `running` until they do.
    back: Vec<(i64, &'static str, Option<i64>, Option<i64>)>,
    requeued: u64,
    cancelled: Vec<i64>,
    orphaned: Vec<i64>,
    failed: Vec<i64>,
}

impl Lost {
    async fn write(self, tx: &mut Tx, now: Timestamp) -> StoreResult<TakenOver> {
        write_attempts(tx, self.records.iter().map(|(id, record)| (*id, record))).await?;
        give_back(tx, &self.back, 1).await?;
        let taken = TakenOver {
            requeued: self.requeued,
            failed: self.failed.len() as u64,
            cancelled: (self.cancelled.len() + self.orphaned.len()) as u64,
        };
        let too_often = Bare::failed(ErrorKind::HostLost, rules::LOST_TOO_OFTEN);
        end::bare(tx, now, &self.failed, too_often).await?;
        let cancelled = Bare::cancelled(rules::CANCELLED_RETRY);
        end::bare(tx, now, &self.cancelled, cancelled).await?;
        let deleted = Bare::cancelled(rules::CONFIG_DELETED);
        end::bare(tx, now, &self.orphaned, deleted).await?;
        Ok(taken)
    }
}

/// Puts claimed executions back, with `lost` higher by so much. Rows: id, state, due, started.
pub(super) async fn give_back(
    tx: &mut Tx,
    rows: &[(i64, &'static str, Option<i64>, Option<i64>)],
    lost: u32,
) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(sql::GIVE_BACK)
        .bind(text(&rows)?)
        .bind(lost)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

/// Keeps attempts as rows of their own.
pub(super) async fn write_attempts<'a>(
    tx: &mut Tx,
    records: impl Iterator<Item = (i64, &'a AttemptRecord)>,
) -> StoreResult<()> {
    let rows: Vec<AttemptRow<'a>> = records
        .map(|(id, record)| AttemptRow::new(id, record))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(sql::INSERT_ATTEMPTS)
        .bind(text(&rows)?)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

//! Hosts: who is alive, and what is asked of whom.

use super::rows::{Cells as _, Reader};
use super::tx::Tx;
use super::{db, sql};
use crate::columns::{micros, text};
use crate::rows;
use horarium_core::store::{Heartbeat, Held, HostFacts, HostRow, StoreResult};
use horarium_model::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::collections::HashSet;

/// Incarnations that are alive.
pub(super) async fn alive(tx: &mut Tx) -> StoreResult<HashSet<i64>> {
    if let Some(alive) = &tx.alive {
        return Ok(alive.clone());
    }
    let rows = sqlx::query(sql::ALIVE)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let alive: HashSet<i64> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()
        .map_err(db)?;
    tx.alive = Some(alive.clone());
    Ok(alive)
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

/// `Queue::describe_host`.
pub(super) async fn describe(tx: &mut Tx, incarnation: i64, facts: &HostFacts) -> StoreResult<()> {
    sqlx::query(sql::DESCRIBE_HOST)
        .bind(incarnation)
        .bind(text(facts)?)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

/// `Queue::hosts`.
pub(super) async fn hosts(connection: &mut SqliteConnection) -> StoreResult<Vec<HostRow>> {
    let found = sqlx::query(sql::HOSTS)
        .fetch_all(&mut *connection)
        .await
        .map_err(db)?;
    let runs = sqlx::query(sql::HOST_RUNS)
        .fetch_all(connection)
        .await
        .map_err(db)?;
    rows::hosts(
        found.iter().map(|row| Reader::new(row, "hosts")),
        runs.iter().map(|row| Reader::new(row, "live_executions")),
    )
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
        .map_err(db)?;
    let rows = sqlx::query(sql::CANCELS_OF)
        .bind(incarnation)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let mut cancels = Vec::with_capacity(rows.len());
    for row in &rows {
        cancels.push(Reader::plain(row, "live_executions").word("task_id")?);
    }
    let epoch = sqlx::query(sql::EPOCH)
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    let access = sqlx::query(sql::ACCESS_EPOCH)
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    let due = sqlx::query(sql::NEXT_DUE)
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    let waits = sqlx::query(sql::WAITS)
        .bind(incarnation)
        .bind(micros(now))
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    Ok(Heartbeat {
        alive: seen.rows_affected() > 0,
        cancels,
        catalog_epoch: epoch.try_get(0).map_err(db)?,
        access_epoch: access.try_get(0).map_err(db)?,
        next_due: Reader::plain(&due, "live_executions").opt_instant("due_at")?,
        available: waits.try_get(0).map_err(db)?,
        running: waits.try_get::<i64, _>(1).map_err(db)?.unsigned_abs(),
        alerts: waits.try_get(2).map_err(db)?,
        ..Heartbeat::default()
    })
}

/// `Queue::held`.
pub(super) async fn held(tx: &mut Tx, incarnation: i64) -> StoreResult<Vec<Held>> {
    let rows = sqlx::query(sql::HELD)
        .bind(incarnation)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let mut held = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut r = Reader::new(row, "live_executions")?;
        held.push(Held {
            id: r.place.id,
            task_id: r.word("task_id")?,
            claim: r.number("claim")?,
        });
    }
    Ok(held)
}

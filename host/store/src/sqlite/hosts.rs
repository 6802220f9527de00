//! Hosts: who is alive, and what is asked of whom.

use super::rows::Reader;
use super::writer::Tx;
use super::{db, sql};
use crate::columns::{micros, text};
use horarium_core::store::{Heartbeat, Held, HostFacts, HostRow, HostRun, StoreResult};
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
    let mut hosts = Vec::with_capacity(found.len());
    for row in &found {
        let mut r = Reader::new(row, "hosts")?;
        hosts.push(HostRow {
            incarnation: r.place.id,
            name: r.get("name")?,
            started_at: r.instant("started_at")?,
            seen_at: r.instant("seen_at")?,
            facts: r.opt_json("facts")?.unwrap_or_default(),
            running: Vec::new(),
        });
    }
    let runs = sqlx::query(sql::HOST_RUNS)
        .fetch_all(connection)
        .await
        .map_err(db)?;
    for row in &runs {
        let mut r = Reader::new(row, "live_executions")?;
        let id = r.place.id;
        let incarnation: i64 = r.get("incarnation")?;
        let run = HostRun {
            id,
            task_id: r.word("task_id")?,
            tenant_id: r.get("tenant_id")?,
            config_id: r.get("config_id")?,
            task_type: r.get("task_type")?,
            attempt: r.number("attempt")?,
            started_at: r.opt_instant("started_at")?,
        };
        if let Some(host) = hosts.iter_mut().find(|h| h.incarnation == incarnation) {
            host.running.push(run);
        }
    }
    Ok(hosts)
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
    Ok(Heartbeat {
        alive: seen.rows_affected() > 0,
        cancels,
        catalog_epoch: epoch.try_get(0).map_err(db)?,
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

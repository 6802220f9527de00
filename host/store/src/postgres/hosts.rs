//! Hosts: their leases, by the database's clock, and what is asked of whom.

use super::configs::json;
use super::rows::{Cells as _, Reader};
use super::sql;
use super::tx::{Fault, PgResult, Tx, query, query_scalar};
use crate::columns::micros;
use crate::rows;
use horarium_core::store::{Heartbeat, Held, HostFacts, HostRow, StoreResult};
use horarium_model::Timestamp;
use sqlx::postgres::PgConnection;
use std::time::Duration;

fn lease(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// `Queue::start_host`.
pub(super) async fn start(
    tx: &mut Tx,
    now: Timestamp,
    name: &str,
    duration: Duration,
) -> PgResult<i64> {
    query_scalar(sql::START_HOST)
        .bind(super::jsonb::plain(name))
        .bind(lease(duration))
        .bind(micros(now))
        .fetch_optional(tx.connection())
        .await?
        // Another host started in the same moment.
        .ok_or(Fault::Again)
}

/// `Queue::stop_host`.
pub(super) async fn stop(tx: &mut Tx, now: Timestamp, incarnation: i64) -> PgResult<()> {
    query(sql::STOP_HOST)
        .bind(incarnation)
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    // What it ran is to be taken over.
    tx.tidings.enqueued = true;
    Ok(())
}

/// `Queue::describe_host`.
pub(super) async fn describe(tx: &mut Tx, incarnation: i64, facts: &HostFacts) -> PgResult<()> {
    query(sql::DESCRIBE_HOST)
        .bind(incarnation)
        .bind(json(facts)?)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// `Queue::hosts`.
pub(super) async fn hosts(connection: &mut PgConnection) -> PgResult<Vec<HostRow>> {
    let found = query(sql::HOSTS).fetch_all(&mut *connection).await?;
    let runs = query(sql::HOST_RUNS).fetch_all(connection).await?;
    Ok(rows::hosts(
        found.iter().map(|row| Reader::new(row, "hosts")),
        runs.iter().map(|row| Reader::new(row, "live_executions")),
    )?)
}

/// `Queue::heartbeat`, a single statement.
pub(super) async fn heartbeat(
    connection: &mut PgConnection,
    incarnation: i64,
    duration: Duration,
) -> PgResult<Heartbeat> {
    let row = query(sql::HEARTBEAT)
        .bind(incarnation)
        .bind(lease(duration))
        .fetch_one(connection)
        .await?;
    let mut r = Reader::plain(&row, "hosts");
    let alive = r.flag("stopped_at")?;
    let cancels: Vec<String> = r.get("task_id")?;
    let place = r.place();
    let parse = |id: String| place.word("task_id", &id);
    Ok(Heartbeat {
        alive,
        cancels: cancels.into_iter().map(parse).collect::<StoreResult<_>>()?,
        catalog_epoch: r.int("catalog_epoch")?,
        database_now: Some(r.instant("database_now")?),
        next_take_over: r
            .opt_int("lease_until")?
            .map(|micros| Duration::from_micros(micros.unsigned_abs())),
        next_due: r.opt_instant("due_at")?,
        available: r.flag("available")?,
        running: r.int("running")?.unsigned_abs(),
        access_epoch: r.int("access_epoch")?,
        alerts: r.flag("alerts")?,
    })
}

/// `Queue::held`.
pub(super) async fn held(tx: &mut Tx, incarnation: i64) -> PgResult<Vec<Held>> {
    let rows = query(sql::HELD)
        .bind(incarnation)
        .fetch_all(tx.connection())
        .await?;
    let read = |row| -> StoreResult<Held> {
        let mut r = Reader::new(row, "live_executions")?;
        Ok(Held {
            id: r.id(),
            task_id: r.word("task_id")?,
            claim: r.number("claim")?,
        })
    };
    Ok(rows.iter().map(read).collect::<StoreResult<_>>()?)
}

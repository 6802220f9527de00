//! Hosts: their leases, by the database's clock, and what is asked of whom.

use super::rows::{Cells as _, Reader};
use super::sql;
use super::tx::{PgResult, Tx, query, query_scalar};
use crate::columns::micros;
use horarium_core::store::{Heartbeat, Held, StoreResult};
use horarium_model::Timestamp;
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
    Ok(query_scalar(sql::START_HOST)
        .bind(super::jsonb::plain(name))
        .bind(lease(duration))
        .bind(micros(now))
        .fetch_one(tx.connection())
        .await?)
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

/// `Queue::heartbeat`, with the database's clock.
pub(super) async fn heartbeat(
    tx: &mut Tx,
    incarnation: i64,
    duration: Duration,
) -> PgResult<(Heartbeat, i64)> {
    let row = query(sql::HEARTBEAT)
        .bind(incarnation)
        .bind(lease(duration))
        .fetch_one(tx.connection())
        .await?;
    let mut r = Reader::plain(&row, "hosts");
    let alive = r.flag("stopped_at")?;
    let cancels: Vec<String> = r.get("task_id")?;
    let place = r.place();
    let parse = |id: String| place.word("task_id", &id);
    let beat = Heartbeat {
        alive,
        cancels: cancels.into_iter().map(parse).collect::<StoreResult<_>>()?,
        catalog_epoch: r.int("catalog_epoch")?,
    };
    Ok((beat, r.int("database_now")?))
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

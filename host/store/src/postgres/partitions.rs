//! The history's partitions by time, made ahead of what will end.

use super::tx::{Fault, PgResult, Tx, query, query_as};
use super::{PostgresStore, sql};
use chrono::{Datelike, Duration, NaiveDate};
use horarium_core::store::{StoreError, StoreResult};
use horarium_model::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

/// How much time one partition of the history covers. It may be changed at any time: partitions that exist
/// stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartitionSpan {
    /// A calendar month (UTC): for up to some millions of executions a day.
    #[default]
    Month,
    /// A day (UTC).
    Day,
}

impl PartitionSpan {
    /// How far ahead partitions are made: long enough that a fleet may be down or unwatched meanwhile.
    fn horizon(self) -> Duration {
        match self {
            Self::Month => Duration::days(92),
            Self::Day => Duration::days(14),
        }
    }

    /// The first day of the span a day is in.
    fn start(self, day: NaiveDate) -> NaiveDate {
        match self {
            Self::Month => day.with_day(1).unwrap_or(day),
            Self::Day => day,
        }
    }

    /// The first day after the span a day is in.
    fn end(self, day: NaiveDate) -> NaiveDate {
        let next = match self {
            Self::Month => self.start(day).checked_add_months(chrono::Months::new(1)),
            Self::Day => day.succ_opt(),
        };
        next.unwrap_or(NaiveDate::MAX)
    }
}

fn micros(day: NaiveDate) -> i64 {
    day.and_time(chrono::NaiveTime::MIN)
        .and_utc()
        .timestamp_micros()
}

/// Makes what is missing, one partition a transaction. A partition that cannot be had now (a long query
/// holds the default one, or another host is at it) is left for the next time: rows that fit none go to
/// the default partition, and are moved when theirs is made.
pub(super) async fn ensure(store: &PostgresStore) -> StoreResult<()> {
    let now = store.database_now().await?;
    let span = store.shared.options.partition_span;
    let until = micros((now + span.horizon()).date_naive());
    loop {
        let made = store
            .write(move |tx| Box::pin(make_next(tx, now, span, until)))
            .await;
        match made {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(%error, "a partition of the history could not be made; it is tried again");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes the next partition, if one is missing before `until`.
async fn make_next(tx: &mut Tx, now: Timestamp, span: PartitionSpan, until: i64) -> PgResult<bool> {
    let (mine,): (bool,) = query_as(sql::LOCK_PARTITIONS)
        .fetch_one(tx.connection())
        .await?;
    if !mine {
        return Ok(false);
    }
    let (last,): (Option<i64>,) = query_as(sql::LAST_PARTITION)
        .fetch_one(tx.connection())
        .await?;
    let today = span.start(now.date_naive());
    // After a long pause the time without hosts is left out.
    let from = match last.and_then(Timestamp::from_timestamp_micros) {
        Some(last) if last.date_naive() >= today => last.date_naive(),
        _ => today,
    };
    if micros(from) >= until {
        return Ok(false);
    }
    make(tx.connection(), from, span.end(from)).await?;
    Ok(true)
}

/// Makes one partition that is missing for a history that goes back to `oldest`, a month each, newest time
/// included. Returns whether it made one.
pub(super) async fn reach_back(connection: &mut PgConnection, oldest: i64) -> PgResult<bool> {
    /// What is older, by a clock that was wrong perhaps, stays in the default partition.
    const MONTHS: u32 = 120;
    let span = PartitionSpan::Month;
    let there: Vec<(i64, i64)> = query_as(sql::PARTITIONS)
        .fetch_all(&mut *connection)
        .await?;
    let (now,): (i64,) = query_as(sql::DATABASE_NOW)
        .fetch_one(&mut *connection)
        .await?;
    let day = |micros| Timestamp::from_timestamp_micros(micros).map(|at| at.date_naive());
    let (Some(today), Some(oldest)) = (day(now), day(oldest)) else {
        return Ok(false);
    };
    let first = today.checked_sub_months(chrono::Months::new(MONTHS));
    let mut from = span.start(first.map_or(oldest, |first| first.max(oldest)));
    while from <= today {
        let until = span.end(from);
        let is_free = |(a, b): &(i64, i64)| *b <= micros(from) || *a >= micros(until);
        if there.iter().all(is_free) {
            make(connection, from, until).await?;
            return Ok(true);
        }
        from = until;
    }
    Ok(false)
}

async fn make(connection: &mut PgConnection, from: NaiveDate, until: NaiveDate) -> PgResult<()> {
    let name = format!("task_executions_{}", from.format("%Y_%m_%d"));
    let (from, until) = (micros(from), micros(until));
    // Short waits: everybody who writes history queues up behind this lock.
    let script = format!(
        "SET LOCAL lock_timeout = '500ms';
         CREATE TABLE {name} (LIKE task_executions INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
         LOCK TABLE task_executions_default IN ACCESS EXCLUSIVE MODE;
         WITH moved AS (DELETE FROM task_executions_default
             WHERE completed_at >= {from} AND completed_at < {until} RETURNING *)
         INSERT INTO {name} SELECT * FROM moved;
         ALTER TABLE task_executions ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({until})"
    );
    sqlx::raw_sql(AssertSqlSafe(script))
        .execute(&mut *connection)
        .await
        .map_err(Fault::from)?;
    query(sql::NOTE_PARTITION)
        .bind(&name)
        .bind(from)
        .bind(until)
        .execute(connection)
        .await?;
    tracing::info!(name, "a partition of the history was made");
    Ok(())
}

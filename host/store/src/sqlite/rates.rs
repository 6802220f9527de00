//! The buckets of rates, and what waits for them.

use super::rows::Reader;
use super::tx::Tx;
use super::{db, sql};
use crate::choose::{Key, ReadyRate, UsedRate};
use crate::columns::{micros, text};
use horarium_core::store::StoreResult;
use horarium_model::Timestamp;
use horarium_model::concurrency::Rate;
use sqlx::Row;

/// When the buckets will be full, for those that are not new.
pub(super) async fn read(tx: &mut Tx, keys: &[Key]) -> StoreResult<Vec<(Key, i64)>> {
    let rows = sqlx::query(sql::RATES)
        .bind(text(&keys)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let mut read = Vec::with_capacity(rows.len());
    for row in &rows {
        let key = (row.try_get(0).map_err(db)?, row.try_get(1).map_err(db)?);
        read.push((key, row.try_get(2).map_err(db)?));
    }
    Ok(read)
}

/// Keeps the buckets as a claim leaves them.
pub(super) async fn save(tx: &mut Tx, used: &[UsedRate]) -> StoreResult<()> {
    if used.is_empty() {
        return Ok(());
    }
    let rows: Vec<(i64, &str, i64, u32, u32, i64)> = used
        .iter()
        .map(|used| {
            let (tenant, key) = &used.key;
            let Rate { count, seconds } = used.rate;
            (
                *tenant,
                key.as_str(),
                used.full_at,
                count,
                seconds,
                used.ready_at,
            )
        })
        .collect();
    sqlx::query(sql::SET_RATES)
        .bind(text(&rows)?)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

/// Lets claims look again at what waits for buckets that have tokens. How many buckets something waited for.
pub(super) async fn refill(tx: &mut Tx, now: Timestamp, limit: u32) -> StoreResult<u64> {
    let ready = sqlx::query(sql::RATES_READY)
        .bind(micros(now))
        .bind(limit)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let mut refilled = 0;
    for row in &ready {
        let rate = ReadyRate::read(&mut Reader::plain(row, "rates"), now)?;
        let (tenant, key) = &rate.key;
        let mut found = 0;
        if rate.tokens > 0 {
            found = untie(tx, now, sql::UNTHROTTLE, *tenant, key, rate.tokens).await?;
            if let Some((run_key, rest)) = rate.rest(found) {
                found += untie(tx, now, sql::UNBLOCK_KEY, *tenant, run_key, rest).await?;
            }
        }
        refilled += u64::from(found > 0);
        sqlx::query(sql::RATE_READY_AT)
            .bind(tenant)
            .bind(key)
            .bind(rate.next_look(now, found > 0))
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    if !ready.is_empty() {
        sqlx::query(sql::TIDY_RATES)
            .bind(micros(now))
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(refilled)
}

/// Lets claims look again at the first so many that wait for a key and have not expired.
async fn untie(
    tx: &mut Tx,
    now: Timestamp,
    statement: &'static str,
    tenant: i64,
    key: &str,
    count: i64,
) -> StoreResult<i64> {
    let done = sqlx::query(statement)
        .bind(tenant)
        .bind(key)
        .bind(count)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX))
}

//! Run keys and rates: their locks, and what a freed place or new tokens let in.

use super::sql;
use super::tx::{Fault, PgResult, Tx, query, query_as};
pub(super) use crate::choose::Key;
use crate::choose::UsedRate;
use crate::columns::micros;
use horarium_core::store::{Bucket, RateBound};
use horarium_model::Timestamp;
use horarium_model::concurrency::Rate;
use std::collections::{BTreeMap, HashSet};

/// What stands for the suspects of all tenants (rule E6).
pub(super) fn suspects() -> Key {
    (0, String::new())
}

/// Keys as two columns, in the order in which they are locked.
fn columns<'a>(keys: impl Iterator<Item = &'a Key>) -> (Vec<i64>, Vec<&'a str>) {
    keys.map(|(tenant, key)| (*tenant, key.as_str())).unzip()
}

/// Locks keys, each given once, until the transaction ends. Statements that come after it see what the
/// last holder did.
pub(super) async fn lock(tx: &mut Tx, keys: &mut Vec<Key>) -> PgResult<()> {
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort_unstable();
    keys.dedup();
    let (tenants, names) = columns(keys.iter());
    for _ in 0..2 {
        let locked = query(sql::LOCK_KEYS)
            .bind(&tenants)
            .bind(&names)
            .execute(tx.connection())
            .await?
            .rows_affected();
        if locked == keys.len() as u64 {
            return Ok(());
        }
        // Tidied away between enqueue and now. Out of order this may end in a deadlock, which the database
        // finds and the transaction survives by being run anew.
        query(sql::ADD_KEYS)
            .bind(&tenants)
            .bind(&names)
            .execute(tx.connection())
            .await?;
    }
    Err(Fault::Again)
}

/// Looks again at what waits for keys of which a place, or the next in line, went away.
pub(super) async fn free(tx: &mut Tx, now: Timestamp, freed: Vec<Key>) -> PgResult<()> {
    if freed.is_empty() {
        return Ok(());
    }
    let mut keys = freed.clone();
    lock(tx, &mut keys).await?;
    let mut counts: BTreeMap<&Key, i64> = BTreeMap::new();
    for key in &freed {
        *counts.entry(key).or_default() += 1;
    }
    unblock(tx, now, &counts).await?;
    Ok(())
}

/// Of each key and task type unblocks as many as told, in the order of claims. The keys are locked. Returns
/// how many.
pub(super) async fn unblock(
    tx: &mut Tx,
    now: Timestamp,
    counts: &BTreeMap<&Key, i64>,
) -> PgResult<u64> {
    let (tenants, names) = columns(counts.keys().copied());
    let counts: Vec<i64> = counts.values().copied().collect();
    let unblocked = query(sql::UNBLOCK)
        .bind(&tenants)
        .bind(&names)
        .bind(&counts)
        .bind(micros(now))
        .execute(tx.connection())
        .await?
        .rows_affected();
    tx.tidings.enqueued |= unblocked > 0;
    Ok(unblocked)
}

/// Keeps the buckets as a claim leaves them; they are locked.
pub(super) async fn save_rates(tx: &mut Tx, used: &[UsedRate]) -> PgResult<()> {
    if used.is_empty() {
        return Ok(());
    }
    let (tenants, names) = columns(used.iter().map(|used| &used.key));
    let column = |value: fn(&UsedRate) -> i64| used.iter().map(value).collect::<Vec<i64>>();
    query(sql::SET_RATES)
        .bind(tenants)
        .bind(names)
        .bind(column(|used| used.full_at))
        .bind(column(|used| used.rate.count.into()))
        .bind(column(|used| used.rate.seconds.into()))
        .bind(column(|used| used.ready_at))
        .execute(tx.connection())
        .await?;
    // Every host's scheduler is to look when there are tokens again.
    tx.tidings.schedule = true;
    Ok(())
}

/// Lets claims look again at what waits for buckets that have tokens. How many buckets something waited for.
/// Buckets that are in use are left to who uses them.
pub(super) async fn refill(tx: &mut Tx, now: Timestamp, limit: u32) -> PgResult<u64> {
    let ready: Vec<(i64, String, i64, i64, i64)> = query_as(sql::RATES_READY)
        .bind(micros(now))
        .bind(i64::from(limit))
        .fetch_all(tx.connection())
        .await?;
    if ready.is_empty() {
        return Ok(0);
    }
    let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let buckets: Vec<(Key, Bucket)> = ready
        .into_iter()
        .map(|(tenant, key, full_at, count, seconds)| {
            let rate = Rate {
                count: small(count),
                seconds: small(seconds),
            };
            let full = Bucket::new(rate);
            ((tenant, key), Bucket { full_at, ..full })
        })
        .collect();
    let (tenants, names) = columns(buckets.iter().map(|(key, _)| key));
    let tokens: Vec<i64> = buckets.iter().map(|(_, b)| b.tokens(now)).collect();
    let untied: Vec<Key> = query_as(sql::UNTHROTTLE)
        .bind(&tenants)
        .bind(&names)
        .bind(&tokens)
        .fetch_all(tx.connection())
        .await?;
    let mut found: BTreeMap<Key, i64> = BTreeMap::new();
    for key in untied {
        *found.entry(key).or_default() += 1;
    }
    let waited = spend_rest(tx, now, &buckets, &tokens, &found).await?;
    let mut refilled = 0;
    let ready_at: Vec<Option<i64>> = buckets
        .iter()
        .zip(&tokens)
        .map(|((key, bucket), tokens)| {
            let some = found.contains_key(key) || waited.contains(key);
            refilled += u64::from(some);
            match (tokens, some) {
                (0, _) => Some(bucket.ready_at(now)),
                (_, true) => Some(bucket.look_again_at(now)),
                (_, false) => None,
            }
        })
        .collect();
    query(sql::RATES_READY_AT)
        .bind(&tenants)
        .bind(&names)
        .bind(ready_at)
        .execute(tx.connection())
        .await?;
    tx.tidings.enqueued |= refilled > 0;
    Ok(refilled)
}

/// Tokens that nothing throttled wants are for what waits for the run key that shares the bucket.
async fn spend_rest(
    tx: &mut Tx,
    now: Timestamp,
    buckets: &[(Key, Bucket)],
    tokens: &[i64],
    found: &BTreeMap<Key, i64>,
) -> PgResult<HashSet<Key>> {
    let mut waited = HashSet::new();
    for ((key, _), tokens) in buckets.iter().zip(tokens) {
        let rest = tokens - found.get(key).copied().unwrap_or(0);
        if let Some(run_key) = RateBound::run_key_of(&key.1).filter(|_| rest > 0) {
            let run_key = (key.0, run_key.to_owned());
            if unblock(tx, now, &BTreeMap::from([(&run_key, rest)])).await? > 0 {
                waited.insert(key.clone());
            }
        }
    }
    Ok(waited)
}

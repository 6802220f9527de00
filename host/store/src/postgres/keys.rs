//! Run keys and rates: their locks, and what a freed place or new tokens let in.

use super::rows::Reader;
use super::sql;
use super::tx::{Fault, PgResult, Tx, query, query_as};
pub(super) use crate::choose::Key;
use crate::choose::{ReadyRate, UsedRate};
use crate::columns::micros;
use horarium_core::store::StoreResult;
use horarium_model::Timestamp;
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
    Ok(())
}

/// Lets claims look again at what waits for buckets that have tokens. How many buckets something waited for.
/// Buckets that are in use are left to who uses them.
pub(super) async fn refill(tx: &mut Tx, now: Timestamp, limit: u32) -> PgResult<u64> {
    let rows = query(sql::RATES_READY)
        .bind(micros(now))
        .bind(i64::from(limit))
        .fetch_all(tx.connection())
        .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let read = |row| ReadyRate::read(&mut Reader::plain(row, "run_keys"), now);
    let ready: Vec<ReadyRate> = rows.iter().map(read).collect::<StoreResult<_>>()?;
    let (tenants, names) = columns(ready.iter().map(|rate| &rate.key));
    let untied: Vec<Key> = query_as(sql::UNTHROTTLE)
        .bind(&tenants)
        .bind(&names)
        .bind(ready.iter().map(|rate| rate.tokens).collect::<Vec<_>>())
        .fetch_all(tx.connection())
        .await?;
    let mut found: BTreeMap<Key, i64> = BTreeMap::new();
    for key in untied {
        *found.entry(key).or_default() += 1;
    }
    let mut waited: HashSet<Key> = found.keys().cloned().collect();
    spend_rest(tx, now, &ready, &found, &mut waited).await?;
    let let_go = waited.len() as u64;
    tx.tidings.enqueued |= let_go > 0;
    still_waiting(tx, &ready, &mut waited).await?;
    let next = ready
        .iter()
        .map(|rate| rate.next_look(now, waited.contains(&rate.key)));
    query(sql::RATES_READY_AT)
        .bind(&tenants)
        .bind(&names)
        .bind(next.collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(let_go)
}

/// Tokens that nothing throttled wants are for what waits for the run key that shares the bucket.
async fn spend_rest(
    tx: &mut Tx,
    now: Timestamp,
    ready: &[ReadyRate],
    found: &BTreeMap<Key, i64>,
    waited: &mut HashSet<Key>,
) -> PgResult<()> {
    for rate in ready {
        let taken = found.get(&rate.key).copied().unwrap_or(0);
        if let Some((run_key, rest)) = rate.rest(taken) {
            let run_key = (rate.key.0, run_key.to_owned());
            if unblock(tx, now, &BTreeMap::from([(&run_key, rest)])).await? > 0 {
                waited.insert(rate.key.clone());
            }
        }
    }
    Ok(())
}

/// Adds the buckets of which nothing was let go and something waits all the same: others had it locked, and it is
/// not known what they do with it.
async fn still_waiting(
    tx: &mut Tx,
    ready: &[ReadyRate],
    waited: &mut HashSet<Key>,
) -> PgResult<()> {
    let open = ready
        .iter()
        .filter(|rate| rate.tokens > 0 && !waited.contains(&rate.key));
    let open: Vec<&ReadyRate> = open.collect();
    if open.is_empty() {
        return Ok(());
    }
    let (tenants, names) = columns(open.iter().map(|rate| &rate.key));
    let run_keys: Vec<Option<&str>> = open
        .iter()
        .map(|rate| rate.rest(0).map(|(run_key, _)| run_key))
        .collect();
    let waiting: Vec<Key> = query_as(sql::WAITING_FOR_RATES)
        .bind(tenants)
        .bind(names)
        .bind(run_keys)
        .fetch_all(tx.connection())
        .await?;
    waited.extend(waiting);
    Ok(())
}

/// Looks again at what waits for a place that is free. Who freed it passes over what others hold at that moment,
/// and who held it may have changed nothing. How many are looked at again.
pub(super) async fn unstick(tx: &mut Tx, now: Timestamp) -> PgResult<u64> {
    let stuck: Vec<(i64, String, i64)> =
        query_as(sql::STUCK_KEYS).fetch_all(tx.connection()).await?;
    if stuck.is_empty() {
        return Ok(0);
    }
    let stuck: BTreeMap<Key, i64> = stuck
        .into_iter()
        .map(|(tenant, key, places)| ((tenant, key), places))
        .collect();
    lock(tx, &mut stuck.keys().cloned().collect()).await?;
    let counts = stuck.iter().map(|(key, places)| (key, *places));
    unblock(tx, now, &counts.collect()).await
}

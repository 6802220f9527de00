//! Run keys: their locks, and what a freed place of one lets in.

use super::sql;
use super::tx::{Fault, PgResult, Tx, query};
use horarium_model::Timestamp;
use std::collections::BTreeMap;

/// A run key and its tenant.
pub(super) type Key = (i64, String);

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
        .bind(crate::columns::micros(now))
        .execute(tx.connection())
        .await?
        .rows_affected();
    tx.tidings.enqueued |= unblocked > 0;
    Ok(unblocked)
}

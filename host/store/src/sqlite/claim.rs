//! Claims (rule E2), within the bounds of run keys and of suspects (rule E6).

use super::rows::{Cells as _, Reader};
use super::writer::Tx;
use super::{db, sql};
use crate::columns::{micros, text};
use horarium_core::store::{ClaimRequest, Claimed, SUSPECT_AFTER_LOST, StoreResult};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::{HashMap, HashSet};

/// Executions looked at beside those wanted, so that one page usually suffices.
const MARGIN: u32 = 16;

/// A run key and its tenant.
type Key = (i64, String);

/// An available execution and what decides whether it may run now.
struct Candidate {
    queue_key: i64,
    run_key: Option<String>,
    run_max: u32,
    suspect: bool,
    claimed: Claimed,
}

/// What runs already, as far as this claim asked.
#[derive(Default)]
struct Running {
    keys: HashMap<Key, u32>,
    /// Keys that allow no more.
    full: HashSet<Key>,
    suspect: Option<bool>,
}

/// `Queue::claim`.
pub(super) async fn claim(tx: &mut Tx, request: &ClaimRequest) -> StoreResult<Vec<Claimed>> {
    let wanted = request.limit as usize;
    if wanted == 0
        || !super::hosts::alive(tx)
            .await?
            .contains(&request.incarnation)
    {
        return Ok(Vec::new());
    }
    let types = text(&&*request.types)?;
    let more = unblock(tx, request, &types).await?;
    let mut running = Running::default();
    let mut chosen: Vec<Claimed> = Vec::new();
    let mut blocked = Vec::new();
    let mut after = (i64::MIN, 0);
    let page_size = request.limit.saturating_add(MARGIN);
    loop {
        let page = page(tx, request, &types, after, page_size).await?;
        let full = page.len() == page_size as usize;
        count_keys(tx, &page, &mut running).await?;
        for candidate in page {
            if chosen.len() == wanted {
                break;
            }
            after = (candidate.queue_key, candidate.claimed.id);
            match fits(tx, &candidate, &mut running).await? {
                Fit::Runs => chosen.push(candidate.claimed),
                Fit::KeyIsFull => blocked.push(candidate.claimed.id),
                Fit::OtherSuspectRuns => {}
            }
        }
        if chosen.len() == wanted || !full {
            break;
        }
    }
    if chosen.len() == wanted {
        // More may run than this claim took: the next one goes on from here.
        let more = more.into_iter().filter(|key| !running.full.contains(key));
        tx.freed.extend(more);
    }
    start(tx, request, &chosen, &blocked).await?;
    for claimed in &mut chosen {
        claimed.claim += 1;
        claimed.attempt += 1;
    }
    Ok(chosen)
}

/// Looks again at what waited for a run key that was freed since the last claim: of each key as many as
/// could be taken. Returns the keys that may have more behind those.
async fn unblock(tx: &mut Tx, request: &ClaimRequest, types: &str) -> StoreResult<Vec<Key>> {
    if tx.claimed_types != request.types {
        tx.claimed_types = request.types.clone();
        tx.unblock_all = true;
    }
    if std::mem::take(&mut tx.unblock_all) {
        tx.freed.clear();
        sqlx::query(sql::UNBLOCK_ALL)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    if tx.freed.is_empty() {
        return Ok(Vec::new());
    }
    let freed: Vec<Key> = tx.freed.drain().collect();
    let unblocked = sqlx::query(sql::UNBLOCK)
        .bind(text(&freed)?)
        .bind(request.limit)
        .bind(types)
        .fetch_all(tx.write())
        .await
        .map_err(db)?;
    let mut counts: HashMap<Key, u32> = HashMap::new();
    for row in &unblocked {
        let key = (row.try_get(0).map_err(db)?, row.try_get(1).map_err(db)?);
        *counts.entry(key).or_default() += 1;
    }
    let full = counts
        .into_iter()
        .filter(|(_, count)| *count >= request.limit);
    Ok(full.map(|(key, _)| key).collect())
}

async fn page(
    tx: &mut Tx,
    request: &ClaimRequest,
    types: &str,
    after: (i64, i64),
    size: u32,
) -> StoreResult<Vec<Candidate>> {
    let rows = sqlx::query(sql::CANDIDATES)
        .bind(types)
        .bind(micros(request.now))
        .bind(after.0)
        .bind(after.1)
        .bind(size)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    rows.iter().map(candidate).collect()
}

fn candidate(row: &SqliteRow) -> StoreResult<Candidate> {
    let mut r = Reader::new(row, "live_executions")?;
    let queue_key = r.get("queue_key")?;
    let run_key = r.get("run_key")?;
    let run_max = r.number("run_max")?;
    let lost: u32 = r.number("lost")?;
    let claimed = Claimed {
        id: r.place.id,
        tenant_id: r.get("tenant_id")?,
        task_id: r.word("task_id")?,
        claim: r.number("claim")?,
        attempt: r.number("attempt")?,
        config_id: r.get("config_id")?,
        config_version: r.get("config_version")?,
        task_type: r.get("task_type")?,
        trigger: r.word("trigger")?,
        slot: r.opt_instant("slot")?,
        due_at: r.instant("due_at")?,
        max_attempts: r.number("max_attempts")?,
        parameters: r.get::<&str>("parameters")?.into(),
        parent_task_id: r.opt_word("parent_task_id")?,
        retry_of: r.opt_word("retry_of")?,
        chained: r.flag("chain")?,
    };
    Ok(Candidate {
        queue_key,
        run_key,
        run_max,
        suspect: lost >= SUSPECT_AFTER_LOST,
        claimed,
    })
}

/// Counts what runs of each key that this page meets for the first time.
async fn count_keys(tx: &mut Tx, page: &[Candidate], running: &mut Running) -> StoreResult<()> {
    let mut fresh = Vec::new();
    for candidate in page {
        if let Some(key) = &candidate.run_key {
            let key = (candidate.claimed.tenant_id, key.clone());
            if !running.keys.contains_key(&key) {
                running.keys.insert(key.clone(), 0);
                fresh.push(key);
            }
        }
    }
    if fresh.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(sql::RUNNING_OF_KEYS)
        .bind(text(&fresh)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    for row in rows {
        let count: i64 = row.try_get(2).map_err(db)?;
        let key = (row.try_get(0).map_err(db)?, row.try_get(1).map_err(db)?);
        running
            .keys
            .insert(key, u32::try_from(count).unwrap_or(u32::MAX));
    }
    Ok(())
}

enum Fit {
    Runs,
    KeyIsFull,
    OtherSuspectRuns,
}

async fn fits(tx: &mut Tx, candidate: &Candidate, running: &mut Running) -> StoreResult<Fit> {
    if candidate.suspect {
        let known = match running.suspect {
            Some(known) => known,
            None => {
                let row = sqlx::query(sql::SUSPECT_RUNS)
                    .fetch_one(tx.read())
                    .await
                    .map_err(db)?;
                row.try_get(0).map_err(db)?
            }
        };
        running.suspect = Some(known);
        if known {
            return Ok(Fit::OtherSuspectRuns);
        }
    }
    if let Some(key) = &candidate.run_key {
        let key = (candidate.claimed.tenant_id, key.clone());
        let count = running.keys.entry(key.clone()).or_default();
        let fits = *count < candidate.run_max;
        *count += u32::from(fits);
        if *count >= candidate.run_max {
            running.full.insert(key);
        }
        if !fits {
            return Ok(Fit::KeyIsFull);
        }
    }
    if candidate.suspect {
        running.suspect = Some(true);
    }
    Ok(Fit::Runs)
}

async fn start(
    tx: &mut Tx,
    request: &ClaimRequest,
    chosen: &[Claimed],
    blocked: &[i64],
) -> StoreResult<()> {
    if !chosen.is_empty() {
        let ids: Vec<i64> = chosen.iter().map(|claimed| claimed.id).collect();
        sqlx::query(sql::START)
            .bind(text(&ids)?)
            .bind(request.incarnation)
            .bind(micros(request.now))
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    if !blocked.is_empty() {
        sqlx::query(sql::BLOCK)
            .bind(text(&blocked)?)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}

//! Claiming (rules E2, E3, E6).

use super::rows::Reader;
use super::writer::Tx;
use super::{db, sql};
use crate::columns::{micros, text};
use horarium_core::store::{ClaimRequest, Claimed, SUSPECT_AFTER_LOST, StoreResult};
use horarium_model::TenantId;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Candidates looked at in one statement when the first were not enough.
const PAGE: u32 = 256;

/// An available execution, and what decides whether it may start.
struct Candidate {
    queue_key: i64,
    run_key: Option<String>,
    run_max: u32,
    lost: u32,
    claimed: Claimed,
}

type Key = (TenantId, String);

/// `Queue::claim`.
pub(super) async fn run(tx: &mut Tx, request: &ClaimRequest) -> StoreResult<Vec<Claimed>> {
    if request.limit == 0
        || request.types.is_empty()
        || !super::hosts::is_alive(tx, request.incarnation).await?
    {
        return Ok(Vec::new());
    }
    unblock(tx, request.limit).await?;
    let types = text(&*request.types)?;
    let limit = request.limit as usize;
    let mut pick = Pick::default();
    let mut after = (i64::MIN, 0);
    let mut page = request.limit;
    while pick.chosen.len() < limit {
        let candidates = candidates(tx, &types, request, after, page).await?;
        let Some(last) = candidates.last() else {
            break;
        };
        after = (last.queue_key, last.claimed.id);
        let more = candidates.len() >= page as usize;
        pick.count(tx, &candidates).await?;
        pick.choose(candidates, limit);
        if !more {
            break;
        }
        page = request.limit.max(PAGE);
    }
    block(tx, &pick.blocked).await?;
    start(tx, request, pick.chosen).await
}

async fn candidates(
    tx: &mut Tx,
    types: &str,
    request: &ClaimRequest,
    after: (i64, i64),
    limit: u32,
) -> StoreResult<Vec<Candidate>> {
    let rows = sqlx::query(sql::CANDIDATES)
        .bind(types)
        .bind(micros(request.now))
        .bind(after.0)
        .bind(after.1)
        .bind(limit)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    rows.iter().map(candidate).collect()
}

fn candidate(row: &SqliteRow) -> StoreResult<Candidate> {
    let mut r = Reader::new(row, "live_executions")?;
    Ok(Candidate {
        queue_key: r.get("queue_key")?,
        run_key: r.get("run_key")?,
        run_max: r.number("run_max")?,
        lost: r.number("lost")?,
        claimed: Claimed {
            id: r.place.id,
            tenant_id: r.get("tenant_id")?,
            task_id: r.word("task_id")?,
            claim: r.number::<u32>("claim")?.saturating_add(1),
            attempt: r.number::<u32>("attempt")?.saturating_add(1),
            config_id: r.get("config_id")?,
            config_version: r.get("config_version")?,
            task_type: r.get("task_type")?,
            trigger: r.word("trigger")?,
            slot: r.opt_instant("slot")?,
            due_at: r.instant("due_at")?,
            max_attempts: r.number("max_attempts")?,
            parameters: Arc::from(r.get::<&str>("parameters")?),
            parent_task_id: r.opt_word("parent_task_id")?,
            retry_of: r.opt_word("retry_of")?,
        },
    })
}

/// What was chosen so far.
#[derive(Default)]
struct Pick {
    running: HashMap<Key, u32>,
    suspect_runs: Option<bool>,
    chosen: Vec<Claimed>,
    blocked: Vec<i64>,
}

impl Pick {
    /// Counts what runs of the keys that are new among the candidates.
    async fn count(&mut self, tx: &mut Tx, candidates: &[Candidate]) -> StoreResult<()> {
        let new: HashSet<(TenantId, &str)> = candidates
            .iter()
            .filter_map(|c| Some((c.claimed.tenant_id, c.run_key.as_deref()?)))
            .filter(|(tenant, key)| !self.running.contains_key(&(*tenant, (*key).to_owned())))
            .collect();
        if !new.is_empty() {
            let rows = sqlx::query(sql::RUNNING_OF_KEYS)
                .bind(text(&new)?)
                .fetch_all(tx.read())
                .await
                .map_err(db)?;
            let mut running: HashMap<Key, u32> = HashMap::new();
            for row in &rows {
                let mut r = Reader::plain(row, "live_executions");
                running.insert((r.get("tenant_id")?, r.get("run_key")?), r.number("count")?);
            }
            for (tenant, key) in new {
                let key = (tenant, key.to_owned());
                let count = running.get(&key).copied().unwrap_or(0);
                self.running.insert(key, count);
            }
        }
        if self.suspect_runs.is_none() && candidates.iter().any(|c| c.lost >= SUSPECT_AFTER_LOST) {
            let row = sqlx::query(sql::SUSPECT_RUNS)
                .fetch_one(tx.read())
                .await
                .map_err(db)?;
            self.suspect_runs = Some(row.try_get(0).map_err(db)?);
        }
        Ok(())
    }

    fn choose(&mut self, candidates: Vec<Candidate>, limit: usize) {
        for candidate in candidates {
            if self.chosen.len() >= limit {
                return;
            }
            let suspect = candidate.lost >= SUSPECT_AFTER_LOST;
            if suspect && self.suspect_runs == Some(true) {
                continue;
            }
            if let Some(key) = candidate.run_key {
                let key = (candidate.claimed.tenant_id, key);
                let count = self.running.entry(key).or_default();
                if *count >= candidate.run_max {
                    self.blocked.push(candidate.claimed.id);
                    continue;
                }
                *count += 1;
            }
            if suspect {
                self.suspect_runs = Some(true);
            }
            self.chosen.push(candidate.claimed);
        }
    }
}

async fn start(
    tx: &mut Tx,
    request: &ClaimRequest,
    chosen: Vec<Claimed>,
) -> StoreResult<Vec<Claimed>> {
    if chosen.is_empty() {
        return Ok(chosen);
    }
    let ids: Vec<i64> = chosen.iter().map(|c| c.id).collect();
    let moved = sqlx::query(sql::START)
        .bind(text(&ids)?)
        .bind(request.incarnation)
        .bind(micros(request.now))
        .execute(tx.write())
        .await
        .map_err(db)?
        .rows_affected();
    if moved != chosen.len() as u64 {
        return Err(horarium_core::store::StoreError::Internal(format!(
            "{} executions were available, {moved} started",
            chosen.len()
        )));
    }
    Ok(chosen)
}

/// Sets aside what a full key holds back, so that the next claim need not walk over it. Anything that
/// frees the key brings the first of them back ([`unblock`]); a restart brings all back.
async fn block(tx: &mut Tx, ids: &[i64]) -> StoreResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(sql::BLOCK)
        .bind(text(&ids)?)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

/// Brings back the first executions of each key of which one went away.
async fn unblock(tx: &mut Tx, limit: u32) -> StoreResult<()> {
    if tx.freed.is_empty() {
        return Ok(());
    }
    let keys = text(&tx.freed)?;
    sqlx::query(sql::UNBLOCK)
        .bind(keys)
        .bind(limit)
        .execute(tx.write())
        .await
        .map_err(db)?;
    tx.freed.clear();
    Ok(())
}

//! Claims (rule E2), within the bounds of run keys (E3) and of suspects (E6).
//!
//! Rows are taken with SKIP LOCKED, so that hosts do not wait for each other. For those with a run key the
//! keys are locked next, in order; a page that would need one out of order is left to another transaction.
//! Only then, in a statement of its own and so with a snapshot that has everything the keys' last holders
//! did, it is counted what runs.

use super::keys::{self, Key};
use super::rows::{Cells as _, Reader};
use super::sql;
use super::tx::{PgResult, Tx, query, query_as, query_scalar};
use crate::columns::micros;
use horarium_core::store::{ClaimRequest, Claimed, SUSPECT_AFTER_LOST, StoreResult};
use horarium_model::Timestamp;
use sqlx::postgres::PgRow;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Rows of one page after the first, which has as many as are wanted: what is locked and not used is hidden
/// from others for that long.
const PAGE: i64 = 512;
/// Rows looked at in one transaction.
const MOST: usize = 4096;

/// An available execution and what decides whether it may run now.
struct Candidate {
    queue_key: i64,
    run_key: Option<String>,
    run_max: i64,
    suspect: bool,
    expires_at: Option<Timestamp>,
    claimed: Claimed,
}

impl Candidate {
    fn key(&self) -> Option<Key> {
        let key = self.run_key.as_ref()?;
        Some((self.claimed.tenant_id, key.clone()))
    }
}

/// What runs already, as far as this claim asked. Everything in it is locked.
#[derive(Default)]
struct Running {
    keys: HashMap<Key, i64>,
    highest: Option<Key>,
    suspect: Option<bool>,
}

/// One transaction's part of a claim.
#[derive(Default)]
pub(super) struct Part {
    pub(super) claimed: Vec<Claimed>,
    /// Stopped before the end of the queue, but not in vain: go on in another transaction.
    pub(super) unfinished: bool,
}

/// What one transaction chose.
#[derive(Default)]
struct Choice {
    chosen: Vec<Claimed>,
    blocked: Vec<i64>,
    /// Keys whose next in line expired: others of theirs may run.
    spare: HashSet<Key>,
    looked_at: usize,
    unused: bool,
    /// Something was marked: the next walk will not meet it.
    moved: bool,
}

/// `Queue::claim`, one transaction of it.
pub(super) async fn claim(tx: &mut Tx, request: &ClaimRequest) -> PgResult<Part> {
    let wanted = request.limit as usize;
    if wanted == 0 || request.types.is_empty() {
        return Ok(Part::default());
    }
    let mut running = Running::default();
    let mut choice = Choice::default();
    let mut started = 0;
    let finished = loop {
        let finished = walk(tx, request, &mut running, &mut choice).await?;
        choice.moved |= !choice.blocked.is_empty() || choice.chosen.len() > started;
        block(tx, &mut choice.blocked).await?;
        start(tx, request, &choice.chosen[started..]).await?;
        started = choice.chosen.len();
        if !finished || started == wanted || !unblock(tx, request, &mut choice).await? {
            break finished;
        }
    };
    // What was locked and left may have been missed by another host meanwhile.
    tx.tidings.enqueued |= choice.unused;
    for claimed in &mut choice.chosen {
        claimed.claim += 1;
        claimed.attempt += 1;
    }
    Ok(Part {
        unfinished: !finished && choice.moved,
        claimed: choice.chosen,
    })
}

/// Goes through the queue from its beginning until enough is chosen or nothing is left. False when it
/// stopped before that, because it had looked at much or would have locked out of order.
async fn walk(
    tx: &mut Tx,
    request: &ClaimRequest,
    running: &mut Running,
    choice: &mut Choice,
) -> PgResult<bool> {
    let wanted = request.limit as usize;
    let mut after = (i64::MIN, 0);
    let mut size = i64::from(request.limit).min(PAGE);
    loop {
        let page = page(tx, request, after, size).await?;
        let full = i64::try_from(page.len()).unwrap_or(i64::MAX) >= size;
        choice.looked_at += page.len();
        if !count(tx, &page, running).await? {
            return Ok(false);
        }
        let mut candidates = page.into_iter();
        for candidate in candidates.by_ref() {
            after = (candidate.queue_key, candidate.claimed.id);
            consider(request, running, choice, candidate);
            if choice.chosen.len() == wanted {
                break;
            }
        }
        choice.unused |= candidates.next().is_some();
        if choice.chosen.len() == wanted || !full {
            return Ok(true);
        }
        if choice.looked_at >= MOST {
            return Ok(false);
        }
        size = (size * 2).clamp(32, PAGE);
    }
}

async fn page(
    tx: &mut Tx,
    request: &ClaimRequest,
    after: (i64, i64),
    size: i64,
) -> PgResult<Vec<Candidate>> {
    let (tenants, names): (Vec<i64>, Vec<&str>) = request
        .types
        .iter()
        .map(|(tenant, name)| (*tenant, name.as_str()))
        .unzip();
    let rows = query(sql::CANDIDATES)
        .bind(tenants)
        .bind(names)
        .bind(after.0)
        .bind(after.1)
        .bind(size)
        .bind(request.incarnation)
        .fetch_all(tx.connection())
        .await?;
    Ok(rows.iter().map(candidate).collect::<StoreResult<_>>()?)
}

fn candidate(row: &PgRow) -> StoreResult<Candidate> {
    let mut r = Reader::new(row, "live_executions")?;
    let queue_key = r.int("queue_key")?;
    let run_key = r.opt_owned("run_key")?;
    let run_max = r.int("run_max")?;
    let lost: u32 = r.number("lost")?;
    let expires_at = r.opt_instant("expires_at")?;
    let claimed = Claimed {
        id: r.id(),
        tenant_id: r.int("tenant_id")?,
        task_id: r.word("task_id")?,
        claim: r.number("claim")?,
        attempt: r.number("attempt")?,
        config_id: r.opt_int("config_id")?,
        config_version: r.opt_int("config_version")?,
        task_type: r.owned("task_type")?,
        trigger: r.word("trigger")?,
        slot: r.opt_instant("slot")?,
        due_at: r.instant("due_at")?,
        max_attempts: r.number("max_attempts")?,
        // The canonical form again: jsonb has an order and a spacing of its own.
        parameters: r
            .json::<serde_json::Value>("parameters")?
            .to_string()
            .into(),
        parent_task_id: r.opt_word("parent_task_id")?,
        retry_of: r.opt_word("retry_of")?,
        chained: r.flag("chain")?,
    };
    Ok(Candidate {
        queue_key,
        run_key,
        run_max,
        suspect: lost >= SUSPECT_AFTER_LOST,
        expires_at,
        claimed,
    })
}

/// Locks the keys that this page meets for the first time, then counts what runs of them. False when that
/// would be out of order after those that are locked already.
async fn count(tx: &mut Tx, page: &[Candidate], running: &mut Running) -> PgResult<bool> {
    let mut fresh: Vec<Key> = page
        .iter()
        .filter_map(Candidate::key)
        .filter(|key| !running.keys.contains_key(key))
        .collect();
    let suspect = running.suspect.is_none() && page.iter().any(|c| c.suspect);
    if suspect {
        fresh.push(keys::suspects());
    }
    let Some(lowest) = fresh.iter().min() else {
        return Ok(true);
    };
    if running
        .highest
        .as_ref()
        .is_some_and(|highest| lowest < highest)
    {
        return Ok(false);
    }
    keys::lock(tx, &mut fresh).await?;
    running.highest = fresh.last().cloned();
    let (tenants, names): (Vec<i64>, Vec<&str>) = fresh
        .iter()
        .map(|(tenant, key)| (*tenant, key.as_str()))
        .unzip();
    let counts: Vec<(i64, String, i64)> = query_as(sql::RUNNING_OF_KEYS)
        .bind(tenants)
        .bind(names)
        .fetch_all(tx.connection())
        .await?;
    for (tenant, key, count) in counts {
        running.keys.insert((tenant, key), count);
    }
    for key in fresh {
        running.keys.entry(key).or_default();
    }
    if suspect {
        let runs = query_scalar(sql::SUSPECT_RUNS)
            .fetch_one(tx.connection())
            .await?;
        running.suspect = Some(runs);
    }
    Ok(true)
}

/// Takes one candidate, or passes it over.
fn consider(
    request: &ClaimRequest,
    running: &mut Running,
    choice: &mut Choice,
    candidate: Candidate,
) {
    let key = candidate.key();
    if candidate.expires_at.is_some_and(|at| at <= request.now) {
        // The sweep ends it. Claims look no more at one with a key, but at those behind it.
        if let Some(key) = key.filter(|_| !candidate.suspect) {
            choice.blocked.push(candidate.claimed.id);
            choice.spare.insert(key);
        }
        return;
    }
    if candidate.suspect && running.suspect == Some(true) {
        return;
    }
    if let Some(key) = key {
        let count = running.keys.entry(key).or_default();
        if *count >= candidate.run_max {
            // Suspects are few and wait for one another too: they are always looked at.
            if !candidate.suspect {
                choice.blocked.push(candidate.claimed.id);
            }
            return;
        }
        *count += 1;
    }
    if candidate.suspect {
        running.suspect = Some(true);
    }
    choice.chosen.push(candidate.claimed);
}

/// Hides what waits for a key from the claims to come, until a place of the key is free.
async fn block(tx: &mut Tx, blocked: &mut Vec<i64>) -> PgResult<()> {
    if !blocked.is_empty() {
        query(sql::BLOCK)
            .bind(std::mem::take(blocked))
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// Of the keys whose next in line expired, looks for others. Returns whether there are any.
async fn unblock(tx: &mut Tx, request: &ClaimRequest, choice: &mut Choice) -> PgResult<bool> {
    let spare = std::mem::take(&mut choice.spare);
    if spare.is_empty() {
        return Ok(false);
    }
    let limit = i64::from(request.limit);
    let counts: BTreeMap<&Key, i64> = spare.iter().map(|key| (key, limit)).collect();
    Ok(keys::unblock(tx, request.now, &counts).await? > 0)
}

async fn start(tx: &mut Tx, request: &ClaimRequest, chosen: &[Claimed]) -> PgResult<()> {
    if !chosen.is_empty() {
        let ids: Vec<i64> = chosen.iter().map(|claimed| claimed.id).collect();
        query(sql::START)
            .bind(ids)
            .bind(request.incarnation)
            .bind(micros(request.now))
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

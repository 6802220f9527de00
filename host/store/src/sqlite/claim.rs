//! Claims (rule E2), within the bounds of types and tenants, run keys, rates (E3) and suspects (E6).

use super::rows::{Cells as _, Reader};
use super::tx::Tx;
use super::{db, packed, rates, sql};
use crate::choose::{
    Candidate, Choice, Key, Known, MANY_LANES, ask, lane_bound, narrowed, quota_room,
};
use crate::columns::{Place, micros, text};
use horarium_core::store::{ClaimRequest, Claimed, Claims, LaneBound, Lanes, Running, StoreResult};
use horarium_model::Timestamp;
use horarium_model::quota::{day_of, minute_of};
use sqlx::Row;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Executions looked at beside those wanted, so that one page usually suffices.
const MARGIN: u32 = 16;
/// Most executions in a page after the first.
const PAGE: u32 = 512;

/// `Queue::claim`.
pub(super) async fn claim(tx: &mut Tx, request: &ClaimRequest) -> StoreResult<Claims> {
    let wanted = request.limit as usize;
    if wanted == 0
        || !super::hosts::alive(tx)
            .await?
            .contains(&request.incarnation)
    {
        return Ok(Claims::default());
    }
    // What was claimed before, and so was looked at, is told by all lanes.
    let all = &request.types;
    let narrowed = match all.len() < MANY_LANES {
        true => None,
        false => Some(narrowed(request, busy_lanes(tx).await?)),
    };
    let request = narrowed.as_ref().unwrap_or(request);
    if request.types.is_empty() {
        return Ok(Claims::default());
    }
    let types = text(&&*request.types)?;
    let mut lanes = lanes(tx, request, &types).await?;
    let mut more = unblock_freed(tx, request, all, &types).await?;
    let mut known = Known::default();
    let mut choice = Choice::default();
    let mut size = request.limit.saturating_add(MARGIN);
    loop {
        let (page, full) = page(tx, request, &lanes, size, !choice.suspects_wait).await?;
        learn(tx, &page, &mut known).await?;
        learn_asks(tx, &page, &lanes, &mut known).await?;
        let started = choice.chosen.len();
        for candidate in page {
            if choice.chosen.len() == wanted {
                break;
            }
            choice.consider(request, &mut lanes, &mut known, candidate);
        }
        write(tx, request, &mut choice, started).await?;
        let spare = std::mem::take(&mut choice.spare);
        if choice.chosen.len() == wanted {
            // More may run than this claim took: the next one goes on from here.
            more.extend(spare);
            tx.freed.extend(more);
            break;
        }
        let unblocked = unblock(tx, request, &types, spare).await?;
        if !full && unblocked.is_empty() {
            break;
        }
        size = (size * 2).clamp(32, PAGE);
    }
    fetch_aside(tx, &mut choice).await?;
    count_starts(tx, request.now, &lanes).await?;
    let used = known.used_rates(request.now);
    rates::save(tx, &used).await?;
    Ok(Claims {
        claimed: choice.into_claimed(),
        rates: !used.is_empty(),
    })
}

async fn busy_lanes(tx: &mut Tx) -> StoreResult<Vec<(i64, String)>> {
    sqlx::query_as(sql::BUSY_LANES)
        .fetch_all(tx.read())
        .await
        .map_err(db)
}

/// Parameters that stand aside, of what was chosen.
async fn fetch_aside(tx: &mut Tx, choice: &mut Choice) -> StoreResult<()> {
    let aside = |claimed: &&mut Claimed| claimed.parameters.is_empty();
    let wanting: Vec<&mut Claimed> = choice.chosen.iter_mut().filter(aside).collect();
    let ids: Vec<i64> = wanting.iter().map(|claimed| claimed.id).collect();
    let mut found: HashMap<i64, String> = packed::apart(tx, sql::PARAMETERS_ASIDE, &ids)
        .await?
        .into_iter()
        .collect();
    for claimed in wanting {
        let (table, id) = ("live_parameters", claimed.id);
        let parameters = found.remove(&id);
        let place = Place { table, id };
        let parameters = parameters.ok_or_else(|| place.corrupt("parameters", "they are gone"))?;
        claimed.parameters = parameters.into();
    }
    Ok(())
}

/// The lanes of the wanted types, with the room that types, tenants and breakers leave them.
async fn lanes<'a>(tx: &mut Tx, request: &'a ClaimRequest, types: &str) -> StoreResult<Lanes<'a>> {
    let mut lanes = Lanes::new(&request.types, request.limit);
    let rows = sqlx::query(sql::LANE_BOUNDS)
        .bind(types)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let read = |row| lane_bound(&mut Reader::plain(row, "task_types"));
    let bounds: Vec<LaneBound> = rows.iter().map(read).collect::<StoreResult<_>>()?;
    if lanes.needs_counts(&bounds) {
        let rows = sqlx::query(sql::RUNNING_OF_TYPES)
            .fetch_all(tx.read())
            .await
            .map_err(db)?;
        let mut running = Running::with_capacity(rows.len());
        for row in &rows {
            let mut r = Reader::plain(row, "live_executions");
            let key = (r.int("tenant_id")?, r.owned("task_type")?);
            running.insert(key, r.number("count")?);
        }
        lanes.bound(&bounds, &running, request.now, request.limit);
    }
    let with_quotas = lanes.with_quotas();
    if !with_quotas.is_empty() {
        let rows = sqlx::query(sql::QUOTAS_SPENT)
            .bind(text(&with_quotas)?)
            .bind(day_of(request.now))
            .fetch_all(tx.read())
            .await
            .map_err(db)?;
        for row in &rows {
            lanes.know_quotas(quota_room(&mut Reader::plain(row, "tenants"), request.now)?);
        }
    }
    Ok(lanes)
}

/// Reads what those of a page ask for whose tenants have quotas.
async fn learn_asks(
    tx: &mut Tx,
    page: &[Candidate],
    lanes: &Lanes<'_>,
    known: &mut Known,
) -> StoreResult<()> {
    let ids = known.fresh_asks(page, lanes);
    if !ids.is_empty() {
        let asking = sqlx::query(sql::ASKS).bind(text(&ids)?);
        for row in &asking.fetch_all(tx.read()).await.map_err(db)? {
            let (id, ask) = ask(&mut Reader::plain(row, "live_executions"))?;
            known.asks.insert(id, ask);
        }
    }
    Ok(())
}

/// Counts what started of tenants with quotas.
async fn count_starts(tx: &mut Tx, now: Timestamp, lanes: &Lanes<'_>) -> StoreResult<()> {
    for (tenant, starts) in lanes.starts() {
        let counting = sqlx::query(sql::COUNT_STARTS)
            .bind(tenant)
            .bind(minute_of(now))
            .bind(starts);
        counting.execute(tx.write()).await.map_err(db)?;
    }
    Ok(())
}

/// Looks again at what waited for a run key that was freed since the last claim: of each key as many as
/// could be taken. Returns the keys that may have more behind those.
async fn unblock_freed(
    tx: &mut Tx,
    request: &ClaimRequest,
    all: &Arc<[(i64, String)]>,
    types: &str,
) -> StoreResult<HashSet<Key>> {
    if tx.claimed_types != *all {
        tx.claimed_types = all.clone();
        tx.unblock_all = true;
    }
    if std::mem::take(&mut tx.unblock_all) {
        tx.freed.clear();
        sqlx::query(sql::UNBLOCK_ALL)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    let freed = std::mem::take(&mut tx.freed);
    let unblocked = unblock(tx, request, types, freed).await?;
    let full = unblocked
        .into_iter()
        .filter(|(_, count)| *count >= request.limit);
    Ok(full.map(|(key, _)| key).collect())
}

/// Of each key lets claims look at as many more as could be taken; how many there were.
async fn unblock(
    tx: &mut Tx,
    request: &ClaimRequest,
    types: &str,
    keys: HashSet<Key>,
) -> StoreResult<HashMap<Key, u32>> {
    let mut counts: HashMap<Key, u32> = HashMap::new();
    if keys.is_empty() {
        return Ok(counts);
    }
    let keys: Vec<Key> = keys.into_iter().collect();
    let unblocked = sqlx::query(sql::UNBLOCK)
        .bind(text(&keys)?)
        .bind(request.limit)
        .bind(types)
        .bind(micros(request.now))
        .fetch_all(tx.write())
        .await
        .map_err(db)?;
    for row in &unblocked {
        let key = (row.try_get(0).map_err(db)?, row.try_get(1).map_err(db)?);
        *counts.entry(key).or_default() += 1;
    }
    Ok(counts)
}

/// The next executions of the lanes that have room, and whether there may be more.
async fn page(
    tx: &mut Tx,
    request: &ClaimRequest,
    lanes: &Lanes<'_>,
    size: u32,
    suspects: bool,
) -> StoreResult<(Vec<Candidate>, bool)> {
    let mut page = Vec::new();
    let mut full = false;
    for (lane, count) in portions(tx, request, lanes, size, suspects).await? {
        let (tenant, task_type) = lanes.key(lane);
        let row = sqlx::query(sql::CANDIDATES)
            .bind(tenant)
            .bind(task_type)
            .bind(micros(request.now))
            .bind(suspects)
            .bind(count)
            .fetch_one(tx.read())
            .await
            .map_err(db)?;
        let before = page.len();
        for row in packed::rows(&row, "live_executions")? {
            let row = row?;
            let mut reader = packed::Reader::new(&row, "live_executions")?;
            page.push(Candidate::read(&mut reader)?);
        }
        full |= count == lanes.portion(lane, size) && page.len() - before == count as usize;
    }
    full |= page.len() >= size as usize;
    lanes.order(&mut page, Candidate::place);
    Ok((page, full))
}

/// How many of each lane come next.
async fn portions(
    tx: &mut Tx,
    request: &ClaimRequest,
    lanes: &Lanes<'_>,
    size: u32,
    suspects: bool,
) -> StoreResult<Vec<(usize, u32)>> {
    let open = lanes.open();
    let waiting = match open.len() {
        0 | 1 => open,
        _ => waiting(tx, lanes, &open).await?,
    };
    if let [lane] = waiting[..] {
        return Ok(vec![(lane, lanes.portion(lane, size))]);
    }
    let mut heads = Vec::with_capacity(waiting.len());
    for lane in waiting {
        let (tenant, task_type) = lanes.key(lane);
        let rows = sqlx::query(sql::LANE_HEADS)
            .bind(tenant)
            .bind(task_type)
            .bind(micros(request.now))
            .bind(suspects)
            .bind(lanes.portion(lane, size))
            .fetch_all(tx.read())
            .await
            .map_err(db)?;
        let mut of_lane = Vec::with_capacity(rows.len());
        for row in &rows {
            of_lane.push((row.try_get(0).map_err(db)?, row.try_get(1).map_err(db)?));
        }
        heads.push((lane, of_lane));
    }
    Ok(lanes.share_out(&heads, size as usize))
}

/// Those of the lanes in which something waits.
async fn waiting(tx: &mut Tx, lanes: &Lanes<'_>, open: &[usize]) -> StoreResult<Vec<usize>> {
    let asked: Vec<(usize, i64, &str)> = open
        .iter()
        .map(|lane| {
            let (tenant, task_type) = lanes.key(*lane);
            (*lane, tenant, task_type)
        })
        .collect();
    let rows = sqlx::query(sql::LANES_WAITING)
        .bind(text(&asked)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    rows.iter()
        .map(|row| Reader::plain(row, "live_executions").number("lane"))
        .collect()
}

/// Counts what runs of each key, and reads the buckets, that this page meets for the first time.
async fn learn(tx: &mut Tx, page: &[Candidate], known: &mut Known) -> StoreResult<()> {
    let fresh = known.fresh_keys(page);
    if !fresh.is_empty() {
        let rows = sqlx::query(sql::RUNNING_OF_KEYS)
            .bind(text(&fresh)?)
            .fetch_all(tx.read())
            .await
            .map_err(db)?;
        known.keys.extend(fresh.into_iter().map(|key| (key, 0)));
        for row in rows {
            let key = (row.try_get(0).map_err(db)?, row.try_get(1).map_err(db)?);
            known.keys.insert(key, row.try_get(2).map_err(db)?);
        }
    }
    let fresh = known.fresh_rates(page);
    if !fresh.is_empty() {
        let read = rates::read(tx, &fresh).await?;
        known.full_at.extend(read);
    }
    if known.suspect.is_none() && page.iter().any(|candidate| candidate.suspect) {
        let row = sqlx::query(sql::SUSPECT_RUNS)
            .fetch_one(tx.read())
            .await
            .map_err(db)?;
        known.suspect = Some(row.try_get(0).map_err(db)?);
    }
    Ok(())
}

/// Writes what was chosen since `started`, and what is not looked at again for now.
async fn write(
    tx: &mut Tx,
    request: &ClaimRequest,
    choice: &mut Choice,
    started: usize,
) -> StoreResult<()> {
    let chosen = &choice.chosen[started..];
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
    let reserved: Vec<_> = std::mem::take(&mut choice.reserved)
        .into_iter()
        .map(|(id, a)| (id, a.fuel, a.memory_bytes, a.log_bytes))
        .collect();
    if !reserved.is_empty() {
        let reserving = sqlx::query(sql::RESERVE).bind(text(&reserved)?);
        reserving.execute(tx.write()).await.map_err(db)?;
    }
    for (statement, ids) in [
        (sql::BLOCK, std::mem::take(&mut choice.blocked)),
        (sql::THROTTLE, std::mem::take(&mut choice.throttled)),
    ] {
        if !ids.is_empty() {
            sqlx::query(statement)
                .bind(text(&ids)?)
                .execute(tx.write())
                .await
                .map_err(db)?;
        }
    }
    for (tenant, task_type, id) in std::mem::take(&mut choice.probes) {
        sqlx::query(sql::PROBE)
            .bind(tenant)
            .bind(task_type)
            .bind(id)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}

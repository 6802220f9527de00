//! Claims (rule E2), within the bounds of types and tenants, run keys, rates (E3) and suspects (E6).
//!
//! What types and tenants allow is known first ([`lanes`]). Then rows are taken with SKIP LOCKED, so that hosts do not
//! wait for each other. For those with a run key or a rate the keys are locked next, in order; a page that would need one
//! out of order is left to another transaction.

use super::keys::{self, Key};
use super::rows::{Cells as _, Reader};
use super::tx::{PgResult, Tidings, Tx, query, query_as, query_scalar};
use super::{lanes, sql};
use crate::choose::{Candidate, Choice, Known, MANY_LANES, ask, narrowed};
use crate::columns::micros;
use horarium_core::store::{ClaimRequest, Claims, Lanes, StoreResult};
use horarium_model::quota::{Allowance, minute_of};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use std::collections::{BTreeMap, HashSet};

/// Rows of one page after the first, which has as many as are wanted: what is locked and not used is hidden
/// from others for that long.
const PAGE: u32 = 1024;
/// Rows looked at in one transaction.
const MOST: usize = 4096;

/// One transaction's part of a claim.
#[derive(Default)]
pub(super) struct Part {
    pub(super) claims: Claims,
    /// Stopped before the end of the queue: go on in another transaction, which looks at so many rows at first, or at as
    /// many as are wanted if those are more.
    pub(super) go_on: Option<u32>,
}

/// How a walk through the queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// Enough is chosen or nothing is left.
    Finished,
    /// It had looked at much.
    LookedAtMuch,
    /// It would have locked a key after a later one.
    OutOfOrder,
}

/// What one transaction has in hand.
struct Work<'a> {
    request: &'a ClaimRequest,
    lanes: Lanes<'a>,
    known: Known,
    choice: Choice,
    /// Lanes of which nothing is left that others do not hold.
    exhausted: HashSet<usize>,
    /// Rows of the first page.
    first: u32,
    /// The last key that was locked.
    highest: Option<Key>,
    looked_at: usize,
    /// Rows were locked and neither taken nor marked.
    unused: bool,
    /// Something found no token.
    throttled: bool,
    /// Something was taken or marked: the next transaction will not meet it.
    moved: bool,
}

impl Work<'_> {
    /// How many rows the next transaction looks at first, if there is to be one.
    fn goes_on(&self, walk: Walk) -> Option<u32> {
        let looked_at = u32::try_from(self.looked_at).unwrap_or(PAGE).min(PAGE);
        match walk {
            Walk::Finished => None,
            _ if self.moved => Some(0),
            // The keys of as many rows in one page are locked at once, in order. It stops when there are no more to add.
            Walk::OutOfOrder => Some(looked_at).filter(|rows| *rows > self.first),
            Walk::LookedAtMuch => None,
        }
    }
}

/// `Queue::claim`, one transaction of it, which looks at `first` rows at first, or at as many as are wanted if those are
/// more.
pub(super) async fn claim(tx: &mut Tx, request: &ClaimRequest, first: u32) -> PgResult<Part> {
    let narrowed = match request.types.len() < MANY_LANES {
        true => None,
        false => {
            let busy = query_as(sql::BUSY_LANES).fetch_all(tx.connection());
            Some(narrowed(request, busy.await?))
        }
    };
    let request = narrowed.as_ref().unwrap_or(request);
    if request.limit == 0 || request.types.is_empty() {
        return Ok(Part::default());
    }
    let mut work = Work {
        request,
        lanes: lanes::open(tx, request).await?,
        known: Known::default(),
        choice: Choice::default(),
        exhausted: HashSet::new(),
        first: request.limit.max(first).min(PAGE),
        highest: None,
        looked_at: 0,
        unused: false,
        throttled: false,
        moved: false,
    };
    let walk = walk(tx, &mut work).await?;
    count_starts(tx, &work).await?;
    let used = work.known.used_rates(request.now);
    keys::save_rates(tx, &used).await?;
    // Every host's scheduler is to look when there are tokens again.
    tx.tidings.schedule |= work.throttled;
    // What was locked and left may have been missed by another host meanwhile.
    tx.tidings.enqueued |= work.unused;
    Ok(Part {
        go_on: work.goes_on(walk),
        claims: Claims {
            claimed: work.choice.into_claimed(),
            rates: !used.is_empty(),
        },
    })
}

/// Whether [`claim_plain`] is worth a try.
pub(super) fn may_be_plain(request: &ClaimRequest) -> bool {
    request.limit > 0 && (1..MANY_LANES).contains(&request.types.len())
}

/// Claims what comes next if it is all of one lane and nothing bounds it, in one statement; none when something else
/// waits, and nothing was done.
pub(super) async fn claim_plain(
    connection: &mut PgConnection,
    request: &ClaimRequest,
) -> PgResult<Option<(Claims, Tidings)>> {
    let mut lanes = Lanes::new(&request.types, request.limit);
    let all: Vec<usize> = (0..request.types.len()).collect();
    let (tenants, names) = lanes::columns(&lanes, &all);
    let rows = query(sql::CLAIM_PLAIN)
        .bind(tenants)
        .bind(names)
        .bind(i64::from(request.limit))
        .bind(request.incarnation)
        .bind(micros(request.now))
        .fetch_all(connection)
        .await?;
    let mut page = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get(row.len() - 1)? {
            return Ok(None);
        }
        // The answer to a claim that finds nothing is one row of nothing.
        if row.try_get::<Option<i64>, _>(0)?.is_some() {
            page.push(candidate(row)?);
        }
    }
    page.sort_by_key(Candidate::place);
    let (mut known, mut choice) = (Known::default(), Choice::default());
    for candidate in page {
        choice.consider(request, &mut lanes, &mut known, candidate);
    }
    let claims = Claims {
        claimed: choice.into_claimed(),
        rates: false,
    };
    Ok(Some((claims, Tidings::default())))
}

/// Reads what those of a page ask for whose tenants have quotas.
async fn learn_asks(tx: &mut Tx, work: &mut Work<'_>, page: &[Candidate]) -> PgResult<()> {
    let ids = work.known.fresh_asks(page, &work.lanes);
    if !ids.is_empty() {
        let asking = query(sql::ASKS).bind(ids);
        for row in &asking.fetch_all(tx.connection()).await? {
            let (id, ask) = ask(&mut Reader::plain(row, "live_executions"))?;
            work.known.asks.insert(id, ask);
        }
    }
    Ok(())
}

/// Counts what started of tenants with quotas, whose rows are locked.
async fn count_starts(tx: &mut Tx, work: &Work<'_>) -> PgResult<()> {
    for (tenant, starts) in work.lanes.starts() {
        query(sql::COUNT_STARTS)
            .bind(tenant)
            .bind(minute_of(work.request.now))
            .bind(i64::from(starts))
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// Goes through what waits until enough is chosen or nothing is left, or it must stop before that.
async fn walk(tx: &mut Tx, work: &mut Work<'_>) -> PgResult<Walk> {
    let wanted = work.request.limit as usize;
    let mut size = work.first;
    loop {
        let (page, more) = page(tx, work, size).await?;
        work.looked_at += page.len();
        if !learn(tx, work, &page).await? {
            work.unused = true;
            return Ok(Walk::OutOfOrder);
        }
        learn_asks(tx, work, &page).await?;
        let (started, marked) = (work.choice.chosen.len(), page.len());
        let mut candidates = page.into_iter();
        while work.choice.chosen.len() < wanted
            && let Some(candidate) = candidates.next()
        {
            let Work {
                request,
                lanes,
                known,
                choice,
                ..
            } = work;
            choice.consider(request, lanes, known, candidate);
        }
        let used = write(tx, work, started).await?;
        work.moved |= used > 0;
        work.unused |= used < marked && !work.choice.quota_waits;
        if work.choice.chosen.len() == wanted {
            return Ok(Walk::Finished);
        }
        let unblocked = unblock(tx, work).await?;
        if unblocked {
            work.exhausted.clear();
        }
        if !more && !unblocked {
            return Ok(Walk::Finished);
        }
        if work.looked_at >= MOST {
            return Ok(Walk::LookedAtMuch);
        }
        size = (size * 2).clamp(32, PAGE);
    }
}

/// The next executions of the lanes that have room, locked, and whether there may be more.
async fn page(tx: &mut Tx, work: &mut Work<'_>, size: u32) -> PgResult<(Vec<Candidate>, bool)> {
    let portions = portions(tx, work, size).await?;
    if portions.is_empty() {
        return Ok((Vec::new(), false));
    }
    let places: Vec<usize> = portions.iter().map(|(lane, _)| *lane).collect();
    let (tenants, names) = lanes::columns(&work.lanes, &places);
    let counts: Vec<i64> = portions.iter().map(|(_, n)| i64::from(*n)).collect();
    let rows = query(sql::CANDIDATES)
        .bind(tenants)
        .bind(names)
        .bind(counts)
        .bind(!work.choice.suspects_wait)
        .bind(work.request.incarnation)
        .bind(micros(work.request.now))
        .fetch_all(tx.connection())
        .await?;
    let mut page: Vec<Candidate> = rows.iter().map(candidate).collect::<StoreResult<_>>()?;
    let total: u32 = portions.iter().map(|(_, n)| n).sum();
    let mut more = false;
    for (lane, asked) in portions {
        let key = work.lanes.key(lane);
        let of_lane = |c: &&Candidate| (c.claimed.tenant_id, c.claimed.task_type.as_str()) == key;
        let got = page.iter().filter(of_lane).count();
        if got < asked as usize {
            work.exhausted.insert(lane);
        } else {
            more |= total >= size || asked == work.lanes.portion(lane, size);
        }
    }
    work.lanes.order(&mut page, Candidate::place);
    Ok((page, more))
}

fn candidate(row: &PgRow) -> StoreResult<Candidate> {
    let mut candidate = Candidate::read(&mut Reader::new(row, "live_executions")?)?;
    // The canonical form again: jsonb has an order and a spacing of its own.
    let place = Reader::plain(row, "live_executions").place();
    let value: serde_json::Value = place.json("parameters", &candidate.claimed.parameters)?;
    candidate.claimed.parameters = value.to_string().into();
    Ok(candidate)
}

/// How many of each lane come next.
async fn portions(tx: &mut Tx, work: &Work<'_>, size: u32) -> PgResult<Vec<(usize, u32)>> {
    let mut open = work.lanes.open();
    open.retain(|lane| !work.exhausted.contains(lane));
    if let [] | [_] = open[..] {
        let portion = |lane: usize| (lane, work.lanes.portion(lane, size));
        return Ok(open.into_iter().map(portion).collect());
    }
    let (tenants, names) = lanes::columns(&work.lanes, &open);
    let column = |value: &dyn Fn(usize) -> u32| -> Vec<i64> {
        open.iter().map(|lane| i64::from(value(*lane))).collect()
    };
    let next: Vec<(i64, i64)> = query_as(sql::NEXT_OF_LANES)
        .bind(tenants)
        .bind(names)
        .bind(column(&|lane| work.lanes.portion(lane, size)))
        .bind(column(&|lane| work.lanes.turn(lane).0))
        .bind(column(&|lane| work.lanes.turn(lane).1))
        .bind(i64::from(size))
        .bind(!work.choice.suspects_wait)
        .bind(micros(work.request.now))
        .fetch_all(tx.connection())
        .await?;
    let place = |(place, count): (i64, i64)| {
        let lane = usize::try_from(place).ok().and_then(|at| open.get(at))?;
        Some((*lane, u32::try_from(count).unwrap_or(u32::MAX)))
    };
    Ok(next.into_iter().filter_map(place).collect())
}

/// Locks the keys that this page meets for the first time, then counts what runs of them and reads the buckets.
/// False when that would be out of order after those that are locked already.
async fn learn(tx: &mut Tx, work: &mut Work<'_>, page: &[Candidate]) -> PgResult<bool> {
    let known = &mut work.known;
    let (runs, rates) = (known.fresh_keys(page), known.fresh_rates(page));
    let suspect = known.suspect.is_none() && page.iter().any(|c| c.suspect);
    let mut fresh: Vec<Key> = runs.iter().chain(&rates).cloned().collect();
    if suspect {
        fresh.push(keys::suspects());
    }
    let Some(lowest) = fresh.iter().min() else {
        return Ok(true);
    };
    if work
        .highest
        .as_ref()
        .is_some_and(|highest| lowest < highest)
    {
        return Ok(false);
    }
    keys::lock(tx, &mut fresh).await?;
    work.highest = fresh.last().cloned();
    if !runs.is_empty() {
        let counts: Vec<(i64, String, i64)> = on_keys(tx, sql::RUNNING_OF_KEYS, &runs).await?;
        known.keys.extend(runs.into_iter().map(|key| (key, 0)));
        let count = |(tenant, key, count)| ((tenant, key), count);
        known.keys.extend(counts.into_iter().map(count));
    }
    if !rates.is_empty() {
        let buckets = on_keys(tx, sql::FULL_AT, &rates).await?;
        let bucket = |(tenant, key, full_at)| ((tenant, key), full_at);
        known.full_at.extend(buckets.into_iter().map(bucket));
    }
    if suspect {
        let runs = query_scalar(sql::SUSPECT_RUNS)
            .fetch_one(tx.connection())
            .await?;
        known.suspect = Some(runs);
    }
    Ok(true)
}

async fn on_keys(
    tx: &mut Tx,
    statement: &'static str,
    keys: &[Key],
) -> PgResult<Vec<(i64, String, i64)>> {
    let (tenants, names): (Vec<i64>, Vec<&str>) = keys
        .iter()
        .map(|(tenant, key)| (*tenant, key.as_str()))
        .unzip();
    Ok(query_as(statement)
        .bind(tenants)
        .bind(names)
        .fetch_all(tx.connection())
        .await?)
}

/// Writes what was chosen since `started`, and what is not looked at again for now. How many rows that were.
async fn write(tx: &mut Tx, work: &mut Work<'_>, started: usize) -> PgResult<usize> {
    let choice = &mut work.choice;
    let chosen = &choice.chosen[started..];
    let mut used = chosen.len();
    if !chosen.is_empty() {
        let ids: Vec<i64> = chosen.iter().map(|claimed| claimed.id).collect();
        query(sql::START)
            .bind(ids)
            .bind(work.request.incarnation)
            .bind(micros(work.request.now))
            .execute(tx.connection())
            .await?;
    }
    let reserved = std::mem::take(&mut choice.reserved);
    if !reserved.is_empty() {
        let column = |value: fn(&Allowance) -> Option<u64>| -> Vec<Option<i64>> {
            let values = reserved.iter().map(|(_, allowance)| value(allowance));
            values
                .map(|n| n.map(|n| i64::try_from(n).unwrap_or(i64::MAX)))
                .collect()
        };
        query(sql::RESERVE)
            .bind(reserved.iter().map(|(id, _)| *id).collect::<Vec<i64>>())
            .bind(column(|a| a.fuel))
            .bind(column(|a| a.memory_bytes))
            .bind(column(|a| a.log_bytes))
            .execute(tx.connection())
            .await?;
    }
    work.throttled |= !choice.throttled.is_empty();
    for (ids, why) in [
        (std::mem::take(&mut choice.blocked), 1),
        (std::mem::take(&mut choice.throttled), 2),
    ] {
        used += ids.len();
        if !ids.is_empty() {
            query(sql::BLOCK)
                .bind(ids)
                .bind(why)
                .execute(tx.connection())
                .await?;
        }
    }
    for (tenant, task_type, id) in std::mem::take(&mut choice.probes) {
        query(sql::PROBE)
            .bind(tenant)
            .bind(task_type)
            .bind(id)
            .execute(tx.connection())
            .await?;
    }
    Ok(used)
}

/// Of the keys that have a place left, looks for others. Returns whether there are any.
async fn unblock(tx: &mut Tx, work: &mut Work<'_>) -> PgResult<bool> {
    let spare = std::mem::take(&mut work.choice.spare);
    if spare.is_empty() {
        return Ok(false);
    }
    let limit = i64::from(work.request.limit);
    let counts: BTreeMap<&Key, i64> = spare.iter().map(|key| (key, limit)).collect();
    Ok(keys::unblock(tx, work.request.now, &counts).await? > 0)
}

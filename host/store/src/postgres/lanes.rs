//! What a claim may take from: the lanes of its types, with the room that types, tenants, quotas and breakers leave them.
//! Where that is bounded their rows are locked and what runs is counted in a statement after that, so with a snapshot that
//! has everything their last holders did.

use super::rows::Reader;
use super::sql;
use super::tx::{PgResult, Tx, query, query_as, query_scalar};
use crate::choose::{lane_bound, quota_room};
use horarium_core::store::{ClaimRequest, LaneBound, Lanes, Running, StoreResult};
use horarium_model::quota::day_of;

/// The lanes of the wanted types, with the room that types, tenants and breakers leave them. Where that is
/// bounded and something waits, it is locked until the transaction ends.
pub(super) async fn open<'a>(tx: &mut Tx, request: &'a ClaimRequest) -> PgResult<Lanes<'a>> {
    let mut lanes = Lanes::new(&request.types, request.limit);
    let bounds = bounds(tx, request).await?;
    if !lanes.needs_counts(&bounds) {
        return Ok(lanes);
    }
    let running = running(tx, &lanes).await?;
    lanes.bound(&bounds, &running, request.now, request.limit);
    // A full one, or one without work, is not worth a lock.
    let bounded = waiting(tx, &lanes, &lanes.bounded()).await?;
    if !bounded.is_empty() {
        lock(tx, &lanes, &bounded).await?;
        let bounds = self::bounds(tx, request).await?;
        let running = self::running(tx, &lanes).await?;
        lanes.bound(&bounds, &running, request.now, request.limit);
    }
    know_quotas(tx, request, &mut lanes).await?;
    // What was not locked may not be used, whatever it is now.
    for lane in lanes.bounded() {
        if !bounded.contains(&lane) {
            lanes.close(lane);
        }
    }
    Ok(lanes)
}

/// What tenants with quotas have left, in a snapshot after their lock.
async fn know_quotas(tx: &mut Tx, request: &ClaimRequest, lanes: &mut Lanes<'_>) -> PgResult<()> {
    let with_quotas = lanes.with_quotas();
    if with_quotas.is_empty() {
        return Ok(());
    }
    let rows = query(sql::QUOTAS_SPENT)
        .bind(with_quotas)
        .bind(day_of(request.now))
        .fetch_all(tx.connection())
        .await?;
    for row in &rows {
        let mut r = Reader::plain(row, "tenants");
        lanes.know_quotas(quota_room(&mut r, request.now)?);
    }
    Ok(())
}

/// Tenants and types as two columns.
pub(super) fn columns<'a>(lanes: &Lanes<'a>, places: &[usize]) -> (Vec<i64>, Vec<&'a str>) {
    places.iter().map(|lane| lanes.key(*lane)).unzip()
}

async fn bounds(tx: &mut Tx, request: &ClaimRequest) -> PgResult<Vec<LaneBound>> {
    let (tenants, names): (Vec<i64>, Vec<&str>) = request
        .types
        .iter()
        .map(|(tenant, name)| (*tenant, name.as_str()))
        .unzip();
    let rows = query(sql::LANE_BOUNDS)
        .bind(tenants)
        .bind(names)
        .fetch_all(tx.connection())
        .await?;
    let read = |row| lane_bound(&mut Reader::plain(row, "task_types"));
    Ok(rows.iter().map(read).collect::<StoreResult<_>>()?)
}

async fn running(tx: &mut Tx, lanes: &Lanes<'_>) -> PgResult<Running> {
    let rows: Vec<(i64, String, i64)> = query_as(sql::RUNNING_OF_TYPES)
        .bind(lanes.tenants())
        .fetch_all(tx.connection())
        .await?;
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(rows
        .into_iter()
        .map(|(tenant, task_type, n)| ((tenant, task_type), count(n)))
        .collect())
}

/// Those of the lanes in which something waits.
async fn waiting(tx: &mut Tx, lanes: &Lanes<'_>, places: &[usize]) -> PgResult<Vec<usize>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let (tenants, names) = columns(lanes, places);
    let found: Vec<i64> = query_scalar(sql::LANES_WAITING)
        .bind(tenants)
        .bind(names)
        .fetch_all(tx.connection())
        .await?;
    let place = |found: i64| usize::try_from(found).ok().and_then(|at| places.get(at));
    Ok(found.into_iter().filter_map(place).copied().collect())
}

/// Locks the tenants, types and breakers of lanes, whichever of them exist, in order. The row of a shared type is left
/// to all: what bounds it is counted for each tenant, whose own row is locked.
async fn lock(tx: &mut Tx, lanes: &Lanes<'_>, places: &[usize]) -> PgResult<()> {
    let (tenants, names) = columns(lanes, places);
    query(sql::LOCK_TENANTS)
        .bind(&tenants)
        .execute(tx.connection())
        .await?;
    for statement in [sql::LOCK_TYPES, sql::LOCK_BREAKERS] {
        query(statement)
            .bind(&tenants)
            .bind(&names)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

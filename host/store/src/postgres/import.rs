//! Executions that ended elsewhere.

use super::tx::{PgResult, Tx, query, query_scalar};
use super::{PostgresStore, access, enqueue, jsonb, partitions, sql};
use crate::columns::{STATEMENT_BYTES, micros, text};
use crate::import::row;
use horarium_core::store::{EndedElsewhere, StoreError, StoreResult};
use horarium_model::{TaskId, TenantId};
use std::collections::HashSet;

/// Makes partitions for ends as long ago as these. Without one a row goes to the default partition, and is moved when
/// its own is made.
pub(super) async fn make_room(store: &PostgresStore, items: &[EndedElsewhere]) -> StoreResult<()> {
    let Some(oldest) = items.iter().map(|item| micros(item.completed_at)).min() else {
        return Ok(());
    };
    loop {
        let made = store
            .write(move |tx| {
                Box::pin(async move {
                    let mine: bool = query_scalar(sql::LOCK_PARTITIONS)
                        .fetch_one(tx.connection())
                        .await?;
                    Ok(mine && partitions::reach_back(tx.connection(), oldest).await?)
                })
            })
            .await;
        match made {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(%error, "a partition for imported history could not be made");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

/// `History::take_in`.
pub(super) async fn take_in(
    tx: &mut Tx,
    tenant: TenantId,
    items: &[EndedElsewhere],
) -> PgResult<Vec<bool>> {
    access::refuse_deleted(tx, tenant).await?;
    let mut known = known(tx, tenant, items).await?;
    let fresh: Vec<bool> = items
        .iter()
        .map(|item| known.insert(item.task_id))
        .collect();
    let new = || items.iter().zip(&fresh).filter(|(_, fresh)| **fresh);
    let ids = enqueue::execution_ids(tx, new().count()).await?;
    let mut written = HashSet::with_capacity(ids.len());
    let mut batch = Vec::new();
    let mut size = 0;
    for ((item, _), id) in new().zip(&ids) {
        let row = jsonb::text(&text(&row(*id, tenant, item))?).into_owned();
        if size + row.len() > STATEMENT_BYTES && !batch.is_empty() {
            written.extend(insert(tx, std::mem::take(&mut batch)).await?);
            size = 0;
        }
        size += row.len();
        batch.push(row);
    }
    written.extend(insert(tx, batch).await?);
    let mut logs: [Vec<i64>; 3] = Default::default();
    let mut lines = Vec::new();
    for ((item, _), id) in new().zip(&ids) {
        if item.notes.is_empty() || !written.contains(id) {
            continue;
        }
        for (column, value) in logs.iter_mut().zip([tenant, *id, 1]) {
            column.push(value);
        }
        lines.push(jsonb::text(&text(&item.log())?).into_owned());
    }
    if !lines.is_empty() {
        let [tenants, of, claims] = logs;
        query(sql::INSERT_LOGS)
            .bind(tenants)
            .bind(of)
            .bind(claims)
            .bind(lines)
            .execute(tx.connection())
            .await?;
    }
    let mut ids = ids.iter();
    let taken = |fresh: bool| fresh && ids.next().is_some_and(|id| written.contains(id));
    Ok(fresh.into_iter().map(taken).collect())
}

/// Writes rows; the ids of those that nobody else wrote meanwhile.
async fn insert(tx: &mut Tx, rows: Vec<String>) -> PgResult<Vec<i64>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    Ok(query_scalar(sql::INSERT_IMPORTED)
        .bind(format!("[{}]", rows.join(",")))
        .fetch_all(tx.connection())
        .await?)
}

async fn known(
    tx: &mut Tx,
    tenant: TenantId,
    items: &[EndedElsewhere],
) -> PgResult<HashSet<TaskId>> {
    let (tenants, ids): (Vec<i64>, Vec<String>) = items
        .iter()
        .map(|item| (tenant, item.task_id.to_string()))
        .unzip();
    let places: Vec<i64> = query_scalar(sql::KNOWN_TASKS)
        .bind(tenants)
        .bind(ids)
        .bind(i64::MIN)
        .bind(i64::MAX)
        .fetch_all(tx.connection())
        .await?;
    let item = |place: i64| usize::try_from(place - 1).ok().and_then(|i| items.get(i));
    Ok(places
        .into_iter()
        .filter_map(item)
        .map(|item| item.task_id)
        .collect())
}

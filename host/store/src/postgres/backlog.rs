//! What may wait, and does. Who enqueues under a cap waits for others who do the same.

use super::tx::{PgResult, Tx, query, query_as, query_scalar};
use super::{enqueue, sql};
use horarium_core::store::{Backlogs, Waiter};
use std::collections::BTreeSet;

/// The configs whose own cap concerns these executions; their schedules are to be locked before.
pub(super) fn capped_configs<'a>(items: impl Iterator<Item = Waiter<'a>>) -> Vec<i64> {
    let configs: BTreeSet<i64> = items.filter_map(|item| item.capped).collect();
    configs.into_iter().collect()
}

/// The caps that concern these executions; the types and tenants that have one stay locked until the transaction
/// ends.
pub(super) async fn lock<'a>(
    tx: &mut Tx,
    items: impl Iterator<Item = Waiter<'a>> + Clone,
) -> PgResult<Backlogs> {
    let mut backlogs = Backlogs::default();
    let configs = capped_configs(items.clone());
    for (config, (waiting, _)) in enqueue::live_counts(tx, &configs).await? {
        backlogs.know_config(config, waiting);
    }
    let types: BTreeSet<(i64, &str)> = items.map(|item| (item.tenant_id, item.task_type)).collect();
    let (tenants, names): (Vec<i64>, Vec<&str>) = types.into_iter().unzip();
    let caps: Vec<(i64, String, Option<i64>, Option<i64>)> = query_as(sql::BACKLOG_CAPS)
        .bind(&tenants)
        .bind(&names)
        .fetch_all(tx.connection())
        .await?;
    if caps.is_empty() {
        return Ok(backlogs);
    }
    query(sql::LOCK_TENANTS)
        .bind(&tenants)
        .execute(tx.connection())
        .await?;
    query(sql::LOCK_TYPES)
        .bind(&tenants)
        .bind(&names)
        .execute(tx.connection())
        .await?;
    let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    for (tenant, task_type, of_type, of_tenant) in caps {
        if let Some(cap) = of_type {
            let count: i64 = query_scalar(sql::WAITING_OF_TYPE)
                .bind(tenant)
                .bind(&task_type)
                .bind(cap)
                .fetch_one(tx.connection())
                .await?;
            backlogs.know_type(tenant, &task_type, small(cap), small(count));
        }
        if let Some(cap) = of_tenant {
            let count: i64 = query_scalar(sql::WAITING_OF_TENANT)
                .bind(tenant)
                .bind(cap)
                .fetch_one(tx.connection())
                .await?;
            backlogs.know_tenant(tenant, small(cap), small(count));
        }
    }
    Ok(backlogs)
}

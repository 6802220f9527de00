//! What may wait, and does.

use super::rows::{Cells as _, Reader};
use super::writer::Tx;
use super::{db, enqueue, sql};
use crate::columns::text;
use horarium_core::store::{Backlogs, StoreResult, Waiter};
use std::collections::BTreeSet;

/// The caps that concern these executions. `may_end` of what waits may be ended by this operation to make room.
pub(super) async fn read<'a>(
    tx: &mut Tx,
    items: impl Iterator<Item = Waiter<'a>>,
    may_end: u32,
) -> StoreResult<Backlogs> {
    let (mut types, mut configs) = (BTreeSet::new(), BTreeSet::new());
    for item in items {
        types.insert((item.tenant_id, item.task_type));
        configs.extend(item.capped);
    }
    let mut backlogs = Backlogs::default();
    let configs: Vec<i64> = configs.into_iter().collect();
    for (config, live) in enqueue::live_counts(tx, &configs).await? {
        backlogs.know_config(config, live.waiting);
    }
    let rows = sqlx::query(sql::BACKLOG_CAPS)
        .bind(text(&types)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let most = |cap: u32| cap.saturating_add(may_end);
    for row in &rows {
        let mut r = Reader::plain(row, "task_types");
        let (tenant, task_type) = (r.int("tenant_id")?, r.owned("task_type")?);
        if let Some(cap) = r.opt_number("backlog")? {
            let count = waiting(tx, tenant, Some(&task_type), most(cap)).await?;
            backlogs.know_type(tenant, &task_type, cap, count);
        }
        if let Some(cap) = r.opt_number("backlog")? {
            let count = waiting(tx, tenant, None, most(cap)).await?;
            backlogs.know_tenant(tenant, cap, count);
        }
    }
    Ok(backlogs)
}

/// How many wait, as far as they are counted.
async fn waiting(tx: &mut Tx, tenant: i64, task_type: Option<&str>, most: u32) -> StoreResult<u32> {
    let row = sqlx::query(sql::WAITING)
        .bind(tenant)
        .bind(task_type)
        .bind(most)
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    Reader::plain(&row, "live_executions").number("count")
}

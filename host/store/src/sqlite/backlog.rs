//! What may wait, and does.

use super::rows::{Cells as _, Reader};
use super::tx::Tx;
use super::{db, enqueue, sql};
use crate::columns::text;
use horarium_core::store::{Backlogs, StoreResult, Waiter};
use std::collections::BTreeSet;

/// Types and configs whose caps concern executions.
pub(super) struct Concerned<'a> {
    pub(super) types: BTreeSet<(i64, &'a str)>,
    configs: BTreeSet<i64>,
}

impl<'a> Concerned<'a> {
    pub(super) fn of(items: impl Iterator<Item = Waiter<'a>>) -> Self {
        let (mut types, mut configs) = (BTreeSet::new(), BTreeSet::new());
        for item in items {
            types.insert((item.tenant_id, item.task_type));
            configs.extend(item.capped);
        }
        Self { types, configs }
    }
}

/// A row of `BACKLOG_CAPS`.
pub(super) struct Cap {
    tenant: i64,
    task_type: String,
    of_type: Option<u32>,
    of_tenant: Option<u32>,
}

impl Cap {
    pub(super) fn read(r: &mut Reader<'_>) -> StoreResult<Self> {
        Ok(Self {
            tenant: r.int("tenant_id")?,
            task_type: r.owned("task_type")?,
            of_type: r.opt_number("backlog")?,
            of_tenant: r.opt_number("backlog")?,
        })
    }
}

/// The caps that concern these executions. `may_end` of what waits may be ended by this operation to make room.
pub(super) async fn read<'a>(
    tx: &mut Tx,
    items: impl Iterator<Item = Waiter<'a>>,
    may_end: u32,
) -> StoreResult<Backlogs> {
    let concerned = Concerned::of(items);
    let rows = sqlx::query(sql::BACKLOG_CAPS)
        .bind(text(&concerned.types)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let read = |row| Cap::read(&mut Reader::plain(row, "task_types"));
    let caps = rows.iter().map(read).collect::<StoreResult<Vec<Cap>>>()?;
    count(tx, concerned, caps, may_end).await
}

/// The same where the caps of types and tenants are read already.
pub(super) async fn count(
    tx: &mut Tx,
    concerned: Concerned<'_>,
    caps: Vec<Cap>,
    may_end: u32,
) -> StoreResult<Backlogs> {
    let mut backlogs = Backlogs::default();
    let configs: Vec<i64> = concerned.configs.into_iter().collect();
    for (config, live) in enqueue::live_counts(tx, &configs).await? {
        backlogs.know_config(config, live.waiting);
    }
    let most = |cap: u32| cap.saturating_add(may_end);
    for capped in caps {
        let (tenant, task_type) = (capped.tenant, &capped.task_type);
        if let Some(cap) = capped.of_type {
            let count = waiting(tx, tenant, Some(task_type), most(cap)).await?;
            backlogs.know_type(tenant, task_type, cap, count);
        }
        if let Some(cap) = capped.of_tenant {
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

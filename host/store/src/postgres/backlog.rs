//! What may wait, and does. Who enqueues under a cap waits for others who do the same.

use super::ahead::Capped;
use super::tx::{PgResult, Tx, query_as, query_scalar};
use super::{enqueue, sql};
use horarium_core::store::{Backlogs, Waiter};
use std::collections::BTreeSet;

/// The caps that concern some executions.
pub(super) struct Caps {
    /// Configs with a cap of their own; their schedules are locked before.
    configs: Vec<i64>,
    rows: Vec<Row>,
}

/// Tenant, type, what of the type may wait, what of the tenant, whether the type is shared.
type Row = (i64, String, Option<i64>, Option<i64>, bool);

/// Reads the caps that concern these executions.
pub(super) async fn caps<'a>(
    tx: &mut Tx,
    items: impl Iterator<Item = Waiter<'a>>,
) -> PgResult<Caps> {
    let (mut types, mut configs) = (BTreeSet::new(), BTreeSet::new());
    for item in items {
        types.insert((item.tenant_id, item.task_type));
        configs.extend(item.capped);
    }
    let configs = configs.into_iter().collect();
    if types.is_empty() {
        let rows = Vec::new();
        return Ok(Caps { configs, rows });
    }
    let (tenants, names): (Vec<i64>, Vec<&str>) = types.into_iter().unzip();
    let rows = query_as(sql::BACKLOG_CAPS)
        .bind(&tenants)
        .bind(&names)
        .fetch_all(tx.connection())
        .await?;
    Ok(Caps { configs, rows })
}

impl Caps {
    /// Who is to be locked before it is counted what waits.
    pub(super) fn capped(&self) -> Capped {
        let mut capped = Capped::default();
        for (tenant, task_type, of_type, of_tenant, shared) in &self.rows {
            // Of a shared type each tenant's are counted by themselves: its tenants do not wait for each other.
            let by_tenant = of_tenant.is_some() || *shared && of_type.is_some();
            capped.tenants.extend(by_tenant.then_some(*tenant));
            let own = of_type.filter(|_| !shared);
            capped
                .types
                .extend(own.map(|_| (*tenant, task_type.clone())));
        }
        capped
    }

    /// Counts what waits, under the locks. `may_end` of it may be ended by this operation to make room.
    pub(super) async fn count(&self, tx: &mut Tx, may_end: u32) -> PgResult<Backlogs> {
        let mut backlogs = Backlogs::default();
        for (config, live) in enqueue::live_counts(tx, &self.configs).await? {
            backlogs.know_config(config, live.waiting);
        }
        let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        let most = |cap: i64| cap.saturating_add(may_end.into());
        for (tenant, task_type, of_type, of_tenant, _) in &self.rows {
            if let Some(cap) = *of_type {
                let count: i64 = query_scalar(sql::WAITING_OF_TYPE)
                    .bind(tenant)
                    .bind(task_type)
                    .bind(most(cap))
                    .fetch_one(tx.connection())
                    .await?;
                backlogs.know_type(*tenant, task_type, small(cap), small(count));
            }
            if let Some(cap) = *of_tenant {
                let count: i64 = query_scalar(sql::WAITING_OF_TENANT)
                    .bind(tenant)
                    .bind(most(cap))
                    .fetch_one(tx.connection())
                    .await?;
                backlogs.know_tenant(*tenant, small(cap), small(count));
            }
        }
        Ok(backlogs)
    }
}

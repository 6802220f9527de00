//! Executions that ended elsewhere.

use super::enqueue::known_tasks;
use super::tx::Tx;
use super::{access, db, sql};
use crate::columns::text;
use crate::import::row;
use horarium_core::store::{EndedElsewhere, StoreResult};
use horarium_model::TenantId;
use horarium_model::execution::LogLine;

/// `History::take_in`.
pub(super) async fn take_in(
    tx: &mut Tx,
    tenant: TenantId,
    items: &[EndedElsewhere],
) -> StoreResult<Vec<bool>> {
    access::refuse_deleted(tx, tenant).await?;
    let tasks: Vec<_> = items.iter().map(|item| (tenant, item.task_id)).collect();
    let mut known = known_tasks(tx, &tasks).await?;
    let mut taken = Vec::with_capacity(items.len());
    let (mut rows, mut logs) = (Vec::new(), Vec::<(i64, u32, Vec<LogLine>)>::new());
    for item in items {
        let fresh = known.insert((tenant, item.task_id));
        taken.push(fresh);
        if !fresh {
            continue;
        }
        let id = tx.next_execution();
        rows.push(row(id, tenant, item));
        if !item.notes.is_empty() {
            logs.push((id, 1, item.log()));
        }
    }
    for (statement, rows) in [
        (sql::INSERT_IMPORTED, text(&rows)?),
        (sql::INSERT_LOGS, text(&logs)?),
    ] {
        if rows != "[]" {
            sqlx::query(statement)
                .bind(rows)
                .execute(tx.write())
                .await
                .map_err(db)?;
        }
    }
    Ok(taken)
}

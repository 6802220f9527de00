//! Tables that outgrow what the planner knows of them.
//!
//! A prepared statement keeps its plan until the server learns something new of a table. Plans that were made while next to
//! nothing waited read the whole table, which was right then: with fifty thousand waiting, each end took 22 ms. The server's
//! autovacuum looks once a minute, and a burst is over by then.

use super::tx::{PgResult, Tidings, in_time, operation_limit, query_scalar};
use super::{Shared, sql};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What fills and empties, with a column or two each. One is enough for the server to count rows and pages, and takes a third
/// of the time of all; what else it knows of the others is left to autovacuum.
pub(super) const TABLES: [(&str, &str); 6] = [
    ("live_executions", LISTED),
    ("live_parameters", "execution_id"),
    ("run_keys", "tenant_id"),
    ("task_attempts", "execution_id"),
    ("task_configs", "id"),
    ("task_schedules", "config_id"),
];

/// Of what is listed, and so of the history's partitions: as long as it knows no tenants the server expects few rows of each,
/// and reads all of them to sort out a page.
pub(super) const LISTED: &str = "tenant_id, id";

/// `default_statistics_target` of a look: 300 times as many rows are sampled, a tenth of what is usual. What counts are rows and
/// pages, and who the few tenants are that have most of them.
const TARGET: u32 = 10;

/// So many rows and transactions pass between two looks at the tables' sizes: a look costs a tenth of a millisecond.
const BETWEEN: u32 = 1000;

/// What this host wrote since it last looked.
#[derive(Debug, Default)]
pub(super) struct Growth {
    written: AtomicU32,
    /// One look at a time.
    is_looking: AtomicBool,
}

/// Counts a transaction, and looks at the tables when there were enough. Behind a transaction pooler no plan is kept.
pub(super) fn note(shared: &Arc<Shared>, tidings: &Tidings) {
    let growth = &shared.growth;
    if shared.options.pooler_transaction {
        return;
    }
    let more = tidings.came.saturating_add(1);
    let written = growth.written.fetch_add(more, Ordering::Relaxed);
    if written.saturating_add(more) < BETWEEN || growth.is_looking.swap(true, Ordering::Acquire) {
        return;
    }
    growth.written.store(0, Ordering::Relaxed);
    let shared = shared.clone();
    tokio::spawn(async move {
        // Nothing depends on it but speed, and it comes again.
        if let Err(fault) = look(&shared).await {
            tracing::debug!(?fault, "what the planner knows was not renewed");
        }
        shared.growth.is_looking.store(false, Ordering::Release);
    });
}

/// Has the planner look at tables that are far larger than it last saw them. Another host that is at the same table already
/// is not waited for, nor a server that no longer answers: a store that closes waits for this connection.
pub(super) async fn look(shared: &Shared) -> PgResult<()> {
    let mut connection = shared.pool.acquire().await?;
    let looked = in_time(operation_limit(shared), analyze(&mut connection)).await;
    if looked.is_err() {
        connection.close_on_drop();
    }
    looked
}

async fn analyze(connection: &mut PgConnection) -> PgResult<()> {
    let names = TABLES.map(|(table, _)| table);
    let outgrown: Vec<String> = query_scalar(sql::OUTGROWN)
        .bind(&names[..])
        .fetch_all(&mut *connection)
        .await?;
    for table in outgrown {
        tracing::debug!(table, "has outgrown what the planner knows of it");
        let columns = TABLES
            .iter()
            .find_map(|(name, columns)| (*name == table).then_some(*columns))
            .unwrap_or(LISTED);
        let analyze = format!(
            "BEGIN; SET LOCAL default_statistics_target = {TARGET}; ANALYZE (SKIP_LOCKED) {table} ({columns}); COMMIT"
        );
        sqlx::raw_sql(AssertSqlSafe(analyze))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

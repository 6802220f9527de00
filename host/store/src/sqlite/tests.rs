//! Every statement is prepared against a migrated database, and the hot ones are held to their indexes.

use super::bound::{for_rows, repeated};
use super::{SqliteOptions, SqliteStore, db, file, sql};
use horarium_core::store::conformance::{Lab, at};
use horarium_core::store::{EnqueueReceipt, NewExecution, Queue as _, StoreError, StoreResult};
use horarium_model::TaskId;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Executor, Row};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::Notify;

async fn database() -> (SqliteConnection, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("horarium.db");
    let connection = file::open_writer(&path, &SqliteOptions::default())
        .await
        .expect("migrated");
    (connection, folder)
}

#[tokio::test]
async fn every_statement_prepares() {
    let (mut connection, _folder) = database().await;
    assert!(sql::ALL.len() > 50, "the table of statements is read");
    for (name, statement) in sql::ALL {
        let whole = sqlx::SqlSafeStr::into_sql_str(for_rows(statement, 2));
        if let Err(error) = (&mut connection).prepare(whole).await {
            panic!("{name}: {error}\n{statement}");
        }
    }
}

#[test]
fn no_statement_is_prepared_anew_for_its_limit() {
    let limited = sql::ALL.iter().filter(|(_, sql)| sql.contains("LIMIT +?"));
    assert!(limited.count() > 20, "the table of statements is read");
    for (name, statement) in sql::ALL {
        assert!(!statement.contains("LIMIT ?"), "{name}: write LIMIT +?n");
    }
}

async fn plan(connection: &mut SqliteConnection, statement: &str) -> String {
    let statement = repeated(statement, 2);
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
        .fetch_all(connection)
        .await
        .expect("explains");
    rows.iter()
        .map(|row| row.get::<String, _>(3))
        .collect::<Vec<_>>()
        .join("\n")
}

/// 200 000 executions ended, 20 000 wait (half of them for run keys, most of these passed over), 200 run,
/// 20 000 configs have schedules.
const BUSY: &str = "
BEGIN;
CREATE TEMP TABLE n (n INTEGER PRIMARY KEY);
WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < 200000) INSERT INTO n SELECT n FROM up;
INSERT INTO hosts (name, started_at, seen_at) VALUES ('a', 0, 0), ('b', 0, 0);
INSERT INTO task_configs (tenant_id, name, name_folded, task_type, scheduler_type, parameters, schedule_config,
    max_retries, timeout_seconds, priority, limits, retry_policy, chain, paused, version, created_at, updated_at)
SELECT 1 + n % 10, 'c', 'c', 'type' || n % 50, 'cron', jsonb('{}'), jsonb('{}'), 3, 60, 0, jsonb('{}'), jsonb('{}'),
    jsonb('[]'), 0, 1, 0, 0 FROM n WHERE n <= 20000;
INSERT INTO task_schedules (config_id, next_fire_at, anchor_at) SELECT n, n * 1000000, 0 FROM n WHERE n <= 20000;
INSERT INTO task_executions (id, config_id, task_id, is_success, started_at, completed_at, duration_seconds,
    tenant_id, task_type, state, trigger, priority, attempt, max_attempts, lost, created_at, ended_claim)
SELECT n, 1 + n % 20000, 'h' || n, n % 50 <> 0, 0, n, 0.1, 1 + n % 10, 'type' || n % 50,
    CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'succeeded' END, 'schedule', 0, 1, 4, 0, 0, 1 FROM n;
INSERT INTO live_executions (id, tenant_id, config_id, queue_key, due_at, created_at, priority, max_attempts,
    run_max, state, trigger, task_id, task_type, run_key, blocked, incarnation, expires_at)
SELECT 2000000 + n, 1 + n % 10, 1 + n % 20000, n, n, 0, 0, 4, 1,
    CASE WHEN n > 20000 THEN 'running' WHEN n % 10 < 3 THEN 'scheduled' ELSE 'available' END, 'schedule',
    'l' || n, 'type' || n % 50, CASE WHEN n % 2 = 0 THEN 'k' || n % 1000 END,
    n <= 20000 AND n % 10 >= 3 AND n % 2 = 0 AND n % 8 > 0, CASE WHEN n > 20000 THEN 1 + n % 2 END,
    CASE WHEN n % 7 = 0 THEN n END FROM n WHERE n <= 20200;
INSERT INTO task_attempts (execution_id, claim, attempt, outcome, started_at, completed_at, duration_seconds)
SELECT n, 1, 1, 'failed', 0, 0, 0 FROM n WHERE n <= 20000;
INSERT INTO live_parameters SELECT id, jsonb('{}') FROM live_executions WHERE id % 10 = 0;
COMMIT";

/// What the hot statements cost on an empty file, on a busy one, and after its statistics were gathered, as
/// closing does: no plan may turn into reading a whole table.
#[tokio::test]
async fn hot_statements_use_their_indexes() {
    let (mut connection, _folder) = database().await;
    hold_to_indexes(&mut connection, "empty").await;
    for (script, name) in [(BUSY, "busy"), ("ANALYZE", "known to be busy")] {
        let done = connection.execute(sqlx::raw_sql(script)).await;
        done.expect("runs");
        hold_to_indexes(&mut connection, name).await;
    }
}

async fn hold_to_indexes(connection: &mut SqliteConnection, file: &str) {
    let page = format!(
        "{} WHERE +l.tenant_id = 1 AND l.id < 150000 ORDER BY l.id DESC LIMIT 51",
        sql::LIST_ENDED
    );
    let of_task = format!(
        "{} WHERE +l.tenant_id = 1 AND l.id < 150000 AND l.config_id = 7 AND c.id IS NOT NULL ORDER BY l.id DESC LIMIT 51",
        sql::LIST_ENDED
    );
    let trouble = format!(
        "{} WHERE l.tenant_id = 1 AND l.id < 150000 AND l.error_kind = 'trap' AND instr(lower(l.error_message), 'x') > 0 \
         AND l.state <> 'succeeded' ORDER BY l.id DESC LIMIT 51",
        sql::LIST_ENDED
    );
    for (name, statement, index) in [
        ("claim", sql::CANDIDATES, "live_executions_claim"),
        ("lanes", sql::LANE_HEADS, "live_executions_claim"),
        ("busy lanes", sql::BUSY_LANES, "live_executions_claim"),
        ("heads", sql::WAITING_HEADS, "live_executions_claim"),
        ("waiting lanes", sql::LANES_WAITING, "live_executions_claim"),
        (
            "running types",
            sql::RUNNING_OF_TYPES,
            "live_executions_running",
        ),
        ("rates", sql::UNTHROTTLE, "live_executions_throttled"),
        ("full rates", sql::RATES_READY, "rates_ready"),
        ("next due", sql::NEXT_DUE, "rates_ready"),
        ("due schedules", sql::DUE_SCHEDULES, "task_schedules_due"),
        ("sweep", sql::SWEEP_AVAILABLE, "live_executions_due"),
        ("expiry", sql::EXPIRED, "live_executions_expiry"),
        ("next due", sql::NEXT_DUE, "task_schedules_due"),
        ("next due", sql::NEXT_DUE, "live_executions_due"),
        ("next due", sql::NEXT_DUE, "live_executions_expiry"),
        ("run keys", sql::RUNNING_OF_KEYS, "live_executions_run_key"),
        ("cancels", sql::CANCELS_OF, "live_executions_cancel"),
        ("overlap", sql::LIVE_COUNTS, "live_executions_config"),
        ("known ids", sql::KNOWN_TASKS, "live_executions_task"),
        ("known ids", sql::KNOWN_TASKS, "task_executions_task"),
        ("facts", sql::FACTS, "live_executions_task"),
        ("facts", sql::FACTS, "task_executions_task"),
        ("facts", sql::FACTS, "SEARCH c USING INTEGER PRIMARY KEY"),
        ("unblock", sql::UNBLOCK, "live_executions_blocked"),
        ("complete", sql::RUNNING, "INTEGER PRIMARY KEY"),
        ("record", sql::RECORD, "INTEGER PRIMARY KEY"),
        ("start", sql::START, "INTEGER PRIMARY KEY"),
        (
            "fire",
            sql::ADVANCE_SCHEDULES,
            "SEARCH task_schedules USING INTEGER PRIMARY KEY",
        ),
        (
            "fire",
            sql::ADVANCE_SKIPPING,
            "SEARCH task_schedules USING INTEGER PRIMARY KEY",
        ),
        ("show", sql::EXECUTION, "task_executions_task"),
        ("show", sql::EXECUTION, "live_executions_task"),
        ("cancel", sql::FIND_LIVE, "live_executions_task"),
        ("list", page.as_str(), "l USING INTEGER PRIMARY KEY"),
        (
            "list",
            of_task.as_str(),
            "l USING INDEX task_executions_config",
        ),
        ("trouble", trouble.as_str(), "task_executions_trouble"),
        ("news", sql::NEWS_RUNNING, "live_executions_running"),
        ("news", sql::NEWS_LIVE, "INTEGER PRIMARY KEY"),
        ("news", sql::NEWS_CREATED, "INTEGER PRIMARY KEY"),
        ("news", sql::NEWS_ENDED, "task_executions_age"),
        ("news", sql::CHANGED_CONFIGS, "task_configs_changed"),
        ("quotas", sql::QUOTAS_SPENT, "live_executions_running"),
        ("asks", sql::ASKS, "INTEGER PRIMARY KEY"),
        ("asks", sql::ASKS, "plugin_versions_digest"),
        // A tenant's own type or a shared one.
        (
            "bounds",
            sql::LANE_BOUNDS,
            "SEARCH y USING PRIMARY KEY (tenant_id=? AND task_type=?)",
        ),
        (
            "caps",
            sql::BACKLOG_CAPS,
            "SEARCH y USING PRIMARY KEY (tenant_id=? AND task_type=?)",
        ),
        ("prune", sql::PRUNE_BY_AGE, "task_executions_age"),
        (
            "prune a task",
            sql::PRUNE_OF_CONFIG,
            "task_executions_config",
        ),
        ("the newest", sql::BEYOND_NEWEST, "task_executions_config"),
        (
            "history",
            sql::HISTORY_COUNT,
            "COVERING INDEX task_executions_age",
        ),
        ("prune", sql::DELETE_HISTORY, "INTEGER PRIMARY KEY"),
        ("usage", sql::UNFOLDED, "usage_days_unfolded"),
    ] {
        let plan = plan(connection, statement).await;
        assert!(
            plan.contains(index),
            "{name} does not use {index} ({file}):\n{plan}"
        );
        // Arrays of parameters and tables of a few rows are read whole, and nothing else.
        let small = [
            "VIRTUAL TABLE",
            "ROW VALUES CLAUSE",
            "CONSTANT ROW",
            "SCAN hosts",
            "SCAN h",
            "SCAN meta",
        ];
        let scans: Vec<&str> = plan
            .lines()
            .filter(|line| line.starts_with("SCAN ") && !line.contains("INDEX"))
            .filter(|line| !small.iter().any(|table| line.contains(table)))
            // The tenants, where quotas are read; what a recursion has found; rows that were found and are packed.
            .filter(|line| {
                !["SCAN t", "SCAN t LEFT-JOIN", "SCAN b", "SCAN (subquery-1)"].contains(line)
            })
            .collect();
        assert!(
            scans.is_empty(),
            "{name} reads a whole table ({file}):\n{plan}"
        );
        assert!(
            !plan.contains("AUTOMATIC"),
            "{name} makes an index of its own ({file}):\n{plan}"
        );
    }
}

async fn tenants(connection: &mut SqliteConnection) -> StoreResult<i64> {
    let count = sqlx::query_scalar("SELECT count(*) FROM tenants");
    count.fetch_one(connection).await.map_err(db)
}

/// A claim that is begun while its execution is being enqueued needs no flush of its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_the_commit_shares_the_transaction() {
    let (store, _lab, _folder) = lab().await;
    let before = store.read(|connection| Box::pin(tenants(connection))).await;
    let before = before.expect("reads");
    let (written, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (bell, gate, one) = (written.clone(), go.clone(), store.clone());
    let first = tokio::spawn(async move {
        let write = one.write(move |tx| {
            let (bell, gate) = (bell.clone(), gate.clone());
            Box::pin(async move {
                let insert = sqlx::query("INSERT INTO tenants (name) VALUES ('second')");
                insert.execute(tx.write()).await.map_err(db)?;
                bell.notify_one();
                gate.notified().await;
                Ok(())
            })
        });
        write.await
    });
    written.notified().await;
    let outside = store.clone();
    let mut second = pin!(store.write(move |tx| {
        let outside = outside.clone();
        Box::pin(async move {
            let seen = outside.read(|connection| Box::pin(tenants(connection)));
            Ok((tenants(tx.read()).await?, seen.await?))
        })
    }));
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    go.notify_one();
    let (inside, outside) = second.await.expect("reads");
    assert_eq!((inside, outside), (before + 1, before));
    first.await.expect("no panic").expect("written");
}

/// What several callers bring while the writer is busy is one operation. Each hears of its own.
#[tokio::test(flavor = "multi_thread")]
async fn single_executions_of_many_callers_are_written_together() {
    let (store, lab, _folder) = lab().await;
    // The third has the id of the first.
    let brought = [
        vec![item(&lab, 1, "{}")],
        vec![item(&lab, 2, "{}"), item(&lab, 3, "{}")],
        vec![item(&lab, 1, "{}")],
        vec![item(&lab, 4, "{}")],
    ];
    let ids = brought.each_ref().map(|items| {
        let ids = items.iter().map(|item| item.task_id);
        ids.collect::<Vec<_>>()
    });
    let mut second = 0;
    let calls = brought.map(|items| {
        second += 1;
        store.enqueue_many(at(second), items)
    });
    let told = while_busy(&store, calls).await;
    for ((told, ids), came) in told.iter().zip(&ids).zip(1..) {
        let told = told.as_ref().expect("answers");
        assert_eq!(told.len(), ids.len());
        for (receipt, id) in told.iter().zip(ids) {
            if let EnqueueReceipt::Enqueued { id: row, .. } = receipt {
                let shown = lab.show(*id).await;
                assert_eq!((shown.id, shown.created_at), (*row, at(came)));
            }
        }
    }
    assert_eq!(
        told[2].as_deref().ok(),
        Some(&[EnqueueReceipt::Duplicate][..])
    );
    let taken = told.iter().flatten().flatten();
    let taken = taken.filter(|receipt| matches!(receipt, EnqueueReceipt::Enqueued { .. }));
    assert_eq!(taken.count(), 4);
}

/// What fails harms no other, nor what shared its transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_execution_cannot_be_written_fails_alone() {
    let (store, lab, _folder) = lab().await;
    // No JSON, which no caller of the store should bring.
    let brought = [
        vec![item(&lab, 1, "{}")],
        vec![item(&lab, 2, "{"), item(&lab, 3, "{}")],
        vec![item(&lab, 4, "{}")],
    ];
    let calls = brought.map(|items| store.enqueue_many(at(0), items));
    let told = while_busy(&store, calls).await;
    assert!(told[0].is_ok() && told[2].is_ok(), "{told:?}");
    assert!(matches!(told[1], Err(StoreError::Internal(_))), "{told:?}");
    let there = [1, 2, 3, 4].map(|n| lab.find(TaskId::from_u128(n)));
    let there = futures_util::future::join_all(there).await;
    let there: Vec<bool> = there.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, false, true]);
}

async fn lab() -> (Arc<SqliteStore>, Lab, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("horarium.db");
    let store = SqliteStore::open(path, SqliteOptions::default()).await;
    let store = Arc::new(store.expect("opens"));
    let lab = Lab::new(store.clone()).await;
    (store, lab, folder)
}

fn item(lab: &Lab, n: u128, parameters: &str) -> NewExecution {
    NewExecution {
        task_id: TaskId::from_u128(n),
        parameters: parameters.into(),
        ..lab.new_execution(None, at(0))
    }
}

/// Begins the calls while another operation has the writer, and lets all go on.
async fn while_busy<F: Future, const N: usize>(
    store: &SqliteStore,
    calls: [F; N],
) -> Vec<F::Output> {
    let (busy, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (bell, gate) = (busy.clone(), go.clone());
    let mut blocking = pin!(store.write(move |_| {
        let (bell, gate) = (bell.clone(), gate.clone());
        Box::pin(async move {
            bell.notify_one();
            gate.notified().await;
            // It runs again when what shares its transaction fails.
            gate.notify_one();
            Ok(())
        })
    }));
    assert!(futures_util::poll!(blocking.as_mut()).is_pending());
    busy.notified().await;
    let mut calls = pin!(futures_util::future::join_all(calls));
    assert!(futures_util::poll!(calls.as_mut()).is_pending());
    go.notify_one();
    blocking.await.expect("writes");
    calls.await
}

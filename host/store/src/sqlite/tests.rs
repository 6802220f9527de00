//! Every statement is prepared against a migrated database, and the hot ones are held to their indexes.

use super::{SqliteOptions, file, sql};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

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
        if let Err(error) = (&mut connection)
            .prepare(sqlx::SqlStr::from_static(statement))
            .await
        {
            panic!("{name}: {error}\n{statement}");
        }
    }
}

async fn plan(connection: &mut SqliteConnection, statement: &str) -> String {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
        .fetch_all(connection)
        .await
        .expect("explains");
    rows.iter()
        .map(|row| row.get::<String, _>(3))
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn hot_statements_use_their_indexes() {
    let (mut connection, _folder) = database().await;
    for (name, statement, index) in [
        ("claim", sql::CANDIDATES, "live_executions_claim"),
        ("lanes", sql::LANE_HEADS, "live_executions_claim"),
        ("waiting lanes", sql::LANES_WAITING, "live_executions_claim"),
        ("running types", sql::RUNNING_OF_TYPES, "live_executions_running"),
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
        ("unblock", sql::UNBLOCK, "live_executions_blocked"),
    ] {
        let plan = plan(&mut connection, statement).await;
        assert!(plan.contains(index), "{name} does not use {index}:\n{plan}");
    }
    for (name, statement) in [
        ("claim", sql::CANDIDATES),
        ("complete", sql::RUNNING),
        ("record", sql::RECORD),
    ] {
        let plan = plan(&mut connection, statement).await;
        let scans: Vec<&str> = plan
            .lines()
            .filter(|l| l.starts_with("SCAN l") && !l.contains("INDEX"))
            .collect();
        assert!(scans.is_empty(), "{name} reads a whole table:\n{plan}");
    }
}

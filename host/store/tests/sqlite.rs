//! SQLite keeps every rule that the conformance suite knows, and what it has beside them: one process a
//! file, files that are ours, and what survives.

use horarium_core::store::conformance::Lab;
use horarium_core::store::memory::MemoryStore;
use horarium_core::store::{Queue, Store, StoreError};
use horarium_model::Timestamp;
use horarium_model::cron::ZONE_DATA;
use horarium_store::{SqliteOptions, SqliteStore};
use std::sync::Arc;

async fn make() -> (Arc<dyn Store>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    (Arc::new(open(&folder).await), folder)
}

async fn open(folder: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(folder.path().join("horarium.db"), SqliteOptions::default())
        .await
        .expect("opens")
}

fn at() -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000, 0).expect("in range")
}

mod rules {
    use super::make;
    horarium_core::conformance_tests!(make);
}

/// As the next version's schema step might leave it: it only adds.
async fn next_step(folder: &tempfile::TempDir, runs_from: i64) {
    use sqlx::{ConnectOptions, Connection};
    open(folder).await.close().await.expect("closes");
    let file =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("horarium.db"));
    let mut connection = file.connect().await.expect("connects");
    let step = format!(
        "ALTER TABLE task_configs ADD COLUMN colour TEXT;
         ALTER TABLE live_executions ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;
         ALTER TABLE task_executions ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;
         CREATE TABLE novelties (id INTEGER PRIMARY KEY, config_id INTEGER);
         CREATE INDEX live_executions_weight ON live_executions (weight, id);
         UPDATE meta SET value = {runs_from} WHERE key = 'runs_from';
         PRAGMA user_version = 2"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(step))
        .execute(&mut connection)
        .await
        .expect("runs");
    connection.close().await.expect("closes");
}

/// Who goes back to the binary before finds its database usable.
mod rules_on_the_next_schema {
    use super::{Arc, Store, next_step, open};

    async fn make() -> (Arc<dyn Store>, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        next_step(&folder, 1).await;
        (Arc::new(open(&folder).await), folder)
    }

    horarium_core::conformance_tests!(make);
}

#[tokio::test]
async fn a_next_schema_that_does_not_only_add_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    next_step(&folder, 2).await;
    let path = folder.path().join("horarium.db");
    let refused = SqliteStore::open(&path, SqliteOptions::default()).await;
    let message = refused.expect_err("refused").to_string();
    assert!(
        message.contains("schema version 2, written by a newer Horarium"),
        "{message}"
    );
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let _first = open(&folder).await;
    let refused =
        SqliteStore::open(folder.path().join("horarium.db"), SqliteOptions::default()).await;
    let message = refused.expect_err("refused").to_string();
    assert!(
        message.contains(&format!("process {}", std::process::id())),
        "{message}"
    );
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("horarium.db");
    std::fs::write(&path, "these are somebody's notes, not a database").expect("written");
    let refused = SqliteStore::open(&path, SqliteOptions::default()).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))));
    assert_eq!(
        std::fs::read_to_string(&path).expect("still there"),
        "these are somebody's notes, not a database"
    );
}

#[tokio::test]
async fn incarnations_rise_over_restarts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = open(&folder).await;
    let one = first.start_host(at(), "a").await.expect("starts");
    first.close().await.expect("closes");
    drop(first);
    let two = open(&folder)
        .await
        .start_host(at(), "a")
        .await
        .expect("starts");
    assert!(two > one);
}

#[tokio::test]
async fn a_closed_store_refuses_instead_of_hanging() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(&folder).await;
    store.close().await.expect("closes");
    assert!(matches!(
        store.start_host(at(), "late").await,
        Err(StoreError::Unavailable(_))
    ));
}

#[tokio::test]
async fn the_memory_store_starts_out_alike() {
    let (sqlite, _folder) = make().await;
    let memory = MemoryStore::new();
    assert_eq!(
        sqlite.queue_counts().await.expect("counts"),
        memory.queue_counts().await.expect("counts")
    );
    assert_eq!(
        sqlite.next_due().await.expect("due"),
        memory.next_due().await.expect("due")
    );
}

/// Rule S13: which zone data an instant was computed with is kept, and written with each new one.
#[tokio::test]
async fn schedules_remember_their_zone_data() {
    use sqlx::{ConnectOptions, Connection};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Arc::new(open(&folder).await);
    let ids = Lab::new(store.clone()).await.crons(2).await;
    store.close().await.expect("closes");
    drop(store);
    let file =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("horarium.db"));
    let mut connection = file.connect().await.expect("connects");
    sqlx::raw_sql("UPDATE task_schedules SET zone_data = '2019a'")
        .execute(&mut connection)
        .await
        .expect("runs");
    connection.close().await.expect("closes");
    let store = Arc::new(open(&folder).await);
    let lab = Lab::new(store.clone()).await;
    let old = async || {
        let old = store.schedules_by_other_zone_data(ZONE_DATA, 0, 10).await;
        let old = old.expect("lists").into_iter().map(|one| one.config_id);
        old.collect::<Vec<_>>()
    };
    assert_eq!(old().await, ids);
    let order = lab.fire_order(ids[0], 600).await;
    let receipts = store.fire_due(at(), vec![order]).await.expect("fires");
    assert!(receipts[0].applied);
    assert_eq!(old().await, ids[1..]);
    store.close().await.expect("closes");
}

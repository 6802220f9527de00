//! A PostgreSQL, hosts on it, and what they claim and end.

#![allow(dead_code, reason = "each test uses what it needs")]

use horarium_core::store::conformance::{Lab, at, completion};
use horarium_core::store::{ClaimRequest, Claimed, Completion, End};
use horarium_model::DEFAULT_TENANT_ID;
use horarium_store::testing::Cluster;
use horarium_store::{PostgresOptions, PostgresStore};
use sqlx::Row;
use std::sync::Arc;

pub(crate) fn options() -> PostgresOptions {
    PostgresOptions {
        migrate: true,
        connections: 8,
        ..PostgresOptions::default()
    }
}

pub(crate) async fn open(
    cluster: &Cluster,
    database: &str,
    options: PostgresOptions,
) -> PostgresStore {
    let store = PostgresStore::connect(&cluster.url(database), options).await;
    store.expect("connects")
}

/// A new database with a store, and a lab on it.
pub(crate) async fn lab(
    cluster: &Cluster,
    options: PostgresOptions,
) -> (String, PostgresStore, Lab) {
    let database = cluster.database().await;
    let store = open(cluster, &database, options).await;
    let lab = Lab::new(Arc::new(store.clone())).await;
    (database, store, lab)
}

pub(crate) fn request(incarnation: i64, limit: u32) -> ClaimRequest {
    ClaimRequest {
        now: at(100),
        incarnation,
        types: Arc::from([(DEFAULT_TENANT_ID, "echo".to_owned())]),
        limit,
    }
}

pub(crate) fn success(claimed: &Claimed, incarnation: i64) -> Completion {
    let end = End::Succeeded(Arc::from("{}"));
    completion(incarnation, at(101), claimed, end)
}

/// No two transactions ever waited for each other.
pub(crate) async fn no_deadlocks(cluster: &Cluster, database: &str) {
    let mut connection = cluster.connect(database).await;
    // The counters of a session are told when it idles or ends.
    let sql = "SELECT pg_stat_force_next_flush(); \
        SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let rows = sqlx::raw_sql(sql)
        .fetch_all(&mut connection)
        .await
        .expect("answers");
    let deadlocks: i64 = rows.last().expect("a row").get(0);
    assert_eq!(deadlocks, 0, "deadlocks");
}

/// Waits until a statement waits for a lock.
pub(crate) async fn until_waiting(cluster: &Cluster, database: &str) {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while cluster.number(database, query).await == 0 {
        tokio::task::yield_now().await;
    }
}

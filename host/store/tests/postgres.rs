//! PostgreSQL keeps every rule that the conformance suite knows, and what only it must: exactness over
//! several hosts, leases, hints, restarts.

use horarium_core::store::Store;
use horarium_core::store::conformance;
use horarium_store::testing::Cluster;
use horarium_store::{PostgresOptions, PostgresStore};
use std::sync::Arc;
use std::time::Duration;

/// One connection pool of a few, and leases that are over at once: as one process sees it.
fn alone() -> PostgresOptions {
    PostgresOptions {
        connections: 3,
        lease: Duration::ZERO,
        notify: false,
        ..PostgresOptions::default()
    }
}

/// A database to copy, its schema up to date.
async fn template(cluster: &Cluster) -> String {
    let name = cluster.database().await;
    PostgresStore::migrate(&cluster.url(&name), &PostgresOptions::default())
        .await
        .expect("migrates");
    name
}

/// Every rule on a database of its own; one server for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite() {
    let cluster = Cluster::start();
    let template = template(&cluster).await;
    let mut failed = Vec::new();
    for (name, rule) in conformance::all() {
        let database = cluster.copy_of(&template).await;
        let store = PostgresStore::connect(&cluster.url(&database), alone()).await;
        let store = store.expect("connects");
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let done = tokio::spawn(rule(shared)).await;
        if let Err(error) = done {
            failed.push(format!("{name}: {error}"));
        }
        store.close().await;
        cluster.drop_database(&database).await;
    }
    assert!(
        failed.is_empty(),
        "rules that do not hold:\n{}",
        failed.join("\n")
    );
}

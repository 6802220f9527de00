//! Random operations: each database answers as the memory store does, to the letter.

use horarium_core::store::Store;
use horarium_core::store::conformance::differential::compare;
use horarium_core::store::memory::MemoryStore;
use horarium_store::testing::Cluster;
use horarium_store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};
use std::sync::Arc;
use std::time::Duration;

mod ops;

/// Compares a store with the memory store over random operations; `make` gives an empty one and what is
/// dropped after it.
fn answers_as_memory_does<G>(
    default_cases: u32,
    make: impl AsyncFn() -> (Arc<dyn Store>, G),
    done: impl AsyncFn(G),
) {
    let runtime = runtime();
    let cases = std::env::var("DIFFERENTIAL_CASES");
    let cases = cases.map_or(default_cases, |n| n.parse().expect("a number"));
    let config = Config {
        cases,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..Config::default()
    };
    proptest!(config, |(ops in prop::collection::vec(ops::op(), 20..120))| {
        let differs = runtime.block_on(async {
            let (store, guard) = make().await;
            let differs = compare(&ops, Arc::new(MemoryStore::new()), store).await;
            done(guard).await;
            differs
        });
        differs.map_err(TestCaseError::fail)?;
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn sqlite_answers_as_the_memory_store_does() {
    answers_as_memory_does(
        48,
        async || {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("horarium.db");
            let sqlite = SqliteStore::open(path, SqliteOptions::default()).await;
            (Arc::new(sqlite.expect("opens")) as Arc<dyn Store>, folder)
        },
        async |_| {},
    );
}

#[test]
fn postgres_answers_as_the_memory_store_does() {
    let cluster = Cluster::start();
    let template = runtime().block_on(async {
        let name = cluster.database().await;
        let migrated =
            PostgresStore::migrate(&cluster.url(&name), &PostgresOptions::default()).await;
        migrated.expect("migrates");
        name
    });
    let options = PostgresOptions {
        connections: 2,
        // Every other host's work may be taken at once, as in one process.
        lease: Duration::ZERO,
        notify: false,
        ..PostgresOptions::default()
    };
    answers_as_memory_does(
        24,
        async || {
            let name = cluster.copy_of(&template).await;
            let store = PostgresStore::connect(&cluster.url(&name), options.clone()).await;
            let store = store.expect("connects");
            (Arc::new(store.clone()) as Arc<dyn Store>, (store, name))
        },
        async |(store, name)| {
            store.close().await;
            cluster.drop_database(&name).await;
        },
    );
}

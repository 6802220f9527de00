//! Random operations: each database answers as the memory store does, to the letter.

use horarium_core::store::Store;
use horarium_core::store::conformance::differential::{Op, compare};
use horarium_core::store::memory::MemoryStore;
use horarium_store::testing::Cluster;
use horarium_store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};
use std::sync::Arc;
use std::time::Duration;

fn op() -> impl Strategy<Value = Op> {
    let few = || 0..6_u8;
    prop_oneof![
        2 => (1..40_u8).prop_map(Op::Wait),
        3 => (few(), prop::option::weighted(0.3, few()), prop::bool::weighted(0.2))
            .prop_map(|(kind, key, paused)| Op::Create { kind, key, paused }),
        2 => (few(), prop::bool::weighted(0.2), any::<bool>(), any::<bool>())
            .prop_map(|(config, stale, paused, reanchor)| Op::Update { config, stale, paused, reanchor }),
        1 => (few(), any::<bool>()).prop_map(|(config, history)| Op::Delete { config, history }),
        1 => few().prop_map(Op::Purge),
        5 => enqueue(),
        1 => any::<u8>().prop_map(Op::EnqueueAgain),
        4 => fire(),
        1 => Just(Op::FireDue),
        2 => (1..20_u8).prop_map(Op::Sweep),
        6 => (0..8_u8, few()).prop_map(|(limit, types)| Op::Claim { limit, types }),
        5 => finish(),
        3 => any::<u8>().prop_map(|end| Op::FinishAll { end }),
        2 => (any::<u8>(), prop::option::of(0..20_u8), any::<bool>())
            .prop_map(|(which, due, recorded)| Op::Release { which, due, recorded }),
        2 => any::<u8>().prop_map(Op::Cancel),
        1 => any::<u8>().prop_map(Op::Progress),
        2 => Just(Op::Crash),
        1 => (few(), few(), any::<bool>())
            .prop_map(|(config, key, delete)| Op::SetState { config, key, delete }),
    ]
}

fn enqueue() -> impl Strategy<Value = Op> {
    let options = (
        prop::option::weighted(0.6, 0..6_u8),
        prop::option::weighted(0.2, 0..30_u8),
        prop::option::weighted(0.6, 0..6_u8),
        prop::bool::weighted(0.2),
    );
    (any::<u8>(), -5..20_i8, -2..3_i8, options).prop_map(
        |(count, due, priority, (config, expires, key, refuse))| Op::Enqueue {
            count,
            config,
            due,
            priority,
            expires,
            key,
            refuse,
        },
    )
}

fn fire() -> impl Strategy<Value = Op> {
    let rare = || prop::bool::weighted(0.2);
    let skip = prop::option::weighted(0.2, 0..3_u8);
    (0..6_u8, 0..4_u8, 0..4_u8, rare(), rare(), skip, rare()).prop_map(
        |(config, slots, overlap, missed, all, skip, stale)| Op::Fire {
            config,
            slots,
            overlap,
            missed,
            all,
            skip,
            stale,
        },
    )
}

fn finish() -> impl Strategy<Value = Op> {
    let state = prop::option::weighted(0.4, 0..12_u8);
    let rare = || prop::bool::weighted(0.15);
    (any::<u8>(), any::<u8>(), state, rare(), rare(), rare()).prop_map(
        |(which, end, state, pause, wrong, logs)| Op::Finish {
            which,
            end,
            state,
            pause,
            wrong,
            logs,
        },
    )
}

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
    proptest!(config, |(ops in prop::collection::vec(op(), 20..120))| {
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

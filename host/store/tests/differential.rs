//! Random operations on the memory store and on SQLite: every answer, and in the end everything that can
//! be read, must be the same.

use horarium_core::store::Queue;
use horarium_core::store::conformance::Lab;
use horarium_core::store::conformance::differential::{Op, compare};
use horarium_core::store::memory::MemoryStore;
use horarium_store::{Durability, SqliteOptions, SqliteStore};
use proptest::option::of;
use proptest::prelude::*;
use std::sync::Arc;

fn operation() -> impl Strategy<Value = Op> {
    let small = || 0u8..12;
    prop_oneof![
        2 => (0u8..40).prop_map(Op::Wait),
        2 => (small(), of(small()), any::<bool>())
            .prop_map(|(kind, key, paused)| Op::Create { kind, key, paused: paused && kind > 8 }),
        1 => (small(), prop::bool::weighted(0.2), any::<bool>(), any::<bool>())
            .prop_map(|(config, stale, paused, reanchor)| Op::Update { config, stale, paused, reanchor }),
        1 => (small(), any::<bool>()).prop_map(|(config, history)| Op::Delete { config, history }),
        1 => small().prop_map(Op::Purge),
        5 => (any::<u8>(), of(small()), -20i8..20, -3i8..3, of(0u8..60), of(small()), any::<bool>())
            .prop_map(|(count, config, due, priority, expires, key, refuse)| Op::Enqueue {
                count, config, due, priority, expires, key, refuse,
            }),
        1 => any::<u8>().prop_map(Op::EnqueueAgain),
        3 => (small(), small(), small(), any::<bool>(), any::<bool>(), of(small()), prop::bool::weighted(0.1))
            .prop_map(|(config, slots, overlap, missed, all, skip, stale)| Op::Fire {
                config, slots, overlap, missed, all, skip, stale,
            }),
        1 => Just(Op::FireDue),
        2 => small().prop_map(Op::Sweep),
        5 => (small(), small()).prop_map(|(limit, types)| Op::Claim { limit, types }),
        5 => (any::<u8>(), any::<u8>(), of(small()), any::<bool>(), prop::bool::weighted(0.1), any::<bool>())
            .prop_map(|(which, end, state, pause, wrong, logs)| Op::Finish {
                which, end, state, pause, wrong, logs,
            }),
        2 => any::<u8>().prop_map(|end| Op::FinishAll { end }),
        2 => (any::<u8>(), of(small()), any::<bool>())
            .prop_map(|(which, due, recorded)| Op::Release { which, due, recorded }),
        2 => any::<u8>().prop_map(Op::Cancel),
        1 => any::<u8>().prop_map(Op::Progress),
        1 => Just(Op::Crash),
        1 => (small(), small(), any::<bool>())
            .prop_map(|(config, key, delete)| Op::SetState { config, key, delete }),
    ]
}

async fn both(operations: &[Op]) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let options = SqliteOptions {
        durability: Durability::Normal,
        ..SqliteOptions::default()
    };
    let sqlite = SqliteStore::open(folder.path().join("horarium.db"), options)
        .await
        .map_err(|error| error.to_string())?;
    let sqlite = Arc::new(sqlite);
    let compared = compare(operations, Arc::new(MemoryStore::new()), sqlite.clone()).await;
    sqlite.close().await.map_err(|error| error.to_string())?;
    compared
}

/// How many sequences: few in CI, as many as PROPTEST_CASES says by hand.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(64)
}

/// The comparison itself can fail: a store that holds one execution more is told apart.
#[tokio::test]
async fn a_difference_is_found() {
    let other = Arc::new(MemoryStore::new());
    let lab = Lab::new(other.clone()).await;
    let due = horarium_core::store::conformance::at(0);
    let extra = lab.new_execution(None, due);
    other
        .enqueue_many(due, vec![extra])
        .await
        .expect("enqueues");
    let claim = [Op::Claim { limit: 5, types: 0 }];
    let compared = compare(&claim, Arc::new(MemoryStore::new()), other).await;
    assert!(compared.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_sqlite_answer_alike(operations in prop::collection::vec(operation(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        if let Err(difference) = runtime.block_on(both(&operations)) {
            return Err(TestCaseError::fail(difference));
        }
    }
}

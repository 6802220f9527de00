//! What the stores alone carry: executions through enqueue, claim and complete. SQLite with
//! synchronous=FULL.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use horarium_core::store::conformance::Lab;
use horarium_store::testing::Cluster;
use horarium_store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use std::sync::Arc;

const BATCH: u32 = 64;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn through(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lab = runtime.block_on(async {
        let store = SqliteStore::open(folder.path().join("bench.db"), SqliteOptions::default())
            .await
            .expect("opens");
        Lab::new(Arc::new(store)).await
    });
    let mut group = criterion.benchmark_group("sqlite");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    group.bench_function("enqueue, claim, complete 64", |bencher| {
        bencher.iter(|| runtime.block_on(lab.pass_through(BATCH)));
    });
    group.finish();
}

/// The throwaway server does not flush, as little as a database on a machine of its own waits for its disk
/// once for each of many sessions: this is what the statements cost.
fn through_postgres(criterion: &mut Criterion) {
    let runtime = runtime();
    let cluster = Cluster::start();
    let lab = runtime.block_on(async {
        let options = PostgresOptions {
            migrate: true,
            ..PostgresOptions::default()
        };
        let url = cluster.url(&cluster.database().await);
        let store = PostgresStore::connect(&url, options).await;
        Lab::new(Arc::new(store.expect("connects"))).await
    });
    let mut group = criterion.benchmark_group("postgres");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    group.bench_function("enqueue, claim, complete 64", |bencher| {
        bencher.iter(|| runtime.block_on(lab.pass_through(BATCH)));
    });
    group.finish();
}

criterion_group!(benches, through, through_postgres);
criterion_main!(benches);

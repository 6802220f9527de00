//! What the store alone carries: executions through enqueue, claim and complete, with synchronous=FULL.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use horarium_core::store::conformance::Lab;
use horarium_store::{SqliteOptions, SqliteStore};
use std::sync::Arc;

const BATCH: u32 = 64;

fn through(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
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

criterion_group!(benches, through);
criterion_main!(benches);

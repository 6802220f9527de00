//! One run in a fresh store: the engine as anybody would set it up (`plain`) and our sandbox (`bare`).

use criterion::{Criterion, criterion_group, criterion_main};
use horarium_core::clock::SystemClock;
use horarium_core::control::RunControl;
use horarium_core::runner::{Attempt, AttemptEnd, Intake, Runner};
use horarium_model::task_type::{PluginVersion, VersionState};
use horarium_model::{DEFAULT_TENANT_ID, Limits, Trigger};
use horarium_sandbox::yardstick::Plain;
use horarium_sandbox::{Sandbox, SandboxSettings};
use std::sync::Arc;
use std::time::Duration;

const PARAMETERS: &str = r#"{"name":"bench"}"#;

/// The hello component: `HORARIUM_BENCH_PLUGIN`, or where `cargo xtask plugins` puts it.
fn hello() -> Vec<u8> {
    let built = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/plugins/hello.wasm"
    );
    let path = std::env::var("HORARIUM_BENCH_PLUGIN").unwrap_or_else(|_| built.to_owned());
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}; run `cargo xtask plugins`"))
}

fn attempt(version: &Arc<PluginVersion>) -> Attempt {
    Attempt {
        task_id: uuid::Uuid::nil(),
        tenant_id: DEFAULT_TENANT_ID,
        config_id: None,
        task_name: String::new(),
        version: version.clone(),
        parameters: Arc::from(PARAMETERS),
        attempt: 1,
        max_attempts: 1,
        slot: None,
        trigger: Trigger::Manual,
        parent_task_id: None,
        retry_of: None,
        trace: None,
        timeout: Duration::from_secs(60),
        limits: Limits::default(),
        grants: Arc::from([]),
        state: None,
        given: Default::default(),
    }
}

async fn register(sandbox: &Sandbox, bytes: Vec<u8>) -> Arc<PluginVersion> {
    let (inspection, compile) = sandbox.inspect(bytes).await.expect("a plugin");
    compile.await.expect("compiles");
    Arc::new(PluginVersion {
        tenant_id: DEFAULT_TENANT_ID,
        task_type: "hello".to_owned(),
        digest: inspection.digest,
        state: VersionState::Ready,
        error: None,
        size_bytes: inspection.size_bytes,
        descriptor: Default::default(),
        grants: Vec::new(),
        limits: Default::default(),
        input: Default::default(),
        activate: true,
        grant_asked: false,
        warnings: Vec::new(),
        created_at: chrono::DateTime::UNIX_EPOCH,
    })
}

fn run(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let bytes = hello();
    let plain = Arc::new(Plain::new(&bytes).expect("compiles"));
    let sandbox = Sandbox::new(
        SandboxSettings::new(16, "bench"),
        Arc::new(SystemClock::new()),
    );
    let sandbox = sandbox.expect("a sandbox");
    let version = runtime.block_on(register(&sandbox, bytes));
    let mut group = c.benchmark_group("run");
    for workers in [1_u64, 2] {
        group.throughput(criterion::Throughput::Elements(workers * 100));
        group.bench_function(format!("plain, {workers} workers"), |b| {
            b.iter(|| {
                let tasks: Vec<_> = (0..workers)
                    .map(|_| {
                        let plain = plain.clone();
                        runtime.spawn(async move {
                            for _ in 0..100 {
                                plain.run_once(PARAMETERS).await.expect("runs");
                            }
                        })
                    })
                    .collect();
                runtime.block_on(async {
                    for task in tasks {
                        task.await.expect("no panic");
                    }
                });
            });
        });
        group.bench_function(format!("bare, {workers} workers"), |b| {
            b.iter(|| {
                let tasks: Vec<_> = (0..workers)
                    .map(|_| {
                        let (sandbox, version) = (sandbox.clone(), version.clone());
                        runtime.spawn(async move {
                            for _ in 0..100 {
                                let control = Arc::new(RunControl::new(128 << 10, 1));
                                let outcome = sandbox.run(attempt(&version), control).await;
                                assert!(matches!(outcome.end, AttemptEnd::Succeeded(_)));
                            }
                        })
                    })
                    .collect();
                runtime.block_on(async {
                    for task in tasks {
                        task.await.expect("no panic");
                    }
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, run);
criterion_main!(benches);

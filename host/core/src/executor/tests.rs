//! A whole executor over the memory store.

use super::*;
use crate::observe::Recorded;
use crate::runner::{Attempt, AttemptEnd, ComponentSource, Outcome, Runner};
use crate::store::conformance::{Lab, SetClock, at, register};
use crate::store::memory::MemoryStore;
use horarium_model::task_type::PluginVersion;
use horarium_model::{DEFAULT_TENANT_ID, Invalid, Usage};
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// Guests that answer at once.
struct Prompt;

#[async_trait::async_trait]
impl Runner for Prompt {
    async fn prepare(&self, _: &PluginVersion, _: ComponentSource) -> Result<(), String> {
        Ok(())
    }

    async fn check_parameters(&self, _: &PluginVersion, given: Value) -> Result<Value, Invalid> {
        Ok(given)
    }

    async fn run(&self, _: Attempt, _: Arc<RunControl>) -> Outcome {
        Outcome {
            end: AttemptEnd::Succeeded("1".into()),
            usage: Usage::default(),
            state: None,
        }
    }
}

/// Tells what happens.
struct Bells(mpsc::UnboundedSender<&'static str>);

impl Observer for Bells {
    fn started(&self, _: &str, _: Duration) {
        let _ = self.0.send("claimed");
    }

    fn recorded(&self, _: &Recorded<'_>) {
        let _ = self.0.send("recorded");
    }
}

/// Its end is its start and its length: one that waited for a thread would end before what it did.
#[tokio::test]
async fn an_attempt_starts_when_it_begins_not_when_it_is_claimed() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let lab = Lab::new(store.clone()).await;
    let registered = register(&*store, at(0), DEFAULT_TENANT_ID, "echo").await;
    registered.expect("is ready");
    let registry = Arc::new(Registry::new(store.clone(), Arc::new(Prompt)));
    let wakes = Arc::new(Wakes::default());
    registry.refresh().await.expect("the catalog is read");
    registry.prepare_missing(&wakes).await;
    let new = lab.new_execution(None, at(0));
    let task_id = new.task_id;
    store
        .enqueue_many(at(0), vec![new])
        .await
        .expect("enqueues");
    let clock = Arc::new(SetClock::at(at(0)));
    let (bells, mut heard) = mpsc::unbounded_channel();
    let guests = Builder::new_current_thread().build().expect("a runtime");
    let parts = Parts {
        configs: Arc::new(ConfigCache::new(store.clone())),
        store,
        registry,
        clock: clock.clone(),
        wakes,
        observer: Arc::new(Bells(bells)),
        keyring: Arc::default(),
    };
    let settings = ExecutorSettings {
        slots: 1,
        host_name: "here".to_owned(),
        version: "0".to_owned(),
        memory: MemoryBudget::new(u64::MAX),
        grace: Duration::ZERO,
        limits: LimitOverrides::default(),
        trace_sample: None,
        alerts: None,
        guests: guests.handle().clone(),
    };
    let executor = Executor::start(parts, settings).await.expect("starts");
    let shutdown = CancellationToken::new();
    let executing = tokio::spawn(executor.run(shutdown.clone()));
    assert_eq!(heard.recv().await, Some("claimed"));
    // Nobody runs guests yet.
    clock.set(at(5));
    let (done, over) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || guests.block_on(over));
    assert_eq!(heard.recv().await, Some("recorded"));
    shutdown.cancel();
    executing.await.expect("ends");
    done.send(()).expect("it waits");
    thread.join().expect("ends").expect("is told");
    let shown = lab.show(task_id).await;
    assert_eq!(
        (shown.started_at, shown.completed_at),
        (Some(at(5)), Some(at(5)))
    );
    assert_eq!(shown.usage.map(|usage| usage.queued_seconds), Some(5.0));
}

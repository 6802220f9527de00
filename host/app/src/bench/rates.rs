//! `plain` and `bare`: the same guest without a store, in a plain engine and in our sandbox.

use super::lab::Lab;
use super::{BenchError, Stopwatch, cores};
use futures_util::future::BoxFuture;
use horarium_core::control::RunControl;
use horarium_core::runner::{Attempt, AttemptEnd, Runner};
use horarium_core::scheduler::new_task_id;
use horarium_model::task_type::PluginVersion;
use horarium_model::{DEFAULT_TENANT_ID, Timestamp, Trigger, Usage};
use horarium_sandbox::Sandbox;
use horarium_sandbox::yardstick::Plain;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long a rate is measured, and how long it warms up before.
const SPAN: Duration = Duration::from_millis(1500);
const WARM_UP: Duration = Duration::from_millis(300);

/// Longest time of a run.
const PATIENCE: Duration = Duration::from_secs(600);

/// One run of the guest; an error ends the measurement.
type Once = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Runs a second of the yardstick.
pub(super) async fn plain(lab: &Lab, plain: &Arc<Plain>) -> Result<f64, BenchError> {
    let plain = plain.clone();
    let once: Once = Arc::new(move || {
        let plain = plain.clone();
        Box::pin(async move { plain.run_once("{}").await.map(|_| ()) })
    });
    rate(lab, once).await
}

/// Runs a second of our sandbox.
pub(super) async fn bare(lab: &Lab, version: &Arc<PluginVersion>) -> Result<f64, BenchError> {
    let (sandbox, version) = (lab.sandbox.clone(), version.clone());
    let parameters = sandbox
        .check_parameters(&version, serde_json::json!({}))
        .await
        .map_err(|invalid| BenchError::Refused(invalid.to_string()))?;
    let parameters: Arc<str> = Arc::from(parameters.to_string());
    let once: Once = Arc::new(move || {
        let (sandbox, attempt) = (sandbox.clone(), attempt(&version, &parameters));
        Box::pin(async move { run_once(&sandbox, attempt).await.map(|_| ()) })
    });
    rate(lab, once).await
}

/// An attempt of the guest, with the limits and grants it was registered with.
pub(super) fn attempt(version: &Arc<PluginVersion>, parameters: &Arc<str>) -> Attempt {
    Attempt {
        task_id: new_task_id(Timestamp::UNIX_EPOCH),
        tenant_id: DEFAULT_TENANT_ID,
        config_id: None,
        task_name: "bench".to_owned(),
        version: version.clone(),
        parameters: parameters.clone(),
        attempt: 1,
        max_attempts: 1,
        slot: None,
        trigger: Trigger::Manual,
        parent_task_id: None,
        retry_of: None,
        trace: None,
        timeout: PATIENCE,
        limits: version.limits.complete(),
        grants: version.grants.as_slice().into(),
        state: None,
        given: Default::default(),
    }
}

/// Runs it; what it used.
pub(super) async fn run_once(sandbox: &Sandbox, attempt: Attempt) -> Result<Usage, String> {
    let control = Arc::new(RunControl::new(attempt.limits.log_bytes, 1));
    let outcome = sandbox.run(attempt, control).await;
    match outcome.end {
        AttemptEnd::Succeeded(_) => Ok(outcome.usage),
        AttemptEnd::Failed(failure) => Err(format!("{}: {}", failure.kind, failure.message)),
        AttemptEnd::Stopped(reason) => Err(format!("stopped: {reason:?}")),
        AttemptEnd::HandedBack(reason) | AttemptEnd::NoMemory(reason) => Err(reason),
    }
}

/// Runs a second, one worker for each core.
async fn rate(lab: &Lab, once: Once) -> Result<f64, BenchError> {
    let done = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..cores())
        .map(|_| {
            let (once, done, stop) = (once.clone(), done.clone(), stop.clone());
            lab.guests.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    once().await?;
                    done.fetch_add(1, Ordering::Relaxed);
                    // As between any two runs of a server: others get their turn.
                    tokio::task::yield_now().await;
                }
                Ok::<(), String>(())
            })
        })
        .collect();
    let rate = steady(&done).await;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker
            .await
            .map_err(BenchError::failed)?
            .map_err(|error| BenchError::Refused(format!("the plugin failed: {error}")))?;
    }
    Ok(rate)
}

/// How many a second `done` counts once whoever counts it is warm.
pub(super) async fn steady(done: &AtomicU64) -> f64 {
    tokio::time::sleep(WARM_UP).await;
    let before = done.load(Ordering::Relaxed);
    let watch = Stopwatch::start();
    tokio::time::sleep(SPAN).await;
    watch.rate(done.load(Ordering::Relaxed) - before)
}

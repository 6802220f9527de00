//! `bench drain`: a full queue, emptied by the whole host.

use super::ends::Ends;
use super::lab::Lab;
use super::lab_host::LabHost;
use super::statistics::{median, rounded};
use super::{BenchError, Options, Stopwatch, bytes, cores, rates, rest};
use horarium_core::clock::Clock;
use horarium_core::config_cache::{Overrides, freeze};
use horarium_core::scheduler::new_task_id;
use horarium_core::store::{EnqueueReceipt, NewExecution};
use horarium_model::Trigger;
use horarium_sandbox::yardstick::Plain;
use serde_json::{Value, json};
use std::sync::Arc;

/// Executions enqueued by one call, as a batch of REST's would be; fewer where their parameters are more than this.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 32 << 20;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct DrainOptions {
    pub(crate) common: Options,
    /// Executions in the queue.
    pub(crate) tasks: usize,
    /// How often everything is measured; the medians are reported.
    pub(crate) runs: usize,
    /// Also with parameters and results of so many bytes.
    pub(crate) parameters_bytes: Option<usize>,
}

/// Figures of one run.
struct Run {
    plain: f64,
    bare: f64,
    enqueue: f64,
    drain: f64,
    rest: rest::Enqueued,
}

impl Run {
    fn drain_over_plain(&self) -> f64 {
        self.drain / self.plain
    }

    fn bare_over_plain(&self) -> f64 {
        self.bare / self.plain
    }

    /// What keeping everything costs an execution, in microseconds of one core.
    fn overhead_us(&self) -> f64 {
        f64::from(cores()) * 1e6 * (1.0 / self.drain - 1.0 / self.bare)
    }

    fn document(&self) -> Value {
        json!({
            "plain_per_second": rounded(self.plain),
            "bare_per_second": rounded(self.bare),
            "enqueue_per_second": rounded(self.enqueue),
            "enqueue_single_per_second": rounded(self.rest.single),
            "enqueue_batch_per_second": rounded(self.rest.batch),
            "drain_per_second": rounded(self.drain),
            "drain_over_plain": rounded(self.drain_over_plain()),
            "bare_over_plain": rounded(self.bare_over_plain()),
            "overhead_us": rounded(self.overhead_us()),
        })
    }
}

/// Measures and returns the document of the contract; `progress` hears what is being done.
pub(crate) fn drain(
    options: &DrainOptions,
    progress: &dyn Fn(String),
) -> Result<Value, BenchError> {
    let lab = Lab::new(&options.common)?;
    progress("compiling the plugin".to_owned());
    let yardstick = Plain::new(&lab.component).map_err(BenchError::failed)?;
    let yardstick = Arc::new(yardstick);
    let mut runs = Vec::with_capacity(options.runs);
    for number in 1..=options.runs {
        let say = |what: &str| progress(format!("run {number} of {}: {what}", options.runs));
        let measured = measure(&lab, &yardstick, options.tasks, number, &say);
        runs.push(lab.measured(measured)?);
    }
    let mut document = document(&lab, options, &runs);
    if let Some(most) = options.parameters_bytes {
        let measured = bytes::measure(&lab, most, options.tasks, progress);
        document["payload"] = lab.measured(measured)?;
    }
    Ok(document)
}

async fn measure(
    lab: &Lab,
    yardstick: &Arc<Plain>,
    tasks: usize,
    number: usize,
    say: &dyn Fn(&str),
) -> Result<Run, BenchError> {
    let host = LabHost::open(lab, number).await?;
    say("plain engine");
    let plain = rates::plain(lab, yardstick).await?;
    say("sandbox alone");
    let bare = rates::bare(lab, &host.version).await?;
    say("filling the queue");
    let enqueue = fill(&host, tasks).await?;
    say("draining the queue");
    let drain = empty(lab, &host, tasks).await?;
    say("enqueueing over REST");
    let rest = rest::enqueue(&host).await?;
    host.close().await?;
    Ok(Run {
        plain,
        bare,
        enqueue,
        drain,
        rest,
    })
}

/// Enqueues `tasks` executions; returns how many a second.
pub(super) async fn fill(host: &LabHost, tasks: usize) -> Result<f64, BenchError> {
    let now = host.clock.now();
    let template = freeze(
        &host.config,
        &host.registry,
        new_task_id(now),
        Trigger::Batch,
        now,
        Overrides::default(),
    )
    .await;
    let fitting = BATCH_BYTES / template.parameters.len().max(1);
    let batch = fitting.clamp(1, BATCH);
    let watch = Stopwatch::start();
    let mut left = tasks;
    while left > 0 {
        let count = left.min(batch);
        let now = host.clock.now();
        let items: Vec<NewExecution> = (0..count)
            .map(|_| NewExecution {
                task_id: new_task_id(now),
                due_at: now,
                ..template.clone()
            })
            .collect();
        let receipts = host
            .store
            .enqueue_many(now, items)
            .await
            .map_err(BenchError::failed)?;
        let refused = receipts
            .iter()
            .find(|receipt| !matches!(receipt, EnqueueReceipt::Enqueued { .. }));
        if let Some(receipt) = refused {
            return Err(BenchError::Failed(format!(
                "the store refused an execution: {receipt:?}"
            )));
        }
        left -= count;
    }
    Ok(watch.rate(tasks as u64))
}

/// Executes everything that waits; returns how many a second, from the executor's start to the last
/// recorded end.
pub(super) async fn empty(lab: &Lab, host: &LabHost, tasks: usize) -> Result<f64, BenchError> {
    let ends = Arc::new(Ends::wanted(tasks));
    let watch = Stopwatch::start();
    let executing = host.execute(lab, ends.clone()).await?;
    let outcome = ends.all().await;
    let rate = watch.rate(tasks as u64);
    executing.stop().await?;
    outcome.map(|()| rate)
}

fn document(lab: &Lab, options: &DrainOptions, runs: &[Run]) -> Value {
    let middle = |figure: fn(&Run) -> f64| {
        let values: Vec<f64> = runs.iter().map(figure).collect();
        rounded(median(&values))
    };
    json!({
        "plain_per_second": middle(|run| run.plain),
        "bare_per_second": middle(|run| run.bare),
        "enqueue_per_second": middle(|run| run.enqueue),
        "enqueue_single_per_second": middle(|run| run.rest.single),
        "enqueue_batch_per_second": middle(|run| run.rest.batch),
        "enqueue_clients": rest::CLIENTS,
        "enqueue_batch": rest::BATCH,
        "drain_per_second": middle(|run| run.drain),
        "drain_over_plain": middle(Run::drain_over_plain),
        "bare_over_plain": middle(Run::bare_over_plain),
        "overhead_us": middle(Run::overhead_us),
        "tasks": options.tasks,
        "workers": cores(),
        "slots": lab.slots,
        "store": lab.store_name(),
        "pooling": lab.sandbox.stats().pooling,
        "optimised": !cfg!(debug_assertions),
        "runs": runs.iter().map(Run::document).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_is_what_a_core_spends_beside_the_guest() {
        let run = Run {
            plain: 10_000.0,
            bare: 20_000.0,
            enqueue: 5_000.0,
            drain: 8_000.0,
            rest: rest::Enqueued {
                single: 4_000.0,
                batch: 90_000.0,
            },
        };
        let expected = f64::from(cores()) * 75.0;
        assert!((run.overhead_us() - expected).abs() < 1e-6);
        assert!((run.drain_over_plain() - 0.8).abs() < 1e-12);
        assert_eq!(run.document()["bare_over_plain"], 2.0);
    }
}

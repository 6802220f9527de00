//! `bench latency`: from a trigger by REST, before the request is sent, to the start, and to the recorded end, on a host
//! with nothing else to do. On PostgreSQL also to the start on another host than the one that was asked.

use super::lab::Lab;
use super::lab_host::LabHost;
use super::rest::{Rest, trigger};
use super::statistics::{percentile, rounded};
use super::{BenchError, Options, Stopwatch};
use crate::client::Client;
use horarium_core::observe::{Observer, Recorded};
use horarium_core::service::Services;
use horarium_core::store::Store;
use horarium_core::wake::Wakes;
use horarium_model::ConfigId;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct LatencyOptions {
    pub(crate) common: Options,
    /// Triggers, one after another.
    pub(crate) tasks: usize,
}

/// Triggers before the first that counts.
const WARM_UP: usize = 20;
/// Between two triggers: the host comes to rest.
const PAUSE: Duration = Duration::from_millis(10);
/// There is one run, with a database of its own.
const RUN: usize = 1;
/// Longest wait for one execution.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the host tells, and when on our watch.
enum Event {
    Started(Duration),
    Recorded(Duration),
}

struct Listener {
    watch: Stopwatch,
    events: mpsc::UnboundedSender<Event>,
}

impl Observer for Listener {
    fn started(&self, _task_type: &str, _queued: Duration) {
        let _ = self.events.send(Event::Started(self.watch.elapsed()));
    }

    fn recorded(&self, _event: &Recorded<'_>) {
        let _ = self.events.send(Event::Recorded(self.watch.elapsed()));
    }
}

/// Milliseconds from the trigger.
struct Sample {
    start: f64,
    recorded: f64,
}

/// Measures and returns the document of the contract; `progress` hears what is being done.
pub(crate) fn latency(
    options: &LatencyOptions,
    progress: &dyn Fn(String),
) -> Result<Value, BenchError> {
    let lab = Lab::new(&options.common)?;
    progress("compiling the plugin".to_owned());
    let (samples, other) = lab.measured(measure(&lab, options.tasks, progress))?;
    let mut figures = json!({
        "start_ms": spread(&samples, |sample| sample.start),
        "recorded_ms": spread(&samples, |sample| sample.recorded),
        "tasks": samples.len(),
        "store": lab.store_name(),
        "optimised": !cfg!(debug_assertions),
    });
    if !other.is_empty() {
        figures["pickup_other_ms"] = spread(&other, |sample| sample.start);
    }
    Ok(figures)
}

fn spread(samples: &[Sample], figure: fn(&Sample) -> f64) -> Value {
    let values: Vec<f64> = samples.iter().map(figure).collect();
    json!({
        "p50": rounded(percentile(&values, 0.50)),
        "p99": rounded(percentile(&values, 0.99)),
    })
}

/// Samples of triggers at the host itself, and of triggers at another host on its database.
async fn measure(
    lab: &Lab,
    tasks: usize,
    progress: &dyn Fn(String),
) -> Result<(Vec<Sample>, Vec<Sample>), BenchError> {
    let host = LabHost::open(lab, RUN).await?;
    let (sender, mut events) = mpsc::unbounded_channel();
    let listener = Arc::new(Listener {
        watch: Stopwatch::start(),
        events: sender,
    });
    let executing = host.execute(lab, listener.clone()).await?;
    let mut ask =
        async |services: &Services, store: &Arc<dyn Store>, wakes: &Arc<Wakes>, what: &str| {
            let rest = Rest::serve(services, store, wakes, &host.clock).await?;
            let client = Arc::new(rest.client());
            let mut samples = Vec::with_capacity(tasks);
            for number in 0..WARM_UP + tasks {
                let sample = one(host.task(), &client, &listener, &mut events).await?;
                if number >= WARM_UP {
                    samples.push(sample);
                }
                if number % 20 == 0 {
                    progress(format!("{number} of {} triggers{what}", WARM_UP + tasks));
                }
                tokio::time::sleep(PAUSE).await;
            }
            drop(client);
            rest.close().await?;
            Ok::<_, BenchError>(samples)
        };
    let samples = ask(&host.services, &host.store, &host.wakes, "").await?;
    let mut other = Vec::new();
    if let Some(neighbour) = host.neighbour(lab, RUN).await? {
        let listening = host.listen();
        let store = neighbour.store();
        other = ask(
            &neighbour.services,
            &store,
            &Arc::default(),
            " at another host",
        )
        .await?;
        if let Some(listening) = listening {
            listening.abort();
        }
        neighbour.close().await;
    }
    executing.stop().await?;
    host.close().await?;
    Ok((samples, other))
}

async fn one(
    task: ConfigId,
    client: &Arc<Client>,
    listener: &Arc<Listener>,
    events: &mut mpsc::UnboundedReceiver<Event>,
) -> Result<Sample, BenchError> {
    let (client, watch) = (client.clone(), listener.clone());
    let asking = tokio::task::spawn_blocking(move || {
        let from = watch.watch.elapsed();
        trigger(&client, task).map(|_| from)
    });
    let from = asking.await.map_err(BenchError::failed)??;
    let milliseconds = |at: Duration| at.saturating_sub(from).as_secs_f64() * 1e3;
    let mut start = None;
    loop {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await;
        let event = event
            .ok()
            .flatten()
            .ok_or_else(|| BenchError::Failed("an execution did not end in time".to_owned()))?;
        match (event, start) {
            (Event::Started(at), _) => start = Some(milliseconds(at)),
            (Event::Recorded(at), Some(start)) => {
                return Ok(Sample {
                    start,
                    recorded: milliseconds(at),
                });
            }
            (Event::Recorded(_), None) => {}
        }
    }
}

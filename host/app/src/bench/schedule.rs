//! `bench schedule`: many cron configs, of which some are due each second; whether each fired once, and how late.

use super::lab::Lab;
use super::lab_host::{LabHost, TASK_TYPE};
use super::statistics::{percentile, rounded};
use super::{BenchError, Options, Stopwatch};
use futures_util::{StreamExt, TryStreamExt};
use horarium_core::clock::Clock;
use horarium_core::observe::Observer;
use horarium_core::store::{ExecutionFilter, Page};
use horarium_model::schedule::Overlap;
use horarium_model::{ConfigId, DEFAULT_TENANT_ID, State, TaskSpec, Timestamp};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct ScheduleOptions {
    pub(crate) common: Options,
    /// Cron configs in all.
    pub(crate) configs: usize,
    /// How many of them are due in each second of the measurement, each once.
    pub(crate) due_per_second: usize,
    /// Seconds of the measurement.
    pub(crate) seconds: usize,
}

impl ScheduleOptions {
    fn due(&self) -> usize {
        self.due_per_second * self.seconds
    }
}

/// Configs that are written at the same time.
const WRITERS: usize = 256;
/// Longest wait for what is still to fire, or to end, after the last second.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what is done.
const LOOK: Duration = Duration::from_millis(100);

/// Milliseconds after the slot.
#[derive(Default)]
struct Samples {
    fired: Vec<f64>,
    started: Vec<f64>,
    ended: usize,
}

#[derive(Default)]
struct Listener(Mutex<Samples>);

impl Listener {
    fn samples(&self) -> std::sync::MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Listener {
    fn fired(&self, lateness: Duration) {
        self.samples().fired.push(lateness.as_secs_f64() * 1e3);
    }

    fn started(&self, _task_type: &str, queued: Duration) {
        self.samples().started.push(queued.as_secs_f64() * 1e3);
    }

    fn recorded(&self, _event: &horarium_core::observe::Recorded<'_>) {
        self.samples().ended += 1;
    }
}

/// Measures and returns the document of the contract; `progress` hears what is being done.
pub(crate) fn schedule(
    options: &ScheduleOptions,
    progress: &dyn Fn(String),
) -> Result<Value, BenchError> {
    if options.due() > options.configs {
        return Err(BenchError::Refused(format!(
            "{} due each second for {} s are {} slots, each of a config of its own, and there are {} configs; \
             raise --configs, or lower --due-per-second or --for",
            options.due_per_second,
            options.seconds,
            options.due(),
            options.configs
        )));
    }
    let lab = Lab::new(&options.common)?;
    progress("compiling the plugin".to_owned());
    lab.measured(measure(&lab, options, progress))
}

async fn measure(
    lab: &Lab,
    options: &ScheduleOptions,
    progress: &dyn Fn(String),
) -> Result<Value, BenchError> {
    let host = LabHost::open(lab, 1).await?;
    let watch = Stopwatch::start();
    let idle = options.configs - options.due();
    let now = host.clock.now();
    let far = |number| far_from(now, number);
    write(&host, idle, Overlap::Skip, far, progress).await?;
    // How long the others will take, and as much again: machines are not steady.
    let seconds = options.due() as f64 * watch.elapsed().as_secs_f64() / idle.max(1) as f64;
    let lead = chrono::Duration::milliseconds((seconds * 2000.0) as i64 + 5000);
    let begin = host.clock.now() + lead;
    let begin = Timestamp::from_timestamp(begin.timestamp(), 0).unwrap_or(begin);
    let slot_of = |number: usize| {
        let second = number / options.due_per_second.max(1);
        begin + chrono::Duration::seconds(i64::try_from(second).unwrap_or(0))
    };
    let hourly = |number: usize| slot_of(number).format("%-S %-M * * * *").to_string();
    write(&host, options.due(), Overlap::Skip, hourly, progress).await?;
    let created = watch.rate(options.configs as u64);
    let left = (begin - host.clock.now()).to_std().unwrap_or_default();
    if left < Duration::from_secs(2) {
        return Err(BenchError::Failed(
            "writing the tasks took longer than foreseen: their first slots have passed; try again"
                .to_owned(),
        ));
    }
    let listener = Arc::new(Listener::default());
    let executing = host.fire_and_execute(lab, listener.clone()).await?;
    let end = slot_of(options.due());
    while host.clock.now() < end {
        let fired = listener.samples().fired.len();
        progress(format!("{fired} of {} fired", options.due()));
        tokio::time::sleep(LOOK).await;
    }
    let watch = Stopwatch::start();
    while listener.samples().ended < options.due() && watch.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK).await;
    }
    executing.stop().await?;
    progress("counting".to_owned());
    let kept = Kept::read(&host, begin, end).await?;
    host.close().await?;
    let samples = std::mem::take(&mut *listener.samples());
    Ok(json!({
        "configs": options.configs,
        "due_per_second": options.due_per_second,
        "seconds": options.seconds,
        "due": options.due(),
        "fired": kept.fired,
        "doubled": kept.doubled,
        "missed": options.due().saturating_sub(kept.distinct),
        "skipped": kept.skipped,
        "ended": samples.ended,
        "lateness_ms": spread(&samples.fired),
        "started_ms": spread(&samples.started),
        "created_per_second": rounded(created),
        "slots": lab.slots,
        "store": lab.store_name(),
        "optimised": !cfg!(debug_assertions),
    }))
}

fn spread(values: &[f64]) -> Value {
    json!({
        "p50": rounded(percentile(values, 0.50)),
        "p99": rounded(percentile(values, 0.99)),
        "max": rounded(values.iter().copied().fold(0.0, f64::max)),
    })
}

/// A daily expression whose slot is at least an hour away from now, whatever the number.
pub(super) fn far_from(now: Timestamp, number: usize) -> String {
    let seconds = 3600 + (i64::try_from(number).unwrap_or(0) * 79) % (22 * 3600);
    let slot = now + chrono::Duration::seconds(seconds);
    slot.format("%-S %-M %-H * * *").to_string()
}

/// Writes `count` cron configs, many at the same time.
pub(super) async fn write(
    host: &LabHost,
    count: usize,
    overlap: Overlap,
    expression: impl Fn(usize) -> String,
    progress: &dyn Fn(String),
) -> Result<(), BenchError> {
    let one = |number: usize| {
        let body = json!({"name": "bench", "task_type": TASK_TYPE, "scheduler_type": "cron", "max_retries": 0,
            "overlap": overlap.as_str(), "schedule_config": {"cron_expression": expression(number)}});
        async move {
            if number.is_multiple_of(1000) {
                progress(format!("{number} of {count} configs written"));
            }
            let now = host.clock.now();
            let spec = TaskSpec::from_json(&body, now, None).map_err(BenchError::failed)?;
            let written = host.store.create_config(now, DEFAULT_TENANT_ID, spec).await;
            written.map(|_| ()).map_err(BenchError::failed)
        }
    };
    futures_util::stream::iter((0..count).map(one))
        .buffer_unordered(WRITERS)
        .try_collect()
        .await
}

/// What the database says of the slots.
#[derive(Default)]
struct Kept {
    fired: usize,
    distinct: usize,
    doubled: usize,
    skipped: usize,
}

impl Kept {
    /// Counts the executions and skipped slots in `[begin, end)`.
    async fn read(host: &LabHost, begin: Timestamp, end: Timestamp) -> Result<Self, BenchError> {
        let mut kept = Self::default();
        let mut seen: HashMap<(ConfigId, Timestamp), usize> = HashMap::new();
        let filter = ExecutionFilter::default();
        let mut page = Page::first(Page::MAX);
        loop {
            let listing = host.store.executions(DEFAULT_TENANT_ID, &filter, &page);
            let listing = listing.await.map_err(BenchError::failed)?;
            for row in listing.items {
                let slot = row.slot.filter(|slot| begin <= *slot && *slot < end);
                match (row.config_id, slot, row.state) {
                    (Some(_), Some(_), State::Skipped) => kept.skipped += 1,
                    (Some(config), Some(slot), _) => *seen.entry((config, slot)).or_default() += 1,
                    _ => {}
                }
            }
            match listing.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        kept.distinct = seen.len();
        kept.fired = seen.values().sum();
        kept.doubled = kept.fired - kept.distinct;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_due_lies_an_hour_away_or_more() {
        let now: Timestamp = "2026-07-01T23:59:58Z".parse().expect("an instant");
        for number in (0..100_000).step_by(37) {
            let expression = far_from(now, number);
            let schedule = horarium_model::cron::CronSchedule::parse(&expression, "UTC", 0);
            let next = schedule.expect("valid").next_after(now).expect("a slot");
            assert!(next - now >= chrono::Duration::hours(1), "{expression}");
            assert!(next - now < chrono::Duration::hours(24), "{expression}");
        }
    }

    #[test]
    fn more_slots_than_configs_are_refused() {
        let options = ScheduleOptions {
            common: Options {
                plugin: None,
                database_url: None,
                slots: 1,
            },
            configs: 100,
            due_per_second: 20,
            seconds: 6,
        };
        let refused = schedule(&options, &|_| {}).expect_err("refused");
        assert!(refused.to_string().contains("120 slots"), "{refused}");
    }
}

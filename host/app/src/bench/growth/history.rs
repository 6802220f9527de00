//! Costs by history: of a run, and of pages of the list.

use super::{BenchError, GrowthOptions, Point, run, sizes};
use crate::bench::Stopwatch;
use crate::bench::lab::Lab;
use crate::bench::lab_host::{LabHost, TASK_TYPE};
use crate::bench::statistics::median;
use futures_util::{StreamExt, TryStreamExt};
use horarium_core::clock::Clock;
use horarium_core::scheduler::new_task_id;
use horarium_core::store::{EndedElsewhere, ExecutionFilter, Page};
use horarium_model::{ConfigId, DEFAULT_TENANT_ID, State, TaskSpec, Timestamp};
use serde_json::json;

/// Ended executions of one call: as many as an import takes.
const CALL: usize = 1000;
/// Calls under way at once.
const CALLS: usize = 4;
/// One of so many has failed, and one is of another task.
const SELDOM: usize = 20;
/// Rows of a page.
const PAGE: u32 = 50;
/// How often a page is read for a point, and before that.
const READS: usize = 21;
const WARM_UP: usize = 3;
/// Ends lie so far apart: ten million of them are a month.
const APART_MS: i64 = 250;

pub(super) async fn measure(
    lab: &Lab,
    options: &GrowthOptions,
    say: &dyn Fn(String),
) -> Result<Vec<Point>, BenchError> {
    let host = LabHost::open(lab, 1).await?;
    let past = Past::of(&host).await?;
    let mut points = Vec::new();
    let mut held = 0;
    for size in sizes(options.up_to) {
        past.bring(&host, held, size, say).await?;
        held = size;
        say(format!("running with {size} rows of history"));
        let (us, cpu) = run(lab, &host, options).await?;
        points.push(Point {
            cost: "run",
            size,
            us,
            cpu_us: Some(cpu),
        });
        say(format!("listing {size} rows of history"));
        points.extend(pages(&host, &past, size).await?);
    }
    host.close().await?;
    Ok(points)
}

/// Executions that ended before the measurement.
struct Past {
    since: Timestamp,
    /// The task of most, and that of a few.
    often: ConfigId,
    seldom: ConfigId,
}

impl Past {
    async fn of(host: &LabHost) -> Result<Self, BenchError> {
        let now = host.clock.now();
        let body = json!({"name": "seldom", "task_type": TASK_TYPE, "scheduler_type": "manual"});
        let spec = TaskSpec::from_json(&body, now, None).map_err(BenchError::failed)?;
        let created = host.store.create_config(now, DEFAULT_TENANT_ID, spec).await;
        Ok(Self {
            since: now - chrono::Duration::days(30),
            often: host.task(),
            seldom: created.map_err(BenchError::failed)?.id,
        })
    }

    /// Brings in the executions from number `from` to below `to`.
    async fn bring(
        &self,
        host: &LabHost,
        from: usize,
        to: usize,
        say: &dyn Fn(String),
    ) -> Result<(), BenchError> {
        let calls = (from..to).step_by(CALL).map(|first| async move {
            if first.is_multiple_of(10 * CALL) {
                say(format!("{first} of {to} rows of history brought in"));
            }
            let items: Vec<_> = (first..to.min(first + CALL))
                .map(|n| self.ended(n))
                .collect();
            let taken = host.store.take_in(DEFAULT_TENANT_ID, items).await;
            match taken.map_err(BenchError::failed)?.contains(&false) {
                false => Ok(()),
                true => Err(BenchError::Failed(
                    "the store did not take history in".to_owned(),
                )),
            }
        });
        futures_util::stream::iter(calls)
            .buffered(CALLS)
            .try_collect()
            .await
    }

    fn ended(&self, number: usize) -> EndedElsewhere {
        let after = i64::try_from(number).unwrap_or(0) * APART_MS;
        let started = self.since + chrono::Duration::milliseconds(after);
        let is_success = !number.is_multiple_of(SELDOM);
        let is_seldom = number % SELDOM == SELDOM / 2;
        EndedElsewhere {
            task_id: new_task_id(started),
            config_id: Some(if is_seldom { self.seldom } else { self.often }),
            task_type: TASK_TYPE.to_owned(),
            is_success,
            started_at: Some(started),
            completed_at: started + chrono::Duration::milliseconds(20),
            duration_seconds: Some(0.02),
            result: is_success
                .then(|| json!({"greeting": "Hello, world!", "fib": 12_586_269_025_u64})),
            error_message: (!is_success)
                .then(|| format!("the other side was not there ({number})")),
            error_traceback: None,
            notes: Vec::new(),
        }
    }
}

/// Points of the pages that are full: one with less on it is another cost.
async fn pages(host: &LabHost, past: &Past, size: usize) -> Result<Vec<Point>, BenchError> {
    let all = ExecutionFilter::default();
    let newest = page(host, &all, None).await?.2.unwrap_or(0);
    let failed = ExecutionFilter {
        states: vec![State::Failed],
        ..ExecutionFilter::default()
    };
    let seldom = ExecutionFilter {
        config_id: Some(past.seldom),
        ..ExecutionFilter::default()
    };
    let mut points = Vec::new();
    for (cost, filter, after) in [
        ("list", &all, None),
        ("list_failed", &failed, None),
        ("list_task", &seldom, None),
        ("list_deep", &all, Some(newest / 2)),
    ] {
        let mut times = Vec::with_capacity(READS);
        let mut rows = 0;
        for read in 0..WARM_UP + READS {
            let (us, found, _) = page(host, filter, after).await?;
            rows = found;
            if read >= WARM_UP {
                times.push(us);
            }
        }
        if rows == PAGE as usize {
            points.push(Point {
                cost,
                size,
                us: median(&times),
                cpu_us: None,
            });
        }
    }
    Ok(points)
}

/// Reads a page: how many microseconds it took, how many rows it has, and the highest id.
async fn page(
    host: &LabHost,
    filter: &ExecutionFilter,
    after: Option<i64>,
) -> Result<(f64, usize, Option<i64>), BenchError> {
    let page = Page { limit: PAGE, after };
    let watch = Stopwatch::start();
    let listing = host.store.executions(DEFAULT_TENANT_ID, filter, &page);
    let listing = listing.await.map_err(BenchError::failed)?;
    let us = watch.elapsed().as_secs_f64() * 1e6;
    let newest = listing.items.first().map(|execution| execution.id);
    Ok((us, listing.items.len(), newest))
}

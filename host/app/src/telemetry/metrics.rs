//! The counters, gauges and histograms of one host.

use super::labels::{Label, Names};
use super::meters::{Hosts, Http, Queue, Runs, Sandbox, Scheduling, StoreMeters, Told, whole};
use super::otlp::{self, Tracer};
use super::sheet::Sheet;
use horarium_core::observe::{Observer, Recorded};
use horarium_core::store::{BacklogOf, QueueCounts, TakenOver, WaitingHead};
use horarium_model::alert::AlertEvent;
use horarium_model::execution::SkipReason;
use horarium_model::{ErrorKind, Timestamp};
use prometheus_client::metrics::counter::Counter;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What one host counts. Labels are words of the contract, routes and operations of this program, and a bounded
/// number of task types; never tenants, tasks or ids.
#[derive(Debug)]
pub struct Metrics {
    sheet: Sheet,
    types: Names,
    scheduling: Scheduling,
    runs: Runs,
    hosts: Hosts,
    queue: Queue,
    store: StoreMeters,
    http: Http,
    sandbox: Sandbox,
    told: Told,
    tracer: OnceLock<Tracer>,
    scraping: Mutex<()>,
}

/// Figures of the sandbox at a scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineFigures {
    /// How much later than planned the last epoch tick came.
    pub epoch_lag: Duration,
    /// Bytes that guests hold.
    pub memory_used_bytes: u64,
    /// Bytes that guests may hold.
    pub memory_total_bytes: u64,
    /// Whether instances come from a pool.
    pub pooling: bool,
    /// Versions whose code is in memory.
    pub loaded_versions: usize,
    /// Core instances of the pool in use.
    pub pool_instances: u64,
    /// Memories of the pool in use.
    pub pool_memories: u64,
    /// Tables of the pool in use.
    pub pool_tables: u64,
    /// Stacks of the pool in use.
    pub pool_stacks: u64,
    /// Bytes resident in free memories that are kept warm.
    pub pool_warm_bytes: u64,
}

/// Figures of the queue at a scrape.
#[derive(Debug, Clone, Default)]
pub struct QueueFigures {
    /// Live executions by state.
    pub counts: QueueCounts,
    /// Of each type, what waits longest for a slot.
    pub heads: Vec<WaitingHead>,
    /// When time next makes, or should have made, something happen.
    pub next_due: Option<Timestamp>,
}

/// Figures of a host's executor at a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorFigures {
    /// Executions running here.
    pub running: usize,
    /// Executions that may run here at once.
    pub slots: u32,
    /// How long ago the store last heard from this host and answered.
    pub heartbeat_age: Duration,
}

/// What is looked up at a scrape.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Of the queue.
    pub queue: QueueFigures,
    /// Of the executor, where there is one.
    pub executor: Option<ExecutorFigures>,
    /// Of the sandbox, where there is one.
    pub engine: Option<EngineFigures>,
    /// Of the connections to the database.
    pub database: Option<DatabaseFigures>,
}

/// Connections to the database at a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseFigures {
    /// In use.
    pub busy: u32,
    /// Open and unused.
    pub idle: u32,
    /// Most at once.
    pub most: u32,
}

/// Brings a counter up to what was counted elsewhere.
fn follow(counter: &Counter, counted: &AtomicU64) {
    let counted = counted.load(Ordering::Relaxed);
    counter.inc_by(counted.saturating_sub(counter.get()));
}

impl Metrics {
    /// Everything at zero. `task_types` names at most are told apart, the first that come.
    pub fn new(task_types: usize) -> Self {
        let mut sheet = Sheet::new();
        let s = &mut sheet;
        let scheduling = Scheduling::new(s);
        let (queue, runs, hosts) = (Queue::new(s), Runs::new(s), Hosts::new(s));
        let (sandbox, store, http) = (Sandbox::new(s), StoreMeters::new(s), Http::new(s));
        let told = Told::new(s);
        sheet.info(
            "build_info",
            [("version", Label::Word(env!("CARGO_PKG_VERSION")))],
            "1, with the version of this host",
        );
        Self {
            sheet,
            types: Names::new(task_types),
            scheduling,
            runs,
            hosts,
            queue,
            store,
            http,
            sandbox,
            told,
            tracer: OnceLock::new(),
            scraping: Mutex::default(),
        }
    }

    /// Tells a collector of attempts from here on. The first tracer stays.
    pub(crate) fn trace_with(&self, tracer: Tracer) {
        let _ = self.tracer.set(tracer);
    }

    /// The text for scrapers, with what was looked up for it at `now`. One at a time: another scrape would clear what
    /// this one is about to tell.
    ///
    /// # Errors
    /// None in practice: writing to memory does not fail.
    pub fn scrape(&self, now: Timestamp, figures: &Figures) -> Result<String, std::fmt::Error> {
        let _alone = self.scraping.lock().unwrap_or_else(PoisonError::into_inner);
        self.queue(now, &figures.queue);
        if let Some(executor) = &figures.executor {
            self.executor(executor);
        }
        if let Some(engine) = &figures.engine {
            self.sandbox.set(engine);
        }
        if let Some(database) = &figures.database {
            self.database(database);
        }
        self.exports();
        self.sheet.encode()
    }

    pub(super) fn sheet(&self) -> &Sheet {
        &self.sheet
    }

    /// Takes over what the exporters counted.
    fn exports(&self) {
        for (signal, exports) in [("traces", &otlp::TRACES), ("logs", &otlp::LOGS)] {
            for (outcome, count) in [("sent", &exports.sent), ("failed", &exports.failed)] {
                let labels = [Label::Word(signal), Label::Word(outcome)];
                self.told
                    .exports
                    .with(labels, |counter| follow(counter, count));
            }
            let labels = [Label::Word(signal)];
            let dropped = &self.told.dropped;
            dropped.with(labels, |counter| follow(counter, &exports.dropped));
        }
    }

    pub(crate) fn http(&self, method: &str, route: Label, status: u16, took: Duration) {
        const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
        let method = KNOWN.iter().find(|known| **known == method);
        let method = Label::Word(method.copied().unwrap_or("other"));
        let labels = [method.clone(), route.clone(), Label::Number(status)];
        self.http.requests.inc(labels);
        let duration = &self.http.duration;
        duration.observe([method, route], took.as_secs_f64());
    }

    fn queue(&self, now: Timestamp, figures: &QueueFigures) {
        let counts = &figures.counts;
        for (state, count) in [
            ("scheduled", counts.scheduled),
            ("available", counts.available),
            ("running", counts.running),
            ("retryable", counts.retryable),
        ] {
            let depth = &self.queue.depth;
            depth.with([Label::Word(state)], |gauge| {
                gauge.set(whole(count));
            });
        }
        let since = |instant: Timestamp| (now - instant).as_seconds_f64().max(0.0);
        let mut oldest: HashMap<Label, f64> = HashMap::new();
        for head in &figures.heads {
            let of_type = oldest.entry(self.types.label(&head.task_type)).or_default();
            *of_type = of_type.max(since(head.due_at));
        }
        self.queue.oldest.clear();
        for (task_type, age) in oldest {
            self.queue.oldest.with([task_type], |gauge| {
                gauge.set(age);
            });
        }
        let overdue = figures.next_due.map_or(0.0, since);
        self.queue.overdue.set(overdue);
    }

    pub(crate) fn alert(&self, event: AlertEvent, outcome: &'static str) {
        let labels = [Label::Word(event.as_str()), Label::Word(outcome)];
        self.told.alerts.inc(labels);
    }

    pub(crate) fn pinged(&self, succeeded: bool) {
        let outcome = if succeeded { "succeeded" } else { "failed" };
        self.told.pings.inc([Label::Word(outcome)]);
    }

    fn executor(&self, figures: &ExecutorFigures) {
        self.hosts.running.set(whole(figures.running as u64));
        self.hosts.slots.set(i64::from(figures.slots));
        self.hosts
            .heartbeat
            .set(figures.heartbeat_age.as_secs_f64());
    }

    fn database(&self, figures: &DatabaseFigures) {
        for (state, count) in [("busy", figures.busy), ("idle", figures.idle)] {
            let connections = &self.store.connections;
            connections.with([Label::Word(state)], |gauge| {
                gauge.set(i64::from(count));
            });
        }
        self.store.most.set(i64::from(figures.most));
    }
}

impl Observer for Metrics {
    fn fired(&self, lateness: Duration) {
        self.scheduling.lag.observe(lateness.as_secs_f64());
    }

    fn skipped(&self, reason: SkipReason, count: u64) {
        let reason = Label::Word(reason.as_str());
        self.scheduling.skipped.inc_by([reason], count);
    }

    fn refused(&self, of: BacklogOf) {
        let of = match of {
            BacklogOf::Config => "config",
            BacklogOf::Type => "type",
            BacklogOf::Tenant => "tenant",
        };
        self.scheduling.refused.inc([Label::Word(of)]);
    }

    fn claimed(&self, count: usize) {
        if count > 0 {
            self.runs.claimed.inc();
        }
    }

    fn started(&self, _task_type: &str, queued: Duration) {
        self.runs.started.inc();
        self.runs.queued.observe(queued.as_secs_f64());
    }

    fn recorded(&self, event: &Recorded<'_>) {
        if let (Some(tracer), Some(run)) = (self.tracer.get(), &event.run) {
            tracer.recorded(run, event.state);
        }
        let (runs, usage) = (&self.runs, event.usage);
        let task_type = self.types.label(event.task_type);
        if event.state.is_end() {
            runs.executions.inc([
                task_type.clone(),
                Label::Word(event.state.as_str()),
                Label::Word(event.trigger.as_str()),
            ]);
        }
        let kind = event.error_kind.map_or("none", ErrorKind::as_str);
        runs.attempts.inc([task_type.clone(), Label::Word(kind)]);
        let of_type = || [task_type.clone()];
        runs.duration.observe(of_type(), usage.duration_seconds);
        runs.fuel.inc_by(of_type(), usage.fuel);
        runs.cpu.with(of_type(), |spent| {
            spent.inc_by(usage.cpu_seconds);
        });
        runs.memory
            .observe(of_type(), usage.memory_peak_bytes as f64);
        if usage.http_calls > 0 {
            runs.calls.inc_by(usage.http_calls);
            let traffic = &runs.traffic;
            traffic.inc_by([Label::Word("sent")], usage.http_request_bytes);
            traffic.inc_by([Label::Word("received")], usage.http_response_bytes);
        }
    }

    fn stale(&self) {
        self.runs.stale.inc();
    }

    fn handed_back(&self) {
        self.runs.handed_back.inc();
    }

    fn lease_lost(&self, stopped: usize) {
        self.hosts.lease_losses.inc();
        self.hosts.lease_stopped.inc_by(stopped as u64);
    }

    fn taken_over(&self, taken: &TakenOver) {
        for (outcome, count) in [
            ("requeued", taken.requeued),
            ("failed", taken.failed),
            ("cancelled", taken.cancelled),
        ] {
            if count > 0 {
                let outcome = Label::Word(outcome);
                self.hosts.taken_over.inc_by([outcome], count);
            }
        }
    }

    fn stored(&self, operation: &'static str, took: Duration, succeeded: bool) {
        let operation = Label::Word(operation);
        let took = took.as_secs_f64();
        self.store.took.observe([operation.clone()], took);
        if !succeeded {
            self.store.failed.inc([operation]);
        }
    }

    fn compiled(&self, took: Duration, succeeded: bool) {
        let outcome = if succeeded { "succeeded" } else { "failed" };
        self.sandbox.compiles.inc([Label::Word(outcome)]);
        self.sandbox.compile.observe(took.as_secs_f64());
    }

    fn instantiated(&self, took: Duration) {
        self.sandbox.instantiate.observe(took.as_secs_f64());
    }
}

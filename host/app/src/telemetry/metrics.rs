//! The counters, gauges and histograms of one host.

use super::labels::{Label, Names};
use super::otlp::{self, Tracer};
use super::sheet::{By, Real, Sheet, Spent};
use horarium_core::observe::{Observer, Recorded};
use horarium_core::store::{BacklogOf, QueueCounts, TakenOver, WaitingHead};
use horarium_model::alert::AlertEvent;
use horarium_model::execution::SkipReason;
use horarium_model::{ErrorKind, Timestamp};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;
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

/// 1 ms to about 70 min.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 22))
}

/// 50 µs to about 13 s.
fn quick_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 4.0, 10))
}

/// 64 KiB to 4 GiB.
fn memory_bytes() -> Histogram {
    Histogram::new(exponential_buckets(65_536.0, 4.0, 9))
}

#[derive(Debug)]
struct Scheduling {
    lag: Histogram,
    skipped: By<1, Counter>,
    refused: By<1, Counter>,
}

impl Scheduling {
    fn new(s: &mut Sheet) -> Self {
        Self {
            lag: s.histogram(
                "schedule_lag",
                Unit::Seconds,
                "From a slot's fire instant to its enqueueing",
                seconds,
            ),
            skipped: s.counters(
                "slots_skipped",
                None,
                ["reason"],
                "Slots that did not run, by reason; `missed`: no host was there in time",
            ),
            refused: s.counters(
                "enqueue_refused",
                None,
                ["quota"],
                "Executions not taken in, by what was used up: the backlog of a `config`, `type` or `tenant`",
            ),
        }
    }
}

#[derive(Debug)]
struct Runs {
    executions: By<3, Counter>,
    attempts: By<2, Counter>,
    duration: By<1, Histogram>,
    fuel: By<1, Counter>,
    cpu: By<1, Spent>,
    memory: By<1, Histogram>,
    calls: Counter,
    traffic: By<1, Counter>,
    queued: Histogram,
    started: Counter,
    claimed: Counter,
    stale: Counter,
    handed_back: Counter,
}

impl Runs {
    fn new(s: &mut Sheet) -> Self {
        let by_type = ["task_type"];
        Self {
            executions: s.counters(
                "executions",
                None,
                ["task_type", "state", "trigger"],
                "Executions that ended with an attempt on this host",
            ),
            attempts: s.counters(
                "attempts",
                None,
                ["task_type", "error_kind"],
                "Attempts whose end was recorded, by class of failure; `none` for those that did not fail",
            ),
            duration: s.histograms(
                "execution_duration",
                Unit::Seconds,
                by_type,
                "Duration of attempts",
                seconds,
            ),
            fuel: s.counters("fuel", None, by_type, "Fuel burnt by guests"),
            cpu: s.seconds_spent("guest_cpu", by_type, "CPU time of guests"),
            memory: s.histograms(
                "memory_peak",
                Unit::Bytes,
                by_type,
                "Most memory that an attempt held",
                memory_bytes,
            ),
            calls: s.counter("guest_http_requests", "HTTP requests that guests made"),
            traffic: s.counters(
                "guest_http",
                Some(Unit::Bytes),
                ["direction"],
                "Bytes of the bodies of those requests (`sent`) and their answers (`received`)",
            ),
            queued: s.histogram("queued", Unit::Seconds, "From due to started", seconds),
            started: s.counter("claims", "Attempts started here"),
            claimed: s.counter("claim_rounds", "Claims that brought something"),
            stale: s.counter(
                "stale_completions",
                "Ends of attempts that came too late and were refused",
            ),
            handed_back: s.counter("handed_back", "Claims given back unfinished"),
        }
    }
}

#[derive(Debug)]
struct Hosts {
    running: Gauge,
    slots: Gauge,
    heartbeat: Real,
    lease_losses: Counter,
    lease_stopped: Counter,
    taken_over: By<1, Counter>,
}

impl Hosts {
    fn new(s: &mut Sheet) -> Self {
        Self {
            running: s.gauge("executor_running", "Executions running here"),
            slots: s.gauge("executor_slots", "Executions that may run here at once"),
            heartbeat: s.seconds(
                "heartbeat_age",
                "How long ago the database last heard from this host and answered",
            ),
            lease_losses: s.counter(
                "lease_losses",
                "Times this host could no longer believe that what it ran was its own",
            ),
            lease_stopped: s.counter("lease_stopped_runs", "Runs that were stopped by that"),
            taken_over: s.counters(
                "taken_over",
                None,
                ["outcome"],
                "Executions of dead hosts that this one took over, by what they became",
            ),
        }
    }
}

#[derive(Debug)]
struct Queue {
    depth: By<1, Gauge>,
    oldest: By<1, Real>,
    overdue: Real,
}

impl Queue {
    fn new(s: &mut Sheet) -> Self {
        Self {
            depth: s.gauges(
                "queue_depth",
                ["state"],
                "Live executions by state, of all hosts together",
            ),
            oldest: s.seconds_by(
                "queue_oldest",
                ["task_type"],
                "How long the first in the queue of a type has waited for a slot, of all hosts together; absent \
                 while nothing waits",
            ),
            overdue: s.seconds(
                "schedule_overdue",
                "How long what is most overdue has waited to be fired, released or expired; 0 when the schedulers \
                 keep up",
            ),
        }
    }
}

#[derive(Debug)]
struct StoreMeters {
    took: By<1, Histogram>,
    failed: By<1, Counter>,
    connections: By<1, Gauge>,
    most: Gauge,
}

impl StoreMeters {
    fn new(s: &mut Sheet) -> Self {
        Self {
            took: s.histograms(
                "store_operation",
                Unit::Seconds,
                ["operation"],
                "Time until the database answered an operation, waiting for its turn included",
                quick_seconds,
            ),
            failed: s.counters(
                "store_errors",
                None,
                ["operation"],
                "Operations that the database did not carry out: it was not there, or broken",
            ),
            connections: s.gauges(
                "database_connections",
                ["state"],
                "Connections to the database, `busy` and `idle`; SQLite's one writer is not among them",
            ),
            most: s.gauge("database_connections_limit", "Most of them at once"),
        }
    }
}

#[derive(Debug)]
struct Http {
    requests: By<3, Counter>,
    duration: By<2, Histogram>,
}

impl Http {
    fn new(s: &mut Sheet) -> Self {
        Self {
            requests: s.counters(
                "http_requests",
                None,
                ["method", "route", "status"],
                "Requests answered; `route` is `none` for paths that do not exist",
            ),
            duration: s.histograms(
                "http_request_duration",
                Unit::Seconds,
                ["method", "route"],
                "Time until the head of the answer was ready",
                quick_seconds,
            ),
        }
    }
}

#[derive(Debug)]
struct Told {
    alerts: By<2, Counter>,
    pings: By<1, Counter>,
    exports: By<2, Counter>,
    dropped: By<1, Counter>,
}

impl Told {
    fn new(s: &mut Sheet) -> Self {
        Self {
            alerts: s.counters(
                "alerts",
                None,
                ["event", "outcome"],
                "Deliveries of alerts by this host: `sent`, `failed` (it is tried again), `given_up`",
            ),
            pings: s.counters(
                "dead_man_pings",
                None,
                ["outcome"],
                "Times the dead-man's URL was asked for, `succeeded` and `failed`",
            ),
            exports: s.counters(
                "otlp_exports",
                None,
                ["signal", "outcome"],
                "Batches for the OpenTelemetry collector, of `traces` and `logs`, `sent` and `failed`",
            ),
            dropped: s.counters(
                "otlp_dropped",
                None,
                ["signal"],
                "Spans and log lines lost because the collector did not take them",
            ),
        }
    }
}

#[derive(Debug)]
struct Sandbox {
    instantiate: Histogram,
    compile: Histogram,
    compiles: By<1, Counter>,
    epoch_lag: Real,
    memory_used: Gauge,
    memory_total: Gauge,
    pooling: Gauge,
    loaded: Gauge,
    pool_instances: Gauge,
    pool_memories: Gauge,
    pool_tables: Gauge,
    pool_stacks: Gauge,
    pool_warm: Gauge,
}

impl Sandbox {
    fn new(s: &mut Sheet) -> Self {
        Self {
            instantiate: s.histogram(
                "instantiate",
                Unit::Seconds,
                "Time to make a run's instance",
                || Histogram::new(exponential_buckets(0.000_01, 4.0, 9)),
            ),
            compile: s.histogram(
                "compile",
                Unit::Seconds,
                "Time to compile and describe a component, waiting for its turn included",
                || Histogram::new(exponential_buckets(0.05, 2.0, 15)),
            ),
            compiles: s.counters(
                "compiles",
                None,
                ["outcome"],
                "Components compiled here, `succeeded` and `failed`",
            ),
            epoch_lag: s.seconds(
                "epoch_lag",
                "How much later than planned the last epoch tick came",
            ),
            memory_used: s.bytes("guest_memory", "Held by guests"),
            memory_total: s.bytes("guest_memory_limit", "What guests may hold"),
            pooling: s.gauge("pooling", "1 when instances come from a pool"),
            loaded: s.gauge("loaded_versions", "Plugin versions whose code is in memory"),
            pool_instances: s.gauge("pool_instances", "Core instances of the pool in use"),
            pool_memories: s.gauge("pool_memories", "Memories of the pool in use"),
            pool_tables: s.gauge("pool_tables", "Tables of the pool in use"),
            pool_stacks: s.gauge("pool_stacks", "Stacks of the pool in use"),
            pool_warm: s.bytes(
                "pool_warm",
                "Resident in free memories of the pool that are kept warm",
            ),
        }
    }

    fn set(&self, figures: &EngineFigures) {
        self.epoch_lag.set(figures.epoch_lag.as_secs_f64());
        self.memory_used.set(whole(figures.memory_used_bytes));
        self.memory_total.set(whole(figures.memory_total_bytes));
        self.pooling.set(i64::from(figures.pooling));
        self.loaded.set(whole(figures.loaded_versions as u64));
        self.pool_instances.set(whole(figures.pool_instances));
        self.pool_memories.set(whole(figures.pool_memories));
        self.pool_tables.set(whole(figures.pool_tables));
        self.pool_stacks.set(whole(figures.pool_stacks));
        self.pool_warm.set(whole(figures.pool_warm_bytes));
    }
}

/// Brings a counter up to what was counted elsewhere.
fn follow(counter: &Counter, counted: &AtomicU64) {
    let counted = counted.load(Ordering::Relaxed);
    counter.inc_by(counted.saturating_sub(counter.get()));
}

fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
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

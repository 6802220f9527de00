//! The metrics in their groups: what each is called, and what it tells.

use super::metrics::EngineFigures;
use super::sheet::{By, Real, Sheet, Spent};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

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

/// Of schedules.
#[derive(Debug)]
pub(super) struct Scheduling {
    pub(super) lag: Histogram,
    pub(super) skipped: By<1, Counter>,
    pub(super) refused: By<1, Counter>,
}

impl Scheduling {
    pub(super) fn new(s: &mut Sheet) -> Self {
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

/// Of attempts and what they use.
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) executions: By<3, Counter>,
    pub(super) attempts: By<2, Counter>,
    pub(super) duration: By<1, Histogram>,
    pub(super) fuel: By<1, Counter>,
    pub(super) cpu: By<1, Spent>,
    pub(super) memory: By<1, Histogram>,
    pub(super) calls: Counter,
    pub(super) traffic: By<1, Counter>,
    pub(super) queued: Histogram,
    pub(super) started: Counter,
    pub(super) claimed: Counter,
    pub(super) stale: Counter,
    pub(super) handed_back: Counter,
}

impl Runs {
    pub(super) fn new(s: &mut Sheet) -> Self {
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

/// Of this host among others.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) running: Gauge,
    pub(super) slots: Gauge,
    pub(super) heartbeat: Real,
    pub(super) lease_losses: Counter,
    pub(super) lease_stopped: Counter,
    pub(super) taken_over: By<1, Counter>,
}

impl Hosts {
    pub(super) fn new(s: &mut Sheet) -> Self {
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

/// Of what waits.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) depth: By<1, Gauge>,
    pub(super) oldest: By<1, Real>,
    pub(super) overdue: Real,
}

impl Queue {
    pub(super) fn new(s: &mut Sheet) -> Self {
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

/// Of the database.
#[derive(Debug)]
pub(super) struct StoreMeters {
    pub(super) took: By<1, Histogram>,
    pub(super) failed: By<1, Counter>,
    pub(super) connections: By<1, Gauge>,
    pub(super) most: Gauge,
}

impl StoreMeters {
    pub(super) fn new(s: &mut Sheet) -> Self {
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

/// Of the API.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) requests: By<3, Counter>,
    pub(super) duration: By<2, Histogram>,
}

impl Http {
    pub(super) fn new(s: &mut Sheet) -> Self {
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

/// Of what is told to others.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) alerts: By<2, Counter>,
    pub(super) pings: By<1, Counter>,
    pub(super) exports: By<2, Counter>,
    pub(super) dropped: By<1, Counter>,
}

impl Told {
    pub(super) fn new(s: &mut Sheet) -> Self {
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

/// Of the engine.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) instantiate: Histogram,
    pub(super) compile: Histogram,
    pub(super) compiles: By<1, Counter>,
    pub(super) epoch_lag: Real,
    pub(super) memory_used: Gauge,
    pub(super) memory_total: Gauge,
    pub(super) pooling: Gauge,
    pub(super) loaded: Gauge,
    pub(super) pool_instances: Gauge,
    pub(super) pool_memories: Gauge,
    pub(super) pool_tables: Gauge,
    pub(super) pool_stacks: Gauge,
    pub(super) pool_warm: Gauge,
}

impl Sandbox {
    pub(super) fn new(s: &mut Sheet) -> Self {
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

    pub(super) fn set(&self, figures: &EngineFigures) {
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

/// What a gauge takes of a count.
pub(super) fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

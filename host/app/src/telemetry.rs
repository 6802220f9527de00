//! What the server tells of itself: log lines on stderr, and `/metrics`.

use crate::settings::{LogFormat, Settings};
use horarium_core::observe::{Observer, Recorded};
use horarium_core::store::QueueCounts;
use horarium_model::ErrorKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tracing_subscriber::{EnvFilter, reload};

/// Starts logging on stderr. A second call in one process changes nothing.
pub fn init(settings: &Settings) {
    // Checked when the settings were read; a filter that fails all the same must not silence the log.
    let filter = EnvFilter::try_new(&settings.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours())
        .with_writer(std::io::stderr);
    let _ = match settings.log_format {
        LogFormat::Text => {
            let builder = builder.with_target(false).with_filter_reloading();
            keep(builder.reload_handle());
            builder.try_init()
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            keep(builder.reload_handle());
            builder.try_init()
        }
    };
}

/// Replaces the log's filter.
type Relevel = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;
static RELEVEL: OnceLock<Relevel> = OnceLock::new();

fn keep<S: 'static>(handle: reload::Handle<EnvFilter, S>) {
    let relevel = move |filter| handle.reload(filter).map_err(|error| error.to_string());
    let _ = RELEVEL.set(Box::new(relevel));
}

/// Changes what the log of this process holds from now on, as the setting `log.level` says it.
///
/// # Errors
/// Why it cannot.
pub fn set_level(level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
    let relevel = RELEVEL.get().ok_or("the log is not this program's")?;
    relevel(filter)
}

/// Colours are for people at a terminal who did not ask for none (<https://no-color.org>).
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExecutionLabels {
    task_type: String,
    state: &'static str,
    trigger: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    task_type: String,
    error_kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabels {
    task_type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    method: String,
    route: String,
    status: u16,
}

/// The counters of one host. Labels are registered task types, routes and words of the contract, so
/// their number is bounded.
pub struct Metrics {
    registry: Registry,
    executions: Family<ExecutionLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    duration: Family<TypeLabels, Histogram>,
    fuel: Family<TypeLabels, Counter>,
    queued: Histogram,
    lag: Histogram,
    skipped: Counter,
    started: Counter,
    stale: Counter,
    handed_back: Counter,
    queue: Family<StateLabels, Gauge>,
    running: Gauge,
    slots: Gauge,
    http: Family<HttpLabels, Counter>,
    engine: EngineGauges,
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
    /// Memories of the pool in use.
    pub pool_memories: u64,
    /// Stacks of the pool in use.
    pub pool_stacks: u64,
}

#[derive(Default)]
struct EngineGauges {
    epoch_lag: Gauge<f64, AtomicU64>,
    memory_used: Gauge,
    memory_total: Gauge,
    pooling: Gauge,
    loaded: Gauge,
    pool_memories: Gauge,
    pool_stacks: Gauge,
}

impl EngineGauges {
    fn register(&self, r: &mut Registry) {
        r.register_with_unit(
            "epoch_lag",
            "How much later than planned the last epoch tick came",
            Unit::Seconds,
            self.epoch_lag.clone(),
        );
        r.register_with_unit(
            "guest_memory",
            "Held by guests",
            Unit::Bytes,
            self.memory_used.clone(),
        );
        r.register_with_unit(
            "guest_memory_limit",
            "What guests may hold",
            Unit::Bytes,
            self.memory_total.clone(),
        );
        r.register(
            "pooling",
            "1 when instances come from a pool",
            self.pooling.clone(),
        );
        r.register(
            "loaded_versions",
            "Plugin versions whose code is in memory",
            self.loaded.clone(),
        );
        r.register(
            "pool_memories",
            "Memories of the pool in use",
            self.pool_memories.clone(),
        );
        r.register(
            "pool_stacks",
            "Stacks of the pool in use",
            self.pool_stacks.clone(),
        );
    }

    fn set(&self, figures: &EngineFigures) {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.epoch_lag.set(figures.epoch_lag.as_secs_f64());
        self.memory_used.set(whole(figures.memory_used_bytes));
        self.memory_total.set(whole(figures.memory_total_bytes));
        self.pooling.set(i64::from(figures.pooling));
        self.loaded.set(whole(figures.loaded_versions as u64));
        self.pool_memories.set(whole(figures.pool_memories));
        self.pool_stacks.set(whole(figures.pool_stacks));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// 1 ms to about 70 min.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 22))
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("horarium"),
            executions: Family::default(),
            attempts: Family::default(),
            duration: Family::new_with_constructor(seconds),
            fuel: Family::default(),
            queued: seconds(),
            lag: seconds(),
            skipped: Counter::default(),
            started: Counter::default(),
            stale: Counter::default(),
            handed_back: Counter::default(),
            queue: Family::default(),
            running: Gauge::default(),
            slots: Gauge::default(),
            http: Family::default(),
            engine: EngineGauges::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "executions",
            "Executions that ended",
            self.executions.clone(),
        );
        r.register(
            "attempts",
            "Attempts whose end was recorded, by class of failure",
            self.attempts.clone(),
        );
        r.register_with_unit(
            "execution_duration",
            "Duration of attempts",
            Unit::Seconds,
            self.duration.clone(),
        );
        r.register("fuel", "Fuel burnt by guests", self.fuel.clone());
        r.register_with_unit(
            "queued",
            "From due to started",
            Unit::Seconds,
            self.queued.clone(),
        );
        r.register_with_unit(
            "schedule_lag",
            "From a slot's fire instant to its enqueueing",
            Unit::Seconds,
            self.lag.clone(),
        );
        r.register(
            "slots_skipped",
            "Slots that did not run",
            self.skipped.clone(),
        );
        r.register("claims", "Attempts started here", self.started.clone());
        r.register(
            "stale_completions",
            "Ends of attempts that came too late and were refused",
            self.stale.clone(),
        );
        r.register(
            "handed_back",
            "Claims given back unfinished",
            self.handed_back.clone(),
        );
        r.register(
            "queue_depth",
            "Live executions by state",
            self.queue.clone(),
        );
        r.register(
            "executor_running",
            "Executions running here",
            self.running.clone(),
        );
        r.register(
            "executor_slots",
            "Executions that may run here at once",
            self.slots.clone(),
        );
        r.register("http_requests", "Requests answered", self.http.clone());
        self.engine.register(r);
    }

    /// The text for scrapers.
    ///
    /// # Errors
    /// None in practice: writing to memory does not fail.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    pub(crate) fn engine(&self, figures: &EngineFigures) {
        self.engine.set(figures);
    }

    pub(crate) fn http(&self, method: &str, route: &str, status: u16) {
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
        let method = if known.contains(&method) {
            method
        } else {
            "other"
        };
        self.http
            .get_or_create(&HttpLabels {
                method: method.to_owned(),
                route: route.to_owned(),
                status,
            })
            .inc();
    }

    pub(crate) fn queue(&self, counts: &QueueCounts) {
        for (state, count) in [
            ("scheduled", counts.scheduled),
            ("available", counts.available),
            ("running", counts.running),
            ("retryable", counts.retryable),
        ] {
            self.queue
                .get_or_create(&StateLabels { state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn slots(&self, running: usize, slots: u32) {
        self.running.set(i64::try_from(running).unwrap_or(i64::MAX));
        self.slots.set(i64::from(slots));
    }
}

impl Observer for Metrics {
    fn fired(&self, lateness: Duration) {
        self.lag.observe(lateness.as_secs_f64());
    }

    fn skipped(&self, count: u64) {
        self.skipped.inc_by(count);
    }

    fn started(&self, _task_type: &str, queued: Duration) {
        self.started.inc();
        self.queued.observe(queued.as_secs_f64());
    }

    fn recorded(&self, event: &Recorded<'_>) {
        let task_type = event.task_type.to_owned();
        if event.state.is_end() {
            self.executions
                .get_or_create(&ExecutionLabels {
                    task_type: task_type.clone(),
                    state: event.state.as_str(),
                    trigger: event.trigger.as_str(),
                })
                .inc();
        }
        self.attempts
            .get_or_create(&AttemptLabels {
                task_type: task_type.clone(),
                error_kind: event.error_kind.map_or("none", ErrorKind::as_str),
            })
            .inc();
        let of_type = TypeLabels { task_type };
        self.duration
            .get_or_create(&of_type)
            .observe(event.usage.duration_seconds);
        self.fuel.get_or_create(&of_type).inc_by(event.usage.fuel);
    }

    fn stale(&self) {
        self.stale.inc();
    }

    fn handed_back(&self) {
        self.handed_back.inc();
    }
}

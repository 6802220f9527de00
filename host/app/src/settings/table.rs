//! The table of settings.

use super::read::Raw;
use super::{
    AlertSecret, AlertSettings, Durability, LogFormat, OtlpSettings, PoolingSetting,
    PostgresSettings, Settings, log,
};
use horarium_core::secrets::SecretKey;
use horarium_model::alert::AlertEvent;
use horarium_model::input::Fields;
use horarium_model::limits::LimitOverrides;
use horarium_model::retention::Retention;
use horarium_model::text::one_line;
use horarium_sandbox::connector::Target;
use http::{HeaderName, HeaderValue, Uri};
use ipnet::IpNet;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// One setting.
pub struct Setting {
    /// Its key in TOML, section and name: `executor.slots`.
    pub key: &'static str,
    /// Its default, for people.
    pub default: &'static str,
    /// What it means.
    pub doc: &'static str,
    pub(super) set: fn(&mut Settings, &Raw<'_>) -> Result<(), String>,
}

impl Setting {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!(
            "HORARIUM__{}",
            self.key.replace('.', "__").to_ascii_uppercase()
        )
    }
}

macro_rules! table {
    ($($key:literal, $default:literal, $doc:literal, $set:expr;)*) => {
        /// Every setting, in the order of the documentation.
        pub const TABLE: &[Setting] = &[
            $(Setting { key: $key, default: $default, doc: $doc, set: $set },)*
        ];
    };
}

macro_rules! limit {
    ($name:literal) => {
        |s, raw| set_limit(s, $name, raw)
    };
}

table! {
    "listen", "127.0.0.1:7411",
        "Address and port of the server. Port 0 takes a free one (see `server.json` in the data directory).",
        |s, raw| raw.parsed("127.0.0.1:7411").map(|v| s.listen = v);
    "danger_listen_without_tls", "false",
        "Allows `listen` to be an address that other machines reach without `tls.certificate`: tokens and all data travel unencrypted.",
        |s, raw| raw.boolean().map(|v| s.danger_listen_without_tls = v);
    "tls.certificate", "none",
        "PEM file with the server's certificate, and behind it those up to its CA. With it the server speaks TLS alone. Read again when it changes.",
        |s, raw| raw.text().map(|v| s.tls_certificate = Some(PathBuf::from(v)));
    "tls.key", "none",
        "PEM file with the private key of `tls.certificate`.",
        |s, raw| raw.text().map(|v| s.tls_key = Some(PathBuf::from(v)));
    "data_dir", "`$XDG_DATA_HOME/horarium`, else `~/.local/share/horarium`",
        "Directory of the database, the admin token and compiled components; made if it does not exist.",
        |s, raw| raw.text().map(|v| s.data_dir = PathBuf::from(v));
    "host.name", "the machine's name",
        "Name of this host, recorded with each attempt.",
        |s, raw| set_host_name(s, raw);
    "database.url", "`sqlite:` and `horarium.db` in the data directory",
        "The database: a file, such as `sqlite:/var/lib/horarium/horarium.db`, or one PostgreSQL that many hosts share, `postgres://USER:PASSWORD@HOST:5432/NAME?sslmode=verify-full`.",
        |s, raw| raw.text().map(|v| s.database_url = Some(v));
    "database.durability", "full",
        "`full`: what was recorded survives a power cut. `relaxed`: it survives a crash of the server, but a power cut may lose the last moments.",
        |s, raw| raw.choice(&[("full", Durability::Full), ("relaxed", Durability::Relaxed)]).map(|v| s.durability = v);
    "database.connections", "16",
        "PostgreSQL: most connections at once; one more listens.",
        |s, raw| raw.integer(2, 1000).map(|v| s.postgres.connections = v as u32);
    "database.pooler", "none",
        "PostgreSQL: `transaction` when the URL leads to a pooler in transaction mode, such as pgbouncer.",
        |s, raw| raw.choice(&[("none", false), ("transaction", true)]).map(|v| s.postgres.pooler_transaction = v);
    "database.listen_url", "`database.url`, none behind a pooler",
        "PostgreSQL: where to listen for what other hosts did, when the URL leads to a pooler. Without it hosts find out by their heartbeat.",
        |s, raw| raw.text().map(|v| s.postgres.listen_url = Some(v));
    "database.migrate", "false",
        "PostgreSQL: brings the schema up to date at the start, as `serve --migrate` does. SQLite's always is.",
        |s, raw| raw.boolean().map(|v| s.postgres.migrate = v);
    "database.statement_timeout_seconds", "30",
        "PostgreSQL: the server ends a statement that takes longer.",
        |s, raw| raw.integer(1, 3600).map(|v| s.postgres.statement_timeout = Duration::from_secs(v));
    "database.lock_timeout_seconds", "10",
        "PostgreSQL: the server ends a statement that waits longer for a lock.",
        |s, raw| raw.integer(1, 3600).map(|v| s.postgres.lock_timeout = Duration::from_secs(v));
    "database.idle_in_transaction_timeout_seconds", "10",
        "PostgreSQL: the server ends a transaction that does nothing for longer: what a vanished host leaves behind. Shorter than a host's lease, so that what it locked can be taken over.",
        |s, raw| raw.integer(1, 14).map(|v| s.postgres.idle_in_transaction_timeout = Duration::from_secs(v));
    "executor.slots", "8 for each core",
        "How many executions run at once.",
        |s, raw| raw.integer(1, 100_000).map(|v| s.slots = v as u32);
    "executor.grace_seconds", "30",
        "How long running executions may finish when the server is asked to stop; then they are handed back and run again later.",
        |s, raw| raw.integer(0, 86_400).map(|v| s.grace = Duration::from_secs(v));
    "engine.memory", "60 % of the machine's memory",
        "Bytes that all guests together may hold, such as `4 GiB`.",
        |s, raw| raw.bytes(1 << 20).map(|v| s.engine_memory = v);
    "engine.pooling", "auto",
        "Whether guests' memory comes from a pool: `auto` (where the address space allows it), `on`, `off`.",
        |s, raw| raw.choice(&[("auto", PoolingSetting::Auto), ("on", PoolingSetting::On), ("off", PoolingSetting::Off)]).map(|v| s.pooling = v);
    "engine.aot_max", "4 GiB",
        "Bytes of compiled components kept in `aot/` of the data directory; the longest unused go first.",
        |s, raw| raw.bytes(0).map(|v| s.aot_max = v);
    "engine.compile_concurrency", "1",
        "How many components are compiled at the same time, each in a process of its own.",
        |s, raw| raw.integer(1, 64).map(|v| s.compile_concurrency = v as usize);
    "engine.compile_timeout_seconds", "900",
        "How long compiling and describing one component may take.",
        |s, raw| raw.integer(1, 3600).map(|v| s.compile_timeout = Duration::from_secs(v));
    "limits.fuel", "none", "Most fuel a run may be given, whatever its plugin and task say.", limit!("fuel");
    "limits.memory_bytes", "none", "Most bytes of memory a run may be given.", limit!("memory_bytes");
    "limits.parameters_bytes", "none", "Most bytes of parameters.", limit!("parameters_bytes");
    "limits.result_bytes", "none", "Most bytes of a result.", limit!("result_bytes");
    "limits.log_bytes", "none", "Most bytes of log kept of a run.", limit!("log_bytes");
    "limits.http_calls", "none", "Most HTTP requests of a run.", limit!("http_calls");
    "limits.http_request_bytes", "none", "Most bytes of request bodies of a run.", limit!("http_request_bytes");
    "limits.http_response_bytes", "none", "Most bytes of response bodies of a run.", limit!("http_response_bytes");
    "limits.http_concurrent", "none", "Most HTTP requests of a run at once.", limit!("http_concurrent");
    "limits.state_bytes", "none", "Most bytes of a task's state.", limit!("state_bytes");
    "limits.handles", "none", "Most component-model handles of a run.", limit!("handles");
    "limits.instances", "none", "Most core instances of a run.", limit!("instances");
    "limits.tables", "none", "Most tables of a run.", limit!("tables");
    "limits.memories", "none", "Most linear memories of a run.", limit!("memories");
    "limits.random_bytes", "none", "Most random bytes handed out in one call.", limit!("random_bytes");
    "limits.hostcall_bytes", "none", "Most bytes copied between guest and host in one call.", limit!("hostcall_bytes");
    "network.allow_private", "none",
        "Private networks that plugins with a grant `… via NETWORK` may reach, such as `[\"10.1.0.0/16\"]`; no other private address is ever reached.",
        |s, raw| raw.list(network).map(|v| s.allow_private = v);
    "secrets.key", "those of `secrets.key_file`",
        "Keys that secrets are encrypted with, 64 hexadecimal digits each, the current one first, older ones after it; the same on every host. Better in the environment than in a file others read.",
        |s, raw| set_secret_keys(s, raw);
    "secrets.key_file", "`secrets.key` in the data directory",
        "File with those keys, a line each, readable by its owner only. Made when the first secret is set; the other hosts need a copy.",
        |s, raw| raw.text().map(|v| s.secret_key_file = Some(PathBuf::from(v)));
    "log.format", "text",
        "Log lines on stderr for people (`text`) or as one JSON object a line (`json`).",
        |s, raw| raw.choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]).map(|v| s.log_format = v);
    "log.level", "info",
        "`error`, `warn`, `info`, `debug`, `trace`, `off`, or directives such as `info,horarium_core=debug`; without a level by itself, what no directive names is not logged.",
        |s, raw| log::level(raw).map(|v| s.log_level = v);
    "retention.succeeded_days", "for ever",
        "How many days executions that succeeded are kept, with their attempts, logs and requests.",
        |s, raw| raw.integer(1, 36_500).map(|v| s.retention.succeeded_seconds = Some(v * 86_400));
    "retention.failed_days", "for ever",
        "How many days executions that failed are kept, with their attempts, logs and requests.",
        |s, raw| raw.integer(1, 36_500).map(|v| s.retention.failed_seconds = Some(v * 86_400));
    "retention.cancelled_days", "for ever",
        "How many days cancelled executions are kept, with their attempts, logs and requests.",
        |s, raw| raw.integer(1, 36_500).map(|v| s.retention.cancelled_seconds = Some(v * 86_400));
    "retention.skipped_days", "for ever",
        "How many days rows of skipped slots are kept, with their attempts, logs and requests.",
        |s, raw| raw.integer(1, 36_500).map(|v| s.retention.skipped_seconds = Some(v * 86_400));
    "retention.keep", "all",
        "How many ended executions of each task are kept, the newest. Tenants and tasks may want less kept than the host, never more.",
        |s, raw| raw.integer(1, 1_000_000_000).map(|v| s.retention.keep = Some(v));
    "audit.keep_days", "365",
        "How long entries of the audit log are kept.",
        |s, raw| raw.integer(1, 36_500).map(|v| s.audit_keep = chrono::Duration::days(v as i64));
    "metrics.open", "false",
        "Serves `/metrics` without a token.",
        |s, raw| raw.boolean().map(|v| s.metrics_open = v);
    "metrics.task_types", "200",
        "How many task types `/metrics` tells apart, the first that run or wait after a start; all others count as `_other`.",
        |s, raw| raw.integer(1, 100_000).map(|v| s.metrics_task_types = v as usize);
    "otlp.endpoint", "none",
        "Base URL of an OpenTelemetry collector that traces and logs are sent to (OTLP over HTTP, JSON), such as `http://127.0.0.1:4318`; `/v1/traces` and `/v1/logs` are put behind it.",
        |s, raw| url(raw).map(|v| s.otlp.endpoint = Some(v.to_string().trim_end_matches('/').to_owned()));
    "otlp.headers", "none",
        "Headers sent with it, such as `[\"authorization=Bearer …\"]`.",
        |s, raw| raw.list(header).map(|v| s.otlp.headers = v);
    "otlp.traces", "true",
        "Sends a span for each attempt, with its HTTP requests below it and its log lines as events.",
        |s, raw| raw.boolean().map(|v| s.otlp.traces = v);
    "otlp.logs", "false",
        "Sends the server's own log lines too.",
        |s, raw| raw.boolean().map(|v| s.otlp.logs = v);
    "otlp.sample_percent", "100",
        "Of how many executions of a hundred the trace is recorded. A trigger that brings a trace (`traceparent`) decides that itself.",
        |s, raw| raw.integer(0, 100).map(|v| s.otlp.sample_percent = v as u8);
    "alerts.url", "none",
        "Webhook that alerts are sent to, `https://…`. The same on every host; any of them delivers (docs/observability.md).",
        |s, raw| url(raw).map(|v| s.alerts.url = Some(v));
    "alerts.secret", "none",
        "What alerts are signed with (HMAC-SHA256), at least 16 characters. Better in the environment than in a file others read.",
        |s, raw| set_alert_secret(s, raw);
    "alerts.events", "all of them",
        "What is told: `execution_failed`, `failure_streak`, `missed_runs`, `queue_stuck`.",
        |s, raw| raw.list(|word| word.parse::<AlertEvent>()).map(|v| s.alerts.events = v);
    "alerts.streak", "3",
        "How many executions of a task must fail in a row to make a `failure_streak`.",
        |s, raw| raw.integer(1, 1000).map(|v| s.alerts.streak = v as u32);
    "alerts.stuck_after_seconds", "300",
        "How long the first in the queue of a task type may wait for a slot before that is `queue_stuck`.",
        |s, raw| raw.integer(1, 86_400).map(|v| s.alerts.stuck_after = Duration::from_secs(v));
    "alerts.allow_private", "none",
        "Private networks that `alerts.url` and `alerts.dead_man_url` may lead to, such as `[\"10.1.0.0/16\"]`; no other private address is reached.",
        |s, raw| raw.list(network).map(|v| s.alerts.allow_private = v);
    "alerts.dead_man_url", "none",
        "URL that this host asks for regularly while it lives and its database answers, for a service that raises the alarm when that stops. `{host}` in it becomes the host's name.",
        |s, raw| set_dead_man(s, raw);
    "alerts.dead_man_seconds", "60",
        "How often.",
        |s, raw| raw.integer(1, 86_400).map(|v| s.alerts.dead_man_every = Duration::from_secs(v));
    "api.max_connections", "1024",
        "Connections served at once; more are answered 503 with `Retry-After`.",
        |s, raw| raw.integer(1, 100_000).map(|v| s.max_connections = v as usize);
    "api.failed_attempts_per_minute", "60",
        "How many wrong tokens an address may send a minute; after that it is told to wait (429).",
        |s, raw| raw.integer(1, 100_000).map(|v| s.failed_attempts = v as u32);
    "api.header_timeout_seconds", "15",
        "How long a client may take to send the head of a request.",
        |s, raw| raw.integer(1, 600).map(|v| s.header_timeout = Duration::from_secs(v));
}

/// Settings for tests of the server, not in the documentation.
pub(super) const HIDDEN: &[Setting] = &[Setting {
    key: "host.clock_ahead_seconds",
    default: "0",
    doc: "How far this host's clock is ahead of the truth until the database tells it.",
    set: |s, raw| {
        raw.integer(0, 86_400)
            .map(|v| s.clock_ahead = chrono::Duration::seconds(v as i64))
    },
}];

/// How many task types are told apart when nobody says.
pub(crate) const MAX_TASK_TYPES: usize = 200;

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 7411).into(),
            danger_listen_without_tls: false,
            tls_certificate: None,
            tls_key: None,
            data_dir: default_data_dir(),
            host_name: machine_name(),
            database_url: None,
            durability: Durability::Full,
            postgres: PostgresSettings::default(),
            clock_ahead: chrono::Duration::zero(),
            slots: 8 * u32::try_from(cores()).unwrap_or(1),
            grace: Duration::from_secs(30),
            engine_memory: machine_memory().map_or(4 << 30, |total| total / 10 * 6),
            pooling: PoolingSetting::Auto,
            aot_max: 4 << 30,
            compile_concurrency: 1,
            compile_timeout: Duration::from_secs(900),
            limits: LimitOverrides::default(),
            allow_private: Vec::new(),
            secret_keys: Vec::new(),
            secret_key_file: None,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            retention: Retention::default(),
            audit_keep: chrono::Duration::days(365),
            metrics_open: false,
            metrics_task_types: MAX_TASK_TYPES,
            otlp: OtlpSettings::default(),
            alerts: AlertSettings::default(),
            max_connections: 1024,
            failed_attempts: 60,
            header_timeout: Duration::from_secs(15),
            given: Default::default(),
        }
    }
}

fn set_limit(settings: &mut Settings, name: &str, raw: &Raw<'_>) -> Result<(), String> {
    let value = if name.ends_with("_bytes") {
        raw.bytes(1)?
    } else {
        raw.integer(1, u64::MAX)?
    };
    let document = json!({ name: value });
    let read = Fields::read(&document, "", LimitOverrides::read).map_err(|invalid| {
        let problem = invalid.0.into_iter().next();
        problem.map_or_else(|| "is refused".to_owned(), |p| p.detail)
    })?;
    settings.limits = laid_over(read, settings.limits);
    Ok(())
}

/// The limits of `top`, and of `below` where `top` says nothing.
fn laid_over(top: LimitOverrides, below: LimitOverrides) -> LimitOverrides {
    // Both are objects of the same keys; absent limits are not written.
    let merged = serde_json::to_value(below).ok().and_then(|mut base| {
        let top = serde_json::to_value(top).ok()?;
        base.as_object_mut()?.extend(top.as_object()?.clone());
        serde_json::from_value(base).ok()
    });
    merged.unwrap_or(top)
}

/// A text or a list of texts; what is wrong is told without repeating any of it.
fn set_secret_keys(settings: &mut Settings, raw: &Raw<'_>) -> Result<(), String> {
    let texts: Vec<&str> = match raw {
        Raw::Text(text) => text.split(',').collect(),
        Raw::Toml(toml::Value::String(text)) => text.split(',').collect(),
        Raw::Toml(toml::Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().ok_or("holds something that is no text"))
            .collect::<Result<_, _>>()?,
        Raw::Toml(_) => return Err("is neither a text nor a list of texts".to_owned()),
    };
    settings.secret_keys = texts
        .into_iter()
        .map(|text| SecretKey::parse(text).map_err(|error| format!("cannot be used: {error}")))
        .collect::<Result<_, _>>()?;
    Ok(())
}

/// `NAME=VALUE`; the value is not repeated: it may be a key.
fn header(text: &str) -> Result<(String, String), String> {
    let refused = || "holds something that is no header like authorization=VALUE".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(refused)?;
    let name: HeaderName = name.trim().parse().map_err(|_| refused())?;
    HeaderValue::from_str(value.trim()).map_err(|_| refused())?;
    Ok((name.to_string(), value.trim().to_owned()))
}

fn set_alert_secret(settings: &mut Settings, raw: &Raw<'_>) -> Result<(), String> {
    let secret = raw.text()?;
    if secret.chars().count() < AlertSecret::SHORTEST {
        // Without repeating any of it.
        let least = AlertSecret::SHORTEST;
        return Err(format!(
            "is too short; it must have at least {least} characters"
        ));
    }
    settings.alerts.secret = Some(AlertSecret::new(secret));
    Ok(())
}

/// Read as it would be for any host; the name is filled in when all settings are known.
fn set_dead_man(settings: &mut Settings, raw: &Raw<'_>) -> Result<(), String> {
    let text = raw.text()?;
    url(&Raw::Text(&text.replace("{host}", "host")))?;
    settings.alerts.dead_man_url = Some(text);
    Ok(())
}

/// An absolute `http` or `https` URL. It is not repeated: it may hold what is secret.
fn url(raw: &Raw<'_>) -> Result<Uri, String> {
    let refused =
        |reason: &str| format!("{reason}; write it like https://hooks.example.com/horarium");
    let url: Uri = raw.text()?.parse().map_err(|_| refused("is no URL"))?;
    Target::from_uri(&url).map_err(|error| refused(&format!("cannot be used: {error}")))?;
    Ok(url)
}

fn set_host_name(settings: &mut Settings, raw: &Raw<'_>) -> Result<(), String> {
    let name = raw.text()?;
    if name.chars().count() > 200 || name.chars().any(char::is_control) {
        return Err("must have at most 200 characters and no control characters".to_owned());
    }
    settings.host_name = name;
    Ok(())
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| {
            format!(
                "holds `{}`, which is not a network like 10.1.0.0/16",
                one_line(text, 60)
            )
        })
}

fn default_data_dir() -> PathBuf {
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("."))
        .join("horarium")
}

/// Cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = one_line(&name, 200);
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

/// Bytes of memory of the machine, or of the container where that is less.
fn machine_memory() -> Option<u64> {
    let total = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map(|kib| kib * 1024);
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    match (total, group) {
        (Some(total), Some(group)) => Some(total.min(group)),
        (total, group) => total.or(group),
    }
}

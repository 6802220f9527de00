//! The flags that say what a task is.

use crate::cli::failure::Failure;
use crate::cli::now;
use crate::cli::values::{self, Setting};
use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Args)]
pub(crate) struct SpecArguments {
    /// Parameters, a JSON object, or @FILE (@- for standard input)
    #[arg(long, value_name = "JSON|@FILE")]
    pub(super) params: Option<String>,
    /// One parameter; the value is JSON if it parses, else text; a KEY like /a/b is a JSON pointer
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<Setting>,
    /// Fire by a cron expression
    #[arg(long, value_name = "EXPR", conflicts_with = "at")]
    cron: Option<String>,
    /// The zone the expression means, an IANA name [default: UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Fire once: an instant with offset, or +90s, +10m, +2h, +1d from now
    #[arg(long, value_name = "INSTANT")]
    at: Option<String>,
    /// A short unique name for programs
    #[arg(long)]
    key: Option<String>,
    /// Attempts after the first [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_retries: Option<i64>,
    /// Seconds an attempt may take [default: 60]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// -100 to 100, higher first [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    /// While an execution lives: allow, skip, queue_one or cancel_running
    #[arg(long, value_name = "RULE")]
    overlap: Option<String>,
    /// A limit of each run, such as fuel=1000000000 or memory_bytes=16MiB
    #[arg(long, value_name = "NAME=N", value_parser = values::limit)]
    limit: Vec<(String, u64)>,
    /// When failures run again, such as '{"initial_seconds": 1}'
    #[arg(long, value_name = "JSON|@FILE")]
    retry: Option<String>,
    /// How many run at once, start in a time, or wait, such as '{"max": 2, "key": "/site", "rate": {"count": 10, "seconds": 60}}'
    #[arg(long, value_name = "JSON|@FILE")]
    concurrency: Option<String>,
    /// What its end starts, such as '[{"task": "report", "parameters": {"/n": "/count"}}]'
    #[arg(long, value_name = "JSON|@FILE")]
    chain: Option<String>,
    /// Missed slots: skip, once or all [default: once]
    #[arg(long, value_name = "RULE")]
    catch_up: Option<String>,
    /// How old a missed slot may be to be made up [default: 86400]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    catch_up_window: Option<i64>,
    /// How late a slot may fire and still be on time [default: 60]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    misfire_grace: Option<i64>,
    /// Spread fires over this many seconds after their slot [default: 0]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    jitter: Option<i64>,
    /// Slots count from this instant on
    #[arg(long, value_name = "INSTANT")]
    start_at: Option<String>,
    /// Slots count before this instant only
    #[arg(long, value_name = "INSTANT")]
    end_at: Option<String>,
    /// Make no slots yet
    #[arg(long)]
    paused: bool,
    /// Pause by itself after this many failed executions in a row
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pause_after_failures: Option<i64>,
    /// What waits longer than this ends expired
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    expires_after: Option<i64>,
    /// Run this version whatever is active: its digest
    #[arg(long, value_name = "DIGEST")]
    plugin_version: Option<String>,
}

pub(super) fn field_name(text: &str) -> Result<String, String> {
    let known = horarium_model::TaskSpec::KEYS;
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(
        match horarium_model::text::nearest(text, known.iter().copied()) {
            Some(near) => format!("no such field; did you mean {near}?"),
            None => format!("no such field; there are {}", known.join(", ")),
        },
    )
}

impl SpecArguments {
    /// What was named, parameters aside, as fields of a spec.
    pub(super) fn fields(&self) -> Result<Map<String, Value>, Failure> {
        let mut spec = Map::new();
        put(&mut spec, "key", &self.key);
        put(&mut spec, "max_retries", &self.max_retries);
        put(&mut spec, "timeout_seconds", &self.timeout);
        put(&mut spec, "priority", &self.priority);
        put(&mut spec, "overlap", &self.overlap);
        put(
            &mut spec,
            "pause_after_failures",
            &self.pause_after_failures,
        );
        put(&mut spec, "expires_after_seconds", &self.expires_after);
        put(&mut spec, "plugin_version", &self.plugin_version);
        if self.paused {
            spec.insert("paused".into(), true.into());
        }
        if !self.limit.is_empty() {
            let limits = self.limit.iter().cloned();
            let limits: Map<String, Value> = limits.map(|(k, v)| (k, v.into())).collect();
            spec.insert("limits".into(), limits.into());
        }
        for (flag, key, text) in [
            ("--retry", "retry_policy", &self.retry),
            ("--concurrency", "concurrency", &self.concurrency),
        ] {
            if let Some(text) = text {
                spec.insert(key.into(), values::object_argument(flag, text)?.into());
            }
        }
        if let Some(text) = &self.chain {
            spec.insert("chain".into(), values::json_argument("--chain", text)?);
        }
        let schedule = self.schedule()?;
        let kind = match (&self.cron, &self.at) {
            (Some(_), _) => Some("cron"),
            (None, Some(_)) => Some("date"),
            (None, None) => None,
        };
        put(&mut spec, "scheduler_type", &kind);
        if !schedule.is_empty() {
            spec.insert("schedule_config".into(), schedule.into());
        }
        Ok(spec)
    }

    fn schedule(&self) -> Result<Map<String, Value>, Failure> {
        let mut schedule = Map::new();
        put(&mut schedule, "cron_expression", &self.cron);
        put(&mut schedule, "timezone", &self.timezone);
        put(&mut schedule, "catch_up", &self.catch_up);
        put(
            &mut schedule,
            "catch_up_window_seconds",
            &self.catch_up_window,
        );
        put(&mut schedule, "misfire_grace_seconds", &self.misfire_grace);
        put(&mut schedule, "jitter_seconds", &self.jitter);
        for (key, text) in [
            ("run_at", &self.at),
            ("start_at", &self.start_at),
            ("end_at", &self.end_at),
        ] {
            // Spans are ours to work out; anything else is the server's to judge, in the writer's words.
            let instant = match text {
                Some(text) if text.starts_with('+') => {
                    let instant = values::instant(text, now())
                        .map_err(|detail| Failure::refused(format!("--at: {detail}")))?;
                    Some(horarium_model::schedule::wire(instant))
                }
                other => other.clone(),
            };
            put(&mut schedule, key, &instant);
        }
        Ok(schedule)
    }
}

pub(super) fn put<T: serde::Serialize>(map: &mut Map<String, Value>, key: &str, value: &Option<T>) {
    if let Some(value) = value {
        map.insert(key.into(), json!(value));
    }
}

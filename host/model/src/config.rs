//! Task configs: what an operator writes, and the row that is kept of it.

use crate::chain::ChainStep;
use crate::concurrency::{Concurrency, read_concurrency};
use crate::input::Fields;
use crate::limits::{DEFAULT_TIMEOUT_SECONDS, LimitOverrides, MAX_TIMEOUT_SECONDS};
use crate::problem::Invalid;
use crate::retry::RetryPolicy;
use crate::schedule::{Overlap, ScheduleConfig, SchedulerType, wire_time};
use crate::{ConfigId, TenantId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What an operator may write of a task config.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    /// Optional slug, unique within the tenant.
    pub key: Option<String>,
    /// For people, 1 to 200 characters.
    pub name: String,
    /// The plugin's registered name.
    pub task_type: String,
    /// A JSON object.
    pub parameters: Map<String, Value>,
    /// When it fires; carries `scheduler_type`.
    pub schedule: ScheduleConfig,
    /// Attempts after the first, 0 to 100.
    pub max_retries: u32,
    /// Wall-clock limit of an attempt, 1 to 86 400.
    pub timeout_seconds: u32,
    /// -100 to 100, higher first.
    pub priority: i32,
    /// Limits tighter than the levels above.
    pub limits: LimitOverrides,
    /// When failed attempts run again.
    pub retry_policy: RetryPolicy,
    /// As written; see [`TaskSpec::effective_overlap`].
    pub overlap: Option<Overlap>,
    /// How many of its executions run at once.
    pub concurrency: Option<Concurrency>,
    /// What the end of an execution enqueues.
    pub chain: Vec<ChainStep>,
    /// Digest of the plugin version to run, the active one when absent.
    pub plugin_version: Option<String>,
    /// No new slots while true.
    pub paused: bool,
    /// Why, for people.
    pub pause_reason: Option<String>,
    /// Pause by itself after this many failed executions in a row.
    pub pause_after_failures: Option<u32>,
    /// Waiting executions end `expired` after this.
    pub expires_after_seconds: Option<u64>,
}

impl TaskSpec {
    /// The keys a spec may have.
    pub const KEYS: &[&str] = &[
        "key",
        "name",
        "task_type",
        "scheduler_type",
        "parameters",
        "schedule_config",
        "max_retries",
        "timeout_seconds",
        "priority",
        "limits",
        "retry_policy",
        "overlap",
        "concurrency",
        "chain",
        "plugin_version",
        "paused",
        "pause_reason",
        "pause_after_failures",
        "expires_after_seconds",
    ];

    /// Reads a spec from JSON. `old` is the config being changed: its `run_at` may lie in the past.
    ///
    /// # Errors
    /// Every problem found, each with its pointer.
    pub fn from_json(value: &Value, now: Timestamp, old: Option<&Self>) -> Result<Self, Invalid> {
        Fields::read(value, "", |fields| Self::read(fields, now, old))
    }

    /// What [`Self::from_json`] takes, as a JSON Schema.
    pub fn describe() -> Value {
        Fields::describe(|fields| Self::read(fields, Timestamp::UNIX_EPOCH, None))
    }

    fn read(fields: &mut Fields<'_>, now: Timestamp, old: Option<&Self>) -> Self {
        let kinds = [
            SchedulerType::Cron,
            SchedulerType::Date,
            SchedulerType::Manual,
        ]
        .map(|k| (k.as_str(), k));
        let kind = fields.choice("scheduler_type", &kinds);
        let kept = match old.map(|o| &o.schedule) {
            Some(ScheduleConfig::Date { run_at, .. }) => Some(*run_at),
            _ => None,
        };
        Self {
            key: read_key(fields),
            name: read_required_text(fields, "name", 200),
            task_type: read_task_type(fields),
            parameters: fields.map("parameters").unwrap_or_default(),
            schedule: read_schedule(fields, kind, now, kept),
            max_retries: fields
                .integer("max_retries", 0, 100)
                .map_or(3, |n| n as u32),
            timeout_seconds: fields
                .integer("timeout_seconds", 1, i64::from(MAX_TIMEOUT_SECONDS))
                .map_or(DEFAULT_TIMEOUT_SECONDS, |n| n as u32),
            priority: fields
                .integer("priority", -100, 100)
                .map_or(0, |n| n as i32),
            limits: fields
                .object("limits", LimitOverrides::read)
                .unwrap_or_default(),
            retry_policy: fields
                .object("retry_policy", RetryPolicy::read)
                .unwrap_or_default(),
            overlap: fields.choice("overlap", Overlap::CHOICES),
            concurrency: read_concurrency(fields),
            chain: ChainStep::read_all(fields),
            plugin_version: read_digest(fields),
            paused: fields.boolean("paused").unwrap_or(false),
            pause_reason: fields.text("pause_reason", 0, 500),
            pause_after_failures: fields
                .integer("pause_after_failures", 1, 1000)
                .map(|n| n as u32),
            expires_after_seconds: fields.unsigned("expires_after_seconds", 1, 366 * 86_400),
        }
    }

    /// The JSON object of everything an operator may write, defaults filled in.
    pub fn to_json(&self) -> Map<String, Value> {
        let value = json!({
            "key": self.key,
            "name": self.name,
            "task_type": self.task_type,
            "scheduler_type": self.schedule.kind(),
            "parameters": self.parameters,
            "schedule_config": self.schedule.to_json(),
            "max_retries": self.max_retries,
            "timeout_seconds": self.timeout_seconds,
            "priority": self.priority,
            "limits": self.limits,
            "retry_policy": self.retry_policy,
            "overlap": self.overlap,
            "concurrency": self.concurrency,
            "chain": self.chain,
            "plugin_version": self.plugin_version,
            "paused": self.paused,
            "pause_reason": self.pause_reason,
            "pause_after_failures": self.pause_after_failures,
            "expires_after_seconds": self.expires_after_seconds,
        });
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// The overlap rule in force (S6): as written, else `allow` for manual configs and `skip` for others.
    pub fn effective_overlap(&self) -> Overlap {
        self.overlap.unwrap_or(match self.schedule {
            ScheduleConfig::Manual => Overlap::Allow,
            _ => Overlap::Skip,
        })
    }

    /// Whether at most one execution of the config runs: by its overlap rule, or because its plugin
    /// keeps state and nobody allowed overlaps explicitly (design section 4).
    pub fn runs_alone(&self, uses_state: bool) -> bool {
        self.effective_overlap() != Overlap::Allow
            || (uses_state && self.overlap != Some(Overlap::Allow))
    }
}

fn read_schedule(
    fields: &mut Fields<'_>,
    kind: Option<SchedulerType>,
    now: Timestamp,
    kept: Option<Timestamp>,
) -> ScheduleConfig {
    let Some(kind) = kind else {
        fields.value("schedule_config");
        fields.shape("schedule_config", || {
            let of = |kind: SchedulerType| {
                let mut schema =
                    Fields::describe(|inner| ScheduleConfig::read(inner, kind, now, kept));
                schema["title"] = kind.as_str().into();
                schema
            };
            json!({ "anyOf": [of(SchedulerType::Cron), of(SchedulerType::Date), of(SchedulerType::Manual)] })
        });
        if !fields.has_problems() {
            fields.missing("scheduler_type", "is missing; write cron, date or manual");
        }
        return ScheduleConfig::Manual;
    };
    let empty = Value::Object(Map::new());
    match fields.value("schedule_config") {
        Some(_) => fields
            .object("schedule_config", |inner| {
                ScheduleConfig::read(inner, kind, now, kept)
            })
            .unwrap_or(ScheduleConfig::Manual),
        None => match Fields::read(&empty, "/schedule_config", |inner| {
            ScheduleConfig::read(inner, kind, now, kept)
        }) {
            Ok(schedule) => schedule,
            Err(Invalid(problems)) => {
                fields.merge(problems);
                ScheduleConfig::Manual
            }
        },
    }
}

fn read_required_text(fields: &mut Fields<'_>, key: &'static str, max: usize) -> String {
    let absent = fields.value(key).is_none();
    let text = fields.text(key, 1, max).unwrap_or_default();
    if absent {
        fields.missing(key, "is missing");
        return text;
    }
    if crate::text::sanitize(&text, false) != text {
        fields.problem(key, "contains control characters");
    } else if !text.is_empty() && text.trim().is_empty() {
        fields.problem(key, "is blank");
    }
    text
}

fn read_key(fields: &mut Fields<'_>) -> Option<String> {
    let key = fields.text("key", 1, 64);
    fields.shape("key", || json!({ "pattern": "^[a-z][a-z0-9._-]*$" }));
    let key = key?;
    let fits = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        });
    if !fits {
        fields.problem(
            "key",
            "must start with a-z and hold only a-z, 0-9, -, _ and .",
        );
    }
    Some(key)
}

fn read_task_type(fields: &mut Fields<'_>) -> String {
    let name = read_required_text(fields, "task_type", 64);
    fields.shape("task_type", || json!({ "pattern": crate::task_type::NAME }));
    if !name.is_empty()
        && let Err(detail) = crate::task_type::check_name(&name)
    {
        fields.problem("task_type", detail);
    }
    name
}

fn read_digest(fields: &mut Fields<'_>) -> Option<String> {
    let digest = fields.text("plugin_version", 1, 80);
    fields.shape(
        "plugin_version",
        || json!({ "pattern": crate::task_type::DIGEST }),
    );
    let digest = digest?;
    if !crate::task_type::is_digest(&digest) {
        fields.problem(
            "plugin_version",
            "must be a digest as `plugin show` prints it (blake3: and 64 hexadecimal digits)",
        );
    }
    Some(digest)
}

/// A stored task config.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskConfig {
    /// Row id.
    pub id: ConfigId,
    /// Owner.
    pub tenant_id: TenantId,
    /// What the operator wrote.
    pub spec: TaskSpec,
    /// The set of declarations it came from, if `task apply` or an import wrote it.
    pub declared_by: Option<String>,
    /// Rises by one with every change; the ETag.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it was deleted, in which case reads do not show it.
    pub deleted_at: Option<Timestamp>,
    /// Hot schedule state.
    pub schedule_state: ScheduleState,
}

/// What the scheduler keeps of a config, in a narrow table of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleState {
    /// When the next slot fires, jitter included; null when none will.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub next_fire_at: Option<Timestamp>,
    /// The newest slot that was decided upon.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub last_slot: Option<Timestamp>,
    /// Only later slots count (rule S2).
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub anchor_at: Timestamp,
    /// Skipped slots not yet written as a row (rule S5).
    pub open_skip: Option<SkipStreak>,
    /// Failed executions in a row, for `pause_after_failures`.
    pub failures_in_a_row: u32,
}

impl ScheduleState {
    /// Slots strictly after this instant are undecided.
    pub fn cursor(&self) -> Timestamp {
        self.last_slot
            .map_or(self.anchor_at, |slot| slot.max(self.anchor_at))
    }
}

/// Consecutive slots of a config skipped for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SkipStreak {
    /// Why.
    pub reason: crate::execution::SkipReason,
    /// First slot.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub first: Timestamp,
    /// Last slot so far.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub last: Timestamp,
    /// How many.
    pub count: i64,
}

impl TaskConfig {
    /// Whether it fires by itself.
    pub fn is_scheduled(&self) -> bool {
        self.spec.schedule.kind() != SchedulerType::Manual
    }

    /// The value at a JSON pointer into the parameters, if there is one.
    ///
    /// # Errors
    /// When `pointer` is not a JSON pointer (RFC 6901).
    pub fn get_parameter(&self, pointer: &str) -> Result<Option<Value>, Invalid> {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(Invalid::one(
                "",
                format!(
                    "`{}` is not a JSON pointer; write it like /subreddit",
                    crate::text::one_line(pointer, 60)
                ),
            ));
        }
        if pointer.is_empty() {
            return Ok(Some(Value::Object(self.spec.parameters.clone())));
        }
        // A borrowed walk, so that large parameters are not copied for one value.
        let mut tokens = pointer[1..]
            .split('/')
            .map(|t| t.replace("~1", "/").replace("~0", "~"));
        let first = tokens.next().unwrap_or_default();
        let mut at = self.spec.parameters.get(&first);
        for token in tokens {
            at = match at {
                Some(Value::Object(map)) => map.get(&token),
                Some(Value::Array(items)) => token.parse::<usize>().ok().and_then(|i| items.get(i)),
                _ => None,
            };
        }
        Ok(at.cloned())
    }

    /// The whole config as every surface shows it.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("id".into(), self.id.into());
        map.insert("tenant_id".into(), self.tenant_id.into());
        map.extend(self.spec.to_json());
        map.insert("is_scheduled".into(), self.is_scheduled().into());
        if let Ok(Value::Object(state)) = serde_json::to_value(&self.schedule_state) {
            map.extend(state);
        }
        map.insert("declared_by".into(), self.declared_by.clone().into());
        map.insert("version".into(), self.version.into());
        map.insert(
            "created_at".into(),
            crate::schedule::wire(self.created_at).into(),
        );
        map.insert(
            "updated_at".into(),
            crate::schedule::wire(self.updated_at).into(),
        );
        map.insert(
            "deleted_at".into(),
            self.deleted_at.map(crate::schedule::wire).into(),
        );
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn problems(value: Value) -> Vec<String> {
        TaskSpec::from_json(&value, now(), None)
            .expect_err("refused")
            .0
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn defaults_are_the_contracts_and_json_round_trips() {
        let spec = TaskSpec::from_json(
            &json!({"name": "n", "task_type": "hello", "scheduler_type": "MANUAL"}),
            now(),
            None,
        )
        .unwrap();
        assert_eq!(
            (spec.max_retries, spec.timeout_seconds, spec.priority),
            (3, 60, 0)
        );
        assert_eq!(spec.effective_overlap(), Overlap::Allow);
        let again = TaskSpec::from_json(&Value::Object(spec.to_json()), now(), None).unwrap();
        assert_eq!(again, spec);
        let keys: Vec<String> = spec.to_json().keys().cloned().collect();
        assert!(
            keys.iter().all(|k| TaskSpec::KEYS.contains(&k.as_str()))
                && keys.len() == TaskSpec::KEYS.len()
        );
    }

    #[test]
    fn every_problem_is_found_at_once_with_its_place() {
        let found = problems(json!({
            "name": "x".repeat(10_000), "task_type": "Bad Type", "scheduler_type": "cron", "timeout_second": 5,
            "max_retries": -1, "timeout_seconds": 0, "priority": 101, "parameters": [],
            "schedule_config": {"cron_expression": "61 * * * *", "timezone": "UTC", "jitter": 1},
            "limits": {"fuel": 0}, "retry_policy": {"initial_seconds": 0.5}, "chain": 7,
        }));
        for part in [
            "/name:",
            "/task_type:",
            "/timeout_second: unknown key `timeout_second`; did you mean `timeout_seconds`?",
            "/max_retries:",
            "/timeout_seconds: is 0",
            "/priority:",
            "/parameters: must be an object",
            "/schedule_config/cron_expression:",
            "/schedule_config/jitter: unknown key",
            "/limits/fuel:",
            "/retry_policy/initial_seconds:",
            "/chain:",
        ] {
            assert!(
                found.iter().any(|p| p.starts_with(part)),
                "{part} not in {found:#?}"
            );
        }
    }

    #[test]
    fn dates_need_an_offset_and_a_future() {
        let date = |at: &str| {
            problems(
                json!({"name": "n", "task_type": "t", "scheduler_type": "date", "schedule_config": {"run_at": at}}),
            )
        };
        assert!(date("2030-01-01T00:00:00")[0].contains("no offset"));
        assert!(date("2020-01-01T00:00:00Z")[0].contains("in the past"));
        assert!(
            problems(json!({"name": "n", "task_type": "t", "scheduler_type": "date"}))[0]
                .contains("run_at")
        );
        assert!(problems(json!({"name": "n", "task_type": "t"}))[0].contains("/scheduler_type"));
    }

    #[test]
    fn concurrency_wants_a_bound_and_says_which_there_are() {
        let read = |concurrency: Value| {
            TaskSpec::from_json(
                &json!({"name": "n", "task_type": "t", "scheduler_type": "manual", "concurrency": concurrency}),
                now(),
                None,
            )
        };
        for good in [
            json!({"max": 3}),
            json!({"rate": {"count": 5, "seconds": 60}}),
            json!({"backlog": 100}),
            json!({"max": 3, "key": "/site", "rate": {"count": 1, "seconds": 1}, "backlog": 9}),
        ] {
            let spec = read(good.clone()).expect("good");
            assert_eq!(spec.to_json()["concurrency"], good);
        }
        for (bad, part) in [
            (json!({}), "/concurrency/max: is missing"),
            (json!({"key": "/a"}), "/concurrency/max: is missing"),
            (
                json!({"rate": {"count": 5}}),
                "/concurrency/rate/seconds: is missing",
            ),
            (
                json!({"rate": {"count": 0, "seconds": 1}}),
                "/concurrency/rate/count",
            ),
            (json!({"rate": 5}), "/concurrency/rate"),
            (json!({"backlog": 0}), "/concurrency/backlog"),
            (json!({"max": 1, "key": "site"}), "/concurrency/key"),
            (json!({"maxx": 1}), "did you mean `max`"),
        ] {
            let found = read(bad.clone()).expect_err("refused").to_string();
            assert!(found.contains(part), "{bad}: {found}");
        }
    }

    #[test]
    fn a_kept_run_at_may_have_passed() {
        let body = json!({"name": "n", "task_type": "t", "scheduler_type": "date", "schedule_config": {"run_at": "2026-06-01T00:00:00Z"}});
        let old = TaskSpec::from_json(&body, now(), None).unwrap();
        let later = "2026-07-01T00:00:00Z".parse().unwrap();
        assert!(TaskSpec::from_json(&body, later, Some(&old)).is_ok());
        assert!(TaskSpec::from_json(&body, later, None).is_err());
    }

    #[test]
    fn jitter_must_stay_below_the_gap() {
        let found = problems(
            json!({"name": "n", "task_type": "t", "scheduler_type": "cron",
            "schedule_config": {"cron_expression": "*/5 * * * *", "jitter_seconds": 300}}),
        );
        assert!(found[0].contains("300 s"), "{found:?}");
    }
}

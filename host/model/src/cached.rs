//! Configs and executions as text that can be put into a cache and read back: a JSON object with a version,
//! so that a reader of another release refuses what it does not know instead of guessing.

use crate::chain::ChainStep;
use crate::concurrency::Concurrency;
use crate::config::ScheduleState;
use crate::limits::LimitOverrides;
use crate::retry::RetryPolicy;
use crate::schedule::{KeptSchedule, Overlap, ScheduleConfig, wire_time};
use crate::{ConfigId, Execution, TaskConfig, TaskSpec, TenantId, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The version that is written, and the only one that is read.
pub const CACHED_VERSION: u64 = 1;

/// Why a cached text was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CachedError {
    /// It was written by another release.
    #[error(
        "the cached {kind} has version {found}, this release reads version {CACHED_VERSION}; read it anew"
    )]
    UnknownVersion {
        /// What was to be read.
        kind: &'static str,
        /// Its version.
        found: u64,
    },
    /// It is not what was to be read, or it is damaged.
    #[error("not a cached {kind}: {detail}")]
    Damaged {
        /// What was to be read.
        kind: &'static str,
        /// What is wrong.
        detail: String,
    },
}

fn write(kind: &'static str, value: Value) -> String {
    json!({ "version": CACHED_VERSION, "kind": kind, "value": value }).to_string()
}

fn read<T: DeserializeOwned>(kind: &'static str, text: &str) -> Result<T, CachedError> {
    let damaged = |detail: String| CachedError::Damaged { kind, detail };
    let mut document: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let version = document.get("version").and_then(Value::as_u64);
    match version {
        Some(CACHED_VERSION) => {}
        Some(found) => return Err(CachedError::UnknownVersion { kind, found }),
        None => return Err(damaged("it has no version".to_owned())),
    }
    if document.get("kind").and_then(Value::as_str) != Some(kind) {
        let found = document.get("kind").cloned().unwrap_or_default();
        return Err(damaged(format!("it is {found}")));
    }
    let value = document.remove("value").unwrap_or_default();
    serde_json::from_value(value).map_err(|error| damaged(error.to_string()))
}

const CONFIG: &str = "task_config";
const EXECUTION: &str = "task_execution";

impl TaskConfig {
    /// The config as text to be cached.
    pub fn to_cached(&self) -> String {
        write(CONFIG, self.to_json())
    }

    /// Reads what [`Self::to_cached`] wrote. A schedule is not checked again: one that was good when it was
    /// saved stays readable whatever zone data says today.
    ///
    /// # Errors
    /// When the text is of another version, or damaged.
    pub fn from_cached(text: &str) -> Result<Self, CachedError> {
        let kept: KeptConfig = read(CONFIG, text)?;
        let kept_schedule = ScheduleConfig::from_kept(&kept.scheduler_type, kept.schedule_config);
        let schedule = kept_schedule.map_err(|detail| CachedError::Damaged {
            kind: CONFIG,
            detail,
        })?;
        Ok(Self {
            id: kept.id,
            tenant_id: kept.tenant_id,
            spec: TaskSpec {
                key: kept.key,
                name: kept.name,
                task_type: kept.task_type,
                parameters: kept.parameters,
                schedule,
                max_retries: kept.max_retries,
                timeout_seconds: kept.timeout_seconds,
                priority: kept.priority,
                limits: kept.limits,
                retry_policy: kept.retry_policy,
                overlap: kept.overlap,
                concurrency: kept.concurrency,
                chain: kept.chain,
                plugin_version: kept.plugin_version,
                paused: kept.paused,
                pause_reason: kept.pause_reason,
                pause_after_failures: kept.pause_after_failures,
                expires_after_seconds: kept.expires_after_seconds,
            },
            declared_by: kept.declared_by,
            version: kept.config_version,
            created_at: kept.created_at,
            updated_at: kept.updated_at,
            deleted_at: kept.deleted_at,
            schedule_state: kept.schedule_state,
        })
    }
}

impl Execution {
    /// The execution as text to be cached.
    pub fn to_cached(&self) -> String {
        write(EXECUTION, serde_json::to_value(self).unwrap_or_default())
    }

    /// Reads what [`Self::to_cached`] wrote.
    ///
    /// # Errors
    /// When the text is of another version, or damaged.
    pub fn from_cached(text: &str) -> Result<Self, CachedError> {
        read(EXECUTION, text)
    }
}

/// [`TaskConfig::to_json`], read back.
#[derive(Deserialize)]
struct KeptConfig {
    id: ConfigId,
    tenant_id: TenantId,
    key: Option<String>,
    name: String,
    task_type: String,
    scheduler_type: String,
    parameters: Map<String, Value>,
    schedule_config: KeptSchedule,
    max_retries: u32,
    timeout_seconds: u32,
    priority: i32,
    limits: LimitOverrides,
    retry_policy: RetryPolicy,
    overlap: Option<Overlap>,
    concurrency: Option<Concurrency>,
    chain: Vec<ChainStep>,
    plugin_version: Option<String>,
    paused: bool,
    pause_reason: Option<String>,
    pause_after_failures: Option<u32>,
    expires_after_seconds: Option<u64>,
    declared_by: Option<String>,
    #[serde(rename = "version")]
    config_version: i64,
    #[serde(with = "wire_time")]
    created_at: Timestamp,
    #[serde(with = "wire_time")]
    updated_at: Timestamp,
    #[serde(with = "wire_time::option")]
    deleted_at: Option<Timestamp>,
    #[serde(flatten)]
    schedule_state: ScheduleState,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SkipStreak;
    use crate::execution::{Progress, SkipReason, State, Trigger};
    use crate::{ErrorKind, Usage};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_timestamp_micros(1_767_225_600_000_000 + micros).expect("in range")
    }

    fn config(changes: &Value) -> TaskConfig {
        let mut body = json!({"name": "n", "task_type": "t", "scheduler_type": "manual"});
        json_patch::merge(&mut body, changes);
        TaskConfig {
            id: 7,
            tenant_id: 3,
            spec: TaskSpec::from_json(&body, at(0), None).expect("a spec"),
            declared_by: Some("team/tasks".into()),
            version: 12,
            created_at: at(1),
            updated_at: at(2),
            deleted_at: None,
            schedule_state: ScheduleState {
                next_fire_at: Some(at(3)),
                last_slot: Some(at(4)),
                anchor_at: at(5),
                open_skip: Some(SkipStreak {
                    reason: SkipReason::Overlap,
                    first: at(6),
                    last: at(7),
                    count: 2,
                }),
                failures_in_a_row: 4,
            },
        }
    }

    #[test]
    fn configs_come_back_equal() {
        for changes in [
            json!({}),
            json!({"key": "k", "scheduler_type": "cron", "overlap": "queue_one", "priority": -5,
                "schedule_config": {"cron_expression": "*/5 * * * *", "timezone": "Europe/Berlin",
                    "jitter_seconds": 7, "catch_up": "all", "start_at": "2026-02-01T00:00:00Z"},
                "parameters": {"a": [1.5, null, {"é": 18_446_744_073_709_551_615u64}]},
                "limits": {"fuel": 5}, "retry_policy": {"retry_on": ["trap"], "factor": 1.5},
                "concurrency": {"max": 2, "key": "/a"}, "expires_after_seconds": 60, "paused": true,
                "chain": [{"task": "k"}, {"task": 9, "on": ["failed"], "parameters": {"/a": ""}}]}),
            json!({"scheduler_type": "date", "schedule_config": {"run_at": "2026-06-01T00:00:00.000001Z"}}),
        ] {
            let config = config(&changes);
            let text = config.to_cached();
            assert_eq!(TaskConfig::from_cached(&text), Ok(config), "{text}");
        }
    }

    fn execution() -> Execution {
        Execution {
            id: 1,
            config_id: Some(7),
            task_id: uuid::Uuid::from_u128(5),
            is_success: Some(false),
            started_at: Some(at(1)),
            completed_at: Some(at(2)),
            duration_seconds: Some(0.25),
            result: Some(json!({"a": [1]})),
            error_message: Some("m".into()),
            error_traceback: Some("t".into()),
            tenant_id: 3,
            task_type: "t".into(),
            state: State::Failed,
            trigger: Trigger::Chain,
            slot: Some(at(3)),
            slot_last: None,
            slot_count: None,
            skip_reason: None,
            priority: 1,
            attempt: 2,
            max_attempts: 3,
            lost: 1,
            parameters: Some(json!({})),
            error_kind: Some(ErrorKind::Trap),
            usage: Some(Usage::default()),
            limits: Some(crate::Limits::default()),
            timeout_seconds: Some(30),
            plugin_digest: None,
            host: Some("h".into()),
            created_at: at(0),
            first_started_at: Some(at(1)),
            due_at: Some(at(0)),
            expires_at: None,
            cancel_requested_at: None,
            progress: Some(Progress {
                fraction: Some(0.5),
                message: "half".into(),
            }),
            parent_task_id: Some(uuid::Uuid::from_u128(6)),
            retry_of: None,
        }
    }

    #[test]
    fn executions_come_back_equal() {
        let execution = execution();
        let text = execution.to_cached();
        assert_eq!(Execution::from_cached(&text), Ok(execution), "{text}");
    }

    #[test]
    fn other_versions_and_other_texts_are_refused() {
        let text = config(&json!({})).to_cached();
        let mut newer: Value = serde_json::from_str(&text).expect("JSON");
        newer["version"] = json!(2);
        let refused = TaskConfig::from_cached(&newer.to_string()).expect_err("refused");
        let expected = CachedError::UnknownVersion {
            kind: "task_config",
            found: 2,
        };
        assert_eq!(refused, expected);
        assert!(refused.to_string().contains("version 2"), "{refused}");
        for damaged in ["", "{}", "[]", "{\"version\":1}", &execution().to_cached()] {
            let refused = TaskConfig::from_cached(damaged).expect_err("refused");
            assert!(
                matches!(refused, CachedError::Damaged { .. }),
                "{damaged}: {refused}"
            );
        }
        assert!(Execution::from_cached(&text).is_err());
    }
}

//! Rows as SQLite returns them, turned into what they mean. A row that makes no sense is an error that
//! names it, never a panic.

use crate::columns::Place;
use horarium_core::store::{DueSchedule, StoreResult};
use horarium_model::config::{Concurrency, ScheduleState, SkipStreak};
use horarium_model::execution::{AttemptRecord, Execution, State};
use horarium_model::schedule::{CatchUp, CronConfig, Misfire, Overlap, ScheduleConfig};
use horarium_model::task_type::{PluginVersion, TaskType};
use horarium_model::{TaskConfig, TaskSpec, Timestamp};
use serde::Deserialize;
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row, Type};
use std::time::Duration;

/// One row being read, its columns in the order of the statement.
pub(super) struct Reader<'r> {
    row: &'r SqliteRow,
    at: usize,
    pub(super) place: Place,
}

impl<'r> Reader<'r> {
    /// Reads `row` of `table`; its first column is the id.
    pub(super) fn new(row: &'r SqliteRow, table: &'static str) -> StoreResult<Self> {
        let mut reader = Self {
            row,
            at: 0,
            place: Place { table, id: 0 },
        };
        reader.place.id = reader.get("id")?;
        Ok(reader)
    }

    /// Reads a row whose first column is no id.
    pub(super) fn plain(row: &'r SqliteRow, table: &'static str) -> Self {
        Self {
            row,
            at: 0,
            place: Place { table, id: 0 },
        }
    }

    /// The next column.
    pub(super) fn get<T>(&mut self, column: &str) -> StoreResult<T>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
    {
        let value = self
            .row
            .try_get::<T, _>(self.at)
            .map_err(|error| self.place.corrupt(column, error));
        self.at += 1;
        value
    }

    pub(super) fn number<T: TryFrom<i64>>(&mut self, column: &str) -> StoreResult<T> {
        let number = self.get::<i64>(column)?;
        self.place.small(column, number)
    }

    pub(super) fn instant(&mut self, column: &str) -> StoreResult<Timestamp> {
        let micros = self.get(column)?;
        self.place.instant(column, micros)
    }

    pub(super) fn opt_instant(&mut self, column: &str) -> StoreResult<Option<Timestamp>> {
        let micros = self.get(column)?;
        self.place.opt_instant(column, micros)
    }

    pub(super) fn word<T>(&mut self, column: &str) -> StoreResult<T>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let text: &str = self.get(column)?;
        self.place.word(column, text)
    }

    pub(super) fn opt_word<T>(&mut self, column: &str) -> StoreResult<Option<T>>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let text: Option<&str> = self.get(column)?;
        self.place.opt_word(column, text)
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&mut self, column: &str) -> StoreResult<T> {
        let text: &str = self.get(column)?;
        self.place.json(column, text)
    }

    pub(super) fn opt_json<T>(&mut self, column: &str) -> StoreResult<Option<T>>
    where
        T: serde::de::DeserializeOwned,
    {
        let text: Option<&str> = self.get(column)?;
        self.place.opt_json(column, text)
    }
}

/// A row of `EXECUTION` and of the lists.
pub(super) fn execution(row: &SqliteRow) -> StoreResult<Execution> {
    let mut r = Reader::new(row, "executions")?;
    let mut execution = Execution {
        id: r.place.id,
        config_id: r.get("config_id")?,
        task_id: r.word("task_id")?,
        is_success: None,
        started_at: r.opt_instant("started_at")?,
        completed_at: r.opt_instant("completed_at")?,
        duration_seconds: r.get("duration_seconds")?,
        result: r.opt_json("result")?,
        error_message: r.get("error_message")?,
        error_traceback: r.get("error_traceback")?,
        tenant_id: r.get("tenant_id")?,
        task_type: r.get("task_type")?,
        state: r.word("state")?,
        trigger: r.word("trigger")?,
        slot: r.opt_instant("slot")?,
        slot_last: r.opt_instant("slot_last")?,
        slot_count: r.get("slot_count")?,
        skip_reason: r.opt_word("skip_reason")?,
        priority: r.number("priority")?,
        attempt: r.number("attempt")?,
        max_attempts: r.number("max_attempts")?,
        lost: r.number("lost")?,
        parameters: r.opt_json("parameters")?,
        error_kind: r.opt_word("error_kind")?,
        usage: r.opt_json("usage")?,
        plugin_digest: r.get("plugin_digest")?,
        host: r.get("host")?,
        created_at: r.instant("created_at")?,
        first_started_at: r.opt_instant("first_started_at")?,
        due_at: r.opt_instant("due_at")?,
        expires_at: r.opt_instant("expires_at")?,
        cancel_requested_at: r.opt_instant("cancel_requested_at")?,
        progress: r.opt_json("progress")?,
        parent_task_id: r.opt_word("parent_task_id")?,
        retry_of: r.opt_word("retry_of")?,
    };
    execution.is_success = execution.state.is_success();
    Ok(execution)
}

/// A row of `ATTEMPTS`.
pub(super) fn attempt(row: &SqliteRow) -> StoreResult<AttemptRecord> {
    let mut r = Reader::new(row, "task_attempts")?;
    Ok(AttemptRecord {
        claim: r.number("claim")?,
        attempt: r.number("attempt")?,
        outcome: r.word("outcome")?,
        started_at: r.instant("started_at")?,
        completed_at: r.instant("completed_at")?,
        error_kind: r.opt_word("error_kind")?,
        error_message: r.get("error_message")?,
        error_traceback: r.get("error_traceback")?,
        error_code: r.get("error_code")?,
        error_details: r.opt_json("error_details")?,
        usage: r.opt_json("usage")?,
        plugin_digest: r.get("plugin_digest")?,
        host: r.get("host")?,
    })
}

/// The seven columns of an open streak and the counter after them, after the three instants.
pub(super) fn schedule_state(r: &mut Reader<'_>) -> StoreResult<ScheduleState> {
    let next_fire_at = r.opt_instant("next_fire_at")?;
    let last_slot = r.opt_instant("last_slot")?;
    let anchor_at = r.instant("anchor_at")?;
    let reason = r.opt_word("skip_reason")?;
    let first = r.opt_instant("skip_first")?;
    let last = r.opt_instant("skip_last")?;
    let count: Option<i64> = r.get("skip_count")?;
    let open_skip = match (reason, first, last, count) {
        (Some(reason), Some(first), Some(last), Some(count)) => Some(SkipStreak {
            reason,
            first,
            last,
            count,
        }),
        (None, None, None, None) => None,
        _ => return Err(r.place.corrupt("skip_reason", "half an open streak")),
    };
    Ok(ScheduleState {
        next_fire_at,
        last_slot,
        anchor_at,
        open_skip,
        failures_in_a_row: r.number("failures_in_a_row")?,
    })
}

/// A row of `DUE_SCHEDULES`.
pub(super) fn due_schedule(row: &SqliteRow) -> StoreResult<DueSchedule> {
    let mut r = Reader::new(row, "task_schedules")?;
    Ok(DueSchedule {
        config_id: r.place.id,
        version: r.get("version")?,
        state: schedule_state(&mut r)?,
    })
}

/// A row of the configs' statements.
pub(super) fn config(row: &SqliteRow) -> StoreResult<TaskConfig> {
    let mut r = Reader::new(row, "task_configs")?;
    let tenant_id = r.get("tenant_id")?;
    let key = r.get("key")?;
    let name = r.get("name")?;
    let task_type = r.get("task_type")?;
    let kind: String = r.get("scheduler_type")?;
    let spec = TaskSpec {
        key,
        name,
        task_type,
        parameters: r.json("parameters")?,
        schedule: {
            let text: &str = r.get("schedule_config")?;
            schedule(r.place, &kind, text)?
        },
        max_retries: r.number("max_retries")?,
        timeout_seconds: r.number("timeout_seconds")?,
        priority: r.number("priority")?,
        limits: r.json("limits")?,
        retry_policy: r.json("retry_policy")?,
        overlap: {
            let word: Option<&str> = r.get("overlap")?;
            word.map(|w| overlap(r.place, w)).transpose()?
        },
        concurrency: r.opt_json::<Concurrency>("concurrency")?,
        plugin_version: r.get("plugin_version")?,
        paused: r.get("paused")?,
        pause_reason: r.get("pause_reason")?,
        pause_after_failures: opt_number(&mut r, "pause_after_failures")?,
        expires_after_seconds: opt_number(&mut r, "expires_after_seconds")?,
    };
    Ok(TaskConfig {
        id: r.place.id,
        tenant_id,
        spec,
        version: r.get("version")?,
        created_at: r.instant("created_at")?,
        updated_at: r.instant("updated_at")?,
        deleted_at: r.opt_instant("deleted_at")?,
        schedule_state: schedule_state(&mut r)?,
    })
}

fn opt_number<T: TryFrom<i64>>(r: &mut Reader<'_>, column: &str) -> StoreResult<Option<T>> {
    let number: Option<i64> = r.get(column)?;
    number.map(|n| r.place.small(column, n)).transpose()
}

fn overlap(place: Place, word: &str) -> StoreResult<Overlap> {
    Overlap::CHOICES
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, overlap)| *overlap)
        .ok_or_else(|| place.corrupt("overlap", format_args!("`{word}` is no overlap rule")))
}

/// The stored word of an overlap rule.
pub(super) fn overlap_word(overlap: Overlap) -> &'static str {
    Overlap::CHOICES
        .iter()
        .find(|(_, known)| *known == overlap)
        .map_or("skip", |(name, _)| *name)
}

/// `schedule_config` as [`ScheduleConfig::to_json`] writes it. Not checked again: an expression that was
/// good when it was saved must stay readable whatever zone data says today.
#[derive(Deserialize)]
struct StoredSchedule {
    #[serde(default)]
    cron_expression: String,
    #[serde(default)]
    timezone: String,
    #[serde(default)]
    catch_up: CatchUp,
    #[serde(default)]
    catch_up_window_seconds: u64,
    #[serde(default)]
    misfire_grace_seconds: u64,
    #[serde(default)]
    jitter_seconds: u64,
    #[serde(default)]
    start_at: Option<Timestamp>,
    #[serde(default)]
    end_at: Option<Timestamp>,
    #[serde(default)]
    run_at: Option<Timestamp>,
}

fn schedule(place: Place, kind: &str, text: &str) -> StoreResult<ScheduleConfig> {
    let stored: StoredSchedule = place.json("schedule_config", text)?;
    let misfire = Misfire {
        catch_up: stored.catch_up,
        window: Duration::from_secs(stored.catch_up_window_seconds),
        grace: Duration::from_secs(stored.misfire_grace_seconds),
    };
    match (kind, stored.run_at) {
        ("manual", _) => Ok(ScheduleConfig::Manual),
        ("date", Some(run_at)) => Ok(ScheduleConfig::Date { run_at, misfire }),
        ("cron", _) => Ok(ScheduleConfig::Cron(CronConfig {
            cron_expression: stored.cron_expression,
            timezone: stored.timezone,
            misfire,
            jitter: Duration::from_secs(stored.jitter_seconds),
            start_at: stored.start_at,
            end_at: stored.end_at,
        })),
        _ => Err(place.corrupt(
            "scheduler_type",
            format_args!("`{kind}` does not fit its schedule_config"),
        )),
    }
}

/// A row of the types' statements.
pub(super) fn task_type(row: &SqliteRow) -> StoreResult<TaskType> {
    let mut r = Reader::plain(row, "task_types");
    Ok(TaskType {
        tenant_id: r.get("tenant_id")?,
        task_type: r.get("task_type")?,
        active_digest: r.get("active_digest")?,
        disabled: r.get("disabled")?,
        created_at: r.instant("created_at")?,
        updated_at: r.instant("updated_at")?,
    })
}

/// A row of the versions' statements, with its row id.
pub(super) fn version(row: &SqliteRow) -> StoreResult<(i64, PluginVersion)> {
    let mut r = Reader::new(row, "plugin_versions")?;
    let version = PluginVersion {
        tenant_id: r.get("tenant_id")?,
        task_type: r.get("task_type")?,
        digest: r.get("digest")?,
        state: r.word("state")?,
        error: r.get("error")?,
        size_bytes: r.number("size_bytes")?,
        descriptor: r.json("descriptor")?,
        grants: r.json("grants")?,
        limits: r.json("limits")?,
        activate: r.get("activate")?,
        grant_asked: r.get("grant_asked")?,
        warnings: r.json("warnings")?,
        created_at: r.instant("created_at")?,
    };
    Ok((r.place.id, version))
}

/// A state column on its own.
pub(super) fn state(row: &SqliteRow, column: usize, table: &'static str) -> StoreResult<State> {
    let place = Place { table, id: 0 };
    let text: &str = row
        .try_get(column)
        .map_err(|error| place.corrupt("state", error))?;
    place.word("state", text)
}

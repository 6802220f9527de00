//! Rows of any database, turned into what they mean. A row that makes no sense is an error that names it,
//! never a panic. Each database has its own reader; the order of columns is that of its statements, which
//! is the same for all.

use crate::columns::{MeasuredRow, Place};
use horarium_core::store::{
    Alert, Answer, AuditEntry, AuditRow, BreakerRow, Bucket, DueSchedule, HostRow, HostRun,
    KeptAnswer, StoreResult, Tenant, TenantBounds, Token, WaitingHead, Waits,
};
use horarium_model::concurrency::{Concurrency, Rate};
use horarium_model::config::{ScheduleState, SkipStreak};
use horarium_model::execution::{AttemptRecord, Execution};
use horarium_model::schedule::{Overlap, ScheduleConfig};
use horarium_model::task_type::{Breaker, PluginVersion, TaskType, TypeConcurrency};
use horarium_model::{TaskConfig, TaskSpec, Timestamp};

/// For a database's own rows and `Reader`: what each kind of row means.
macro_rules! readers {
    ($row:ty) => {
        /// A row of `EXECUTION` and of the lists.
        pub(super) fn execution(row: &$row) -> StoreResult<Execution> {
            rows::execution(&mut Reader::new(row, "executions")?)
        }

        /// A row of `ATTEMPTS`.
        pub(super) fn attempt(row: &$row) -> StoreResult<AttemptRecord> {
            rows::attempt(&mut Reader::new(row, "task_attempts")?)
        }

        /// A row of `DUE_SCHEDULES`.
        pub(super) fn due_schedule(row: &$row) -> StoreResult<DueSchedule> {
            rows::due_schedule(&mut Reader::new(row, "task_schedules")?)
        }

        /// A row of the configs' statements.
        pub(super) fn config(row: &$row) -> StoreResult<TaskConfig> {
            rows::config(&mut Reader::new(row, "task_configs")?)
        }

        /// A row of the types' statements.
        pub(super) fn task_type(row: &$row) -> StoreResult<TaskType> {
            rows::task_type(&mut Reader::plain(row, "task_types"))
        }

        /// A row of the versions' statements, with its row id.
        pub(super) fn version(row: &$row) -> StoreResult<(i64, PluginVersion)> {
            rows::version(&mut Reader::new(row, "plugin_versions")?)
        }
    };
}
pub(crate) use readers;

/// One row being read, column after column.
pub(crate) trait Cells<'r> {
    /// Where the row is from; its id once that was read.
    fn place(&self) -> Place;
    /// The next column, an integer.
    fn int(&mut self, column: &str) -> StoreResult<i64>;
    /// The next column, an integer or nothing.
    fn opt_int(&mut self, column: &str) -> StoreResult<Option<i64>>;
    /// The next column, a text (JSON comes as text too).
    fn text(&mut self, column: &str) -> StoreResult<&'r str>;
    /// The next column, a text or nothing.
    fn opt_text(&mut self, column: &str) -> StoreResult<Option<&'r str>>;
    /// The next column, yes or no.
    fn flag(&mut self, column: &str) -> StoreResult<bool>;
    /// The next column, a number with a fraction or nothing.
    fn opt_real(&mut self, column: &str) -> StoreResult<Option<f64>>;

    fn owned(&mut self, column: &str) -> StoreResult<String> {
        self.text(column).map(str::to_owned)
    }

    fn opt_owned(&mut self, column: &str) -> StoreResult<Option<String>> {
        Ok(self.opt_text(column)?.map(str::to_owned))
    }

    fn number<T: TryFrom<i64>>(&mut self, column: &str) -> StoreResult<T> {
        let number = self.int(column)?;
        self.place().small(column, number)
    }

    fn opt_number<T: TryFrom<i64>>(&mut self, column: &str) -> StoreResult<Option<T>> {
        let number = self.opt_int(column)?;
        number.map(|n| self.place().small(column, n)).transpose()
    }

    fn instant(&mut self, column: &str) -> StoreResult<Timestamp> {
        let micros = self.int(column)?;
        self.place().instant(column, micros)
    }

    fn opt_instant(&mut self, column: &str) -> StoreResult<Option<Timestamp>> {
        let micros = self.opt_int(column)?;
        self.place().opt_instant(column, micros)
    }

    fn word<T>(&mut self, column: &str) -> StoreResult<T>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let text = self.text(column)?;
        self.place().word(column, text)
    }

    fn opt_word<T>(&mut self, column: &str) -> StoreResult<Option<T>>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let text = self.opt_text(column)?;
        self.place().opt_word(column, text)
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, column: &str) -> StoreResult<T> {
        let text = self.text(column)?;
        self.place().json(column, text)
    }

    fn opt_json<T>(&mut self, column: &str) -> StoreResult<Option<T>>
    where
        T: serde::de::DeserializeOwned,
    {
        let text = self.opt_text(column)?;
        self.place().opt_json(column, text)
    }
}

/// A row of `TAKE_ALERTS`.
pub(crate) fn alert<'r>(r: &mut impl Cells<'r>) -> StoreResult<Alert> {
    Ok(Alert {
        alert_id: r.owned("alert_id")?,
        event: r.word("event")?,
        tenant_id: r.opt_int("tenant_id")?,
        config_id: r.opt_int("config_id")?,
        task_id: r.opt_word("task_id")?,
        detail: r.json("detail")?,
        created_at: r.instant("created_at")?,
        tries: r.number("tries")?,
    })
}

/// A row of `WAITING_HEADS`.
pub(crate) fn waiting_head<'r>(r: &mut impl Cells<'r>) -> StoreResult<WaitingHead> {
    Ok(WaitingHead {
        tenant_id: r.int("tenant_id")?,
        task_type: r.owned("task_type")?,
        task_id: r.word("task_id")?,
        due_at: r.instant("due_at")?,
    })
}

/// A row of `EXECUTION` and of the lists.
pub(crate) fn execution<'r>(r: &mut impl Cells<'r>) -> StoreResult<Execution> {
    let measured: Option<MeasuredRow>;
    let mut execution = Execution {
        id: r.place().id,
        config_id: r.opt_int("config_id")?,
        task_id: r.word("task_id")?,
        is_success: None,
        started_at: r.opt_instant("started_at")?,
        completed_at: r.opt_instant("completed_at")?,
        duration_seconds: r.opt_real("duration_seconds")?,
        result: r.opt_json("result")?,
        error_message: r.opt_owned("error_message")?,
        error_traceback: r.opt_owned("error_traceback")?,
        tenant_id: r.int("tenant_id")?,
        task_type: r.owned("task_type")?,
        state: r.word("state")?,
        trigger: r.word("trigger")?,
        slot: r.opt_instant("slot")?,
        slot_last: r.opt_instant("slot_last")?,
        slot_count: r.opt_int("slot_count")?,
        skip_reason: r.opt_word("skip_reason")?,
        priority: r.number("priority")?,
        attempt: r.number("attempt")?,
        max_attempts: r.number("max_attempts")?,
        lost: r.number("lost")?,
        parameters: r.opt_json("parameters")?,
        error_kind: r.opt_word("error_kind")?,
        usage: {
            measured = r.opt_json("usage")?;
            None
        },
        limits: None,
        timeout_seconds: None,
        plugin_digest: r.opt_owned("plugin_digest")?,
        host: r.opt_owned("host")?,
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
    if let Some(measured) = measured {
        execution.limits = measured.limits();
        execution.timeout_seconds = measured.timeout_seconds;
        execution.usage = Some(measured.usage);
    }
    Ok(execution)
}

/// Hosts of `HOSTS` with what each runs, of `HOST_RUNS`.
pub(crate) fn hosts<'r, C: Cells<'r>>(
    hosts: impl Iterator<Item = StoreResult<C>>,
    runs: impl Iterator<Item = StoreResult<C>>,
) -> StoreResult<Vec<HostRow>> {
    let mut rows = Vec::new();
    for r in hosts {
        let mut r = r?;
        rows.push(HostRow {
            incarnation: r.place().id,
            name: r.owned("name")?,
            started_at: r.instant("started_at")?,
            seen_at: r.instant("seen_at")?,
            facts: r.opt_json("facts")?.unwrap_or_default(),
            running: Vec::new(),
        });
    }
    for r in runs {
        let mut r = r?;
        let incarnation = r.int("incarnation")?;
        let run = HostRun {
            id: r.place().id,
            task_id: r.word("task_id")?,
            tenant_id: r.int("tenant_id")?,
            config_id: r.opt_int("config_id")?,
            task_type: r.owned("task_type")?,
            attempt: r.number("attempt")?,
            started_at: r.opt_instant("started_at")?,
        };
        // One that is not alive is not listed; what it ran is being taken over.
        if let Some(host) = rows.iter_mut().find(|host| host.incarnation == incarnation) {
            host.running.push(run);
        }
    }
    Ok(rows)
}

/// A row of `WAITS_BEHIND`.
pub(crate) fn waits<'r>(r: &mut impl Cells<'r>) -> StoreResult<Waits> {
    let ahead = r.number("ahead")?;
    let keyed = r.flag("run_key")?;
    let bound = (r.number("running")?, r.number("run_max")?);
    let of_type = (r.number("running")?, r.opt_number("max_running")?);
    let of_tenant = (r.number("running")?, r.opt_number("max_running")?);
    let full_at = r.opt_int("full_at")?;
    let rate = (r.opt_number("rate_count")?, r.opt_number("rate_seconds")?);
    let bucket = |(count, seconds)| {
        let full = Bucket::new(Rate { count, seconds });
        let full_at = full_at.unwrap_or(full.full_at);
        Bucket { full_at, ..full }
    };
    Ok(Waits {
        ahead,
        bound: keyed.then_some(bound),
        of_type: of_type.1.map(|max| (of_type.0, max)),
        of_tenant: of_tenant.1.map(|max| (of_tenant.0, max)),
        bucket: rate.0.zip(rate.1).map(bucket),
    })
}

/// A row of `ANSWER`.
pub(crate) fn kept_answer<'r>(r: &mut impl Cells<'r>) -> StoreResult<KeptAnswer> {
    Ok(KeptAnswer {
        hash: r.owned("request_hash")?,
        answer: Answer {
            status: r.number("status")?,
            body: r.text("body")?.into(),
        },
    })
}

/// A row of `ATTEMPTS`.
pub(crate) fn attempt<'r>(r: &mut impl Cells<'r>) -> StoreResult<AttemptRecord> {
    let measured: Option<MeasuredRow>;
    let mut record = AttemptRecord {
        claim: r.number("claim")?,
        attempt: r.number("attempt")?,
        outcome: r.word("outcome")?,
        started_at: r.instant("started_at")?,
        completed_at: r.instant("completed_at")?,
        error_kind: r.opt_word("error_kind")?,
        error_message: r.opt_owned("error_message")?,
        error_traceback: r.opt_owned("error_traceback")?,
        error_code: r.opt_owned("error_code")?,
        error_details: r.opt_json("error_details")?,
        usage: {
            measured = r.opt_json("usage")?;
            None
        },
        limits: None,
        timeout_seconds: None,
        plugin_digest: r.opt_owned("plugin_digest")?,
        host: r.opt_owned("host")?,
    };
    if let Some(measured) = measured {
        record.limits = measured.limits();
        record.timeout_seconds = measured.timeout_seconds;
        record.usage = Some(measured.usage);
    }
    Ok(record)
}

/// The seven columns of an open streak and the counter after them, after the three instants.
pub(crate) fn schedule_state<'r>(r: &mut impl Cells<'r>) -> StoreResult<ScheduleState> {
    let next_fire_at = r.opt_instant("next_fire_at")?;
    let last_slot = r.opt_instant("last_slot")?;
    let anchor_at = r.instant("anchor_at")?;
    let reason = r.opt_word("skip_reason")?;
    let first = r.opt_instant("skip_first")?;
    let last = r.opt_instant("skip_last")?;
    let count = r.opt_int("skip_count")?;
    let open_skip = match (reason, first, last, count) {
        (Some(reason), Some(first), Some(last), Some(count)) => Some(SkipStreak {
            reason,
            first,
            last,
            count,
        }),
        (None, None, None, None) => None,
        _ => return Err(r.place().corrupt("skip_reason", "half an open streak")),
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
pub(crate) fn due_schedule<'r>(r: &mut impl Cells<'r>) -> StoreResult<DueSchedule> {
    Ok(DueSchedule {
        config_id: r.place().id,
        version: r.int("version")?,
        state: schedule_state(r)?,
    })
}

/// A row of the configs' statements.
pub(crate) fn config<'r>(r: &mut impl Cells<'r>) -> StoreResult<TaskConfig> {
    let tenant_id = r.int("tenant_id")?;
    let key = r.opt_owned("key")?;
    let name = r.owned("name")?;
    let task_type = r.owned("task_type")?;
    let kind = r.text("scheduler_type")?;
    let spec = TaskSpec {
        key,
        name,
        task_type,
        parameters: r.json("parameters")?,
        schedule: {
            let text = r.text("schedule_config")?;
            schedule(r.place(), kind, text)?
        },
        max_retries: r.number("max_retries")?,
        timeout_seconds: r.number("timeout_seconds")?,
        priority: r.number("priority")?,
        limits: r.json("limits")?,
        retry_policy: r.json("retry_policy")?,
        overlap: {
            let word = r.opt_text("overlap")?;
            word.map(|w| overlap(r.place(), w)).transpose()?
        },
        concurrency: r.opt_json::<Concurrency>("concurrency")?,
        chain: r.json("chain")?,
        plugin_version: r.opt_owned("plugin_version")?,
        paused: r.flag("paused")?,
        pause_reason: r.opt_owned("pause_reason")?,
        pause_after_failures: r.opt_number("pause_after_failures")?,
        expires_after_seconds: r.opt_number("expires_after_seconds")?,
    };
    Ok(TaskConfig {
        id: r.place().id,
        tenant_id,
        spec,
        version: r.int("version")?,
        created_at: r.instant("created_at")?,
        updated_at: r.instant("updated_at")?,
        deleted_at: r.opt_instant("deleted_at")?,
        declared_by: r.opt_owned("declared_by")?,
        schedule_state: schedule_state(r)?,
    })
}

fn overlap(place: Place, word: &str) -> StoreResult<Overlap> {
    Overlap::CHOICES
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, overlap)| *overlap)
        .ok_or_else(|| place.corrupt("overlap", format_args!("`{word}` is no overlap rule")))
}

/// The stored word of an overlap rule.
pub(crate) fn overlap_word(overlap: Overlap) -> &'static str {
    Overlap::CHOICES
        .iter()
        .find(|(_, known)| *known == overlap)
        .map_or("skip", |(name, _)| *name)
}

fn schedule(place: Place, kind: &str, text: &str) -> StoreResult<ScheduleConfig> {
    let stored = place.json("schedule_config", text)?;
    ScheduleConfig::from_kept(kind, stored).map_err(|error| place.corrupt("scheduler_type", error))
}

/// A row of the types' statements.
pub(crate) fn task_type<'r>(r: &mut impl Cells<'r>) -> StoreResult<TaskType> {
    Ok(TaskType {
        tenant_id: r.int("tenant_id")?,
        task_type: r.owned("task_type")?,
        active_digest: r.opt_owned("active_digest")?,
        previous_digest: r.opt_owned("previous_digest")?,
        disabled: r.flag("disabled")?,
        concurrency: TypeConcurrency {
            max: r.opt_number("max_running")?,
            backlog: r.opt_number("backlog")?,
        },
        breaker: breaker(r)?,
        created_at: r.instant("created_at")?,
        updated_at: r.instant("updated_at")?,
    })
}

fn breaker<'r>(r: &mut impl Cells<'r>) -> StoreResult<Option<Breaker>> {
    let opened_at = r.opt_instant("opened_at")?;
    let failures = r.opt_number("failures")?;
    let probe_at = r.opt_instant("probe_at")?;
    let pause_seconds = r.opt_number("pause_seconds")?;
    let (error_kind, error_message) = (r.opt_word("error_kind")?, r.opt_owned("error_message")?);
    Ok(opened_at
        .zip(probe_at)
        .map(|(opened_at, probe_at)| Breaker {
            failures: failures.unwrap_or(0),
            opened_at,
            probe_at,
            pause_seconds: pause_seconds.unwrap_or(0),
            error_kind,
            error_message,
        }))
}

/// A row of `BREAKERS`, with its tenant and type.
pub(crate) fn breaker_row<'r>(r: &mut impl Cells<'r>) -> StoreResult<((i64, String), BreakerRow)> {
    let key = (r.int("tenant_id")?, r.owned("task_type")?);
    let row = BreakerRow {
        failures: r.number("failures")?,
        opened_at: r.opt_instant("opened_at")?,
        probe_at: r.opt_instant("probe_at")?,
        pause_seconds: r.opt_number("pause_seconds")?.unwrap_or(0),
        probe_id: r.opt_int("probe_id")?,
        error_kind: r.opt_word("error_kind")?,
        error_message: r.opt_owned("error_message")?,
    };
    Ok((key, row))
}

/// A row of the versions' statements, with its row id.
pub(crate) fn version<'r>(r: &mut impl Cells<'r>) -> StoreResult<(i64, PluginVersion)> {
    let version = PluginVersion {
        tenant_id: r.int("tenant_id")?,
        task_type: r.owned("task_type")?,
        digest: r.owned("digest")?,
        state: r.word("state")?,
        error: r.opt_owned("error")?,
        size_bytes: r.number("size_bytes")?,
        descriptor: r.json("descriptor")?,
        grants: r.json("grants")?,
        limits: r.json("limits")?,
        input: r.json("input")?,
        activate: r.flag("activate")?,
        grant_asked: r.flag("grant_asked")?,
        warnings: r.json("warnings")?,
        created_at: r.instant("created_at")?,
    };
    Ok((r.place().id, version))
}

/// A row of the tenants' statements.
pub(crate) fn tenant<'r>(r: &mut impl Cells<'r>) -> StoreResult<Tenant> {
    Ok(Tenant {
        id: r.int("id")?,
        name: r.owned("name")?,
        bounds: TenantBounds {
            weight: r.number("weight")?,
            max: r.opt_number("max_running")?,
            backlog: r.opt_number("backlog")?,
        },
        created_at: r.opt_instant("created_at")?,
    })
}

/// A row of the tokens' statements.
pub(crate) fn token<'r>(r: &mut impl Cells<'r>) -> StoreResult<Token> {
    Ok(Token {
        id: r.int("id")?,
        tenant_id: r.opt_int("tenant_id")?,
        tenant: r.opt_owned("tenant")?,
        name: r.owned("name")?,
        role: r.word("role")?,
        scope: r.opt_json("scope")?,
        hash: r.owned("hash")?,
        previous_hash: r.opt_owned("previous_hash")?,
        previous_until: r.opt_instant("previous_until")?,
        created_at: r.instant("created_at")?,
        created_by: r.owned("created_by")?,
        expires_at: r.opt_instant("expires_at")?,
        last_used_at: r.opt_instant("last_used_at")?,
        rotated_at: r.opt_instant("rotated_at")?,
    })
}

/// A row of the audit log.
pub(crate) fn audit<'r>(r: &mut impl Cells<'r>) -> StoreResult<AuditRow> {
    Ok(AuditRow {
        id: r.int("id")?,
        entry: AuditEntry {
            at: r.instant("at")?,
            tenant_id: r.opt_int("tenant_id")?,
            token_id: r.opt_int("token_id")?,
            actor: r.owned("actor")?,
            role: r.word("role")?,
            action: r.word("action")?,
            method: r.owned("method")?,
            target: r.owned("target")?,
            status: r.number("status")?,
            request_id: r.owned("request_id")?,
            address: r.opt_owned("address")?,
            host: r.owned("host")?,
        },
    })
}

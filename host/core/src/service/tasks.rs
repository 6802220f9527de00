//! Task configs: create, show, list, change, delete, pause and resume.

use super::once::{Begun, Once, RequestKey, keyed, repeated};
use super::validate::concerns_plugin;
use super::{Context, ServiceError, ServiceResult};
use crate::store::rules::version_conflict;
use crate::store::{
    Answer, ConfigFilter, ConfigUpdate, Created, Deleted, HistoryOnDelete, Listing, Page, Reanchor,
    StoreError,
};
use horarium_model::execution::SkipReason;
use horarium_model::firing::Timetable;
use horarium_model::input::type_name;
use horarium_model::parameters::ParameterChange;
use horarium_model::schedule::ScheduleConfig;
use horarium_model::text::one_line;
use horarium_model::{ConfigId, Invalid, TaskConfig, TaskSpec, TenantId, Timestamp};
use serde_json::{Map, Value, json};

/// How often a change is made anew when others change the same config at the same time. Every round
/// that loses was won by somebody else, so this is a bound on patience, not on correctness.
const ROUNDS: usize = 1000;

/// Operations on task configs.
#[derive(Clone)]
pub struct Tasks(pub(super) Context);

/// How a caller names a task: by its row id or its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TaskRef {
    /// Row id.
    Id(ConfigId),
    /// Its slug.
    Key(String),
}

impl TaskRef {
    /// Digits are an id, everything else a key (which starts with a letter).
    pub fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(id) => Self::Id(id),
            Err(_) => Self::Key(text.to_owned()),
        }
    }

    /// What a body may name a task by, as a JSON Schema: the integers are those of 64 bits.
    pub(super) fn describe() -> Value {
        json!({ "type": ["integer", "string"], "minimum": i64::MIN, "maximum": i64::MAX, "minLength": 1 })
    }
}

impl Tasks {
    /// Creates a config.
    ///
    /// # Errors
    /// `Invalid` with every problem; `Conflict` when the key is taken. As [`Self::trigger`] for the request's
    /// key.
    pub async fn create(
        &self,
        tenant: TenantId,
        body: &Value,
        key: Option<&RequestKey>,
    ) -> ServiceResult<Once<TaskConfig>> {
        let cx = &self.0;
        let _in_flight = match cx.begin(tenant, key).await? {
            Begun::Fresh(in_flight) => in_flight,
            Begun::Repeated(answer) => return Ok(Once::Repeated(answer)),
        };
        let now = cx.clock.now();
        let spec = TaskSpec::from_json(body, now, None)?;
        cx.check_spec(tenant, &spec).await?;
        cx.check_chain(tenant, &spec).await?;
        let request = keyed(tenant, key, |config: &TaskConfig| {
            Some(Answer {
                status: 201,
                body: config.to_json().to_string().into(),
            })
        });
        let created = cx
            .store
            .create_config_once(now, tenant, spec, request)
            .await?;
        match (created, key) {
            (Created::Repeated(kept), Some(key)) => Ok(Once::Repeated(repeated(key, kept)?)),
            (Created::Repeated(_), None) => {
                Err(ServiceError::Internal("an answer without a key".to_owned()))
            }
            (Created::Done(config), _) => {
                cx.wakes.rescheduled();
                Ok(Once::Done(*config))
            }
        }
    }

    /// One config.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn show(&self, tenant: TenantId, task: &TaskRef) -> ServiceResult<TaskConfig> {
        let (found, shown) = match task {
            TaskRef::Id(id) => (self.0.store.config(tenant, *id).await?, id.to_string()),
            TaskRef::Key(key) => (
                self.0.store.config_by_key(tenant, key).await?,
                format!("`{}`", one_line(key, 64)),
            ),
        };
        found.ok_or_else(|| ServiceError::NotFound(format!("there is no task {shown}")))
    }

    /// Configs, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        tenant: TenantId,
        filter: &ConfigFilter,
        page: &Page,
    ) -> ServiceResult<Listing<TaskConfig>> {
        Ok(self.0.store.configs(tenant, filter, page).await?)
    }

    /// Changes a config by a merge patch (RFC 7396) over what an operator may write. `expected` is the
    /// version the caller saw, if it insists on it.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `VersionMismatch`, `Conflict` when the key is taken.
    pub async fn update(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        patch: &Value,
        expected: Option<i64>,
    ) -> ServiceResult<TaskConfig> {
        let Value::Object(patch) = patch else {
            let detail = format!("must be an object, not {}", type_name(patch));
            return Err(Invalid::one("", detail).into());
        };
        self.change(tenant, task, expected, |old, now| {
            merged_spec(&old.spec, patch, now)
        })
        .await
    }

    /// Stops new slots (rule S9). Pausing a paused config changes its reason only.
    ///
    /// # Errors
    /// `NotFound`, `VersionMismatch`.
    pub async fn pause(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        reason: Option<String>,
        expected: Option<i64>,
    ) -> ServiceResult<TaskConfig> {
        self.change(tenant, task, expected, |old, _| {
            Ok(TaskSpec {
                paused: true,
                pause_reason: reason.clone(),
                ..old.spec.clone()
            })
        })
        .await
    }

    /// Lets slots count again from now on (rules S2, S9); those of the pause become one skipped row.
    ///
    /// # Errors
    /// `NotFound`, `VersionMismatch`.
    pub async fn resume(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        expected: Option<i64>,
    ) -> ServiceResult<TaskConfig> {
        self.change(tenant, task, expected, |old, _| {
            Ok(TaskSpec {
                paused: false,
                pause_reason: None,
                ..old.spec.clone()
            })
        })
        .await
    }

    /// Deletes a config; its waiting executions end `cancelled`.
    ///
    /// # Errors
    /// `NotFound`, `VersionMismatch`.
    pub async fn delete(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        history: HistoryOnDelete,
        expected: Option<i64>,
    ) -> ServiceResult<Deleted> {
        let config = self.show(tenant, task).await?;
        insist(&config, expected)?;
        let now = self.0.clock.now();
        let deleted = self
            .0
            .store
            .delete_config(now, tenant, config.id, history)
            .await?;
        self.0.wakes.rescheduled();
        Ok(deleted)
    }

    /// Reads, changes and writes a config until nobody else changed it in between. With `expected` a
    /// version that differs ends it at once.
    pub(super) async fn change(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        expected: Option<i64>,
        mut make: impl FnMut(&TaskConfig, Timestamp) -> ServiceResult<TaskSpec>,
    ) -> ServiceResult<TaskConfig> {
        let cx = &self.0;
        let mut task = task.clone();
        for _ in 0..ROUNDS {
            let old = self.show(tenant, &task).await?;
            // Later rounds mean this config, even if its key moves on meanwhile.
            task = TaskRef::Id(old.id);
            insist(&old, expected)?;
            let now = cx.clock.now();
            let spec = make(&old, now)?;
            if spec == old.spec {
                return Ok(old);
            }
            if concerns_plugin(&spec, &old.spec) {
                cx.check_spec(tenant, &spec).await?;
            }
            if spec.chain != old.spec.chain {
                cx.check_chain(tenant, &spec).await?;
            }
            let update = ConfigUpdate {
                expected_version: old.version,
                reanchor: reanchor(&old, &spec, now)?,
                spec,
            };
            match cx.store.update_config(now, tenant, old.id, update).await {
                Ok(config) => {
                    cx.wakes.rescheduled();
                    return Ok(config);
                }
                Err(StoreError::Conflict(detail)) => {
                    let found = self.show(tenant, &task).await?;
                    if found.version == old.version {
                        return Err(ServiceError::Conflict(detail));
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
        Err(ServiceError::Unavailable(
            "others keep changing this task; try again".to_owned(),
        ))
    }
}

/// Refuses a config that is not the version the caller insists on.
fn insist(config: &TaskConfig, expected: Option<i64>) -> ServiceResult<()> {
    match expected {
        Some(expected) if expected != config.version => Err(ServiceError::VersionMismatch(
            version_conflict(config.id, config.version, expected),
        )),
        _ => Ok(()),
    }
}

/// The spec after a merge patch. A patch that names another `scheduler_type` brings its whole
/// `schedule_config`, because the keys of the old kind mean nothing to the new one.
fn merged_spec(
    old: &TaskSpec,
    patch: &Map<String, Value>,
    now: Timestamp,
) -> ServiceResult<TaskSpec> {
    let mut document = old.to_json();
    let other_kind = patch
        .get("scheduler_type")
        .and_then(Value::as_str)
        .is_some_and(|kind| !kind.eq_ignore_ascii_case(old.schedule.kind().as_str()));
    if other_kind {
        document.remove("schedule_config");
    }
    let merged = ParameterChange::Merge(patch.clone()).apply(&document)?;
    Ok(TaskSpec::from_json(&Value::Object(merged), now, Some(old))?)
}

/// What a change of the spec does to the schedule's position (rules S2 and S9).
pub(super) fn reanchor(
    old: &TaskConfig,
    new: &TaskSpec,
    now: Timestamp,
) -> ServiceResult<Option<Reanchor>> {
    let before = &old.spec;
    let cursor = old.schedule_state.cursor();
    let next = |from: Timestamp| -> ServiceResult<Option<Timestamp>> {
        if new.paused {
            return Ok(None);
        }
        Ok(timetable(&new.schedule, old.id)?.next_fire_at(from))
    };
    if before.paused && !new.paused {
        let skipped = timetable(&before.schedule, old.id)?.streak(cursor, now, SkipReason::Paused);
        return Ok(Some(Reanchor {
            anchor_at: now,
            next_fire_at: next(now)?,
            skipped,
        }));
    }
    if new.schedule.begins_anew(&before.schedule, now) {
        return Ok(Some(Reanchor {
            anchor_at: now,
            next_fire_at: next(now)?,
            skipped: None,
        }));
    }
    if new.paused != before.paused || new.schedule != before.schedule {
        // The position stays; only when the next slot fires, if at all, is another.
        return Ok(Some(Reanchor {
            anchor_at: cursor,
            next_fire_at: next(cursor)?,
            skipped: None,
        }));
    }
    Ok(None)
}

/// The schedule of a saved config, compiled.
pub(super) fn timetable(schedule: &ScheduleConfig, id: ConfigId) -> ServiceResult<Timetable> {
    Timetable::new(schedule, id)
        .map_err(|error| Invalid::one("/schedule_config/cron_expression", error.message).into())
}

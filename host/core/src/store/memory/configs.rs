//! Configs: creating, changing and deleting them.

use super::{ConfigRow, Inner};
use crate::store::{ConfigUpdate, Deleted, HistoryOnDelete, StoreError, StoreResult, rules};
use horarium_model::config::ScheduleState;
use horarium_model::execution::State;
use horarium_model::{ConfigId, TaskConfig, TaskSpec, TenantId, Timestamp};
use std::collections::BTreeMap;

impl Inner {
    pub(super) fn create(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        spec: TaskSpec,
        declared_by: Option<String>,
    ) -> StoreResult<TaskConfig> {
        self.refuse_deleted(tenant)?;
        self.refuse_config(tenant)?;
        self.check_key(tenant, None, spec.key.as_deref())?;
        let id = self.last_config + 1;
        let schedule_state = ScheduleState {
            next_fire_at: rules::first_fire(&spec, id, now)?,
            anchor_at: now,
            ..ScheduleState::default()
        };
        let config = TaskConfig {
            id,
            tenant_id: tenant,
            spec,
            declared_by,
            version: 1,
            created_at: now,
            updated_at: now,
            deleted_at: None,
            schedule_state,
        };
        self.last_config = id;
        self.epoch += 1;
        let row = ConfigRow {
            config: config.clone(),
            state_version: 0,
            state: BTreeMap::new(),
            delete_history: false,
        };
        self.configs.insert(id, row);
        Ok(config)
    }

    pub(super) fn update(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        id: ConfigId,
        update: ConfigUpdate,
    ) -> StoreResult<TaskConfig> {
        self.expect_version(tenant, id, update.expected_version)?;
        self.check_key(tenant, Some(id), update.spec.key.as_deref())?;
        let old = self.config_mut(tenant, id)?.config.clone();
        let (state, streaks) = rules::reposition(&old, &update);
        for streak in &streaks {
            self.write_skip(now, &old, streak);
        }
        let config = &mut self.config_mut(tenant, id)?.config;
        config.spec = update.spec;
        config.version += 1;
        config.updated_at = now;
        config.schedule_state = state;
        let config = config.clone();
        self.epoch += 1;
        Ok(config)
    }

    pub(super) fn expect_version(
        &mut self,
        tenant: TenantId,
        id: ConfigId,
        expected: i64,
    ) -> StoreResult<()> {
        let found = self.config_mut(tenant, id)?.config.version;
        if found == expected {
            return Ok(());
        }
        let message = rules::version_conflict(id, found, expected);
        Err(StoreError::Conflict(message))
    }

    pub(super) fn delete(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        id: ConfigId,
        history: HistoryOnDelete,
    ) -> StoreResult<Deleted> {
        let row = self.config_mut(tenant, id)?;
        let open = row.config.schedule_state.open_skip.take();
        row.config.deleted_at = Some(now);
        row.config.schedule_state.next_fire_at = None;
        let config = row.config.clone();
        row.delete_history = history == HistoryOnDelete::Delete;
        row.state.clear();
        self.epoch += 1;
        if let (Some(streak), HistoryOnDelete::Keep) = (open, history) {
            self.write_skip(now, &config, &streak);
        }
        let waiting = self.live_of(id, State::is_waiting);
        for id in &waiting {
            self.cancel_waiting(now, *id, rules::CONFIG_DELETED);
        }
        let running = self.live_of(id, |state| state == State::Running);
        Ok(Deleted {
            cancelled: waiting.len() as u64,
            running: running.len() as u64,
        })
    }
}

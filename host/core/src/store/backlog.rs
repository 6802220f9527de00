//! Backlog caps (rule E3): how many executions of a config, a type and a tenant may wait. What would be one too
//! many is refused, a schedule's slot skipped.

use super::NewExecution;
use horarium_model::{ConfigId, TaskConfig, TenantId};
use std::collections::HashMap;

/// Whose backlog is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BacklogOf {
    /// The config's.
    Config,
    /// The task type's.
    Type,
    /// The tenant's.
    Tenant,
}

/// A full backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullBacklog {
    /// Whose.
    pub of: BacklogOf,
    /// How many may wait.
    pub backlog: u32,
}

/// Whose caps concern an execution that would wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter<'a> {
    /// Owner.
    pub tenant_id: TenantId,
    /// Its type.
    pub task_type: &'a str,
    /// Its config, if that has a cap of its own.
    pub capped: Option<ConfigId>,
}

impl<'a> From<&'a NewExecution> for Waiter<'a> {
    fn from(new: &'a NewExecution) -> Self {
        Self {
            tenant_id: new.tenant_id,
            task_type: &new.task_type,
            capped: new.config_id.filter(|_| new.backlog.is_some()),
        }
    }
}

impl<'a> From<&'a TaskConfig> for Waiter<'a> {
    fn from(config: &'a TaskConfig) -> Self {
        let concurrency = config.spec.concurrency.as_ref();
        Self {
            tenant_id: config.tenant_id,
            task_type: &config.spec.task_type,
            capped: concurrency.and_then(|c| c.backlog).map(|_| config.id),
        }
    }
}

/// A cap and what waits.
#[derive(Debug, Clone, Copy)]
struct Room {
    cap: u32,
    waiting: u32,
}

/// The caps that concern one operation, with what waits; each enqueue sees the ones before it.
#[derive(Debug, Default)]
pub struct Backlogs {
    configs: HashMap<ConfigId, u32>,
    types: HashMap<(TenantId, String), Room>,
    tenants: HashMap<TenantId, Room>,
}

impl Backlogs {
    /// How many executions of a config wait.
    pub fn know_config(&mut self, config: ConfigId, waiting: u32) {
        self.configs.insert(config, waiting);
    }

    /// What a type may have waiting, and has.
    pub fn know_type(&mut self, tenant: TenantId, task_type: &str, cap: u32, waiting: u32) {
        let room = Room { cap, waiting };
        self.types.insert((tenant, task_type.to_owned()), room);
    }

    /// What a tenant may have waiting, and has.
    pub fn know_tenant(&mut self, tenant: TenantId, cap: u32, waiting: u32) {
        self.tenants.insert(tenant, Room { cap, waiting });
    }

    /// Takes a place for one more that waits.
    ///
    /// # Errors
    /// What is full; nothing was taken.
    pub fn take(&mut self, item: &NewExecution) -> Result<(), FullBacklog> {
        let full = |of, backlog| Err(FullBacklog { of, backlog });
        let config = item.config_id.zip(item.backlog);
        if let Some((config, cap)) = config
            && self.configs.get(&config).copied().unwrap_or(0) >= cap
        {
            return full(BacklogOf::Config, cap);
        }
        let key = (item.tenant_id, item.task_type.clone());
        if let Some(room) = self.types.get(&key).filter(|room| room.waiting >= room.cap) {
            return full(BacklogOf::Type, room.cap);
        }
        let tenant = self.tenants.get(&item.tenant_id);
        if let Some(room) = tenant.filter(|room| room.waiting >= room.cap) {
            return full(BacklogOf::Tenant, room.cap);
        }
        self.moved(item, 1);
        Ok(())
    }

    /// Takes a place for one that would come when `ended` others of its config have ended.
    ///
    /// # Errors
    /// What is full even then; nothing was taken, and the others still wait.
    pub fn take_after(&mut self, item: &NewExecution, ended: u32) -> Result<(), FullBacklog> {
        self.moved(item, -i64::from(ended));
        let taken = self.take(item);
        if taken.is_err() {
            self.moved(item, i64::from(ended));
        }
        taken
    }

    fn moved(&mut self, item: &NewExecution, by: i64) {
        let change = |waiting: &mut u32| {
            let moved = i64::from(*waiting).saturating_add(by).max(0);
            *waiting = u32::try_from(moved).unwrap_or(u32::MAX);
        };
        if let Some(config) = item.config_id {
            change(self.configs.entry(config).or_default());
        }
        if let Some(room) = self
            .types
            .get_mut(&(item.tenant_id, item.task_type.clone()))
        {
            change(&mut room.waiting);
        }
        if let Some(room) = self.tenants.get_mut(&item.tenant_id) {
            change(&mut room.waiting);
        }
    }
}

//! What a world laid down: the bounds of its tenants, types and configs.

use crate::store::{Claimed, TenantBounds};
use horarium_model::concurrency::{Concurrency, Rate};
use horarium_model::task_type::TypeConcurrency;
use horarium_model::{ConfigId, Execution, TaskConfig, TenantId};
use serde_json::Value;
use std::collections::HashMap;

/// The bounds of a world. They stay as they are while it lasts.
#[derive(Debug, Default)]
pub struct Rules {
    tenants: HashMap<TenantId, TenantBounds>,
    types: Vec<(TenantId, String, TypeConcurrency)>,
    configs: HashMap<ConfigId, ConfigRules>,
}

#[derive(Debug)]
struct ConfigRules {
    tenant: TenantId,
    concurrency: Option<Concurrency>,
    /// Whether executions of it run one at a time.
    alone: bool,
}

impl Rules {
    /// A tenant's bounds were set.
    pub fn set_tenant(&mut self, tenant: TenantId, bounds: TenantBounds) {
        self.tenants.insert(tenant, bounds);
    }

    /// A type's bounds were set.
    pub fn set_type(&mut self, tenant: TenantId, task_type: &str, concurrency: TypeConcurrency) {
        self.types.push((tenant, task_type.to_owned(), concurrency));
    }

    /// A config was written.
    pub fn set_config(&mut self, config: &TaskConfig) {
        let rules = ConfigRules {
            tenant: config.tenant_id,
            concurrency: config.spec.concurrency.clone(),
            alone: config.spec.runs_alone(false),
        };
        self.configs.insert(config.id, rules);
    }

    /// Tenants with bounds, and those bounds.
    pub fn tenants(&self) -> impl Iterator<Item = (TenantId, TenantBounds)> {
        self.tenants
            .iter()
            .map(|(tenant, bounds)| (*tenant, *bounds))
    }

    /// The bounds of a tenant.
    pub fn tenant(&self, tenant: TenantId) -> TenantBounds {
        self.tenants.get(&tenant).copied().unwrap_or_default()
    }

    /// The bounds of a type.
    pub fn of_type(&self, tenant: TenantId, task_type: &str) -> TypeConcurrency {
        let mut types = self.types.iter();
        let found = types.find(|(of, name, _)| *of == tenant && name == task_type);
        found.map_or_else(TypeConcurrency::default, |(.., bounds)| *bounds)
    }

    /// How many of a config run at once at most, and whether that is so for each key.
    pub fn bound_of(&self, config: ConfigId) -> Option<(u32, bool)> {
        let rules = self.configs.get(&config)?;
        if rules.alone {
            return Some((1, false));
        }
        let concurrency = rules.concurrency.as_ref()?;
        Some((concurrency.max?, concurrency.key.is_some()))
    }

    /// How many of a config may wait.
    pub fn backlog_of(&self, config: ConfigId) -> Option<u32> {
        self.configs.get(&config)?.concurrency.as_ref()?.backlog
    }

    /// The bucket that an attempt takes from.
    pub fn rate_of(&self, claimed: &Claimed) -> Option<(ConfigId, String, Rate)> {
        let config = claimed.config_id?;
        let rate = self.configs.get(&config)?.concurrency.as_ref()?.rate?;
        let parameters = serde_json::from_str(&claimed.parameters).unwrap_or_default();
        Some((config, self.key_of(config, &parameters), rate))
    }

    /// The key among a config's executions that parameters have; empty when it has none.
    pub fn key_of(&self, config: ConfigId, parameters: &Value) -> String {
        let concurrency = self
            .configs
            .get(&config)
            .and_then(|c| c.concurrency.as_ref());
        let key = concurrency.and_then(|concurrency| concurrency.key.as_deref());
        let value = key.and_then(|key| parameters.pointer(key));
        value.map(Value::to_string).unwrap_or_default()
    }

    /// Whether nothing but its tenant's bound and its turn can be in the way of what is available.
    pub fn is_free(&self, shown: &Execution) -> bool {
        let config = shown.config_id.and_then(|id| self.configs.get(&id));
        let of_type = self.of_type(shown.tenant_id, &shown.task_type);
        of_type.max.is_none()
            && config.is_some_and(|config| !config.alone && config.concurrency.is_none())
    }

    /// Whether nothing in a tenant's queue is ever passed over, so that its turn can be told from outside.
    pub fn has_plain_queue(&self, tenant: TenantId) -> bool {
        let mut configs = self.configs.values().filter(|c| c.tenant == tenant);
        configs.all(|config| !config.alone && config.concurrency.is_none())
            && !self.types.iter().any(|(of, ..)| *of == tenant)
    }

    /// What decides a tenant's turn once so many of it run.
    pub fn turn(&self, tenant: TenantId, running: u32) -> f64 {
        f64::from(running) / f64::from(self.tenant(tenant).weight)
    }
}

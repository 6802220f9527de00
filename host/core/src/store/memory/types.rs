//! Whose a task type is: a tenant's, or the host's, which shares it with every tenant.

use super::Inner;
use crate::store::{BreakerRow, StoreError, StoreResult, rules};
use horarium_model::task_type::{PluginVersion, TaskType};
use horarium_model::{HOST_TENANT_ID, TenantId};

impl Inner {
    /// A type by its name, which is the tenant's own or one of the host's, never both.
    pub(super) fn type_of(&self, tenant: TenantId, name: &str) -> Option<&TaskType> {
        let own = self.types.get(&(tenant, name.to_owned()));
        own.or_else(|| self.types.get(&(HOST_TENANT_ID, name.to_owned())))
    }

    /// A version of a type that a tenant may use.
    pub(super) fn version_of(
        &self,
        tenant: TenantId,
        name: &str,
        digest: &str,
    ) -> Option<&PluginVersion> {
        let owner = self.type_of(tenant, name)?.tenant_id;
        let key = (owner, name.to_owned(), digest.to_owned());
        self.versions.get(&key).map(|(_, version)| version)
    }

    /// A type as a tenant sees it: the breaker is its own.
    pub(super) fn shown_type(&self, tenant: TenantId, row: &TaskType) -> TaskType {
        let breaker = self.breakers.get(&(tenant, row.task_type.clone()));
        TaskType {
            breaker: breaker.and_then(BreakerRow::shown),
            ..row.clone()
        }
    }

    /// A name is a tenant's or shared, never both.
    pub(super) fn refuse_name(&self, owner: TenantId, name: &str) -> StoreResult<()> {
        let named = self.types.keys().filter(|(_, known)| known == name);
        let mut holders = named.map(|(of, _)| *of);
        if owner != HOST_TENANT_ID {
            return match holders.any(|of| of == HOST_TENANT_ID) {
                true => Err(StoreError::Conflict(rules::name_is_shared(name))),
                false => Ok(()),
            };
        }
        let tenants = holders.filter(|of| *of != HOST_TENANT_ID);
        let tenants: Vec<String> = tenants
            .map(|of| {
                let row = self.tenants.get(&of);
                row.map_or_else(|| of.to_string(), |row| row.name.clone())
            })
            .collect();
        rules::refuse_taken_name(name, &tenants)
    }
}

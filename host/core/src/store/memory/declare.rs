//! A whole declaration at once.

use super::Inner;
use crate::store::{
    Declaration, Declared, DeclaredVersion, HistoryOnDelete, StoreError, StoreResult, rules,
};
use horarium_model::task_type::VersionState;
use horarium_model::{TenantId, Timestamp};

impl Inner {
    /// `Catalog::declare` on a copy that is dropped when it fails.
    pub(super) fn declare(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        declaration: Declaration,
    ) -> StoreResult<Declared> {
        let mut declared = Declared::default();
        // First of all: what goes makes room for what comes.
        for (id, expected) in declaration.deletes {
            self.expect_version(tenant, id, expected)?;
            let deleted = self.delete(now, tenant, id, HistoryOnDelete::Keep)?;
            declared.deleted += deleted;
        }
        for (id, update) in declaration.updates {
            self.update(now, tenant, id, update)?;
            let config = &mut self.config_mut(tenant, id)?.config;
            config.declared_by = Some(declaration.set.clone());
            declared.updated.push(config.clone());
        }
        for spec in declaration.creates {
            let set = Some(declaration.set.clone());
            let created = self.create(now, tenant, spec, set)?;
            declared.created.push(created);
        }
        for plugin in declaration.plugins {
            self.declare_version(now, tenant, plugin)?;
        }
        Ok(declared)
    }

    fn declare_version(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        plugin: DeclaredVersion,
    ) -> StoreResult<()> {
        let name = plugin.task_type.as_str();
        let version = self.version_mut(tenant, name, &plugin.digest)?;
        if version.state != VersionState::Ready {
            let found = version.state.as_str();
            let message = rules::version_not(name, &plugin.digest, found, "ready");
            return Err(StoreError::Conflict(message));
        }
        version.grants = plugin.grants;
        version.limits = plugin.limits;
        version.input = plugin.input;
        let active = self.types.get(&(tenant, name.to_owned()));
        let active = active.and_then(|row| row.active_digest.clone());
        if active != plugin.expected_active {
            return Err(StoreError::Conflict(rules::other_active(name)));
        }
        self.change_type(now, tenant, name, |row| row.activate(&plugin.digest))?;
        Ok(())
    }
}

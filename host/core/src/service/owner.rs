//! Whose a task type is: a tenant's, or the host's, which shares it with every tenant; one name, never both.

use super::{Plugins, ServiceError, ServiceResult};
use crate::access::Caller;
use crate::store::{Tenant, every_tenant, rules};
use horarium_model::text::one_line;
use horarium_model::{HOST_TENANT_ID, TenantId};

impl Plugins {
    /// Whose the type is that somebody would change: the tenant's, or the host's when it is shared.
    ///
    /// # Errors
    /// `Forbidden` when it is shared and the caller is no host-admin.
    pub async fn owner(
        &self,
        caller: &Caller,
        tenant: TenantId,
        name: &str,
    ) -> ServiceResult<TenantId> {
        match (self.is_shared(tenant, name).await?, &caller.tenant) {
            (false, _) => Ok(tenant),
            (true, None) => Ok(HOST_TENANT_ID),
            (true, Some(_)) => Err(ServiceError::Forbidden(format!(
                "`{}` is shared by the host with every tenant; only a host-admin changes it",
                one_line(name, 64)
            ))),
        }
    }

    /// As whose the type is judged for somebody who asks about it: a shared one for all tenants if that is a host-admin,
    /// else for the tenant alone.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn judged_for(
        &self,
        caller: &Caller,
        tenant: TenantId,
        name: &str,
    ) -> ServiceResult<TenantId> {
        let for_all = caller.tenant.is_none() && self.is_shared(tenant, name).await?;
        Ok(if for_all { HOST_TENANT_ID } else { tenant })
    }

    /// Whose a version will be that is registered, `shared` with every tenant or not.
    ///
    /// # Errors
    /// `Forbidden` when it is to be shared and the caller is no host-admin; `Conflict` when the name is shared and the
    /// version is not meant to be.
    pub async fn registrant(
        &self,
        caller: &Caller,
        tenant: TenantId,
        name: &str,
        shared: bool,
    ) -> ServiceResult<TenantId> {
        match (shared, &caller.tenant) {
            (true, None) => Ok(HOST_TENANT_ID),
            (true, Some(_)) => Err(ServiceError::Forbidden(
                "only a host-admin shares a plugin with every tenant; without `shared` it is your tenant's own"
                    .to_owned(),
            )),
            (false, of) if self.is_shared(tenant, name).await? => {
                let taken = rules::name_is_shared(name);
                let more = match of {
                    None => "; with `shared` (`--shared`) this is another version of it",
                    Some(_) => "",
                };
                Err(ServiceError::Conflict(format!("{taken}{more}")))
            }
            (false, _) => Ok(tenant),
        }
    }

    async fn is_shared(&self, tenant: TenantId, name: &str) -> ServiceResult<bool> {
        let found = self.cx.store.task_type(tenant, name).await?;
        Ok(found.is_some_and(|found| found.is_shared()))
    }

    /// Who may use a type of this owner: each with its name where there may be several.
    pub(super) async fn users(
        &self,
        owner: TenantId,
    ) -> ServiceResult<Vec<(TenantId, Option<String>)>> {
        if owner != HOST_TENANT_ID {
            return Ok(vec![(owner, None)]);
        }
        let named = |tenant: Tenant| (tenant.id, Some(tenant.name));
        let tenants = every_tenant(&*self.cx.store).await?;
        Ok(tenants.into_iter().map(named).collect())
    }
}

//! Tenants, as a host-admin writes them and each sees its own.

use super::{Context, ServiceError, ServiceResult};
use crate::access::Caller;
use crate::store::{Listing, Page, Tenant, TenantBounds};
use horarium_model::DEFAULT_TENANT;
use horarium_model::access::{MAX_TENANT_NAME, check_tenant_name};
use horarium_model::input::Fields;
use horarium_model::text::one_line;
use serde_json::{Value, json};

/// Largest share of the turns, against others with 1.
const MAX_WEIGHT: u64 = 1000;

/// Tenants of one host's store.
#[derive(Clone)]
pub struct Tenants(pub(super) Context);

impl Tenants {
    /// Creates a tenant from `{"name", "weight"}`.
    ///
    /// # Errors
    /// `Invalid`; `Conflict` when the name is taken.
    pub async fn create(&self, body: &Value) -> ServiceResult<Tenant> {
        let (name, weight) = Fields::read(body, "", read_new)?;
        check_tenant_name(&name)?;
        let now = self.0.clock.now();
        let weight = weight.unwrap_or(1) as u32;
        let tenant = self.0.store.create_tenant(now, &name, weight).await?;
        self.0.wakes.access.changed();
        // What the host shares may be claimed for it.
        if let Err(error) = self.0.registry.refresh().await {
            // It is there all the same; the heartbeat finds that the catalog changed.
            tracing::warn!(%error, "what is shared is claimed for a new tenant a moment later");
        }
        Ok(tenant)
    }

    /// The tenants that the caller may see.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, caller: &Caller, page: &Page) -> ServiceResult<Listing<Tenant>> {
        let Some((id, name)) = &caller.tenant else {
            return Ok(self.0.store.tenants(page).await?);
        };
        let first = page.after.is_none_or(|after| after < *id);
        let own = self.0.store.tenant_named(name).await?;
        Ok(Listing {
            items: own.into_iter().filter(|_| first).collect(),
            next: None,
        })
    }

    /// A tenant.
    ///
    /// # Errors
    /// `NotFound`, also when it is another's.
    pub async fn show(&self, caller: &Caller, name: &str) -> ServiceResult<Tenant> {
        let missing = || ServiceError::NotFound(no_such(name));
        if caller.tenant.as_ref().is_some_and(|(_, own)| own != name) {
            return Err(missing());
        }
        self.0.store.tenant_named(name).await?.ok_or_else(missing)
    }

    /// Changes a tenant's `weight`.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn update(&self, caller: &Caller, name: &str, body: &Value) -> ServiceResult<Tenant> {
        let tenant = self.show(caller, name).await?;
        let weight = Fields::read(body, "", read_weight)?;
        let bounds = TenantBounds {
            weight: weight.map_or(tenant.bounds.weight, |weight| weight as u32),
            ..tenant.bounds
        };
        self.0.store.set_tenant_bounds(tenant.id, bounds).await?;
        self.0.wakes.enqueued();
        self.show(caller, name).await
    }

    /// Deletes a tenant that has no tasks and nothing that lives. Its tokens end at once; its history and plugins go
    /// in the background.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it is in use.
    pub async fn delete(&self, caller: &Caller, name: &str) -> ServiceResult<()> {
        let tenant = self.show(caller, name).await?;
        if name == DEFAULT_TENANT {
            let detail = format!("the tenant `{DEFAULT_TENANT}` cannot be deleted");
            return Err(ServiceError::Conflict(detail));
        }
        let now = self.0.clock.now();
        self.0.store.delete_tenant(now, tenant.id).await?;
        self.0.wakes.access.changed();
        self.0.wakes.rescheduled();
        self.0.registry.refresh().await?;
        Ok(())
    }
}

/// What [`Tenants::create`] takes, as a JSON Schema.
pub fn describe_new() -> Value {
    Fields::describe(read_new)
}

/// What [`Tenants::update`] takes, as a JSON Schema.
pub fn describe_change() -> Value {
    Fields::describe(read_weight)
}

fn read_new(fields: &mut Fields<'_>) -> (String, Option<u64>) {
    let name = fields.text("name", 1, 1000);
    fields.shape(
        "name",
        || json!({ "maxLength": MAX_TENANT_NAME, "pattern": "^[a-z0-9][a-z0-9_-]*$" }),
    );
    if name.is_none() && !fields.has_problems() {
        fields.missing("name", "is missing");
    }
    (name.unwrap_or_default(), read_weight(fields))
}

fn read_weight(fields: &mut Fields<'_>) -> Option<u64> {
    fields.unsigned("weight", 1, MAX_WEIGHT)
}

/// The sentence of a tenant that does not exist, or is another's.
pub fn no_such(name: &str) -> String {
    format!("there is no tenant `{}`", one_line(name, 64))
}

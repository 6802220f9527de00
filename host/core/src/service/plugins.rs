//! Plugins: list, show, activate, disable, grants.

use super::registration::read_grants;
use super::validate::refuse;
use super::{Context, ServiceError, ServiceResult};
use crate::store::{Listing, Page};
use horarium_model::grant::Grant;
use horarium_model::input::Fields;
use horarium_model::task_type::{
    PluginVersion, TaskType, TypeConcurrency, TypeConcurrencyChange, VersionState,
};
use horarium_model::text::{nearest, one_line};
use horarium_model::{Problem, TenantId};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Operations on registered plugins.
#[derive(Clone)]
pub struct Plugins {
    pub(super) cx: Context,
    /// Versions whose registration is being finished by this process.
    in_flight: Arc<Mutex<HashSet<(TenantId, String, String)>>>,
}

impl Plugins {
    /// The service.
    pub(super) fn new(cx: Context) -> Self {
        Self {
            cx,
            in_flight: Arc::default(),
        }
    }

    /// Marks a version as being finished here; false when it is already.
    pub(super) fn take_in_flight(&self, version: &PluginVersion) -> bool {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key(version))
    }

    /// The end of [`Plugins::take_in_flight`].
    pub(super) fn leave_in_flight(&self, version: &PluginVersion) {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key(version));
    }

    /// Registered names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, tenant: TenantId, page: &Page) -> ServiceResult<Listing<TaskType>> {
        Ok(self.cx.store.task_types(tenant, page).await?)
    }

    /// One registered name.
    ///
    /// # Errors
    /// `NotFound`, with the nearest name.
    pub async fn show(&self, tenant: TenantId, name: &str) -> ServiceResult<TaskType> {
        if let Some(found) = self.cx.store.task_type(tenant, name).await? {
            return Ok(found);
        }
        let names = self.cx.registry.names(tenant);
        let hint = nearest(name, names.iter().map(String::as_str))
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        Err(ServiceError::NotFound(format!(
            "no plugin is registered as `{}`{hint}",
            one_line(name, 64)
        )))
    }

    /// All versions of a name, newest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn versions(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> ServiceResult<Vec<PluginVersion>> {
        self.show(tenant, name).await?;
        Ok(self.cx.store.versions(tenant, name).await?)
    }

    /// One version.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn version(
        &self,
        tenant: TenantId,
        name: &str,
        digest: &str,
    ) -> ServiceResult<PluginVersion> {
        let versions = self.versions(tenant, name).await?;
        versions
            .into_iter()
            .find(|v| v.digest == digest)
            .ok_or_else(|| {
                ServiceError::NotFound(format!(
                    "`{}` has no version {}",
                    one_line(name, 64),
                    one_line(digest, 80)
                ))
            })
    }

    /// Makes a ready version the one that runs: an operator's decision, so it is not held up by configs
    /// that would no longer fit.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not ready.
    pub async fn activate(
        &self,
        tenant: TenantId,
        name: &str,
        digest: &str,
    ) -> ServiceResult<TaskType> {
        self.show(tenant, name).await?;
        let now = self.cx.clock.now();
        let active = self
            .cx
            .store
            .activate_version(now, tenant, name, digest)
            .await?;
        self.catalog_changed().await?;
        Ok(active)
    }

    /// Holds a type (nothing of it is claimed, its slots are skipped), or frees it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_disabled(
        &self,
        tenant: TenantId,
        name: &str,
        disabled: bool,
    ) -> ServiceResult<TaskType> {
        self.show(tenant, name).await?;
        let now = self.cx.clock.now();
        let changed = self
            .cx
            .store
            .set_disabled(now, tenant, name, disabled)
            .await?;
        self.catalog_changed().await?;
        Ok(changed)
    }

    /// Changes what bounds all executions of a type together: `{"concurrency": {"max", "backlog"}}`, null for
    /// no bound; what is not named stays.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn update(
        &self,
        tenant: TenantId,
        name: &str,
        body: &Value,
    ) -> ServiceResult<TaskType> {
        let concurrency = Fields::read(body, "", |fields| read_update(fields, body))?;
        let now = self.cx.clock.now();
        self.show(tenant, name).await?;
        let change = match body.get("concurrency").filter(|_| concurrency) {
            Some(change) => TypeConcurrencyChange::read(change, "/concurrency")?,
            None => TypeConcurrency::default().into(),
        };
        let store = &self.cx.store;
        let changed = store
            .set_type_concurrency(now, tenant, name, change)
            .await?;
        self.catalog_changed().await?;
        Ok(changed)
    }

    /// Closes the breaker of a type: what waits may start again.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn reset_breaker(&self, tenant: TenantId, name: &str) -> ServiceResult<TaskType> {
        self.show(tenant, name).await?;
        let now = self.cx.clock.now();
        let changed = self.cx.store.reset_breaker(now, tenant, name).await?;
        self.catalog_changed().await?;
        Ok(changed)
    }

    /// What the active version (else the newest ready one) may do.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn grants(&self, tenant: TenantId, name: &str) -> ServiceResult<Vec<Grant>> {
        Ok(self.granted_version(tenant, name).await?.grants)
    }

    /// Replaces the grants of the active version (else of the newest ready one).
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn set_grants(
        &self,
        tenant: TenantId,
        name: &str,
        body: &Value,
    ) -> ServiceResult<Vec<Grant>> {
        let grants = Fields::read(body, "", read_all_grants)?;
        let version = self.granted_version(tenant, name).await?;
        self.replace_grants(&version, grants.clone()).await?;
        self.catalog_changed().await?;
        Ok(grants)
    }

    /// Adds grants to those of the active version (else of the newest ready one) and takes others away.
    ///
    /// # Errors
    /// `NotFound`; `Invalid`, also when one to take away is not granted.
    pub async fn change_grants(
        &self,
        tenant: TenantId,
        name: &str,
        body: &Value,
    ) -> ServiceResult<Vec<Grant>> {
        let (add, remove) = Fields::read(body, "", read_change)?;
        let version = self.granted_version(tenant, name).await?;
        let mut grants = version.grants.clone();
        let mut problems = Vec::new();
        for (index, grant) in remove.iter().enumerate() {
            let before = grants.len();
            grants.retain(|granted| granted != grant);
            if grants.len() == before {
                let known: Vec<String> = grants.iter().map(Grant::to_string).collect();
                let hint = nearest(&grant.to_string(), known.iter().map(String::as_str))
                    .map(|near| format!("; did you mean `{near}`?"))
                    .unwrap_or_default();
                let detail = format!("`{grant}` is not granted{hint}");
                problems.push(Problem::at(format!("/remove/{index}"), detail));
            }
        }
        refuse(problems)?;
        for grant in add {
            if !grants.contains(&grant) {
                grants.push(grant);
            }
        }
        if grants != version.grants {
            self.replace_grants(&version, grants.clone()).await?;
            self.catalog_changed().await?;
        }
        Ok(grants)
    }

    async fn granted_version(&self, tenant: TenantId, name: &str) -> ServiceResult<PluginVersion> {
        let active = self.show(tenant, name).await?.active_digest;
        let versions = self.cx.store.versions(tenant, name).await?;
        versions
            .into_iter()
            .find(|v| match &active {
                Some(digest) => v.digest == *digest,
                None => v.state == VersionState::Ready,
            })
            .ok_or_else(|| ServiceError::NotFound(format!("`{name}` has no ready version yet")))
    }

    pub(super) async fn replace_grants(
        &self,
        version: &PluginVersion,
        grants: Vec<Grant>,
    ) -> ServiceResult<()> {
        let (tenant, name, digest) = (version.tenant_id, &version.task_type, &version.digest);
        self.cx
            .store
            .set_grants(tenant, name, digest, grants)
            .await?;
        Ok(())
    }

    /// Rereads the registry and rings for what may have become claimable.
    pub(super) async fn catalog_changed(&self) -> ServiceResult<()> {
        self.cx.registry.refresh().await?;
        self.cx.wakes.enqueued();
        self.cx.wakes.rescheduled();
        Ok(())
    }
}

/// What [`Plugins::update`] takes, as a JSON Schema.
pub fn describe_update() -> Value {
    Fields::describe(|fields| read_update(fields, &Value::Null))
}

/// What [`Plugins::set_grants`] takes, as a JSON Schema.
pub fn describe_grants() -> Value {
    Fields::describe(read_all_grants)
}

/// What [`Plugins::change_grants`] takes, as a JSON Schema.
pub fn describe_grant_change() -> Value {
    Fields::describe(read_change)
}

/// Whether bounds are given; null is none.
fn read_update(fields: &mut Fields<'_>, body: &Value) -> bool {
    let known = fields.value("concurrency").is_some();
    fields.shape("concurrency", || {
        let mut schema = TypeConcurrencyChange::describe();
        schema["type"] = json!(["object", "null"]);
        schema
    });
    if body.get("concurrency").is_none() && !fields.has_problems() {
        fields.missing(
            "concurrency",
            "is missing; it is what may be changed, like {\"max\": 3, \"backlog\": null}",
        );
    }
    known
}

fn read_all_grants(fields: &mut Fields<'_>) -> Vec<Grant> {
    let grants = read_grants(fields, "grants");
    if grants.is_none() && !fields.has_problems() {
        fields.missing("grants", "is missing; send a list, empty for none");
    }
    grants.unwrap_or_default()
}

fn read_change(fields: &mut Fields<'_>) -> (Vec<Grant>, Vec<Grant>) {
    let add = read_grants(fields, "add").unwrap_or_default();
    (add, read_grants(fields, "remove").unwrap_or_default())
}

fn key(version: &PluginVersion) -> (TenantId, String, String) {
    (
        version.tenant_id,
        version.task_type.clone(),
        version.digest.clone(),
    )
}

impl From<Problem> for ServiceError {
    fn from(problem: Problem) -> Self {
        Self::Invalid(problem.into())
    }
}

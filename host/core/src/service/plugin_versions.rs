//! What follows a registration: comparing versions, going back to the one before, and taking a plugin away.

use super::apply::{Change, differences};
use super::plugins::Plugins;
use super::{BulkRequest, Executions, ServiceError, ServiceResult};
use crate::store::{ConfigFilter, ExecutionFilter, Page, rules};
use horarium_model::TenantId;
use horarium_model::execution::State;
use horarium_model::task_type::{PluginVersion, TaskType, VersionState};
use horarium_model::text::one_line;
use serde_json::{Value, json};

/// What of a version is told elsewhere, or is no property of the component and what was wished with it.
const NOT_COMPARED: &[&str] = &[
    "tenant_id",
    "task_type",
    "digest",
    "state",
    "error",
    "activate",
    "grant_asked",
    "warnings",
    "created_at",
];

/// How two versions differ.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionDiff {
    /// The name.
    pub task_type: String,
    /// Digest of the one that is compared.
    pub from: String,
    /// Digest of the other.
    pub to: String,
    /// Every field that differs.
    pub changes: Vec<Change>,
    /// What speaks against making `to` active; null where nothing does, or it is active.
    pub obstacle: Option<String>,
}

impl VersionDiff {
    /// As every surface shows it.
    pub fn to_json(&self) -> Value {
        let changes: Vec<Value> = self.changes.iter().map(Change::to_json).collect();
        json!({
            "task_type": self.task_type,
            "from_digest": self.from,
            "to_digest": self.to,
            "changes": changes,
            "obstacle": self.obstacle,
        })
    }
}

impl Plugins {
    /// Makes the version active that was active before the one that is; asked twice, all is as it was.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when no other version was active before.
    pub async fn rollback(&self, tenant: TenantId, name: &str) -> ServiceResult<TaskType> {
        let Some(previous) = self.show(tenant, name).await?.previous_digest else {
            return Err(ServiceError::Conflict(format!(
                "no other version of `{name}` was active before; `plugin activate` makes any ready one active"
            )));
        };
        self.activate(tenant, name, &previous).await
    }

    /// Compares two versions. Without `from` it is the active one; without `to` the newest ready one. Where that is
    /// the active one too, it is compared with the one that was active before.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when there is nothing to compare with.
    pub async fn diff(
        &self,
        tenant: TenantId,
        name: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> ServiceResult<VersionDiff> {
        let of_type = self.show(tenant, name).await?;
        let active = of_type.active_digest.as_deref();
        let versions = self.cx.store.versions(tenant, name).await?;
        let nothing = |detail: &str| ServiceError::Conflict(format!("`{name}` {detail}"));
        let ready = versions.iter().find(|v| v.state == VersionState::Ready);
        let to = match to.or(ready.map(|v| v.digest.as_str())) {
            Some(digest) => find(&versions, name, digest)?,
            None => return Err(nothing("has no version that is ready yet")),
        };
        let before = of_type.previous_digest.as_deref();
        let from = match from.or(active.filter(|active| *active != to.digest).or(before)) {
            Some(digest) => find(&versions, name, digest)?,
            None => {
                return Err(nothing(
                    "has nothing to compare with; name two of its versions",
                ));
            }
        };
        let obstacle = match (active == Some(to.digest.as_str()), to.state) {
            (true, _) => None,
            (false, VersionState::Ready) => self.obstacle(to, tenant).await?,
            (false, state) => Some(format!("it is {}", state.as_str())),
        };
        Ok(VersionDiff {
            task_type: name.to_owned(),
            from: from.digest.clone(),
            to: to.digest.clone(),
            changes: differences(&compared(from)?, &compared(to)?),
            obstacle,
        })
    }

    /// Takes a plugin away with its versions and settings; its history stays. With `cancel_waiting` what waits of it
    /// ends cancelled first. Returns how many did.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while tasks name it, or executions of it wait or run.
    pub async fn remove(
        &self,
        tenant: TenantId,
        name: &str,
        cancel_waiting: bool,
    ) -> ServiceResult<u64> {
        self.show(tenant, name).await?;
        let cancelled = match cancel_waiting {
            true => self.cancel_waiting(tenant, name).await?,
            false => 0,
        };
        self.cx.store.remove_type(tenant, name).await?;
        self.catalog_changed().await?;
        Ok(cancelled)
    }

    async fn cancel_waiting(&self, owner: TenantId, name: &str) -> ServiceResult<u64> {
        let filter = ConfigFilter {
            task_type: Some(name.to_owned()),
            ..ConfigFilter::default()
        };
        let page = Page::first(Page::MAX);
        let runs = ExecutionFilter {
            task_type: Some(name.to_owned()),
            states: vec![State::Running],
            ..ExecutionFilter::default()
        };
        let users = self.users(owner).await?;
        let (mut tasks, mut running) = (0, 0);
        for (tenant, _) in &users {
            let named = self.cx.store.configs(*tenant, &filter, &page).await?;
            tasks += named.items.len() as u64;
            let run = self.cx.store.executions(*tenant, &runs, &page).await?;
            running += run.items.len() as u64;
        }
        // Nothing is cancelled for a removal that is refused anyway.
        rules::refuse_used_type(name, tasks, 0, running)?;
        let mut cancelled = 0;
        for (tenant, _) in users {
            cancelled += self.cancel_waiting_of(tenant, name).await?;
        }
        Ok(cancelled)
    }

    async fn cancel_waiting_of(&self, tenant: TenantId, name: &str) -> ServiceResult<u64> {
        let mut request = BulkRequest::of(ExecutionFilter {
            task_type: Some(name.to_owned()),
            states: vec![State::Scheduled, State::Available, State::Retryable],
            ..ExecutionFilter::default()
        });
        let executions = Executions(self.cx.clone());
        let mut cancelled = 0;
        loop {
            let done = executions.cancel_many(tenant, &request).await?;
            cancelled += done.cancelled();
            match done.next {
                Some(next) => request = request.after(next),
                None => return Ok(cancelled),
            }
        }
    }
}

fn find<'v>(
    versions: &'v [PluginVersion],
    name: &str,
    digest: &str,
) -> ServiceResult<&'v PluginVersion> {
    let found = versions.iter().find(|version| version.digest == digest);
    found.ok_or_else(|| {
        ServiceError::NotFound(rules::no_version(
            &one_line(name, 64),
            &one_line(digest, 80),
        ))
    })
}

/// A version without what tells nothing about it.
fn compared(version: &PluginVersion) -> ServiceResult<Value> {
    let mut value = serde_json::to_value(version).map_err(|error| {
        ServiceError::Internal(format!("a version cannot be written as JSON: {error}"))
    })?;
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| !NOT_COMPARED.contains(&key.as_str()));
    }
    Ok(value)
}

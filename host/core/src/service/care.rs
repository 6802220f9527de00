//! How long history is kept, and what was used.

use super::{Context, ServiceError, ServiceResult, TaskRef, Tasks, Tenants};
use crate::access::Caller;
use crate::store::{Page, Tally, UsageRow, rules};
use chrono::{Days, NaiveDate};
use horarium_model::quota::{QuotaLine, Quotas, day_of};
use horarium_model::retention::Retention;
use horarium_model::{Invalid, TenantId};
use serde_json::Value;
use std::collections::BTreeMap;

/// Days of one report.
const MAX_DAYS: u64 = 3660;
/// Days of a report that names none.
const DEFAULT_DAYS: u64 = 30;

impl Tenants {
    /// What a tenant wants kept of its history.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn retention(&self, tenant: TenantId) -> ServiceResult<Retention> {
        let found = self.0.store.retention(tenant, None).await?;
        Ok(found.unwrap_or_default())
    }

    /// Replaces that.
    ///
    /// # Errors
    /// `Invalid`; `NotFound` when the tenant is gone.
    pub async fn set_retention(&self, tenant: TenantId, body: &Value) -> ServiceResult<Retention> {
        let retention = Retention::from_json(body)?;
        self.0.store.set_retention(tenant, None, retention).await?;
        Ok(retention)
    }

    /// What a tenant may use, and uses.
    ///
    /// # Errors
    /// `NotFound` when the tenant is gone.
    pub async fn quotas(&self, tenant: TenantId) -> ServiceResult<Vec<QuotaLine>> {
        let known = self.known_quotas(tenant).await?;
        let now = self.0.clock.now();
        let used = self.0.store.quota_use(now, tenant).await?;
        Ok(used.lines(&known, now))
    }

    async fn known_quotas(&self, tenant: TenantId) -> ServiceResult<Quotas> {
        let known = self.0.store.quotas(tenant).await?;
        let missing = || ServiceError::NotFound(rules::no_tenant(tenant));
        Ok(known.ok_or_else(missing)?.quotas)
    }

    /// Replaces what a tenant may use; with `merge` what the body does not name stays, and null is no bound. What runs,
    /// waits or is there already stays.
    ///
    /// # Errors
    /// `Invalid`; `NotFound` when the tenant is gone.
    pub async fn set_quotas(
        &self,
        tenant: TenantId,
        body: &Value,
        merge: bool,
    ) -> ServiceResult<Vec<QuotaLine>> {
        let named = Quotas::from_json(body)?;
        let quotas = match merge {
            true => merged(&self.known_quotas(tenant).await?, body)?,
            false => named,
        };
        self.0.store.set_quotas(tenant, quotas).await?;
        self.0.wakes.enqueued();
        self.quotas(tenant).await
    }
}

/// Quotas with what a body names; its null takes a bound away.
fn merged(known: &Quotas, body: &Value) -> ServiceResult<Quotas> {
    let whole = serde_json::to_value(known).map_err(|e| ServiceError::Internal(e.to_string()))?;
    let (Value::Object(mut whole), Value::Object(named)) = (whole, body) else {
        return Ok(*known);
    };
    whole.extend(named.clone());
    Ok(Quotas::from_json(&Value::Object(whole))?)
}

impl Tasks {
    /// What is kept of a task's history besides what its tenant and host say.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn retention(&self, tenant: TenantId, task: &TaskRef) -> ServiceResult<Retention> {
        let config = self.show(tenant, task).await?;
        let found = self.0.store.retention(tenant, Some(config.id)).await?;
        Ok(found.unwrap_or_default())
    }

    /// Replaces that.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn set_retention(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        body: &Value,
    ) -> ServiceResult<Retention> {
        let retention = Retention::from_json(body)?;
        let config = self.show(tenant, task).await?;
        let store = &self.0.store;
        store
            .set_retention(tenant, Some(config.id), retention)
            .await?;
        Ok(retention)
    }
}

/// What was used.
#[derive(Clone)]
pub struct Usages(pub(super) Context);

/// A report of usage.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageReport {
    /// Its first day, in UTC.
    pub from: NaiveDate,
    /// The day after its last.
    pub to: NaiveDate,
    /// By tenant, day and task type.
    pub rows: Vec<UsageRow>,
    /// Names of the tenants in it.
    pub tenants: BTreeMap<TenantId, String>,
    /// All of it.
    pub total: Tally,
}

impl Usages {
    /// What was used from a day on and before another, of one tenant or of all that `caller` may see.
    ///
    /// # Errors
    /// `Invalid` when the days make no sense; `NotFound` when there is no such tenant, or it is another's.
    pub async fn report(
        &self,
        caller: &Caller,
        tenant: Option<&str>,
        (from, to): (Option<NaiveDate>, Option<NaiveDate>),
    ) -> ServiceResult<UsageReport> {
        let today = self.0.clock.now().date_naive();
        let to = to.unwrap_or_else(|| today.succ_opt().unwrap_or(today));
        let month = Days::new(DEFAULT_DAYS);
        let from = from.unwrap_or_else(|| to.checked_sub_days(month).unwrap_or(to));
        let days = (to - from).num_days();
        if days <= 0 || days.unsigned_abs() > MAX_DAYS {
            let detail = format!(
                "lies {days} days after `from`; a report is of 1 to {MAX_DAYS} days, `to` not among them"
            );
            return Err(Invalid::one("/to", detail).into());
        }
        let only = self.tenant(caller, tenant).await?;
        let number = |day: NaiveDate| day_of(day.and_time(chrono::NaiveTime::MIN).and_utc());
        let rows = self.0.store.usage(only, number(from)..number(to)).await?;
        let mut total = Tally::default();
        rows.iter().for_each(|row| total.add(&row.tally));
        Ok(UsageReport {
            from,
            to,
            tenants: self.names(&rows).await?,
            rows,
            total,
        })
    }

    /// The tenant that is meant; none = all.
    async fn tenant(
        &self,
        caller: &Caller,
        named: Option<&str>,
    ) -> ServiceResult<Option<TenantId>> {
        match (&caller.tenant, named) {
            (Some((id, own)), Some(name)) if own == name => Ok(Some(*id)),
            (Some((id, _)), None) => Ok(Some(*id)),
            (None, None) => Ok(None),
            (Some(_), Some(name)) => Err(ServiceError::NotFound(super::tenants::no_such(name))),
            (None, Some(name)) => {
                let found = self.0.store.tenant_named(name).await?;
                let missing = || ServiceError::NotFound(super::tenants::no_such(name));
                Ok(Some(found.ok_or_else(missing)?.id))
            }
        }
    }

    async fn names(&self, rows: &[UsageRow]) -> ServiceResult<BTreeMap<TenantId, String>> {
        let mut names = BTreeMap::new();
        let mut page = Page::first(Page::MAX);
        while !rows.is_empty() {
            let tenants = self.0.store.tenants(&page).await?;
            names.extend(
                tenants
                    .items
                    .into_iter()
                    .map(|tenant| (tenant.id, tenant.name)),
            );
            match tenants.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        Ok(names)
    }
}

//! What attempts used and what of the history goes, the same for every database.

use crate::columns::text;
use crate::rows::Cells;
use horarium_core::store::{PruneRow, StoreResult, Tally, TenantQuotas, UsageRow, rules};
use horarium_model::execution::AttemptRecord;
use horarium_model::quota::{QuotaHit, Quotas, day_of};
use horarium_model::retention::Retention;
use horarium_model::{ConfigId, TenantId, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a batch of ends used, by tenant, task type and the incarnation that ran it.
#[derive(Default)]
pub(crate) struct Usages(BTreeMap<(TenantId, String, i64), Tally>);

impl Usages {
    /// Adds what an attempt used.
    pub(crate) fn add(
        &mut self,
        tenant: TenantId,
        task_type: &str,
        incarnation: i64,
        tally: &Tally,
    ) {
        if *tally != Tally::default() {
            let key = (tenant, task_type.to_owned(), incarnation);
            self.0.entry(key).or_default().add(tally);
        }
    }

    /// Adds what an attempt used that was handed back.
    pub(crate) fn add_unfinished(
        &mut self,
        tenant: TenantId,
        task_type: &str,
        incarnation: i64,
        record: &AttemptRecord,
    ) {
        self.add(tenant, task_type, incarnation, &Tally::of_record(record));
    }

    /// The rows to be added as JSON, in the order of their keys; none when nothing was used.
    pub(crate) fn rows(&self, now: Timestamp) -> StoreResult<Option<String>> {
        let day = day_of(now);
        let row =
            |((tenant, task_type, incarnation), tally): (&(TenantId, String, i64), &Tally)| {
                UsageKey(*tenant, day, task_type.clone(), *incarnation).row(tally)
            };
        let rows: Vec<Value> = self.0.iter().map(row).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        text(&rows).map(Some)
    }
}

/// Tenant, day, type, incarnation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct UsageKey(TenantId, i64, String, i64);

impl UsageKey {
    fn row(&self, tally: &Tally) -> Value {
        let Self(tenant, day, task_type, incarnation) = self;
        let mut row = vec![
            json!(tenant),
            json!(day),
            json!(task_type),
            json!(incarnation),
        ];
        row.extend(
            tally
                .numbers()
                .map(|n| json!(i64::try_from(n).unwrap_or(i64::MAX))),
        );
        Value::Array(row)
    }
}

/// How much state a tenant has, and may have, as a batch of ends goes on.
pub(crate) struct StateRoom {
    pub(crate) tenant: TenantId,
    limit: u64,
    used: u64,
}

impl StateRoom {
    pub(crate) fn new(tenant: TenantId, limit: u64, used: u64) -> Self {
        Self {
            tenant,
            limit,
            used,
        }
    }

    /// Takes as much as state grows.
    ///
    /// # Errors
    /// The hit, when that would be too much; nothing was taken.
    pub(crate) fn grow(&mut self, by: i64) -> Result<(), QuotaHit> {
        rules::refuse_state(Some(self.limit), self.used, by)?;
        self.used = self.used.saturating_add_signed(by);
        Ok(())
    }
}

/// Quotas as the columns of a tenant.
pub(crate) struct QuotaColumns {
    pub(crate) concurrency: Option<i64>,
    pub(crate) backlog: Option<i64>,
    pub(crate) others: Option<String>,
    pub(crate) of_claims: bool,
}

impl QuotaColumns {
    pub(crate) fn of(quotas: &Quotas) -> StoreResult<Self> {
        let others = Quotas {
            concurrency: None,
            backlog: None,
            ..*quotas
        };
        let number = |n: Option<u64>| n.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let others = Some(others).filter(|others| *others != Quotas::default());
        Ok(Self {
            concurrency: number(quotas.concurrency),
            backlog: number(quotas.backlog),
            others: others.as_ref().map(text).transpose()?,
            of_claims: quotas.bound_claims(),
        })
    }
}

/// A row of `QUOTAS`.
pub(crate) fn tenant_quotas<'r>(r: &mut impl Cells<'r>) -> StoreResult<TenantQuotas> {
    let tenant = r.owned("name")?;
    let others: Option<Quotas> = r.opt_json("quotas")?;
    Ok(TenantQuotas {
        tenant,
        quotas: Quotas {
            concurrency: r.opt_number("max_running")?,
            backlog: r.opt_number("backlog")?,
            ..others.unwrap_or_default()
        },
    })
}

/// A row of `CONFIG_RETENTIONS`.
pub(crate) fn config_retention<'r>(r: &mut impl Cells<'r>) -> StoreResult<(ConfigId, Retention)> {
    Ok((r.int("config_id")?, r.json("retention")?))
}

/// Rows of usage that are added up into one each.
pub(crate) struct Folding {
    /// The sums, as rows to add.
    pub(crate) sums: String,
    /// The keys that go.
    pub(crate) gone: String,
    /// How many those are.
    pub(crate) count: usize,
}

impl Folding {
    /// Adds up rows of `UNFOLDED`.
    pub(crate) fn of<'r, C: Cells<'r>>(rows: impl Iterator<Item = C>) -> StoreResult<Self> {
        let (mut sums, mut gone) = (BTreeMap::<UsageKey, Tally>::new(), Vec::new());
        for mut r in rows {
            let (tenant, day) = (r.int("tenant_id")?, r.int("day")?);
            let task_type = r.owned("task_type")?;
            gone.push(json!([tenant, day, task_type, r.int("incarnation")?]));
            let key = UsageKey(tenant, day, task_type, 0);
            sums.entry(key).or_default().add(&tally(&mut r)?);
        }
        let rows: Vec<Value> = sums.iter().map(|(key, tally)| key.row(tally)).collect();
        Ok(Self {
            sums: text(&rows)?,
            count: gone.len(),
            gone: text(&gone)?,
        })
    }
}

/// A row of `USAGE`.
pub(crate) fn usage_row<'r>(r: &mut impl Cells<'r>) -> StoreResult<UsageRow> {
    Ok(UsageRow {
        tenant_id: r.int("tenant_id")?,
        day: r.int("day")?,
        task_type: r.owned("task_type")?,
        tally: tally(r)?,
    })
}

fn tally<'r>(r: &mut impl Cells<'r>) -> StoreResult<Tally> {
    let mut numbers = [0; Tally::LEN];
    for number in &mut numbers {
        *number = r.number("usage_days")?;
    }
    Ok(Tally::from_numbers(numbers))
}

/// A row of the statements of pruning.
pub(crate) fn prune_row<'r>(r: &mut impl Cells<'r>) -> StoreResult<PruneRow> {
    Ok(PruneRow {
        id: r.int("id")?,
        state: r.word("state")?,
        completed_at: r.int("completed_at")?,
        created_at: r.int("created_at")?,
    })
}

//! What becomes of claims that are given back or were lost with their host, decided alike for every database.

use crate::care::Usages;
use crate::columns::AttemptRow;
use crate::rows::Cells;
use crate::settle::RunningRow;
use horarium_core::store::rules;
use horarium_core::store::{FAILED_AFTER_LOST, Release, StoreResult, TakenOver};
use horarium_model::execution::{AttemptRecord, State};
use horarium_model::{ErrorKind, Timestamp};
use std::collections::{HashMap, HashSet};

/// A claim that goes back to the queue, or ends because it must not run again.
pub(crate) struct GivenBack {
    pub(crate) id: i64,
    pub(crate) cancelled: bool,
    pub(crate) orphan: bool,
    /// Lost too often: ends `failed`/`host_lost`.
    pub(crate) hopeless: bool,
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
}

/// A run whose host is gone.
pub(crate) struct LostRun {
    tenant: i64,
    lost: u32,
    cancelled: bool,
    run_key: Option<String>,
    id: i64,
    record: AttemptRecord,
}

impl LostRun {
    /// A row of `LOST_RUNS`, save for what it tells of the config.
    pub(crate) fn read<'r>(r: &mut impl Cells<'r>, now: Timestamp) -> StoreResult<Self> {
        let claim: u32 = r.number("claim")?;
        let attempt: u32 = r.number("attempt")?;
        let lost = r.number("lost")?;
        let started_at = r.opt_instant("started_at")?;
        let cancelled = r.flag("cancel_requested_at")?;
        let host = r.opt_owned("host")?;
        Ok(Self {
            tenant: r.int("tenant_id")?,
            lost,
            cancelled,
            run_key: r.opt_owned("run_key")?,
            id: r.place().id,
            record: rules::lost_record(now, attempt, claim, started_at, host),
        })
    }
}

/// Claims that are given back, and what is written of them.
#[derive(Default)]
pub(crate) struct GivingBack<'a> {
    pub(crate) claims: Vec<GivenBack>,
    /// Attempts that the rows of their executions do not describe, with their tenants.
    pub(crate) attempts: Vec<(i64, AttemptRow<'a>)>,
    /// Tenant and run key of each place that became free.
    pub(crate) freed: Vec<(i64, String)>,
    /// What they used before they were given back.
    pub(crate) usages: Usages,
}

impl<'a> GivingBack<'a> {
    /// Those that their owners give back.
    pub(crate) fn released(
        items: &'a [Release],
        mut running: HashMap<i64, RunningRow>,
        alive: &HashSet<i64>,
    ) -> Self {
        let mut back = Self::default();
        for item in items {
            let owned = running
                .get(&item.id)
                .is_some_and(|row| row.is_owned(item.claim, item.incarnation, alive));
            let Some(row) = running.remove(&item.id).filter(|_| owned) else {
                continue;
            };
            let record = item.record.as_ref();
            back.claims.push(GivenBack {
                id: item.id,
                cancelled: row.cancel_requested,
                orphan: row.orphan,
                hopeless: false,
                due_at: item.due_at,
                started_at: record.map(|record| record.started_at),
            });
            let attempt = record.map(|record| (row.tenant_id, AttemptRow::new(item.id, record)));
            back.attempts.extend(attempt);
            if let Some(record) = record {
                let task_type = &row.task_type;
                back.usages
                    .add_unfinished(row.tenant_id, task_type, item.incarnation, record);
            }
            back.freed
                .extend(row.run_key.map(|key| (row.tenant_id, key)));
        }
        back
    }

    /// Those of hosts that are gone, each with whether its config is gone too.
    pub(crate) fn lost(runs: impl Iterator<Item = (&'a LostRun, bool)>) -> Self {
        let mut back = Self::default();
        for (run, orphan) in runs {
            back.claims.push(GivenBack {
                id: run.id,
                cancelled: run.cancelled,
                orphan,
                hopeless: run.lost + 1 >= FAILED_AFTER_LOST,
                due_at: None,
                started_at: Some(run.record.started_at),
            });
            back.attempts
                .push((run.tenant, AttemptRow::new(run.id, &run.record)));
            back.freed
                .extend(run.run_key.clone().map(|key| (run.tenant, key)));
        }
        back
    }
}

/// The row of a claim that was given back.
pub(crate) struct ReturnedRow {
    pub(crate) id: i64,
    /// `running` for what ends right after.
    pub(crate) state: State,
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
}

/// What claims become that are given back.
#[derive(Default)]
pub(crate) struct Returned {
    pub(crate) rows: Vec<ReturnedRow>,
    cancelled: Vec<i64>,
    deleted: Vec<i64>,
    hopeless: Vec<i64>,
}

impl Returned {
    /// Decides for each: a cancel wins over a deleted config, that over too many losses.
    pub(crate) fn decide(now: Timestamp, claims: &[GivenBack]) -> Self {
        let mut returned = Self::default();
        for claim in claims {
            let ends = if claim.cancelled {
                Some(&mut returned.cancelled)
            } else if claim.orphan {
                Some(&mut returned.deleted)
            } else if claim.hopeless {
                Some(&mut returned.hopeless)
            } else {
                None
            };
            let (state, due_at) = match (ends, claim.due_at) {
                (Some(list), _) => {
                    list.push(claim.id);
                    (State::Running, None)
                }
                (None, Some(due)) if due > now => (State::Retryable, Some(due)),
                (None, due) => (State::Available, due),
            };
            returned.rows.push(ReturnedRow {
                id: claim.id,
                state,
                due_at,
                started_at: claim.started_at,
            });
        }
        returned
    }

    /// What ends, as what, and why.
    pub(crate) fn ends(&self) -> [(&[i64], State, ErrorKind, &'static str); 3] {
        let (cancelled, kind) = (State::Cancelled, ErrorKind::Cancelled);
        [
            (&self.cancelled, cancelled, kind, rules::CANCELLED_RETRY),
            (&self.deleted, cancelled, kind, rules::CONFIG_DELETED),
            (
                &self.hopeless,
                State::Failed,
                ErrorKind::HostLost,
                rules::LOST_TOO_OFTEN,
            ),
        ]
    }

    /// How many became what.
    pub(crate) fn counts(&self) -> TakenOver {
        let cancelled = (self.cancelled.len() + self.deleted.len()) as u64;
        let failed = self.hopeless.len() as u64;
        TakenOver {
            requeued: self.rows.len() as u64 - cancelled - failed,
            failed,
            cancelled,
        }
    }
}

//! Ends and hand-backs that are not an attempt's own: cancels, expiry, lost hosts.

use super::chain::Ends;
use super::complete::{configs, lock_running};
use super::enqueue::floor;
use super::keys::{self, Key};
use super::rows::{Cells as _, Reader};
use super::sql;
use super::tx::{PgResult, Tx, query, query_as, query_scalar};
use crate::columns::{AttemptRow, micros, opt_micros, text};
use crate::settle::{GivenBack, Returned};
use horarium_core::store::chain::Parent;
use horarium_core::store::{
    CancelReceipt, FAILED_AFTER_LOST, Release, StoreResult, Swept, TakenOver, rules,
};
use horarium_model::execution::{AttemptRecord, State};
use horarium_model::{ConfigId, ErrorKind, TaskId, TenantId, Timestamp};
use serde_json::Value;
use std::collections::HashSet;

/// Lost runs taken over in one transaction.
pub(super) const TAKE_OVER_BATCH: i64 = 256;

/// Removes executions from the live table, into the history as `state` or without a trace; returns what is
/// still to be done for them. They are locked already, or nobody else can have them.
pub(super) async fn end_rows(
    tx: &mut Tx,
    now: Timestamp,
    ids: &[i64],
    state: State,
    kind: ErrorKind,
    message: &str,
) -> PgResult<Ends> {
    let mut ends = Ends::default();
    if ids.is_empty() {
        return Ok(ends);
    }
    let gone = query(sql::END_BARE)
        .bind(ids)
        .bind(micros(now))
        .bind(state.as_str())
        .bind(kind.as_str())
        .bind(message)
        .fetch_all(tx.connection())
        .await?;
    let mut forgotten = Vec::new();
    for row in &gone {
        let mut r = Reader::new(row, "live_executions")?;
        let tenant = r.int("tenant_id")?;
        let key = r.opt_owned("run_key")?;
        ends.freed.extend(key.map(|key| (tenant, key)));
        if r.flag("delete_history")? {
            forgotten.push((tenant, r.id()));
        }
        if let Some(chain) = r.opt_text("chain")? {
            let task = (r.word("task_id")?, tenant);
            let chain = (chain, r.number("chain_depth")?);
            ends.parents
                .push(Parent::read(task, chain, (state, Value::Null))?);
        }
    }
    forget(tx, &forgotten).await?;
    Ok(ends)
}

/// Ends executions without an attempt that would account for it.
pub(super) async fn end_bare(
    tx: &mut Tx,
    now: Timestamp,
    ids: &[i64],
    state: State,
    kind: ErrorKind,
    message: &str,
) -> PgResult<()> {
    let ends = end_rows(tx, now, ids, state, kind, message).await?;
    ends.finish(tx, now, &HashSet::new()).await
}

/// Removes what is kept beside executions, by tenant and id, that leave no history.
pub(super) async fn forget(tx: &mut Tx, executions: &[(i64, i64)]) -> PgResult<()> {
    if executions.is_empty() {
        return Ok(());
    }
    let (tenants, ids): (Vec<i64>, Vec<i64>) = executions.iter().copied().unzip();
    for statement in [sql::DELETE_ATTEMPTS, sql::DELETE_LOGS, sql::DELETE_HTTP] {
        query(statement)
            .bind(&tenants)
            .bind(&ids)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// What lives of a config.
pub(super) struct LiveOf {
    pub(super) waiting: Vec<i64>,
    pub(super) running: u64,
}

/// What lives of a config, locked until the transaction ends.
pub(super) async fn lock_live_of(tx: &mut Tx, config: ConfigId) -> PgResult<LiveOf> {
    let rows: Vec<(i64, String)> = query_as(sql::LOCK_LIVE_OF_CONFIG)
        .bind(config)
        .fetch_all(tx.connection())
        .await?;
    let (running, waiting): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|(_, state)| state == State::Running.as_str());
    Ok(LiveOf {
        waiting: waiting.into_iter().map(|(id, _)| id).collect(),
        running: running.len() as u64,
    })
}

/// `Queue::sweep_due`.
pub(super) async fn sweep_due(tx: &mut Tx, now: Timestamp, limit: u32) -> PgResult<Swept> {
    let available = query(sql::SWEEP_AVAILABLE);
    let expired: Vec<i64> = query_scalar(sql::EXPIRED)
        .bind(micros(now))
        .bind(i64::from(limit))
        .fetch_all(tx.connection())
        .await?;
    let (failed, kind) = (State::Failed, ErrorKind::Expired);
    let ends = end_rows(tx, now, &expired, failed, kind, rules::EXPIRED).await?;
    let available = available
        .bind(micros(now))
        .bind(i64::from(limit))
        .execute(tx.connection())
        .await?
        .rows_affected();
    ends.finish(tx, now, &HashSet::new()).await?;
    tx.tidings.enqueued |= available > 0;
    Ok(Swept {
        available,
        expired: expired.len() as u64,
        refilled: keys::refill(tx, now, limit).await?,
    })
}

/// `Queue::cancel`.
pub(super) async fn cancel(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_id: TaskId,
) -> PgResult<CancelReceipt> {
    let live = query(sql::LOCK_LIVE)
        .bind(tenant)
        .bind(task_id.to_string())
        .fetch_optional(tx.connection())
        .await?;
    let Some(row) = live else {
        return ended(tx, tenant, task_id).await;
    };
    let mut r = Reader::new(&row, "live_executions")?;
    let state: State = r.word("state")?;
    query(sql::ASK_CANCEL)
        .bind(r.id())
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    if state == State::Running {
        tx.tidings.cancels.push(task_id);
        return Ok(CancelReceipt::Requested);
    }
    let (to, kind) = (State::Cancelled, ErrorKind::Cancelled);
    end_bare(tx, now, &[r.id()], to, kind, rules::CANCELLED_WAITING).await?;
    Ok(CancelReceipt::Ended)
}

/// How an execution that does not live ended: looked for where it must be by its id, then everywhere.
async fn ended(tx: &mut Tx, tenant: TenantId, task_id: TaskId) -> PgResult<CancelReceipt> {
    let task = task_id.to_string();
    for oldest in [floor([task_id].iter()), i64::MIN] {
        let row = query(sql::FIND_ENDED)
            .bind(tenant)
            .bind(&task)
            .bind(oldest)
            .fetch_optional(tx.connection())
            .await?;
        if let Some(row) = row {
            let state = Reader::plain(&row, "task_executions").word("state")?;
            return Ok(CancelReceipt::AlreadyEnded(state));
        }
    }
    Ok(CancelReceipt::NotFound)
}

/// Gives claims back; `lost` is added to their count of lost hosts. Returns how many became what; `freed` are
/// the keys of all of them.
async fn give_back(
    tx: &mut Tx,
    now: Timestamp,
    claims: &[GivenBack],
    lost: i32,
    freed: Vec<Key>,
) -> PgResult<TakenOver> {
    let returned = Returned::decide(now, claims);
    if claims.is_empty() {
        return Ok(returned.counts());
    }
    let rows = &returned.rows;
    query(sql::GIVE_BACK)
        .bind(rows.iter().map(|r| r.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.state.as_str()).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|r| opt_micros(r.due_at))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|r| opt_micros(r.started_at))
                .collect::<Vec<_>>(),
        )
        .bind(lost)
        .execute(tx.connection())
        .await?;
    tx.tidings.enqueued |= rows.iter().any(|r| r.state == State::Available);
    tx.tidings.schedule |= rows.iter().any(|r| r.state == State::Retryable);
    let mut parents = Vec::new();
    for (ids, state, kind, message) in returned.ends() {
        // Their keys are among those of the batch.
        parents.extend(end_rows(tx, now, ids, state, kind, message).await?.parents);
    }
    let ends = Ends { freed, parents };
    ends.finish(tx, now, &HashSet::new()).await?;
    Ok(returned.counts())
}

/// `Queue::release`.
pub(super) async fn release(tx: &mut Tx, now: Timestamp, items: &[Release]) -> PgResult<u64> {
    let ids: Vec<i64> = items.iter().map(|item| item.id).collect();
    let (mut running, alive) = lock_running(tx, &ids).await?;
    let (mut claims, mut attempts, mut freed) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        let owned = running
            .get(&item.id)
            .is_some_and(|row| row.is_owned(item.claim, item.incarnation, &alive));
        let Some(row) = running.remove(&item.id).filter(|_| owned) else {
            continue;
        };
        claims.push(GivenBack {
            id: item.id,
            cancelled: row.cancel_requested,
            orphan: row.orphan,
            hopeless: false,
            due_at: item.due_at,
            started_at: item.record.as_ref().map(|record| record.started_at),
        });
        let record = item.record.as_ref();
        attempts.extend(record.map(|record| (row.tenant_id, AttemptRow::new(item.id, record))));
        freed.extend(row.run_key.map(|key| (row.tenant_id, key)));
    }
    insert_attempts(tx, &attempts).await?;
    give_back(tx, now, &claims, 0, freed).await?;
    Ok(claims.len() as u64)
}

/// Keeps attempts, with their tenants, that the row of their execution does not describe.
pub(super) async fn insert_attempts(
    tx: &mut Tx,
    attempts: &[(i64, AttemptRow<'_>)],
) -> PgResult<()> {
    let mut rows = Vec::with_capacity(attempts.len());
    for (tenant, attempt) in attempts {
        rows.push((*tenant, super::jsonb::text(&text(attempt)?).into_owned()));
    }
    for chunk in super::enqueue::chunks(rows, |(_, text)| text.len()) {
        let (tenants, texts): (Vec<i64>, Vec<String>) = chunk.into_iter().unzip();
        query(sql::INSERT_ATTEMPTS)
            .bind(tenants)
            .bind(texts)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// A run whose host is gone.
struct LostRun {
    tenant: i64,
    config_id: Option<ConfigId>,
    lost: u32,
    cancelled: bool,
    run_key: Option<String>,
    id: i64,
    record: AttemptRecord,
}

async fn lost_runs(tx: &mut Tx, now: Timestamp) -> PgResult<Vec<LostRun>> {
    let rows = query(sql::LOST_RUNS)
        .bind(TAKE_OVER_BATCH)
        .fetch_all(tx.connection())
        .await?;
    let read = |row| -> StoreResult<LostRun> {
        let mut r = Reader::new(row, "live_executions")?;
        let claim: u32 = r.number("claim")?;
        let attempt: u32 = r.number("attempt")?;
        let lost = r.number("lost")?;
        let started_at = r.opt_instant("started_at")?;
        let cancelled = r.flag("cancel_requested_at")?;
        let config_id = r.opt_int("config_id")?;
        let host = r.opt_owned("host")?;
        Ok(LostRun {
            tenant: r.int("tenant_id")?,
            config_id,
            lost,
            cancelled,
            run_key: r.opt_owned("run_key")?,
            id: r.id(),
            record: rules::lost_record(now, attempt, claim, started_at, host),
        })
    };
    Ok(rows.iter().map(read).collect::<StoreResult<_>>()?)
}

/// `Queue::take_over`, one batch of it: runs that another host is taking over at this moment are left to
/// it. Returns the counts and whether there may be more.
pub(super) async fn take_over(tx: &mut Tx, now: Timestamp) -> PgResult<(TakenOver, bool)> {
    let runs = lost_runs(tx, now).await?;
    let more = i64::try_from(runs.len()).unwrap_or(i64::MAX) >= TAKE_OVER_BATCH;
    let configs = configs(tx, runs.iter().filter_map(|run| run.config_id)).await?;
    let orphan = |id: ConfigId| configs.get(&id).is_none_or(|config| config.deleted);
    let claims: Vec<GivenBack> = runs
        .iter()
        .map(|run| GivenBack {
            id: run.id,
            cancelled: run.cancelled,
            orphan: run.config_id.is_some_and(orphan),
            hopeless: run.lost + 1 >= FAILED_AFTER_LOST,
            due_at: None,
            started_at: Some(run.record.started_at),
        })
        .collect();
    let attempts: Vec<(i64, AttemptRow<'_>)> = runs
        .iter()
        .map(|run| (run.tenant, AttemptRow::new(run.id, &run.record)))
        .collect();
    insert_attempts(tx, &attempts).await?;
    let freed = runs
        .iter()
        .filter_map(|run| Some((run.tenant, run.run_key.clone()?)))
        .collect();
    let taken = give_back(tx, now, &claims, 1, freed).await?;
    Ok((taken, more))
}

/// Marks the hosts as gone whose lease is over.
pub(super) async fn bury(tx: &mut Tx, now: Timestamp, mine: i64) -> PgResult<()> {
    query(sql::BURY_OTHERS)
        .bind(mine)
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    Ok(())
}

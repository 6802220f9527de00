//! Ends and hand-backs that are not an attempt's own: cancels, expiry, lost hosts.

use super::chain::Ends;
use super::complete::{configs, lock_running};
use super::enqueue::floor;
use super::keys;
use super::rows::{Cells as _, Reader};
use super::tx::{PgResult, Tx, query, query_as, query_scalar};
use super::{ahead, care, sql};
use crate::chain::in_order;
use crate::columns::{AttemptRow, STATEMENT_BYTES, micros, opt_micros, text};
use crate::give_back::{GivingBack, LostRun, Returned};
use horarium_core::store::chain::Parent;
use horarium_core::store::{CancelReceipt, Release, StoreResult, Swept, TakenOver, chunks, rules};
use horarium_model::execution::State;
use horarium_model::trace::TraceContext;
use horarium_model::{ConfigId, ErrorKind, TaskId, TenantId, Timestamp};
use serde_json::Value;

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
    let (mut forgotten, mut parents) = (Vec::new(), Vec::new());
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
            let trace = r.opt_text("trace")?.and_then(TraceContext::from_text);
            let parent = Parent::read(task, chain, (state, Value::Null))?;
            parents.push((r.id(), parent.traced(trace)));
        }
    }
    ends.parents = in_order(ids, parents);
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
    ends.finish(tx, now).await
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
    ahead::lock(tx, &[]).await?;
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
    ends.finish(tx, now).await?;
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
    ahead::lock(tx, &[]).await?;
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

/// Gives claims back; `lost` is added to their count of lost hosts. Returns how many became what.
async fn give_back(
    tx: &mut Tx,
    now: Timestamp,
    back: GivingBack<'_>,
    lost: i32,
) -> PgResult<TakenOver> {
    insert_attempts(tx, &back.attempts).await?;
    let returned = Returned::decide(now, &back.claims);
    if back.claims.is_empty() {
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
    let ends = Ends {
        freed: back.freed,
        parents,
    };
    ends.finish(tx, now).await?;
    care::use_up(tx, now, &back.usages).await?;
    Ok(returned.counts())
}

/// `Queue::release`.
pub(super) async fn release(tx: &mut Tx, now: Timestamp, items: &[Release]) -> PgResult<u64> {
    ahead::lock(tx, &[]).await?;
    let ids: Vec<i64> = items.iter().map(|item| item.id).collect();
    let (running, alive) = lock_running(tx, &ids).await?;
    let back = GivingBack::released(items, running, &alive);
    let count = back.claims.len() as u64;
    give_back(tx, now, back, 0).await?;
    Ok(count)
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
    for chunk in chunks(rows, STATEMENT_BYTES, |(_, text)| text.len()) {
        let (tenants, texts): (Vec<i64>, Vec<String>) = chunk.into_iter().unzip();
        query(sql::INSERT_ATTEMPTS)
            .bind(tenants)
            .bind(texts)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// `Queue::take_over`, one batch of it: runs that another host is taking over at this moment are left to
/// it. Returns the counts and whether there may be more.
pub(super) async fn take_over(tx: &mut Tx, now: Timestamp) -> PgResult<(TakenOver, bool)> {
    ahead::lock(tx, &[]).await?;
    let rows = query(sql::LOST_RUNS)
        .bind(TAKE_OVER_BATCH)
        .fetch_all(tx.connection())
        .await?;
    let read = |row| -> StoreResult<(LostRun, Option<ConfigId>)> {
        let mut r = Reader::new(row, "live_executions")?;
        Ok((LostRun::read(&mut r, now)?, r.opt_int("config_id")?))
    };
    let runs: Vec<_> = rows.iter().map(read).collect::<StoreResult<_>>()?;
    let more = i64::try_from(runs.len()).unwrap_or(i64::MAX) >= TAKE_OVER_BATCH;
    let configs = configs(tx, runs.iter().filter_map(|(_, config)| *config)).await?;
    let orphan = |id: ConfigId| configs.get(&id).is_none_or(|config| config.deleted);
    let lost = runs
        .iter()
        .map(|(run, config)| (run, config.is_some_and(orphan)));
    let taken = give_back(tx, now, GivingBack::lost(lost), 1).await?;
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

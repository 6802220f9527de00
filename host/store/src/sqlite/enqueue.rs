//! Inserting executions.

use super::backlog::{self, Cap, Concerned};
use super::bound::Values;
use super::parts::Parts;
use super::rows::{Cells as _, Reader};
use super::tx::Tx;
use super::{answers, db, sql};
use crate::columns::{STATEMENT_BYTES, micros, opt_micros, raw, text};
use crate::firing::{self, Fresh};
use horarium_core::store::{
    Enqueue, EnqueueReceipt, Enqueued, NewExecution, StoreResult, Waiter, chunks, rules,
};
use horarium_model::execution::State;
use horarium_model::firing::LiveCount;
use horarium_model::trace::TraceContext;
use horarium_model::{ConfigId, TaskId, Timestamp};
use serde_json::value::RawValue;
use sqlx::Row;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Parameters larger than this stand aside, so that changes of state do not rewrite them.
const LARGE: usize = 1024;

/// Inserts executions that come now; their ids and states, in order.
pub(super) async fn insert(
    tx: &mut Tx,
    now: Timestamp,
    fresh: &[Fresh<'_>],
) -> StoreResult<Vec<(i64, State)>> {
    let fresh: Vec<_> = fresh.iter().map(|item| (now, item)).collect();
    insert_each(tx, &fresh).await
}

/// The same, each with the instant it came.
async fn insert_each(
    tx: &mut Tx,
    fresh: &[(Timestamp, &Fresh<'_>)],
) -> StoreResult<Vec<(i64, State)>> {
    let aside = fresh.iter().filter(|(_, item)| is_large(item));
    let large: Vec<(i64, &RawValue)> = aside
        .map(|(_, item)| Ok((item.id, raw(&item.template.parameters)?)))
        .collect::<StoreResult<_>>()?;
    let mut parts = Parts::default();
    parts.add_bound(sql::INSERT_LIVE, fresh, |(now, item), row| {
        live_row(item, *now, row)
    });
    parts.write(tx).await?;
    for chunk in chunks(large, STATEMENT_BYTES, |(_, text)| text.get().len()) {
        sqlx::query(sql::INSERT_PARAMETERS)
            .bind(text(&chunk)?)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    let placed =
        |(now, item): &(Timestamp, &Fresh<'_>)| (item.id, rules::waiting_state(item.due_at, *now));
    Ok(fresh.iter().map(placed).collect())
}

fn is_large(item: &Fresh<'_>) -> bool {
    item.template.parameters.len() > LARGE
}

/// See `INSERT_LIVE`.
fn live_row(item: &Fresh<'_>, now: Timestamp, row: &mut Values) -> StoreResult<()> {
    let new = item.template;
    let state = rules::waiting_state(item.due_at, now);
    debug_assert!(State::may_become(None, state));
    raw(&new.parameters)?;
    row.add(item.id)?;
    row.add(new.tenant_id)?;
    row.add(item.task_id.to_string())?;
    row.add(new.config_id)?;
    row.add(new.task_type.as_str())?;
    row.add(state.as_str())?;
    row.add(item.trigger.as_str())?;
    row.add(opt_micros(item.slot))?;
    row.add(new.priority)?;
    row.add(rules::queue_key(item.due_at, new.priority))?;
    row.add(new.max_attempts)?;
    row.add(new.run_key.as_deref())?;
    row.add(new.run_max)?;
    row.add(micros(item.due_at))?;
    row.add(opt_micros(new.expires_at))?;
    row.add(new.parent_task_id.map(|id| id.to_string()))?;
    row.add(new.retry_of.map(|id| id.to_string()))?;
    let rate = new.rate.as_ref();
    row.add(rate.map(|bound| bound.key.as_str()))?;
    row.add(rate.map(|bound| bound.rate.count))?;
    row.add(rate.map(|bound| bound.rate.seconds))?;
    row.add((!is_large(item)).then(|| new.parameters.clone()))?;
    row.add(new.chain.clone())?;
    row.add(new.chain_depth)?;
    row.add(new.trace.as_ref().map(TraceContext::to_text))?;
    row.add(micros(now))
}

/// How many executions of each config live.
pub(super) async fn live_counts(
    tx: &mut Tx,
    configs: &[ConfigId],
) -> StoreResult<HashMap<ConfigId, LiveCount>> {
    if configs.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(i64, bool, i64)> = sqlx::query_as(sql::LIVE_COUNTS)
        .bind(text(&configs)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    Ok(firing::live_counts(rows))
}

/// `Queue::enqueue`.
pub(super) async fn enqueue(tx: &mut Tx, now: Timestamp, batch: &Enqueue) -> StoreResult<Enqueued> {
    if let Some(request) = &batch.request
        && let Some(kept) = answers::find(tx.read(), now, request.tenant_id, &request.key).await?
    {
        return Ok(Enqueued::Repeated(kept));
    }
    let came = vec![now; batch.items.len()];
    let receipts = match batch.atomic {
        true => place_all(tx, &came, &batch.items).await?,
        false => place(tx, &came, &batch.items).await?,
    };
    answers::keep(tx, now, batch.request.as_ref(), &receipts).await?;
    Ok(Enqueued::Done(receipts))
}

/// Takes or refuses each item by itself. `came` = when each came.
pub(super) async fn place(
    tx: &mut Tx,
    came: &[Timestamp],
    items: &[NewExecution],
) -> StoreResult<Vec<EnqueueReceipt>> {
    let refusals = judge(tx, items).await?;
    take(tx, came, items, refusals).await
}

/// Takes all items or none.
async fn place_all(
    tx: &mut Tx,
    came: &[Timestamp],
    items: &[NewExecution],
) -> StoreResult<Vec<EnqueueReceipt>> {
    let refusals = judge(tx, items).await?;
    match rules::void_batch(&refusals) {
        Some(void) => Ok(void),
        None => take(tx, came, items, refusals).await,
    }
}

/// Which items are refused, and why.
async fn judge(tx: &mut Tx, items: &[NewExecution]) -> StoreResult<Vec<Option<EnqueueReceipt>>> {
    let concerned = Concerned::of(items.iter().map(Waiter::from));
    let facts = facts(tx, items, &concerned).await?;
    let watched = items.iter().filter(|item| item.refuse_if_live);
    let watched: HashSet<ConfigId> = watched.filter_map(|item| item.config_id).collect();
    let watched: Vec<ConfigId> = watched.into_iter().collect();
    let live = live_counts(tx, &watched).await?;
    let mut backlogs = backlog::count(tx, concerned, facts.caps, 0).await?;
    Ok(rules::refusals(
        items,
        |item| facts.known.contains(&(item.tenant_id, item.task_id)),
        |tenant, config| facts.alive.get(&(config, tenant)).copied(),
        |config| live.contains_key(&config),
        &mut backlogs,
    ))
}

/// What judges executions, read in one statement.
#[derive(Default)]
struct Facts {
    /// Tenants and ids that live or have ended already.
    known: HashSet<(i64, TaskId)>,
    /// Versions of the configs that are there, with their tenants.
    alive: HashMap<(ConfigId, i64), i64>,
    caps: Vec<Cap>,
}

async fn facts(
    tx: &mut Tx,
    items: &[NewExecution],
    concerned: &Concerned<'_>,
) -> StoreResult<Facts> {
    let tasks = items.iter().map(|item| (item.tenant_id, item.task_id));
    let tasks: Vec<(i64, TaskId)> = tasks.collect();
    let configs: BTreeSet<ConfigId> = items.iter().filter_map(|item| item.config_id).collect();
    let rows = sqlx::query(sql::FACTS)
        .bind(text(&tasks)?)
        .bind(text(&configs)?)
        .bind(text(&concerned.types)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let mut facts = Facts::default();
    for row in &rows {
        let mut r = Reader::plain(row, "task_configs");
        match r.int("kind")? {
            0 => {
                let place = usize::try_from(r.int("key")?).ok();
                facts.known.extend(place.and_then(|at| tasks.get(at)));
            }
            1 => {
                let config = (r.int("id")?, r.int("tenant_id")?);
                facts.alive.insert(config, r.int("version")?);
            }
            _ => facts.caps.push(Cap::read(&mut r)?),
        }
    }
    Ok(facts)
}

async fn take(
    tx: &mut Tx,
    came: &[Timestamp],
    items: &[NewExecution],
    refusals: Vec<Option<EnqueueReceipt>>,
) -> StoreResult<Vec<EnqueueReceipt>> {
    let each = came.iter().zip(items).zip(&refusals);
    let taken = each.filter(|(_, refusal)| refusal.is_none());
    let fresh: Vec<(Timestamp, Fresh<'_>)> = taken
        .map(|((now, item), _)| (*now, Fresh::of(tx.next_execution(), item)))
        .collect();
    let fresh: Vec<_> = fresh.iter().map(|(now, item)| (*now, item)).collect();
    let mut placed = insert_each(tx, &fresh).await?.into_iter();
    let receipts = refusals.into_iter().filter_map(|refusal| {
        refusal.or_else(|| {
            let (id, state) = placed.next()?;
            Some(EnqueueReceipt::Enqueued { id, state })
        })
    });
    Ok(receipts.collect())
}

/// Those of these tasks that live or have ended already.
pub(super) async fn known_tasks(
    tx: &mut Tx,
    tasks: &[(i64, TaskId)],
) -> StoreResult<HashSet<(i64, TaskId)>> {
    let rows = sqlx::query(sql::KNOWN_TASKS)
        .bind(text(&tasks)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let mut known = HashSet::with_capacity(tasks.len());
    for row in rows {
        let index: i64 = row.try_get(0).map_err(db)?;
        known.extend(usize::try_from(index).ok().and_then(|i| tasks.get(i)));
    }
    Ok(known)
}

//! Inserting executions.

use super::tx::{Fault, PgResult, Tidings, Tx, query, query_as, query_scalar};
use super::{answers, backlog, jsonb, sql};
use crate::columns::{STATEMENT_BYTES, micros, opt_micros};
use crate::firing::{self, Fresh};
use horarium_core::store::{
    Enqueue, EnqueueReceipt, Enqueued, NewExecution, Waiter, chunks, rules,
};
use horarium_model::execution::State;
use horarium_model::firing::LiveCount;
use horarium_model::trace::TraceContext;
use horarium_model::{ConfigId, TaskId, Timestamp};
use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query::QueryAs;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Parameters larger than this stand aside, so that changes of state do not rewrite them.
const LARGE: usize = 1024;

/// The columns of `INSERT_LIVE` and `INSERT_PLAIN`.
#[derive(Default)]
struct Columns<'a> {
    /// None: the next.
    id: Vec<Option<i64>>,
    tenant_id: Vec<i64>,
    task_id: Vec<String>,
    config_id: Vec<Option<i64>>,
    task_type: Vec<&'a str>,
    state: Vec<&'static str>,
    trigger: Vec<&'static str>,
    slot: Vec<Option<i64>>,
    priority: Vec<i32>,
    queue_key: Vec<i64>,
    max_attempts: Vec<i64>,
    run_key: Vec<Option<&'a str>>,
    run_max: Vec<i64>,
    due_at: Vec<i64>,
    expires_at: Vec<Option<i64>>,
    parent: Vec<Option<String>>,
    retry_of: Vec<Option<String>>,
    parameters: Vec<Option<Cow<'a, str>>>,
    chain: Vec<Option<Cow<'a, str>>>,
    chain_depth: Vec<i32>,
    rate_key: Vec<Option<&'a str>>,
    rate_count: Vec<Option<i64>>,
    rate_seconds: Vec<Option<i64>>,
    trace: Vec<Option<String>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, id: Option<i64>, item: &Fresh<'a>, state: State) {
        let new = item.template;
        let aside = new.parameters.len() > LARGE;
        self.id.push(id);
        self.tenant_id.push(new.tenant_id);
        self.task_id.push(item.task_id.to_string());
        self.config_id.push(new.config_id);
        self.task_type.push(&new.task_type);
        self.state.push(state.as_str());
        self.trigger.push(item.trigger.as_str());
        self.slot.push(opt_micros(item.slot));
        self.priority.push(new.priority);
        self.queue_key
            .push(rules::queue_key(item.due_at, new.priority));
        self.max_attempts.push(i64::from(new.max_attempts));
        self.run_key.push(new.run_key.as_deref());
        self.run_max.push(i64::from(new.run_max));
        self.due_at.push(micros(item.due_at));
        self.expires_at.push(opt_micros(new.expires_at));
        self.parent
            .push(new.parent_task_id.map(|id| id.to_string()));
        self.retry_of.push(new.retry_of.map(|id| id.to_string()));
        let rate = new.rate.as_ref();
        self.rate_key.push(rate.map(|bound| bound.key.as_str()));
        self.rate_count
            .push(rate.map(|bound| i64::from(bound.rate.count)));
        self.rate_seconds
            .push(rate.map(|bound| i64::from(bound.rate.seconds)));
        self.parameters
            .push((!aside).then(|| jsonb::text(&new.parameters)));
        self.trace
            .push(new.trace.as_ref().map(TraceContext::to_text));
        self.chain.push(new.chain.as_deref().map(jsonb::text));
        self.chain_depth
            .push(i32::try_from(new.chain_depth).unwrap_or(i32::MAX));
    }

    /// A statement that inserts them.
    fn insert<'q>(
        self,
        sql: &'static str,
        now: Timestamp,
    ) -> QueryAs<'q, Postgres, Placed, PgArguments>
    where
        'a: 'q,
    {
        query_as(sql)
            .bind(self.id)
            .bind(self.tenant_id)
            .bind(self.task_id)
            .bind(self.config_id)
            .bind(self.task_type)
            .bind(self.state)
            .bind(self.trigger)
            .bind(self.slot)
            .bind(self.priority)
            .bind(self.queue_key)
            .bind(self.max_attempts)
            .bind(self.run_key)
            .bind(self.run_max)
            .bind(self.due_at)
            .bind(self.expires_at)
            .bind(self.parent)
            .bind(self.retry_of)
            .bind(self.parameters)
            .bind(self.chain)
            .bind(self.chain_depth)
            .bind(micros(now))
            .bind(self.rate_key)
            .bind(self.rate_count)
            .bind(self.rate_seconds)
            .bind(self.trace)
    }
}

/// What was inserted: ids, and task ids in the same order. None when that was nothing.
type Placed = (Option<Vec<i64>>, Option<Vec<String>>);

/// Between these instants an execution with one of some task ids ended, if at all.
type Span = (i64, i64);

/// Inserts executions. Each one's state, in order; none where its task id lives already. With a span the transaction is
/// run anew when one of them ended meanwhile: together with the live table's key this keeps task ids unique.
pub(super) async fn insert(
    tx: &mut Tx,
    now: Timestamp,
    fresh: &[Fresh<'_>],
    ended: Option<Span>,
) -> PgResult<Vec<Option<State>>> {
    if fresh.is_empty() {
        return Ok(Vec::new());
    }
    let mut columns = Columns::default();
    for item in fresh {
        let state = rules::waiting_state(item.due_at, now);
        columns.push(Some(item.id), item, state);
        tx.tidings.comes(item.template, state);
    }
    let (ids, _) = columns
        .insert(sql::INSERT_LIVE, now)
        .bind(ended.map(|(from, _)| from))
        .bind(ended.map(|(_, until)| until))
        .fetch_optional(tx.connection())
        .await?
        .unwrap_or_default();
    let inserted: HashSet<i64> = ids.unwrap_or_default().into_iter().collect();
    let large: Vec<(i64, Cow<'_, str>)> = fresh
        .iter()
        .filter(|item| item.template.parameters.len() > LARGE && inserted.contains(&item.id))
        .map(|item| (item.id, jsonb::text(&item.template.parameters)))
        .collect();
    for chunk in chunks(large, STATEMENT_BYTES, |(_, text)| text.len()) {
        let (ids, texts): (Vec<i64>, Vec<Cow<'_, str>>) = chunk.into_iter().unzip();
        query(sql::INSERT_PARAMETERS)
            .bind(ids)
            .bind(texts)
            .execute(tx.connection())
            .await?;
    }
    let state = |item: &Fresh<'_>| {
        let inserted = inserted.contains(&item.id);
        inserted.then(|| rules::waiting_state(item.due_at, now))
    };
    Ok(fresh.iter().map(state).collect())
}

/// By how much the hosts' clocks may differ, in microseconds, for lookups by time to be right.
const DAY: i64 = 86_400_000_000;

/// Before this no execution can have ended, by the instants that are in the ids themselves (UUIDv7); a day
/// is left for clocks that differ. Keeps lookups out of older partitions.
pub(super) fn floor<'a>(task_ids: impl Iterator<Item = &'a TaskId>) -> i64 {
    task_ids
        .map(|id| match id.get_timestamp() {
            Some(instant) if id.get_version_num() == 7 => {
                let (seconds, nanos) = instant.to_unix();
                let micros = i64::try_from(seconds)
                    .ok()
                    .and_then(|s| s.checked_mul(1_000_000));
                micros.map_or(i64::MIN, |m| m + i64::from(nanos / 1000) - DAY)
            }
            _ => i64::MIN,
        })
        .min()
        .unwrap_or(i64::MIN)
}

fn span(now: Timestamp, items: &[NewExecution]) -> Span {
    let from = floor(items.iter().map(|item| &item.task_id));
    (from, micros(now).saturating_add(DAY))
}

/// How many executions of each config live.
pub(super) async fn live_counts(
    tx: &mut Tx,
    configs: &[ConfigId],
) -> PgResult<HashMap<ConfigId, LiveCount>> {
    if configs.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(i64, bool, i64)> = query_as(sql::LIVE_COUNTS)
        .bind(configs)
        .fetch_all(tx.connection())
        .await?;
    Ok(firing::live_counts(rows))
}

/// New ids, rising.
pub(super) async fn execution_ids(tx: &mut Tx, count: usize) -> PgResult<Vec<i64>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    Ok(query_scalar(sql::EXECUTION_IDS)
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .fetch_all(tx.connection())
        .await?)
}

fn distinct(items: &[NewExecution], wanted: impl Fn(&NewExecution) -> bool) -> Vec<ConfigId> {
    let configs: HashSet<ConfigId> = items
        .iter()
        .filter(|item| wanted(item))
        .filter_map(|item| item.config_id)
        .collect();
    configs.into_iter().collect()
}

/// `Queue::enqueue`.
pub(super) async fn enqueue(tx: &mut Tx, now: Timestamp, batch: &Enqueue) -> PgResult<Enqueued> {
    if let Some(request) = &batch.request {
        let (tenant, key) = (request.tenant_id, &request.key);
        if let Some(kept) = answers::find(tx.connection(), now, tenant, key).await? {
            return Ok(Enqueued::Repeated(kept));
        }
    }
    let receipts = place(tx, now, batch).await?;
    answers::keep(tx, now, batch.request.as_ref(), &receipts).await?;
    Ok(Enqueued::Done(receipts))
}

/// So many are looked at in one statement with all that may stand against them.
const FEW: usize = 64;

/// Whether only what the database knows can stand against them.
pub(super) fn may_be_plain(batch: &Enqueue) -> bool {
    let items = &batch.items;
    let distinct: HashSet<TaskId> = items.iter().map(|item| item.task_id).collect();
    let small = |item: &NewExecution| item.parameters.len() <= LARGE;
    batch.request.is_none()
        && !batch.atomic
        && (1..=FEW).contains(&items.len())
        && distinct.len() == items.len()
        && items
            .iter()
            .all(|item| !item.refuse_if_live && item.backlog.is_none() && small(item))
}

/// Enqueues what [`may_be_plain`] in one statement; none when something stands against it, and nothing was done.
pub(super) async fn enqueue_plain(
    connection: &mut PgConnection,
    now: Timestamp,
    batch: &Enqueue,
) -> PgResult<Option<(Vec<EnqueueReceipt>, Tidings)>> {
    let items = &batch.items;
    let (mut columns, mut tidings) = (Columns::default(), Tidings::default());
    for item in items {
        let state = rules::waiting_state(item.due_at, now);
        columns.push(None, &Fresh::of(0, item), state);
        tidings.comes(item, state);
    }
    let (from, until) = span(now, items);
    let versions: Vec<Option<i64>> = items.iter().map(|item| item.remembered).collect();
    let (ids, tasks) = columns
        .insert(sql::INSERT_PLAIN, now)
        .bind(from)
        .bind(until)
        .bind(versions)
        .fetch_optional(connection)
        .await?
        .unwrap_or_default();
    let (Some(ids), Some(tasks)) = (ids, tasks) else {
        return Ok(None);
    };
    let placed: HashMap<String, i64> = tasks.into_iter().zip(ids).collect();
    let receipt = |item: &NewExecution| match placed.get(&item.task_id.to_string()) {
        Some(id) => EnqueueReceipt::Enqueued {
            id: *id,
            state: rules::waiting_state(item.due_at, now),
        },
        None => EnqueueReceipt::Duplicate,
    };
    Ok(Some((items.iter().map(receipt).collect(), tidings)))
}

async fn place(tx: &mut Tx, now: Timestamp, batch: &Enqueue) -> PgResult<Vec<EnqueueReceipt>> {
    let items = &batch.items;
    // Who refuses because of what lives waits for others who do the same.
    let watched = distinct(items, |item| item.refuse_if_live || item.backlog.is_some());
    if !watched.is_empty() {
        query(sql::LOCK_SCHEDULES)
            .bind(&watched)
            .execute(tx.connection())
            .await?;
    }
    let alive = configs_alive(tx, items).await?;
    let known = known_tasks(tx, now, items).await?;
    let live = live_counts(tx, &watched).await?;
    let caps = backlog::caps(tx, items.iter().map(Waiter::from)).await?;
    caps.capped().lock(tx).await?;
    let mut backlogs = caps.count(tx, 0).await?;
    let refusals = rules::refusals(
        items,
        |item| known.contains(&(item.tenant_id, item.task_id)),
        |tenant, config| alive.get(&(config, tenant)).copied(),
        |config| live.contains_key(&config),
        &mut backlogs,
    );
    if batch.atomic
        && let Some(void) = rules::void_batch(&refusals)
    {
        return Ok(void);
    }
    let count = refusals.iter().filter(|refusal| refusal.is_none()).count();
    let ids = execution_ids(tx, count).await?;
    let taken = items
        .iter()
        .zip(&refusals)
        .filter(|(_, refusal)| refusal.is_none());
    let new: Vec<Fresh<'_>> = taken
        .zip(&ids)
        .map(|((item, _), id)| Fresh::of(*id, item))
        .collect();
    let states = insert(tx, now, &new, Some(span(now, items))).await?;
    if batch.atomic && states.contains(&None) {
        // Somebody used the same ids meanwhile; anew, they are known.
        return Err(Fault::Again);
    }
    let mut placed = ids.iter().zip(states).map(|(id, state)| match state {
        Some(state) => EnqueueReceipt::Enqueued { id: *id, state },
        None => EnqueueReceipt::Duplicate,
    });
    let receipts = refusals
        .into_iter()
        .filter_map(|refusal| refusal.or_else(|| placed.next()));
    Ok(receipts.collect())
}

/// Those that live or have ended already.
async fn known_tasks(
    tx: &mut Tx,
    now: Timestamp,
    items: &[NewExecution],
) -> PgResult<HashSet<(i64, TaskId)>> {
    let (tenants, ids): (Vec<i64>, Vec<String>) = items
        .iter()
        .map(|item| (item.tenant_id, item.task_id.to_string()))
        .unzip();
    let (from, until) = span(now, items);
    let places: Vec<i64> = query_scalar(sql::KNOWN_TASKS)
        .bind(tenants)
        .bind(ids)
        .bind(from)
        .bind(until)
        .fetch_all(tx.connection())
        .await?;
    let item = |place: i64| usize::try_from(place - 1).ok().and_then(|i| items.get(i));
    Ok(places
        .into_iter()
        .filter_map(item)
        .map(|item| (item.tenant_id, item.task_id))
        .collect())
}

/// Versions of those of their configs that exist, with their tenants; none of them is deleted before this
/// transaction ends.
async fn configs_alive(
    tx: &mut Tx,
    items: &[NewExecution],
) -> PgResult<HashMap<(ConfigId, i64), i64>> {
    let wanted = distinct(items, |_| true);
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let alive: Vec<(i64, i64, i64)> = query_as(sql::CONFIGS_ALIVE)
        .bind(&wanted)
        .fetch_all(tx.connection())
        .await?;
    let alive = alive.into_iter();
    Ok(alive
        .map(|(id, tenant, version)| ((id, tenant), version))
        .collect())
}

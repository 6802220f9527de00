//! Recording the ends of attempts: one batch, a handful of statements.

use super::chain::{self, Ends};
use super::rows::{Cells as _, Reader};
use super::tx::{Fault, PgResult, Tx, query, query_scalar};
use super::{ahead, breakers, care, end, jsonb, sql};
use crate::columns::{Measured, STATEMENT_BYTES, micros, text};
use crate::settle::{Batch, Breakers, Ended, Failures, Retried, RunningRow, States, Verdicts};
use horarium_core::store::rules;
use horarium_core::store::{
    Completion, CompletionReceipt, End, SUSPECT_AFTER_LOST, StoreResult, chunks,
};
use horarium_model::{ConfigId, Timestamp};
use serde::Serialize;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// Those of the executions that run, locked until the transaction ends; and the incarnations that are
/// alive, of those they run under.
pub(super) async fn lock_running(
    tx: &mut Tx,
    ids: &[i64],
) -> PgResult<(HashMap<i64, RunningRow>, HashSet<i64>)> {
    let rows = query(sql::LOCK_RUNNING)
        .bind(ids)
        .fetch_all(tx.connection())
        .await?;
    let (mut running, mut alive) = (HashMap::with_capacity(rows.len()), HashSet::new());
    for row in &rows {
        let mut r = Reader::new(row, "live_executions")?;
        let mut found = RunningRow {
            task_id: r.word("task_id")?,
            claim: r.number("claim")?,
            incarnation: r.int("incarnation")?,
            tenant_id: r.int("tenant_id")?,
            task_type: String::new(),
            troubled: false,
            config_id: r.opt_int("config_id")?,
            cancel_requested: r.flag("cancel_requested_at")?,
            orphan: false,
            delete_history: false,
            large: r.flag("parameters")?,
            run_key: r.opt_owned("run_key")?,
            chain: None,
            chain_depth: 0,
            failures: 0,
            paused: false,
            state_version: 0,
        };
        // Another suspect may run when this one ended.
        tx.tidings.enqueued |= r.number::<u32>("lost")? >= SUSPECT_AFTER_LOST;
        if r.flag("alive")? {
            alive.insert(found.incarnation);
        }
        found.task_type = r.owned("task_type")?;
        found.troubled = r.flag("type_breakers")?;
        found.chain = r.opt_owned("chain")?;
        found.chain_depth = r.number("chain_depth")?;
        running.insert(r.id(), found);
    }
    // A statement of its own: a deletion that was waited for above is seen.
    let configs = configs(tx, running.values().filter_map(|row| row.config_id)).await?;
    for row in running.values_mut() {
        if let Some(id) = row.config_id {
            match configs.get(&id) {
                Some(config) => config.show(row),
                None => row.orphan = true,
            }
        }
    }
    Ok((running, alive))
}

/// A config as the end of an execution meets it.
pub(super) struct ConfigRow {
    pub(super) deleted: bool,
    delete_history: bool,
    paused: bool,
    failures: u32,
    state_version: i64,
}

impl ConfigRow {
    fn show(&self, row: &mut RunningRow) {
        row.orphan = self.deleted;
        row.delete_history = self.delete_history;
        row.paused = self.paused;
        row.failures = self.failures;
        row.state_version = self.state_version;
    }
}

/// Configs by id, tombstones too.
pub(super) async fn configs(
    tx: &mut Tx,
    ids: impl Iterator<Item = ConfigId>,
) -> PgResult<HashMap<ConfigId, ConfigRow>> {
    let mut ids: Vec<ConfigId> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let mut configs = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(configs);
    }
    let rows = query(sql::CONFIGS_OF)
        .bind(ids)
        .fetch_all(tx.connection())
        .await?;
    for row in &rows {
        let mut r = Reader::new(row, "task_configs")?;
        let config = ConfigRow {
            deleted: r.flag("deleted_at")?,
            delete_history: r.flag("delete_history")?,
            paused: r.flag("paused")?,
            failures: r.number("failures_in_a_row")?,
            state_version: r.int("state_version")?,
        };
        configs.insert(r.id(), config);
    }
    Ok(configs)
}

/// Whether the end of an attempt surely writes to its schedule: the count of failures, or state.
fn writes_schedule(item: &Completion) -> bool {
    item.state.is_some() || matches!(item.end, End::Failed | End::Retry(_))
}

/// `Queue::complete_many`. Schedules are locked before executions, but only where they are written, which is
/// rare: whether a success ends a row of failures is known only later. If it does, the transaction is run
/// anew with `lock_all`.
pub(super) async fn complete_many(
    tx: &mut Tx,
    now: Timestamp,
    items: &[Completion],
    lock_all: &AtomicBool,
) -> PgResult<Vec<CompletionReceipt>> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let all = lock_all.load(Ordering::Relaxed);
    let writers: Vec<i64> = items
        .iter()
        .filter(|item| all || writes_schedule(item))
        .map(|item| item.id)
        .collect();
    let locked = lock_schedules(tx, items, writers).await?;
    let ids: Vec<i64> = items.iter().map(|item| item.id).collect();
    let (running, alive) = lock_running(tx, &ids).await?;
    let states = read_states(tx, States::new(items, &running)).await?;
    let breakers = breakers::lock(tx, &Breakers::concerned(items, &running, &alive)).await?;
    let verdicts = Verdicts::decide(items, running, &alive, states, breakers, now)?;
    let changed = verdicts.failures.changed();
    if !all && changed.iter().any(|(config, _)| !locked.contains(config)) {
        lock_all.store(true, Ordering::Relaxed);
        return Err(Fault::Again);
    }
    breakers::write(tx, &verdicts.breakers).await?;
    let turned = verdicts.breakers.turned;
    let ends = write_batch(tx, verdicts.batch).await?;
    write_states(tx, now, verdicts.states).await?;
    let paused = write_failures(tx, now, verdicts.failures).await?;
    ends.finish(tx, now).await?;
    care::use_up(tx, now, &verdicts.usages).await?;
    if paused || turned {
        super::configs::bump_epoch(tx).await?;
    }
    Ok(verdicts.receipts)
}

/// Locks the schedules that the ends of `writers` write to, and what chains look at. Which schedules those are.
async fn lock_schedules(
    tx: &mut Tx,
    items: &[Completion],
    writers: Vec<i64>,
) -> PgResult<HashSet<ConfigId>> {
    let chained = items.iter().filter(|item| item.chained);
    let chained: Vec<i64> = chained.map(|item| item.id).collect();
    if !chained.is_empty() {
        let wanted = chain::ahead(tx, &chained).await?;
        tx.ahead.extend(wanted);
    }
    let written: Vec<i64> = match writers.is_empty() {
        true => Vec::new(),
        false => {
            let of = query_scalar(sql::CONFIGS_OF_LIVE).bind(writers);
            of.fetch_all(tx.connection()).await?
        }
    };
    ahead::lock(tx, &written).await
}

/// Writes the rows; returns what is still to be done for them.
async fn write_batch(tx: &mut Tx, batch: Batch<'_>) -> PgResult<Ends> {
    end::insert_attempts(tx, &batch.attempts).await?;
    write_arrays(tx, sql::INSERT_LOGS, batch.logs).await?;
    write_arrays(tx, sql::INSERT_HTTP, batch.calls).await?;
    tx.tidings.schedule |= !batch.retries.is_empty();
    write_retries(tx, &batch.retries).await?;
    for chunk in chunks(batch.ends, STATEMENT_BYTES, |ended| {
        ended.result().map_or(0, |r| r.len()) + 256
    }) {
        let documents = Documents::of(&chunk)?;
        let recording = record(sql::RECORD, &chunk, &documents);
        recording.execute(tx.connection()).await?;
    }
    for (statement, ids) in [
        (
            sql::DELETE_LIVE,
            batch.forgotten.iter().map(|(_, id)| *id).collect(),
        ),
        (sql::DELETE_PARAMETERS, batch.large),
    ] {
        let ids: Vec<i64> = ids;
        if !ids.is_empty() {
            query(statement).bind(ids).execute(tx.connection()).await?;
        }
    }
    end::forget(tx, &batch.forgotten).await?;
    Ok(Ends {
        freed: batch.freed,
        parents: batch.parents,
    })
}

/// What attempts left one after the other (logs, requests), as columns.
#[derive(Default)]
pub(super) struct Arrays {
    tenants: Vec<i64>,
    ids: Vec<i64>,
    claims: Vec<i64>,
    texts: Vec<String>,
    bytes: usize,
}

impl Arrays {
    /// One attempt's: tenant, execution, claim, and the pieces as [`pieces_text`] has them.
    pub(super) fn push(&mut self, (tenant, id, claim): (i64, i64, u32), text: String) {
        self.tenants.push(tenant);
        self.ids.push(id);
        self.claims.push(claim.into());
        self.bytes += text.len();
        self.texts.push(text);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn bind<'q>(
        self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        let query = query.bind(self.tenants).bind(self.ids);
        query.bind(self.claims).bind(self.texts)
    }
}

/// Pieces as their column has them.
pub(super) fn pieces_text<T: Serialize>(pieces: &[T]) -> StoreResult<String> {
    Ok(jsonb::text(&text(&pieces)?).into_owned())
}

/// Writes what attempts left (tenant, execution, claim, pieces), so much in one statement.
async fn write_arrays<T: Serialize>(
    tx: &mut Tx,
    statement: &'static str,
    attempts: Vec<(i64, i64, u32, &[T])>,
) -> PgResult<()> {
    let mut texts = Vec::with_capacity(attempts.len());
    for (tenant, id, claim, pieces) in attempts {
        texts.push(((tenant, id, claim), pieces_text(pieces)?));
    }
    for chunk in chunks(texts, STATEMENT_BYTES, |(_, text)| text.len()) {
        let mut arrays = Arrays::default();
        for (attempt, text) in chunk {
            arrays.push(attempt, text);
        }
        let writing = arrays.bind(query(statement));
        writing.execute(tx.connection()).await?;
    }
    Ok(())
}

async fn write_retries(tx: &mut Tx, retries: &[Retried]) -> PgResult<()> {
    if retries.is_empty() {
        return Ok(());
    }
    let progress: Vec<Option<Cow<'_, str>>> = retries
        .iter()
        .map(|r| r.progress.as_deref().map(jsonb::text))
        .collect();
    query(sql::RETRY)
        .bind(retries.iter().map(|r| r.id).collect::<Vec<_>>())
        .bind(retries.iter().map(|r| r.due_at).collect::<Vec<_>>())
        .bind(retries.iter().map(|r| r.started_at).collect::<Vec<_>>())
        .bind(progress)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// One value of each end, as a column.
fn column<'a, T>(ends: &'a [Ended<'a>], value: impl Fn(&'a Ended<'a>) -> T) -> Vec<T> {
    ends.iter().map(value).collect()
}

/// What is written of ends as JSON, made from their values.
pub(super) struct Documents {
    details: Vec<Option<String>>,
    usage: Vec<Option<String>>,
}

impl Documents {
    pub(super) fn of(ends: &[Ended<'_>]) -> PgResult<Self> {
        let details = ends.iter().map(|e| e.error_details().map(text).transpose());
        let usage = ends.iter();
        let usage = usage.map(|e| Measured::of(&e.item.record).as_ref().map(text).transpose());
        Ok(Self {
            details: details.collect::<Result<_, _>>()?,
            usage: usage.collect::<Result<_, _>>()?,
        })
    }
}

/// The columns that `ended!` reads.
pub(super) fn record<'q>(
    statement: &'static str,
    ends: &'q [Ended<'q>],
    documents: &'q Documents,
) -> Query<'q, Postgres, PgArguments> {
    let plain = |text: &Option<String>| text.as_deref().map(|t| jsonb::plain(t).into_owned());
    let documents_of = |texts: &'q [Option<String>]| -> Vec<Option<Cow<'q, str>>> {
        let texts = texts.iter();
        texts.map(|t| t.as_deref().map(jsonb::text)).collect()
    };
    query(statement)
        .bind(column(ends, |e| e.item.id))
        .bind(column(ends, |e| e.settled.state.as_str()))
        .bind(column(ends, |e| e.settled.state.is_success()))
        .bind(column(ends, |e| micros(e.item.record.started_at)))
        .bind(column(ends, |e| micros(e.item.record.completed_at)))
        .bind(column(ends, |e| rules::duration_seconds(&e.item.record)))
        .bind(column(ends, |e| e.result().map(|r| jsonb::text(r))))
        .bind(column(ends, |e| e.settled.error_kind.map(|k| k.as_str())))
        .bind(column(ends, |e| plain(&e.settled.error_message)))
        .bind(column(ends, |e| plain(&e.item.record.error_traceback)))
        .bind(column(ends, |e| e.error_code().map(jsonb::plain)))
        .bind(documents_of(&documents.details))
        .bind(documents_of(&documents.usage))
        .bind(column(ends, |e| e.item.record.plugin_digest.as_deref()))
        .bind(column(ends, |e| e.item.record.host.as_deref()))
        .bind(column(ends, |e| e.progress.as_deref().map(jsonb::text)))
        .bind(column(ends, |e| e.claim().map(i64::from)))
}

async fn read_states(tx: &mut Tx, mut states: States) -> PgResult<States> {
    let configs = states.configs();
    if !configs.is_empty() {
        let rows = query(sql::STATE_VERSIONS)
            .bind(configs)
            .fetch_all(tx.connection())
            .await?;
        for row in &rows {
            states.note(&mut Reader::plain(row, "task_state"))?;
        }
    }
    for (tenant, limit) in states.bounded() {
        states.within(care::state_room(tx, tenant, limit).await?);
    }
    Ok(states)
}

async fn write_states(tx: &mut Tx, now: Timestamp, states: States) -> PgResult<()> {
    let touched = states.touched();
    for write in states.writes {
        let query = match write.value {
            Some(value) => query(sql::SET_STATE)
                .bind(write.config)
                .bind(write.key)
                .bind(write.version)
                .bind(micros(now))
                .bind(value),
            None => query(sql::DELETE_STATE).bind(write.config).bind(write.key),
        };
        query.execute(tx.connection()).await?;
    }
    for (config, last) in touched {
        query(sql::KEEP_STATE_VERSION)
            .bind(config)
            .bind(last)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// Returns whether a config paused.
async fn write_failures(tx: &mut Tx, now: Timestamp, failures: Failures) -> PgResult<bool> {
    let (configs, counts): (Vec<i64>, Vec<i64>) = failures
        .changed()
        .into_iter()
        .map(|(config, count)| (config, i64::from(count)))
        .unzip();
    if !configs.is_empty() {
        query(sql::COUNT_FAILURES)
            .bind(configs)
            .bind(counts)
            .execute(tx.connection())
            .await?;
    }
    for (config, failures) in &failures.paused {
        query(sql::PAUSE_CONFIG)
            .bind(config)
            .bind(rules::pause_reason(*failures))
            .bind(micros(now))
            .execute(tx.connection())
            .await?;
        query(sql::STOP_SCHEDULE)
            .bind(config)
            .execute(tx.connection())
            .await?;
    }
    Ok(!failures.paused.is_empty())
}

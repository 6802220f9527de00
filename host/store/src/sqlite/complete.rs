//! Recording the ends of attempts: one batch, a handful of statements.

use super::bound::Values;
use super::parts::Parts;
use super::rows::{Cells as _, Reader};
use super::tx::Tx;
use super::{breakers, care, chain, db, end, packed, sql};
use crate::columns::{AttemptRow, Measured, micros, raw, text};
use crate::settle::{Batch, Breakers, Ended, Failures, Retried, RunningRow, States, Verdicts};
use horarium_core::store::chain::Parent;
use horarium_core::store::rules;
use horarium_core::store::{Completion, CompletionReceipt, StoreResult};
use horarium_model::Timestamp;
use horarium_model::execution::{HttpCall, LogLine};
use serde_json::value::RawValue;
use std::collections::HashMap;

/// Those of the executions that run.
pub(super) async fn running(tx: &mut Tx, ids: &[i64]) -> StoreResult<HashMap<i64, RunningRow>> {
    let row = sqlx::query(sql::RUNNING)
        .bind(text(&ids)?)
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    let mut chained = Vec::new();
    let mut running = HashMap::with_capacity(ids.len());
    for row in packed::rows(&row, "live_executions")? {
        let row = row?;
        let mut r = packed::Reader::new(&row, "live_executions")?;
        let id = r.place().id;
        let mut found = RunningRow {
            task_id: r.word("task_id")?,
            claim: r.number("claim")?,
            incarnation: r.int("incarnation")?,
            tenant_id: r.int("tenant_id")?,
            task_type: String::new(),
            troubled: false,
            config_id: r.opt_int("config_id")?,
            cancel_requested: r.flag("cancel_requested_at")?,
            orphan: r.flag("deleted_at")?,
            delete_history: r.flag("delete_history")?,
            large: r.flag("parameters")?,
            run_key: r.opt_owned("run_key")?,
            chain: None,
            chain_depth: 0,
            failures: r.number("failures_in_a_row")?,
            paused: r.flag("paused")?,
            state_version: r.int("state_version")?,
        };
        found.task_type = r.owned("task_type")?;
        found.troubled = r.flag("type_breakers")?;
        if r.flag("chain")? {
            chained.push(id);
        }
        found.chain_depth = r.number("chain_depth")?;
        running.insert(id, found);
    }
    for (id, chain) in packed::apart(tx, sql::CHAINS, &chained).await? {
        running.entry(id).and_modify(|row| row.chain = Some(chain));
    }
    Ok(running)
}

/// See `RETRY`.
type RetryRow<'a> = (i64, Option<i64>, i64, Option<&'a RawValue>);

/// `Queue::complete_many`.
pub(super) async fn complete_many(
    tx: &mut Tx,
    now: Timestamp,
    items: &[Completion],
) -> StoreResult<Vec<CompletionReceipt>> {
    let ids: Vec<i64> = items.iter().map(|item| item.id).collect();
    let running = running(tx, &ids).await?;
    let alive = super::hosts::alive(tx).await?;
    let states = read_states(tx, States::new(items, &running)).await?;
    let breakers = breakers::read(tx, &Breakers::concerned(items, &running, &alive)).await?;
    let verdicts = Verdicts::decide(items, running, &alive, states, breakers, now)?;
    let parents = write_batch(tx, verdicts.batch).await?;
    write_states(tx, now, verdicts.states).await?;
    write_failures(tx, now, verdicts.failures).await?;
    breakers::write(tx, &verdicts.breakers).await?;
    care::use_up(tx, now, &verdicts.usages).await?;
    chain::run(tx, now, parents).await?;
    Ok(verdicts.receipts)
}

/// See `RECORD`.
fn end_row(ended: &Ended<'_>, row: &mut Values) -> StoreResult<()> {
    let record = &ended.item.record;
    let settled = &ended.settled;
    row.add(ended.item.id)?;
    row.add(settled.state.as_str())?;
    row.add(settled.state.is_success())?;
    row.add(micros(record.started_at))?;
    row.add(micros(record.completed_at))?;
    row.add(rules::duration_seconds(record))?;
    row.add(
        ended
            .result()
            .map(|result| raw(result))
            .transpose()?
            .map(RawValue::get),
    )?;
    row.add(settled.error_kind.map(|kind| kind.as_str()))?;
    row.add(settled.error_message.as_deref())?;
    row.add(record.error_traceback.as_deref())?;
    row.add(ended.error_code())?;
    row.add(ended.error_details().map(text).transpose()?)?;
    row.add(Measured::of(record).as_ref().map(text).transpose()?)?;
    row.add(record.plugin_digest.as_deref())?;
    row.add(record.host.as_deref())?;
    let progress = ended.progress.as_deref().map(raw).transpose()?;
    row.add(progress.map(RawValue::get))?;
    row.add(ended.claim())
}

fn retry_row(retried: &Retried) -> StoreResult<RetryRow<'_>> {
    let progress = retried.progress.as_deref().map(raw).transpose()?;
    Ok((retried.id, retried.due_at, retried.started_at, progress))
}

/// Writes the rows; returns what ended with a chain.
async fn write_batch(tx: &mut Tx, batch: Batch<'_>) -> StoreResult<Vec<Parent>> {
    let attempts: Vec<AttemptRow<'_>> = batch.attempts.into_iter().map(|(_, row)| row).collect();
    let logs: Vec<(i64, u32, &[LogLine])> = batch
        .logs
        .iter()
        .map(|(_, id, claim, lines)| (*id, *claim, *lines))
        .collect();
    let calls: Vec<(i64, u32, &[HttpCall])> = batch
        .calls
        .iter()
        .map(|(_, id, claim, calls)| (*id, *claim, *calls))
        .collect();
    let mut parts = Parts::default();
    parts.add(sql::INSERT_ATTEMPTS, &attempts, |rows| text(&rows));
    parts.add(sql::INSERT_LOGS, &logs, |rows| text(&rows));
    parts.add(sql::INSERT_HTTP, &calls, |rows| text(&rows));
    parts.add(sql::RETRY, &batch.retries, |rows| {
        let rows: StoreResult<Vec<RetryRow<'_>>> = rows.iter().map(retry_row).collect();
        text(&rows?)
    });
    parts.add_bound(sql::RECORD, &batch.ends, end_row);
    parts.add(sql::DELETE_LIVE, &batch.gone, |rows| text(&rows));
    parts.add(sql::DELETE_PARAMETERS, &batch.large, |rows| text(&rows));
    parts.write(tx).await?;
    tx.freed.extend(batch.freed);
    let forgotten: Vec<i64> = batch.forgotten.iter().map(|(_, id)| *id).collect();
    end::forget(tx, &forgotten).await?;
    Ok(batch.parents)
}

async fn read_states(tx: &mut Tx, mut states: States) -> StoreResult<States> {
    let configs = states.configs();
    if configs.is_empty() {
        return Ok(states);
    }
    let rows = sqlx::query(sql::STATE_VERSIONS)
        .bind(text(&configs)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    for row in &rows {
        states.note(&mut Reader::plain(row, "task_state"))?;
    }
    for (tenant, limit) in states.bounded() {
        states.within(care::state_room(tx, tenant, limit).await?);
    }
    Ok(states)
}

async fn write_states(tx: &mut Tx, now: Timestamp, states: States) -> StoreResult<()> {
    let touched = states.touched();
    for write in states.writes {
        let query = match write.value {
            Some(value) => sqlx::query(sql::SET_STATE)
                .bind(write.config)
                .bind(write.key)
                .bind(write.version)
                .bind(micros(now))
                .bind(value),
            None => sqlx::query(sql::DELETE_STATE)
                .bind(write.config)
                .bind(write.key),
        };
        query.execute(tx.write()).await.map_err(db)?;
    }
    for (config, last) in touched {
        sqlx::query(sql::KEEP_STATE_VERSION)
            .bind(config)
            .bind(last)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}

async fn write_failures(tx: &mut Tx, now: Timestamp, failures: Failures) -> StoreResult<()> {
    let changed = failures.changed();
    if !changed.is_empty() {
        sqlx::query(sql::COUNT_FAILURES)
            .bind(text(&changed)?)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    for (config, failures) in failures.paused {
        sqlx::query(sql::PAUSE_CONFIG)
            .bind(config)
            .bind(rules::pause_reason(failures))
            .bind(micros(now))
            .execute(tx.write())
            .await
            .map_err(db)?;
        sqlx::query(sql::STOP_SCHEDULE)
            .bind(config)
            .execute(tx.write())
            .await
            .map_err(db)?;
        tx.bump_epoch().await?;
    }
    Ok(())
}

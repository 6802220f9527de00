//! Recording the ends of attempts: one batch, a handful of statements.

use super::end;
use super::rows::Reader;
use super::writer::Tx;
use super::{db, sql};
use crate::columns::{AttemptRow, micros, opt_micros, progress_text, raw, text};
use horarium_core::store::rules::{self, Settled};
use horarium_core::store::{Completion, CompletionReceipt, End, StoreResult};
use horarium_model::execution::{LogLine, State};
use horarium_model::{ConfigId, Timestamp, Usage};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::Row;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A running execution as the end of its attempt meets it.
#[derive(Debug)]
pub(super) struct RunningRow {
    claim: u32,
    incarnation: i64,
    pub(super) tenant_id: i64,
    config_id: Option<ConfigId>,
    pub(super) cancel_requested: bool,
    pub(super) orphan: bool,
    delete_history: bool,
    large: bool,
    pub(super) run_key: Option<String>,
    failures: u32,
    paused: bool,
    state_version: i64,
}

impl RunningRow {
    /// Whether it runs under exactly this claim of a living host.
    pub(super) fn is_owned(&self, claim: u32, incarnation: i64, alive: &HashSet<i64>) -> bool {
        self.claim == claim && self.incarnation == incarnation && alive.contains(&incarnation)
    }
}

/// Those of the executions that run.
pub(super) async fn running(tx: &mut Tx, ids: &[i64]) -> StoreResult<HashMap<i64, RunningRow>> {
    let rows = sqlx::query(sql::RUNNING)
        .bind(text(&ids)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let mut running = HashMap::with_capacity(rows.len());
    for row in &rows {
        let mut r = Reader::new(row, "live_executions")?;
        let id = r.place.id;
        let mut found = RunningRow {
            claim: r.number("claim")?,
            incarnation: r.get("incarnation")?,
            tenant_id: r.get("tenant_id")?,
            config_id: r.get("config_id")?,
            cancel_requested: r.get("cancel_requested_at")?,
            orphan: r.get("deleted_at")?,
            delete_history: r.get("delete_history")?,
            large: r.get("parameters")?,
            run_key: r.get("run_key")?,
            failures: 0,
            paused: false,
            state_version: 0,
        };
        let _attempt: i64 = r.get("attempt")?;
        let _lost: i64 = r.get("lost")?;
        let _started_at: Option<i64> = r.get("started_at")?;
        found.failures = r.number("failures_in_a_row")?;
        found.paused = r.get("paused")?;
        found.state_version = r.get("state_version")?;
        running.insert(id, found);
    }
    Ok(running)
}

/// See `RECORD`.
#[derive(Serialize)]
struct EndRow<'a>(
    i64,
    &'static str,
    Option<bool>,
    i64,
    i64,
    f64,
    Option<&'a RawValue>,
    Option<&'static str>,
    Option<String>,
    Option<&'a str>,
    Option<&'a str>,
    Option<&'a serde_json::Value>,
    Option<&'a Usage>,
    Option<&'a str>,
    Option<&'a str>,
    Option<Box<RawValue>>,
    Option<u32>,
);

/// See `RETRY`.
type RetryRow = (i64, Option<i64>, i64, Option<Box<RawValue>>);

/// What a batch writes.
#[derive(Default)]
struct Batch<'a> {
    ends: Vec<EndRow<'a>>,
    retries: Vec<RetryRow>,
    attempts: Vec<AttemptRow<'a>>,
    logs: Vec<(i64, u32, &'a [LogLine])>,
    gone: Vec<i64>,
    large: Vec<i64>,
    forgotten: Vec<i64>,
}

/// `Queue::complete_many`.
pub(super) async fn complete_many(
    tx: &mut Tx,
    now: Timestamp,
    items: &[Completion],
) -> StoreResult<Vec<CompletionReceipt>> {
    let ids: Vec<i64> = items.iter().map(|item| item.id).collect();
    let mut running = running(tx, &ids).await?;
    let alive = super::hosts::alive(tx).await?;
    let mut states = States::read(tx, items, &running).await?;
    let mut failures = Failures::default();
    let mut receipts = Vec::with_capacity(items.len());
    let mut batch = Batch::default();
    for item in items {
        let owned = running
            .get(&item.id)
            .is_some_and(|row| row.is_owned(item.claim, item.incarnation, &alive));
        let Some(row) = running.remove(&item.id).filter(|_| owned) else {
            receipts.push(CompletionReceipt::Stale);
            continue;
        };
        let settled = Settled::decide(item, row.cancel_requested, row.orphan);
        if settled.state == State::Succeeded
            && let Some(conflict) = states.commit(item, &row)
        {
            receipts.push(CompletionReceipt::StateConflict(conflict));
            running.insert(item.id, row);
            continue;
        }
        if let Some(key) = &row.run_key {
            tx.freed.insert((row.tenant_id, key.clone()));
        }
        batch.add(item, &row, &settled)?;
        failures.count(item, &row, settled.state);
        receipts.push(CompletionReceipt::Recorded(settled.state));
    }
    batch.write(tx).await?;
    states.write(tx, now).await?;
    failures.write(tx, now).await?;
    Ok(receipts)
}

impl<'a> Batch<'a> {
    fn add(
        &mut self,
        item: &'a Completion,
        row: &RunningRow,
        settled: &Settled,
    ) -> StoreResult<()> {
        let record = &item.record;
        debug_assert!(State::may_become(Some(State::Running), settled.state));
        let progress = item.progress.as_ref().map(progress_text).transpose()?;
        let progress = progress
            .map(RawValue::from_string)
            .transpose()
            .map_err(|error| {
                horarium_core::store::StoreError::Internal(format!("progress is not JSON: {error}"))
            })?;
        let keeps = settled.state == State::Retryable || !row.delete_history;
        if keeps && !item.logs.is_empty() {
            self.logs.push((item.id, item.claim, &item.logs));
        }
        if keeps && !settled.is_account {
            self.attempts.push(AttemptRow::new(item.id, record));
        }
        if settled.state == State::Retryable {
            self.retries.push((
                item.id,
                opt_micros(settled.due_at),
                micros(record.started_at),
                progress,
            ));
            return Ok(());
        }
        self.gone.push(item.id);
        if row.large {
            self.large.push(item.id);
        }
        if row.delete_history {
            self.forgotten.push(item.id);
            return Ok(());
        }
        let result = match &item.end {
            End::Succeeded(result) => Some(raw(result)?),
            _ => None,
        };
        self.ends.push(EndRow(
            item.id,
            settled.state.as_str(),
            settled.state.is_success(),
            micros(record.started_at),
            micros(record.completed_at),
            rules::duration_seconds(record),
            result,
            settled.error_kind.map(|kind| kind.as_str()),
            settled.error_message.clone(),
            record.error_traceback.as_deref(),
            record.error_code.as_deref().filter(|_| settled.is_account),
            record.error_details.as_ref().filter(|_| settled.is_account),
            record.usage.as_ref(),
            record.plugin_digest.as_deref(),
            record.host.as_deref(),
            progress,
            settled.is_account.then_some(item.claim),
        ));
        Ok(())
    }

    async fn write(self, tx: &mut Tx) -> StoreResult<()> {
        end::insert_attempts(tx, &self.attempts).await?;
        for (statement, rows) in [
            (sql::INSERT_LOGS, rows(&self.logs)?),
            (sql::RETRY, rows(&self.retries)?),
            (sql::RECORD, rows(&self.ends)?),
            (sql::DELETE_LIVE, rows(&self.gone)?),
            (sql::DELETE_PARAMETERS, rows(&self.large)?),
        ] {
            if let Some(rows) = rows {
                sqlx::query(statement)
                    .bind(rows)
                    .execute(tx.write())
                    .await
                    .map_err(db)?;
            }
        }
        end::forget(tx, &self.forgotten).await
    }
}

/// The rows as JSON text; none when there are none.
fn rows<T: Serialize>(rows: &Vec<T>) -> StoreResult<Option<String>> {
    if rows.is_empty() {
        Ok(None)
    } else {
        text(rows).map(Some)
    }
}

/// State of the configs in a batch, as its earlier items leave it.
#[derive(Default)]
struct States {
    versions: HashMap<ConfigId, BTreeMap<String, i64>>,
    last: HashMap<ConfigId, i64>,
    writes: Vec<(ConfigId, String, i64, Option<Vec<u8>>)>,
}

impl States {
    async fn read(
        tx: &mut Tx,
        items: &[Completion],
        running: &HashMap<i64, RunningRow>,
    ) -> StoreResult<Self> {
        let mut states = Self::default();
        for item in items.iter().filter(|item| item.state.is_some()) {
            if let Some(row) = running.get(&item.id)
                && let Some(config) = row.config_id
            {
                states.last.insert(config, row.state_version);
            }
        }
        if states.last.is_empty() {
            return Ok(states);
        }
        let ids: Vec<ConfigId> = states.last.keys().copied().collect();
        let rows = sqlx::query(sql::STATE_VERSIONS)
            .bind(text(&ids)?)
            .fetch_all(tx.read())
            .await
            .map_err(db)?;
        for row in rows {
            let keys = states
                .versions
                .entry(row.try_get(0).map_err(db)?)
                .or_default();
            keys.insert(row.try_get(1).map_err(db)?, row.try_get(2).map_err(db)?);
        }
        Ok(states)
    }

    /// Notes what a success writes; the message of a conflict otherwise.
    fn commit(&mut self, item: &Completion, row: &RunningRow) -> Option<String> {
        let commit = item.state.as_ref()?;
        let config = row.config_id.filter(|_| !row.orphan)?;
        let versions = self.versions.entry(config).or_default();
        let version = |key: &str| versions.get(key).copied().unwrap_or(0);
        if let Some(message) = rules::state_conflict(&commit.expected, version) {
            return Some(message);
        }
        let last = self.last.entry(config).or_default();
        for (key, value) in &commit.writes {
            // Only a value takes a version; a deletion is version 0, "no such key".
            match value {
                Some(_) => {
                    *last += 1;
                    versions.insert(key.clone(), *last)
                }
                None => versions.remove(key),
            };
            self.writes
                .push((config, key.clone(), *last, value.clone()));
        }
        None
    }

    async fn write(self, tx: &mut Tx, now: Timestamp) -> StoreResult<()> {
        let mut touched = HashSet::new();
        for (config, key, version, value) in self.writes {
            touched.insert(config);
            let query = match value {
                Some(value) => sqlx::query(sql::SET_STATE)
                    .bind(config)
                    .bind(key)
                    .bind(version)
                    .bind(micros(now))
                    .bind(value),
                None => sqlx::query(sql::DELETE_STATE).bind(config).bind(key),
            };
            query.execute(tx.write()).await.map_err(db)?;
        }
        for config in touched {
            let last = self.last.get(&config).copied().unwrap_or(0);
            sqlx::query(sql::KEEP_STATE_VERSION)
                .bind(config)
                .bind(last)
                .execute(tx.write())
                .await
                .map_err(db)?;
        }
        Ok(())
    }
}

/// Failed executions in a row, per config of the batch.
#[derive(Default)]
struct Failures {
    counts: HashMap<ConfigId, (u32, u32)>,
    paused: HashMap<ConfigId, u32>,
}

impl Failures {
    fn count(&mut self, item: &Completion, row: &RunningRow, ended: State) {
        let Some(config) = row.config_id.filter(|_| !row.orphan) else {
            return;
        };
        let (_, count) = self
            .counts
            .entry(config)
            .or_insert((row.failures, row.failures));
        match ended {
            State::Succeeded => *count = 0,
            State::Failed => *count = count.saturating_add(1),
            _ => return,
        }
        let too_many = item
            .pause_after_failures
            .is_some_and(|after| *count >= after);
        if ended == State::Failed && too_many && !row.paused {
            self.paused.entry(config).or_insert(*count);
        }
    }

    async fn write(self, tx: &mut Tx, now: Timestamp) -> StoreResult<()> {
        let changed: Vec<(ConfigId, u32)> = self
            .counts
            .iter()
            .filter(|(_, (before, after))| before != after)
            .map(|(config, (_, after))| (*config, *after))
            .collect();
        if !changed.is_empty() {
            sqlx::query(sql::COUNT_FAILURES)
                .bind(text(&changed)?)
                .execute(tx.write())
                .await
                .map_err(db)?;
        }
        for (config, failures) in self.paused {
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
}

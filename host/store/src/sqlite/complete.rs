//! Recording the ends of attempts.

use super::end::{self, Bare};
use super::hosts;
use super::rows::Reader;
use super::writer::Tx;
use super::{db, sql};
use crate::columns::{AttemptRow, micros, progress_text, raw, text};
use horarium_core::store::rules::{self, Settled};
use horarium_core::store::{Completion, CompletionReceipt, End, Release, StoreResult};
use horarium_model::execution::{AttemptRecord, LogLine, Progress, State};
use horarium_model::{ConfigId, Timestamp, Usage};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::sqlite::SqliteRow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A running execution, and what the store must know of it to end it.
struct Running {
    claim: u32,
    incarnation: i64,
    tenant_id: i64,
    config_id: Option<ConfigId>,
    cancel_requested: bool,
    orphan: bool,
    delete_history: bool,
    aside: bool,
    run_key: Option<String>,
    failures: u32,
    paused: bool,
    state_version: i64,
}

async fn running(
    tx: &mut Tx,
    ids: impl Iterator<Item = i64>,
) -> StoreResult<HashMap<i64, Running>> {
    let ids: BTreeSet<i64> = ids.collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(sql::RUNNING)
        .bind(text(&ids)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    rows.iter().map(running_row).collect()
}

fn running_row(row: &SqliteRow) -> StoreResult<(i64, Running)> {
    let mut r = Reader::new(row, "live_executions")?;
    let running = Running {
        claim: r.number("claim")?,
        incarnation: r.get::<Option<i64>>("incarnation")?.unwrap_or(0),
        tenant_id: r.get("tenant_id")?,
        config_id: r.get("config_id")?,
        cancel_requested: r.get("cancel_requested_at")?,
        orphan: r.get("config_id")?,
        delete_history: r.get("delete_history")?,
        aside: r.get("parameters")?,
        run_key: r.get("run_key")?,
        failures: r.number("failures_in_a_row")?,
        paused: r.get("paused")?,
        state_version: r.get("state_version")?,
    };
    Ok((r.place.id, running))
}

/// A row of `RECORD`.
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
    Option<&'a Progress>,
    Option<u32>,
);

/// What one call gathers, so that it is written in few statements.
#[derive(Default)]
struct Round<'a> {
    ends: Vec<EndRow<'a>>,
    retries: Vec<(i64, i64, i64, Option<&'a Progress>)>,
    attempts: Vec<AttemptRow<'a>>,
    logs: Vec<(i64, u32, &'a [LogLine])>,
    /// Ended: to be removed from the live table.
    gone: Vec<i64>,
    /// Of those, the ones whose parameters are aside.
    aside: Vec<i64>,
    /// Ended without history, which goes with their config.
    forgotten: Vec<i64>,
    failures: BTreeMap<ConfigId, Failures>,
    changed: BTreeSet<ConfigId>,
    states: States,
}

struct Failures {
    count: u32,
    paused: bool,
    pause: bool,
}

/// `Queue::complete_many`.
pub(super) async fn run(
    tx: &mut Tx,
    now: Timestamp,
    items: &[Completion],
) -> StoreResult<Vec<CompletionReceipt>> {
    let mut running = running(tx, items.iter().map(|i| i.id)).await?;
    let mut round = Round::default();
    round.states.load(tx, items, &running).await?;
    let mut receipts = Vec::with_capacity(items.len());
    for item in items {
        let ours = hosts::is_alive(tx, item.incarnation).await?
            && running
                .get(&item.id)
                .is_some_and(|r| r.claim == item.claim && r.incarnation == item.incarnation);
        let receipt = match running.get(&item.id) {
            Some(row) if ours => round.settle(item, row)?,
            _ => CompletionReceipt::Stale,
        };
        if matches!(receipt, CompletionReceipt::Recorded(_))
            && let Some(row) = running.remove(&item.id)
            && let Some(key) = row.run_key
        {
            tx.freed.insert((row.tenant_id, key));
        }
        receipts.push(receipt);
    }
    round.write(tx, now).await?;
    Ok(receipts)
}

impl<'a> Round<'a> {
    fn settle(&mut self, item: &'a Completion, row: &Running) -> StoreResult<CompletionReceipt> {
        let settled = Settled::decide(item, row.cancel_requested, row.orphan);
        if settled.state == State::Succeeded
            && let (Some(commit), Some(config), false) = (&item.state, row.config_id, row.orphan)
            && let Some(message) = self.states.commit(config, commit)
        {
            return Ok(CompletionReceipt::StateConflict(message));
        }
        let record = &item.record;
        if !row.delete_history || settled.state == State::Retryable {
            if !item.logs.is_empty() {
                self.logs.push((item.id, item.claim, &item.logs));
            }
            if !settled.is_account {
                self.attempts.push(AttemptRow::new(item.id, record));
            }
        }
        if let Some(due) = settled.due_at {
            self.retries.push((
                item.id,
                micros(due),
                micros(record.started_at),
                item.progress.as_ref(),
            ));
            return Ok(CompletionReceipt::Recorded(settled.state));
        }
        self.gone.push(item.id);
        if row.aside {
            self.aside.push(item.id);
        }
        let state = settled.state;
        if row.delete_history {
            self.forgotten.push(item.id);
        } else {
            self.ends.push(end_row(item, settled)?);
        }
        self.count_failures(item, row, state);
        Ok(CompletionReceipt::Recorded(state))
    }

    fn count_failures(&mut self, item: &Completion, row: &Running, ended: State) {
        let (Some(config), false) = (row.config_id, row.orphan) else {
            return;
        };
        let failures = self.failures.entry(config).or_insert(Failures {
            count: row.failures,
            paused: row.paused,
            pause: false,
        });
        let count = match ended {
            State::Succeeded => 0,
            State::Failed => failures.count.saturating_add(1),
            _ => return,
        };
        if count != failures.count {
            failures.count = count;
            self.changed.insert(config);
        }
        if ended == State::Failed
            && !failures.paused
            && item.pause_after_failures.is_some_and(|after| count >= after)
        {
            failures.paused = true;
            failures.pause = true;
            // The reason names the count that did it, whatever follows in the batch.
            self.states.paused.insert(config, count);
        }
    }

    async fn write(self, tx: &mut Tx, now: Timestamp) -> StoreResult<()> {
        batch(tx, sql::RECORD, &self.ends).await?;
        batch(tx, sql::RETRY, &self.retries).await?;
        batch(tx, sql::INSERT_ATTEMPTS, &self.attempts).await?;
        batch(tx, sql::INSERT_LOGS, &self.logs).await?;
        batch(tx, sql::DELETE_LIVE, &self.gone).await?;
        batch(tx, sql::DELETE_PARAMETERS, &self.aside).await?;
        end::forget(tx, &self.forgotten).await?;
        let counts: Vec<(ConfigId, u32)> = self
            .changed
            .iter()
            .filter_map(|id| Some((*id, self.failures.get(id)?.count)))
            .collect();
        batch(tx, sql::COUNT_FAILURES, &counts).await?;
        for (config, failures) in &self.failures {
            if failures.pause {
                let count = self.states.paused.get(config).copied().unwrap_or(0);
                pause(tx, now, *config, count).await?;
            }
        }
        self.states.write(tx, now).await
    }
}

fn end_row(item: &Completion, settled: Settled) -> StoreResult<EndRow<'_>> {
    let record = &item.record;
    let result = match &item.end {
        End::Succeeded(text) => Some(raw(text)?),
        _ => None,
    };
    Ok(EndRow(
        item.id,
        settled.state.as_str(),
        settled.state.is_success(),
        micros(record.started_at),
        micros(record.completed_at),
        rules::duration_seconds(record),
        result,
        settled.error_kind.map(|kind| kind.as_str()),
        settled.error_message,
        record.error_traceback.as_deref(),
        record.error_code.as_deref(),
        record.error_details.as_ref(),
        record.usage.as_ref(),
        record.plugin_digest.as_deref(),
        record.host.as_deref(),
        item.progress.as_ref(),
        settled.is_account.then_some(item.claim),
    ))
}

/// Runs a statement over rows, unless there are none.
async fn batch<T: Serialize>(tx: &mut Tx, statement: &'static str, rows: &[T]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(statement)
        .bind(text(&rows)?)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

async fn pause(tx: &mut Tx, now: Timestamp, config: ConfigId, failures: u32) -> StoreResult<()> {
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
    tx.bump_epoch().await
}

/// State of configs as this batch sees and changes it.
#[derive(Default)]
struct States {
    /// Version of each key.
    keys: HashMap<(ConfigId, String), i64>,
    /// Highest version ever given, by config.
    highest: HashMap<ConfigId, i64>,
    /// Final value and version of each key written.
    writes: BTreeMap<(ConfigId, String), Option<(Vec<u8>, i64)>>,
    /// Configs that pause, and after how many failures.
    paused: BTreeMap<ConfigId, u32>,
}

impl States {
    async fn load(
        &mut self,
        tx: &mut Tx,
        items: &[Completion],
        running: &HashMap<i64, Running>,
    ) -> StoreResult<()> {
        for item in items.iter().filter(|i| i.state.is_some()) {
            if let Some(row) = running.get(&item.id)
                && let Some(config) = row.config_id
            {
                self.highest.insert(config, row.state_version);
            }
        }
        if self.highest.is_empty() {
            return Ok(());
        }
        let configs: Vec<ConfigId> = self.highest.keys().copied().collect();
        let rows = sqlx::query(sql::STATE_VERSIONS)
            .bind(text(&configs)?)
            .fetch_all(tx.read())
            .await
            .map_err(db)?;
        for row in &rows {
            let mut r = Reader::new(row, "task_state")?;
            self.keys
                .insert((r.place.id, r.get("key")?), r.get("version")?);
        }
        Ok(())
    }

    /// Takes the writes of a commit, or says which key stands in the way.
    fn commit(
        &mut self,
        config: ConfigId,
        commit: &horarium_core::runner::StateCommit,
    ) -> Option<String> {
        let version = |key: &str| {
            self.keys
                .get(&(config, key.to_owned()))
                .copied()
                .unwrap_or(0)
        };
        if let Some(message) = rules::state_conflict(&commit.expected, version) {
            return Some(message);
        }
        for (key, value) in &commit.writes {
            let at = (config, key.clone());
            match value {
                Some(value) => {
                    let highest = self.highest.entry(config).or_default();
                    *highest += 1;
                    self.keys.insert(at.clone(), *highest);
                    self.writes.insert(at, Some((value.clone(), *highest)));
                }
                None => {
                    self.keys.remove(&at);
                    self.writes.insert(at, None);
                }
            }
        }
        None
    }

    async fn write(self, tx: &mut Tx, now: Timestamp) -> StoreResult<()> {
        let written: BTreeSet<ConfigId> = self.writes.keys().map(|(config, _)| *config).collect();
        for ((config, key), value) in self.writes {
            write_key(tx, now, config, &key, value).await?;
        }
        for config in written {
            let highest = self.highest.get(&config).copied().unwrap_or(0);
            keep_state_version(tx, config, highest).await?;
        }
        Ok(())
    }
}

/// Writes one key with its version, or deletes it.
pub(super) async fn write_key(
    tx: &mut Tx,
    now: Timestamp,
    config: ConfigId,
    key: &str,
    value: Option<(Vec<u8>, i64)>,
) -> StoreResult<()> {
    let query = match value {
        Some((value, version)) => sqlx::query(sql::SET_STATE)
            .bind(config)
            .bind(key.to_owned())
            .bind(version)
            .bind(micros(now))
            .bind(value),
        None => sqlx::query(sql::DELETE_STATE)
            .bind(config)
            .bind(key.to_owned()),
    };
    query.execute(tx.write()).await.map_err(db)?;
    Ok(())
}

/// Keeps the highest version ever given to a key of a config.
pub(super) async fn keep_state_version(
    tx: &mut Tx,
    config: ConfigId,
    version: i64,
) -> StoreResult<()> {
    sqlx::query(sql::KEEP_STATE_VERSION)
        .bind(config)
        .bind(version)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

/// `Queue::release`.
pub(super) async fn release(tx: &mut Tx, now: Timestamp, items: &[Release]) -> StoreResult<u64> {
    let mut running = running(tx, items.iter().map(|i| i.id)).await?;
    let mut records: Vec<(i64, &AttemptRecord)> = Vec::new();
    let mut back = Vec::new();
    let (mut cancelled, mut orphaned) = (Vec::new(), Vec::new());
    for item in items {
        let alive = hosts::is_alive(tx, item.incarnation).await?;
        let ours = running
            .get(&item.id)
            .is_some_and(|r| r.claim == item.claim && r.incarnation == item.incarnation);
        let Some(row) = running.remove(&item.id).filter(|_| alive && ours) else {
            continue;
        };
        if let Some(key) = row.run_key {
            tx.freed.insert((row.tenant_id, key));
        }
        records.extend(item.record.as_ref().map(|record| (item.id, record)));
        let ends = row.cancel_requested || row.orphan;
        let to = match item.due_at {
            _ if ends => State::Running,
            Some(due) if due > now => State::Retryable,
            _ => State::Available,
        };
        if row.cancel_requested {
            cancelled.push(item.id);
        } else if row.orphan {
            orphaned.push(item.id);
        }
        let started = item.record.as_ref().map(|r| micros(r.started_at));
        let due = item.due_at.filter(|_| !ends).map(micros);
        back.push((item.id, to.as_str(), due, started));
    }
    hosts::write_attempts(tx, records.into_iter()).await?;
    hosts::give_back(tx, &back, 0).await?;
    end::bare(tx, now, &cancelled, Bare::cancelled(rules::CANCELLED_RETRY)).await?;
    end::bare(tx, now, &orphaned, Bare::cancelled(rules::CONFIG_DELETED)).await?;
    Ok(back.len() as u64)
}

/// `Queue::report_progress`.
pub(super) async fn progress(
    tx: &mut Tx,
    items: &[horarium_core::store::ProgressReport],
) -> StoreResult<()> {
    // One report per execution and statement: an UPDATE takes any one of several rows that match.
    let mut latest: BTreeMap<(i64, u32), Box<RawValue>> = BTreeMap::new();
    for item in items {
        let json = progress_text(&item.progress)?;
        let json = RawValue::from_string(json).map_err(|error| {
            horarium_core::store::StoreError::Internal(format!("progress as JSON: {error}"))
        })?;
        latest.insert((item.id, item.claim), json);
    }
    let rows: Vec<_> = latest
        .into_iter()
        .map(|((id, claim), progress)| (id, claim, progress))
        .collect();
    batch(tx, sql::PROGRESS, &rows).await
}

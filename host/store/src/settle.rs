//! What a batch of completions writes, decided alike for every database: which row goes where, which
//! state is committed, how many failures a config has in a row.

use crate::care::{StateRoom, Usages};
use crate::columns::{AttemptRow, progress_text};
use crate::rows::Cells;
use horarium_core::store::chain::Parent;
use horarium_core::store::rules::{self, Settled};
use horarium_core::store::{
    BreakerRow, Completion, CompletionReceipt, End, Health, StoreResult, Tally,
};
use horarium_model::execution::{HttpCall, LogLine, State};
use horarium_model::{ConfigId, TaskId, TenantId, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A running execution as the end of its attempt meets it.
#[derive(Debug)]
pub(crate) struct RunningRow {
    pub(crate) task_id: TaskId,
    pub(crate) claim: u32,
    pub(crate) incarnation: i64,
    pub(crate) tenant_id: i64,
    pub(crate) task_type: String,
    /// Something is kept of its type's failures.
    pub(crate) troubled: bool,
    pub(crate) config_id: Option<ConfigId>,
    pub(crate) cancel_requested: bool,
    /// Its config is gone, or is about to be.
    pub(crate) orphan: bool,
    /// Its config goes together with its history.
    pub(crate) delete_history: bool,
    /// Its parameters stand aside.
    pub(crate) large: bool,
    pub(crate) run_key: Option<String>,
    /// Its frozen chain steps, and its depth.
    pub(crate) chain: Option<String>,
    pub(crate) chain_depth: u32,
    /// Of the config: failed executions in a row, whether it is paused, the highest version of its state.
    pub(crate) failures: u32,
    pub(crate) paused: bool,
    pub(crate) state_version: i64,
}

impl RunningRow {
    /// Whether this is the end of exactly what runs. A database that lost its last transactions may give a row
    /// id anew.
    fn is_ended_by(&self, item: &Completion, alive: &HashSet<i64>) -> bool {
        self.is_owned(item.claim, item.incarnation, alive) && self.task_id == item.task_id
    }

    /// Whether it runs under exactly this claim of a living host.
    pub(crate) fn is_owned(&self, claim: u32, incarnation: i64, alive: &HashSet<i64>) -> bool {
        self.claim == claim && self.incarnation == incarnation && alive.contains(&incarnation)
    }
}

/// An execution that ends with a row in the history.
pub(crate) struct Ended<'a> {
    pub(crate) item: &'a Completion,
    pub(crate) settled: Settled,
    pub(crate) progress: Option<String>,
}

impl Ended<'_> {
    /// Canonical JSON text of the result.
    pub(crate) fn result(&self) -> Option<&Arc<str>> {
        match &self.item.end {
            End::Succeeded(result) => Some(result),
            _ => None,
        }
    }

    /// The claim this row is the account of.
    pub(crate) fn claim(&self) -> Option<u32> {
        self.settled.is_account.then_some(self.item.claim)
    }

    /// The guest's own code of the failure, when this row is the account of the attempt.
    pub(crate) fn error_code(&self) -> Option<&str> {
        let code = self.item.record.error_code.as_deref();
        code.filter(|_| self.settled.is_account)
    }

    /// The guest's own details of the failure, when this row is the account of the attempt.
    pub(crate) fn error_details(&self) -> Option<&serde_json::Value> {
        let details = self.item.record.error_details.as_ref();
        details.filter(|_| self.settled.is_account)
    }
}

/// An execution that waits for its next attempt.
pub(crate) struct Retried {
    pub(crate) id: i64,
    pub(crate) due_at: Option<i64>,
    pub(crate) started_at: i64,
    pub(crate) progress: Option<String>,
}

/// What a batch writes.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    pub(crate) ends: Vec<Ended<'a>>,
    pub(crate) retries: Vec<Retried>,
    /// With their tenants.
    pub(crate) attempts: Vec<(i64, AttemptRow<'a>)>,
    /// Tenant, execution, claim, lines.
    pub(crate) logs: Vec<(i64, i64, u32, &'a [LogLine])>,
    /// Tenant, execution, claim, requests.
    pub(crate) calls: Vec<(i64, i64, u32, &'a [HttpCall])>,
    /// Live rows that go away.
    pub(crate) gone: Vec<i64>,
    /// Those of them whose parameters stand aside.
    pub(crate) large: Vec<i64>,
    /// Tenant and execution of those that leave nothing behind.
    pub(crate) forgotten: Vec<(i64, i64)>,
    /// Tenant and run key of each place that became free.
    pub(crate) freed: Vec<(i64, String)>,
    /// Ended with a chain.
    pub(crate) parents: Vec<Parent>,
}

/// Everything decided about a batch.
#[derive(Default)]
pub(crate) struct Verdicts<'a> {
    pub(crate) receipts: Vec<CompletionReceipt>,
    pub(crate) batch: Batch<'a>,
    pub(crate) states: States,
    pub(crate) failures: Failures,
    pub(crate) breakers: Breakers,
    pub(crate) usages: Usages,
}

impl<'a> Verdicts<'a> {
    /// Decides a batch, item after item: each sees what the ones before it did.
    pub(crate) fn decide(
        items: &'a [Completion],
        mut running: HashMap<i64, RunningRow>,
        alive: &HashSet<i64>,
        states: States,
        breakers: Breakers,
        now: Timestamp,
    ) -> StoreResult<Self> {
        let mut verdicts = Self {
            states,
            breakers,
            ..Self::default()
        };
        for item in items {
            let owned = running
                .get(&item.id)
                .is_some_and(|row| row.is_ended_by(item, alive));
            let Some(row) = running.remove(&item.id).filter(|_| owned) else {
                verdicts.receipts.push(CompletionReceipt::Stale);
                continue;
            };
            let settled = Settled::decide(item, row.cancel_requested, row.orphan);
            if settled.state == State::Succeeded
                && let Some(refused) = verdicts.states.commit(item, &row)
            {
                verdicts.receipts.push(refused);
                running.insert(item.id, row);
                continue;
            }
            verdicts.failures.count(item, &row, settled.state);
            verdicts.breakers.note(item, &row, now);
            let tally = Tally::of_end(item, settled.state);
            verdicts
                .usages
                .add(row.tenant_id, &row.task_type, item.incarnation, &tally);
            let receipt = CompletionReceipt::Recorded(settled.state);
            verdicts.receipts.push(receipt);
            verdicts.batch.add(item, &row, settled)?;
        }
        Ok(verdicts)
    }
}

impl<'a> Batch<'a> {
    fn add(&mut self, item: &'a Completion, row: &RunningRow, settled: Settled) -> StoreResult<()> {
        debug_assert!(State::may_become(Some(State::Running), settled.state));
        let record = &item.record;
        let progress = item.progress.as_ref().map(progress_text).transpose()?;
        let tenant = row.tenant_id;
        self.freed
            .extend(row.run_key.as_ref().map(|key| (tenant, key.clone())));
        let keeps = settled.state == State::Retryable || !row.delete_history;
        if keeps && !item.logs.is_empty() {
            self.logs.push((tenant, item.id, item.claim, &item.logs));
        }
        if keeps && !item.calls.is_empty() {
            self.calls.push((tenant, item.id, item.claim, &item.calls));
        }
        if keeps && !settled.is_account {
            let attempt = AttemptRow::new(item.id, record);
            self.attempts.push((tenant, attempt));
        }
        if settled.state == State::Retryable {
            self.retries.push(Retried {
                id: item.id,
                due_at: crate::columns::opt_micros(settled.due_at),
                started_at: crate::columns::micros(record.started_at),
                progress,
            });
            return Ok(());
        }
        if let Some(chain) = row.chain.as_deref().filter(|_| !row.orphan) {
            let result = match &item.end {
                End::Succeeded(text) => rules::shown_result(text).ok().flatten(),
                _ => None,
            };
            let parent = Parent::read(
                (item.task_id, tenant),
                (chain, row.chain_depth),
                (settled.state, result.unwrap_or_default()),
            )?;
            self.parents.push(parent.traced(item.trace.clone()));
        }
        self.gone.push(item.id);
        if row.large {
            self.large.push(item.id);
        }
        if row.delete_history {
            self.forgotten.push((tenant, item.id));
        } else {
            self.ends.push(Ended {
                item,
                settled,
                progress,
            });
        }
        Ok(())
    }
}

/// A key's new value, or none where it is deleted.
pub(crate) struct StateWrite {
    pub(crate) config: ConfigId,
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) value: Option<Vec<u8>>,
}

/// A key as it is kept.
struct KeptKey {
    version: i64,
    /// In bytes, the key's own among them.
    size: i64,
}

/// State of the configs in a batch, as its earlier items leave it.
#[derive(Default)]
pub(crate) struct States {
    keys: HashMap<ConfigId, BTreeMap<String, KeptKey>>,
    last: HashMap<ConfigId, i64>,
    /// Whose state is written, each with how much it may have, where that is bounded.
    writers: BTreeMap<TenantId, Option<u64>>,
    rooms: Vec<StateRoom>,
    pub(crate) writes: Vec<StateWrite>,
}

impl States {
    /// Prepares for the items that commit state; [`Self::configs`] says whose versions must be noted.
    pub(crate) fn new(items: &[Completion], running: &HashMap<i64, RunningRow>) -> Self {
        let mut states = Self::default();
        for item in items.iter().filter(|item| item.state.is_some()) {
            if let Some(row) = running.get(&item.id)
                && let Some(config) = row.config_id
            {
                states.last.insert(config, row.state_version);
                if item.state.as_ref().is_some_and(|s| !s.writes.is_empty()) {
                    states.writers.insert(row.tenant_id, None);
                }
            }
        }
        states
    }

    /// Configs whose state may be written.
    pub(crate) fn configs(&self) -> Vec<ConfigId> {
        self.last.keys().copied().collect()
    }

    /// Notes a row of `STATE_VERSIONS`: a key that a config has, if it has any, and its tenant's quota.
    pub(crate) fn note<'r>(&mut self, r: &mut impl Cells<'r>) -> StoreResult<()> {
        let (config, tenant) = (r.int("config_id")?, r.int("tenant_id")?);
        let limit = r.opt_number("state_bytes")?;
        if let Some(of_writer) = self.writers.get_mut(&tenant) {
            *of_writer = limit;
        }
        if let Some(key) = r.opt_owned("key")? {
            let (version, size) = (r.int("version")?, r.int("value")?);
            let kept = KeptKey { version, size };
            self.keys.entry(config).or_default().insert(key, kept);
        }
        Ok(())
    }

    /// Whose state is written and bounded, and to how much; in order.
    pub(crate) fn bounded(&self) -> Vec<(TenantId, u64)> {
        let writers = self.writers.iter();
        writers
            .filter_map(|(tenant, limit)| Some((*tenant, (*limit)?)))
            .collect()
    }

    /// How much there is of one of those.
    pub(crate) fn within(&mut self, room: StateRoom) {
        self.rooms.push(room);
    }

    /// Notes what a success writes; what refuses it otherwise.
    fn commit(&mut self, item: &Completion, row: &RunningRow) -> Option<CompletionReceipt> {
        let commit = item.state.as_ref()?;
        let config = row.config_id.filter(|_| !row.orphan)?;
        let keys = self.keys.entry(config).or_default();
        let version = |key: &str| keys.get(key).map_or(0, |kept| kept.version);
        if let Some(message) = rules::state_conflict(&commit.expected, version) {
            return Some(CompletionReceipt::StateConflict(message));
        }
        let size = |key: &str, value: &Option<Vec<u8>>| {
            let value = value.as_ref();
            value.map_or(0, |value| rules::state_size(key, value))
        };
        let mut rooms = self.rooms.iter_mut();
        if let Some(room) = rooms.find(|room| room.tenant == row.tenant_id) {
            let writes = commit.writes.iter();
            let grows = writes
                .map(|(key, value)| size(key, value) - keys.get(key).map_or(0, |kept| kept.size));
            if let Err(hit) = room.grow(grows.sum()) {
                return Some(CompletionReceipt::StateQuota(hit));
            }
        }
        let last = self.last.entry(config).or_default();
        for (key, value) in &commit.writes {
            // Only a value takes a version; a deletion is version 0, "no such key".
            match value {
                Some(_) => {
                    *last += 1;
                    let (version, size) = (*last, size(key, value));
                    keys.insert(key.clone(), KeptKey { version, size })
                }
                None => keys.remove(key),
            };
            self.writes.push(StateWrite {
                config,
                key: key.clone(),
                version: *last,
                value: value.clone(),
            });
        }
        None
    }

    /// The highest version given, for each config that was written.
    pub(crate) fn touched(&self) -> Vec<(ConfigId, i64)> {
        let configs: HashSet<ConfigId> = self.writes.iter().map(|write| write.config).collect();
        configs
            .into_iter()
            .map(|config| (config, self.last.get(&config).copied().unwrap_or(0)))
            .collect()
    }
}

/// Failed executions in a row, per config of the batch.
#[derive(Default)]
pub(crate) struct Failures {
    counts: HashMap<ConfigId, (u32, u32)>,
    /// Configs that pause now, with their count.
    pub(crate) paused: HashMap<ConfigId, u32>,
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

    /// Configs whose count changed, with the new one.
    pub(crate) fn changed(&self) -> Vec<(ConfigId, u32)> {
        self.counts
            .iter()
            .filter(|(_, (before, after))| before != after)
            .map(|(config, (_, after))| (*config, *after))
            .collect()
    }
}

/// What is known of the failures of types, and changes.
#[derive(Default)]
pub(crate) struct Breakers {
    rows: BTreeMap<(i64, String), Option<BreakerRow>>,
    changed: HashSet<(i64, String)>,
    /// Some opened or closed.
    pub(crate) turned: bool,
}

impl Breakers {
    /// The types of which an end in the batch may change something: those that broke, and those of which
    /// something is kept. Usually none.
    pub(crate) fn concerned(
        items: &[Completion],
        running: &HashMap<i64, RunningRow>,
        alive: &HashSet<i64>,
    ) -> Vec<(i64, String)> {
        let concerned = |item: &Completion| {
            let row = running.get(&item.id)?;
            if !row.is_ended_by(item, alive) {
                return None;
            }
            let broke = matches!(Health::of(item), Health::Broke(_));
            (broke || row.troubled).then(|| (row.tenant_id, row.task_type.clone()))
        };
        let types: std::collections::BTreeSet<_> = items.iter().filter_map(concerned).collect();
        types.into_iter().collect()
    }

    /// Notes what is kept of a type.
    pub(crate) fn know(&mut self, key: (i64, String), row: Option<BreakerRow>) {
        self.rows.insert(key, row);
    }

    fn note(&mut self, item: &Completion, row: &RunningRow, now: Timestamp) {
        let key = (row.tenant_id, row.task_type.clone());
        let Some(kept) = self.rows.get_mut(&key) else {
            return;
        };
        let was_open = kept.as_ref().is_some_and(|row| row.opened_at.is_some());
        *kept = BreakerRow::after(kept.take(), now, item);
        self.turned |= was_open != kept.as_ref().is_some_and(|row| row.opened_at.is_some());
        self.changed.insert(key);
    }

    /// What is to be written: none where nothing is kept any more.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&(i64, String), Option<&BreakerRow>)> {
        let changed = self
            .rows
            .iter()
            .filter(|(key, _)| self.changed.contains(*key));
        changed.map(|(key, row)| (key, row.as_ref()))
    }
}

//! Care of what ended: how long it is kept, and what it cost.

use super::{Completion, StoreResult};
use horarium_model::execution::{AttemptRecord, State};
use horarium_model::quota::{QuotaUse, Quotas};
use horarium_model::retention::{PerEnd, Retention};
use horarium_model::{ConfigId, ExecutionId, TenantId, Timestamp, Usage};
use std::ops::Range;
use std::time::Duration;

/// Pruning in small steps, the rules it goes by, and sums that outlive what is pruned.
#[async_trait::async_trait]
pub trait Care: Send + Sync + 'static {
    /// Takes the next round of pruning for the caller, once every `every` over all hosts: false while somebody's
    /// round is younger.
    async fn begin_care(&self, now: Timestamp, every: Duration) -> StoreResult<bool>;

    /// One step: looks at some ended executions and removes those that are due, with their attempts, logs and
    /// requests. What is live is never looked at.
    async fn prune(&self, step: &PruneStep) -> StoreResult<Pruned>;

    /// How many ended executions a tenant has.
    async fn history_count(&self, tenant: TenantId) -> StoreResult<u64>;

    /// Configs of a tenant by rising id, those after `after`, each with the newest of its ended executions that is
    /// not among its `keep` newest; none where it has no more than those.
    async fn beyond_newest(
        &self,
        tenant: TenantId,
        after: ConfigId,
        limit: u32,
        keep: u64,
    ) -> StoreResult<Vec<(ConfigId, Option<ExecutionId>)>>;

    /// What a tenant, or one of its configs, wants kept; none when nothing is said.
    async fn retention(
        &self,
        tenant: TenantId,
        config: Option<ConfigId>,
    ) -> StoreResult<Option<Retention>>;

    /// Replaces that; an empty one says nothing any more.
    ///
    /// # Errors
    /// `NotFound` when the tenant or the config does not exist.
    async fn set_retention(
        &self,
        tenant: TenantId,
        config: Option<ConfigId>,
        retention: Retention,
    ) -> StoreResult<()>;

    /// What a tenant's configs want kept, by rising config id, those after `after`.
    async fn config_retentions(
        &self,
        tenant: TenantId,
        after: ConfigId,
        limit: u32,
    ) -> StoreResult<Vec<(ConfigId, Retention)>>;

    /// What a tenant may use; none when it does not exist (any more).
    async fn quotas(&self, tenant: TenantId) -> StoreResult<Option<TenantQuotas>>;

    /// Replaces that, its share of the turns aside. It holds for what begins later: what runs, waits or is there
    /// already stays.
    ///
    /// # Errors
    /// `NotFound`.
    async fn set_quotas(&self, tenant: TenantId, quotas: Quotas) -> StoreResult<()>;

    /// What a tenant uses of it.
    async fn quota_use(&self, now: Timestamp, tenant: TenantId) -> StoreResult<QuotaUse>;

    /// What was used on the days of a range, by tenant, day and task type; of one tenant or of all.
    async fn usage(&self, tenant: Option<TenantId>, days: Range<i64>)
    -> StoreResult<Vec<UsageRow>>;

    /// Adds up what different hosts wrote on days before `day`, a bounded number of rows at a time. Sums stay the
    /// same. Returns whether there is more.
    async fn fold_usage(&self, day: i64) -> StoreResult<bool>;
}

/// A tenant's quotas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantQuotas {
    /// Name of the tenant.
    pub tenant: String,
    /// What it may use.
    pub quotas: Quotas,
}

/// Whether rows of usage that many hosts wrote are worth adding up: at once.
pub const FOLD_ROWS: u32 = 2000;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// The UTC day of an instant, counted from 1970.
pub fn day_of(at: Timestamp) -> i64 {
    at.timestamp_micros().div_euclid(DAY)
}

/// Where a step of pruning looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PruneScope {
    /// At all of a tenant, in the order of their ends: due is what ended before the instant of its state.
    Ages {
        /// Whose.
        tenant: TenantId,
        /// The instants.
        before: PerEnd<Option<Timestamp>>,
    },
    /// At those of a config, in the order of their ids.
    Config {
        /// Whose.
        tenant: TenantId,
        /// Which.
        config: ConfigId,
        /// Due is what ended before the instant of its state,
        before: PerEnd<Option<Timestamp>>,
        /// and what has this id or a lower one, if its state is among these.
        beyond: Option<(ExecutionId, PerEnd<bool>)>,
        /// But not what another scope removes; only for counting without removing it is still there.
        except: PerEnd<Option<Timestamp>>,
    },
    /// At those of a tenant that ended first: as many of them are due.
    Oldest {
        /// Whose.
        tenant: TenantId,
        /// How many.
        count: u32,
    },
}

/// How far a scope was looked through: two numbers in whose order it is looked at.
pub type Mark = (i64, i64);

/// One step of pruning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneStep {
    /// Where it looks.
    pub scope: PruneScope,
    /// Behind what the step before saw last.
    pub after: Option<Mark>,
    /// How many it removes at most.
    pub limit: u32,
    /// Only counts.
    pub dry_run: bool,
}

/// What a step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many it removed, or would have.
    pub removed: u64,
    /// Where the next step goes on; none when the scope is looked through.
    pub next: Option<Mark>,
}

/// An ended execution as pruning sees it. Instants in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneRow {
    /// Row id.
    pub id: ExecutionId,
    /// How it ended.
    pub state: State,
    /// When.
    pub completed_at: i64,
    /// When it was made.
    pub created_at: i64,
}

impl PruneStep {
    /// How many rows a store reads for a step: kept ones lie among those that are due.
    pub fn look(&self) -> u32 {
        match self.scope {
            PruneScope::Oldest { count, .. } => self.limit.min(count),
            _ => self.limit.saturating_mul(4),
        }
    }

    /// Whose executions it looks at.
    pub fn tenant(&self) -> TenantId {
        match self.scope {
            PruneScope::Ages { tenant, .. }
            | PruneScope::Config { tenant, .. }
            | PruneScope::Oldest { tenant, .. } => tenant,
        }
    }

    /// Nothing that ended at this instant (in microseconds) or later is due by its age.
    pub fn horizon(&self) -> i64 {
        match &self.scope {
            PruneScope::Ages { before, .. } | PruneScope::Config { before, .. } => horizon(before),
            PruneScope::Oldest { .. } => i64::MAX,
        }
    }

    /// What of the rows after the mark, in order and as many as [`Self::look`] says, is due; and what the step did
    /// when that is removed.
    pub fn decide(&self, rows: &[PruneRow]) -> (Vec<PruneRow>, Pruned) {
        let mut due = Vec::new();
        let mut last = None;
        let mut past = false;
        for row in rows {
            if self.is_past(row) {
                past = true;
                break;
            }
            if due.len() == self.limit as usize {
                break;
            }
            last = Some(self.mark(row));
            if self.is_due(row) {
                due.push(*row);
            }
        }
        let whole =
            past || rows.len() < self.look() as usize && last == rows.last().map(|r| self.mark(r));
        let pruned = Pruned {
            removed: due.len() as u64,
            next: last.filter(|_| !whole),
        };
        (due, pruned)
    }

    fn mark(&self, row: &PruneRow) -> Mark {
        match self.scope {
            PruneScope::Config { .. } => (row.id, row.id),
            _ => (row.completed_at, row.id),
        }
    }

    /// Neither this row nor any behind it is due.
    fn is_past(&self, row: &PruneRow) -> bool {
        match &self.scope {
            PruneScope::Ages { before, .. } => row.completed_at >= horizon(before),
            // Ids rise with the instants at which executions are made, and none ends before that.
            PruneScope::Config { before, beyond, .. } => {
                beyond.is_none_or(|(id, _)| row.id > id) && row.created_at >= horizon(before)
            }
            PruneScope::Oldest { .. } => false,
        }
    }

    fn is_due(&self, row: &PruneRow) -> bool {
        let is_older = |before: &PerEnd<Option<Timestamp>>| {
            let before = before.get(row.state).flatten();
            before.is_some_and(|at| row.completed_at < at.timestamp_micros())
        };
        match &self.scope {
            PruneScope::Ages { before, .. } => is_older(before),
            PruneScope::Config {
                before,
                beyond,
                except,
                ..
            } => {
                let is_beyond = beyond.is_some_and(|(id, states)| {
                    row.id <= id && states.get(row.state).unwrap_or(false)
                });
                (is_older(before) || is_beyond) && !is_older(except)
            }
            PruneScope::Oldest { .. } => true,
        }
    }
}

fn horizon(before: &PerEnd<Option<Timestamp>>) -> i64 {
    let instants = before.values().into_iter().flatten();
    instants
        .map(|at| at.timestamp_micros())
        .max()
        .unwrap_or(i64::MIN)
}

/// What attempts used, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that ended; those that were handed back unfinished are not among them.
    pub runs: u64,
    /// Executions that an attempt ended, by how.
    pub succeeded: u64,
    /// Executions that failed.
    pub failed: u64,
    /// Executions that were cancelled while they ran.
    pub cancelled: u64,
    /// Fuel burnt.
    pub fuel: u64,
    /// Microseconds of CPU time.
    pub cpu_micros: u64,
    /// Microseconds between the start and the end of attempts.
    pub wall_micros: u64,
    /// HTTP requests that left the host.
    pub http_calls: u64,
    /// Bytes of request bodies.
    pub http_request_bytes: u64,
    /// Bytes of response bodies.
    pub http_response_bytes: u64,
    /// Bytes of log kept.
    pub log_bytes: u64,
    /// Bytes of results.
    pub result_bytes: u64,
}

impl Tally {
    /// Of the end of an attempt that left its execution in `state`.
    pub fn of_end(item: &Completion, state: State) -> Self {
        let result = match &item.end {
            super::End::Succeeded(text) if state == State::Succeeded => text.len() as u64,
            _ => 0,
        };
        Self {
            runs: 1,
            succeeded: u64::from(state == State::Succeeded),
            failed: u64::from(state == State::Failed),
            cancelled: u64::from(state == State::Cancelled),
            result_bytes: result,
            ..Self::of_record(&item.record)
        }
    }

    /// Of an attempt that was handed back: what it used, but no run.
    pub fn of_record(record: &AttemptRecord) -> Self {
        let Some(usage) = &record.usage else {
            return Self::default();
        };
        let Usage {
            fuel,
            duration_seconds,
            cpu_seconds,
            http_calls,
            http_request_bytes,
            http_response_bytes,
            log_bytes,
            log_dropped_bytes,
            ..
        } = usage;
        Self {
            fuel: *fuel,
            cpu_micros: micros(*cpu_seconds),
            wall_micros: micros(*duration_seconds),
            http_calls: *http_calls,
            http_request_bytes: *http_request_bytes,
            http_response_bytes: *http_response_bytes,
            log_bytes: log_bytes.saturating_sub(*log_dropped_bytes),
            ..Self::default()
        }
    }

    /// The numbers, in the order of the fields.
    pub fn numbers(&self) -> [u64; 12] {
        [
            self.runs,
            self.succeeded,
            self.failed,
            self.cancelled,
            self.fuel,
            self.cpu_micros,
            self.wall_micros,
            self.http_calls,
            self.http_request_bytes,
            self.http_response_bytes,
            self.log_bytes,
            self.result_bytes,
        ]
    }

    /// From [`Self::numbers`].
    pub fn from_numbers(numbers: [u64; 12]) -> Self {
        let [
            runs,
            succeeded,
            failed,
            cancelled,
            fuel,
            cpu_micros,
            wall_micros,
            http_calls,
            http_request_bytes,
            http_response_bytes,
            log_bytes,
            result_bytes,
        ] = numbers;
        Self {
            runs,
            succeeded,
            failed,
            cancelled,
            fuel,
            cpu_micros,
            wall_micros,
            http_calls,
            http_request_bytes,
            http_response_bytes,
            log_bytes,
            result_bytes,
        }
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        let mut sums = self.numbers();
        for (sum, more) in sums.iter_mut().zip(other.numbers()) {
            *sum = sum.saturating_add(more);
        }
        *self = Self::from_numbers(sums);
    }
}

/// Whole microseconds of a number of seconds.
fn micros(seconds: f64) -> u64 {
    // What is negative or no number becomes zero.
    (seconds * 1e6).round() as u64
}

/// What a tenant's attempts of one task type used on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Whose.
    pub tenant_id: TenantId,
    /// The UTC day on which they were recorded, counted from 1970.
    pub day: i64,
    /// The plugin.
    pub task_type: String,
    /// What they used.
    pub tally: Tally,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(seconds, 0).expect("in range")
    }

    fn row(id: i64, state: State, second: i64) -> PruneRow {
        PruneRow {
            id,
            state,
            completed_at: second * 1_000_000,
            created_at: second * 1_000_000,
        }
    }

    fn ids(rows: &[PruneRow]) -> Vec<i64> {
        rows.iter().map(|row| row.id).collect()
    }

    #[test]
    fn ages_are_by_state_and_the_walk_ends_at_the_youngest_of_them() {
        let step = PruneStep {
            scope: PruneScope::Ages {
                tenant: 1,
                before: PerEnd {
                    succeeded: Some(at(100)),
                    failed: Some(at(10)),
                    ..PerEnd::default()
                },
            },
            after: None,
            limit: 2,
            dry_run: false,
        };
        let rows = [
            row(1, State::Failed, 5),
            row(2, State::Failed, 10),
            row(3, State::Cancelled, 11),
            row(4, State::Succeeded, 99),
            row(5, State::Succeeded, 99),
            row(6, State::Succeeded, 100),
        ];
        let (due, pruned) = step.decide(&rows);
        assert_eq!(ids(&due), [1, 4]);
        assert_eq!(pruned.next, Some((99_000_000, 4)));
        let (due, pruned) = step.decide(&rows[4..]);
        assert_eq!((ids(&due), pruned.next), (vec![5], None));
    }

    #[test]
    fn a_config_keeps_its_newest_and_what_another_scope_takes_is_not_counted_twice() {
        let step = PruneStep {
            scope: PruneScope::Config {
                tenant: 1,
                config: 1,
                before: PerEnd::default(),
                beyond: Some((
                    3,
                    PerEnd {
                        failed: true,
                        ..PerEnd::all(false)
                    },
                )),
                except: PerEnd::all(Some(at(2))),
            },
            after: None,
            limit: 10,
            dry_run: true,
        };
        let rows = [
            row(1, State::Failed, 1),
            row(2, State::Succeeded, 2),
            row(3, State::Failed, 3),
            row(4, State::Failed, 4),
        ];
        let (due, pruned) = step.decide(&rows);
        assert_eq!((ids(&due), pruned.next), (vec![3], None));
    }

    #[test]
    fn the_oldest_go_whatever_they_are() {
        let step = PruneStep {
            scope: PruneScope::Oldest {
                tenant: 1,
                count: 2,
            },
            after: None,
            limit: 10,
            dry_run: false,
        };
        assert_eq!(step.look(), 2);
        let rows = [row(1, State::Failed, 1), row(2, State::Skipped, 2)];
        let (due, pruned) = step.decide(&rows);
        assert_eq!((due.len(), pruned.next), (2, Some((2_000_000, 2))));
        assert_eq!(step.decide(&[]).1.next, None);
    }

    #[test]
    fn days_begin_at_midnight_before_1970_too() {
        assert_eq!(
            (day_of(at(0)), day_of(at(86_399)), day_of(at(86_400))),
            (0, 0, 1)
        );
        assert_eq!(day_of(at(-1)), -1);
    }
}

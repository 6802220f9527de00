//! Pruning in steps: which of what ended is due, decided alike for every store.

use horarium_model::execution::State;
use horarium_model::retention::PerEnd;
use horarium_model::{ConfigId, ExecutionId, TenantId, Timestamp};

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
        /// But not what another scope removes; only for counting without removing it is still there.
        except: PerEnd<Option<Timestamp>>,
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
            PruneScope::Oldest { except, .. } => !is_older(except),
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
                except: PerEnd::default(),
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
}

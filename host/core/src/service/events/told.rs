//! What was told already.

use horarium_model::{ConfigId, ExecutionId, Timestamp};
use std::collections::{HashSet, VecDeque};

/// What was told lately and is remembered so that it is not told again; beyond that, looks reach back no further than to
/// what was told last.
const REMEMBERED: usize = 50_000;

/// What was told, so that it is not told again.
#[derive(Debug, Default)]
pub(super) struct Told {
    what: HashSet<What>,
    when: VecDeque<(Timestamp, What)>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum What {
    Created(ExecutionId),
    /// With its attempt, and how often it was lost.
    Started(ExecutionId, u32, u32),
    Ended(ExecutionId),
    Task(ConfigId, i64),
    Type(String, i64),
}

impl Told {
    /// True the first time.
    pub(super) fn first(&mut self, now: Timestamp, what: What) -> bool {
        let first = self.what.insert(what.clone());
        if first {
            self.when.push_back((now, what));
        }
        first
    }

    /// It may happen once more.
    pub(super) fn take_back(&mut self, what: &What) {
        self.what.remove(what);
    }

    /// Whether it is more than is to be remembered.
    pub(super) fn is_too_much(&self) -> bool {
        self.when.len() > REMEMBERED
    }

    /// Forgets what was told before an instant, and the oldest of what is too much.
    pub(super) fn forget(&mut self, before: Timestamp) {
        while let Some((at, _)) = self.when.front()
            && (*at < before || self.when.len() > REMEMBERED)
            && let Some((_, what)) = self.when.pop_front()
        {
            self.what.remove(&what);
        }
    }
}

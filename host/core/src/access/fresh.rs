//! How long what was read of tokens and tenants holds.

use crate::executor::TRUST;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How fresh what a host knows of tokens and tenants is: it holds while the last heartbeat that told so is young, and
/// until somebody says that it changed.
#[derive(Debug, Default)]
pub struct Freshness(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    epoch: Option<i64>,
    generation: u64,
    confirmed: Option<Duration>,
}

impl Freshness {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A heartbeat sent at `sent` (monotonic) brought this epoch.
    pub fn confirm(&self, epoch: i64, sent: Duration) {
        let mut known = self.known();
        if known.epoch.replace(epoch) != Some(epoch) {
            known.generation += 1;
        }
        known.confirmed = known.confirmed.max(Some(sent));
    }

    /// Tokens or tenants changed, here or on another host.
    pub fn changed(&self) {
        self.known().generation += 1;
    }

    /// What is read from now on belongs to this generation.
    pub(super) fn generation(&self) -> u64 {
        self.known().generation
    }

    /// Whether what was read in a generation still holds.
    pub(super) fn holds(&self, generation: u64, now: Duration) -> bool {
        let known = self.known();
        let young = |sent: Duration| now.saturating_sub(sent) <= TRUST;
        known.generation == generation && known.confirmed.is_some_and(young)
    }
}

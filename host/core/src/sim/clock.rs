//! Simulated time: tokio's paused clock, which jumps to the next timer whenever everything waits.

use super::gate::Gate;
use crate::clock::{Clock, whole_micros};
use horarium_model::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A clock inside a runtime whose time is paused. The wall clock can be set; monotonic time cannot.
#[derive(Debug)]
pub struct SimClock {
    base: Timestamp,
    begun: Instant,
    offset_micros: AtomicI64,
}

impl SimClock {
    /// A clock that shows `base` now.
    #[allow(clippy::disallowed_methods, reason = "this is a clock")]
    pub fn new(base: Timestamp) -> Self {
        Self {
            base,
            begun: Instant::now(),
            offset_micros: AtomicI64::new(0),
        }
    }

    /// Sets the wall clock forward or (negative) back.
    pub fn jump(&self, by: chrono::Duration) {
        self.offset_micros
            .fetch_add(by.num_microseconds().unwrap_or(0), Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = chrono::Duration::from_std(self.monotonic()).unwrap_or_default();
        let offset = chrono::Duration::microseconds(self.offset_micros.load(Ordering::Relaxed));
        whole_micros(self.base + elapsed + offset)
    }

    fn monotonic(&self) -> Duration {
        self.begun.elapsed()
    }

    async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

/// One host's view of simulated time: its wall clock may be wrong until it follows the database's, and a stopped
/// host does not wake.
pub struct HostClock {
    world: Arc<SimClock>,
    ahead_micros: AtomicI64,
    gate: Arc<Gate>,
}

impl HostClock {
    /// A clock that is `ahead` of the world's.
    pub fn new(world: Arc<SimClock>, ahead: chrono::Duration, gate: Arc<Gate>) -> Self {
        Self {
            world,
            ahead_micros: AtomicI64::new(ahead.num_microseconds().unwrap_or(0)),
            gate,
        }
    }
}

#[async_trait::async_trait]
impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        let ahead = chrono::Duration::microseconds(self.ahead_micros.load(Ordering::Relaxed));
        whole_micros(self.world.now() + ahead)
    }

    fn monotonic(&self) -> Duration {
        self.world.monotonic()
    }

    async fn sleep(&self, span: Duration) {
        self.world.sleep(span).await;
        self.gate.pass().await;
    }

    fn adjust(&self, by: chrono::Duration) {
        self.ahead_micros
            .fetch_add(by.num_microseconds().unwrap_or(0), Ordering::Relaxed);
    }
}

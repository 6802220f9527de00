//! Simulated time: tokio's paused clock, which jumps to the next timer whenever everything waits.

use crate::clock::{Clock, whole_micros};
use horarium_model::Timestamp;
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

//! Time, as a trait: the only place that asks the operating system for it.

use horarium_model::Timestamp;
use std::time::Duration;

/// The current instant and a way to wait, so that tests and the simulator own time.
#[async_trait::async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time in UTC, cut to microseconds as stores keep it.
    fn now(&self) -> Timestamp;

    /// A reading that never goes back, for durations.
    fn monotonic(&self) -> Duration;

    /// Waits for a span of monotonic time.
    async fn sleep(&self, span: Duration);

    /// Waits until `instant` by the wall clock. Returns at once when it has passed. Long waits are cut
    /// into pieces, so that a changed wall clock is noticed.
    async fn sleep_until(&self, instant: Timestamp) {
        const PIECE: Duration = Duration::from_secs(30);
        while let Ok(left) = (instant - self.now()).to_std() {
            if left.is_zero() {
                return;
            }
            self.sleep(left.min(PIECE)).await;
        }
    }
}

/// The real clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic reading starts at zero now.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait::async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        whole_micros(chrono::Utc::now())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

/// Cuts an instant to the microseconds that every store keeps.
pub fn whole_micros(instant: Timestamp) -> Timestamp {
    Timestamp::from_timestamp_micros(instant.timestamp_micros()).unwrap_or(instant)
}

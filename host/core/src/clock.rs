//! Time, as a trait: the only place that asks the operating system for it.

use horarium_model::Timestamp;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The current instant and a way to wait, so that tests and the simulator own time.
#[async_trait::async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time in UTC, cut to microseconds as stores keep it.
    fn now(&self) -> Timestamp;

    /// A reading that never goes back and goes on while the machine sleeps.
    fn monotonic(&self) -> Duration;

    /// Waits for a span of monotonic time.
    async fn sleep(&self, span: Duration);

    /// The database's clock, which all hosts share, is ahead of this one by `by`. A clock that is itself the
    /// reference ignores it.
    fn adjust(&self, _by: chrono::Duration) {}

    /// The database answered with the instant `database_now` when asked at the monotonic reading `sent`. It may have
    /// been read at any moment since: the clock is moved only as far as it is certainly wrong. So quick answers make it
    /// exact, and one that took seconds (a restart, a stopped process) cannot make it worse.
    fn meet(&self, database_now: Timestamp, sent: Duration) {
        let now = self.now();
        let took = self.monotonic().saturating_sub(sent);
        let took = chrono::Duration::from_std(took).unwrap_or_default();
        let by = now.clamp(database_now, database_now + took) - now;
        if !by.is_zero() {
            self.adjust(by);
        }
    }

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
    start: Duration,
    /// What is added to the machine's wall clock, in microseconds.
    offset: AtomicI64,
    /// Whether [`Clock::adjust`] is obeyed.
    follows: bool,
}

impl SystemClock {
    /// The machine's clock: the reference where one host has the database to itself. Its monotonic reading
    /// starts at zero now.
    pub fn new() -> Self {
        Self {
            start: awake_or_not(),
            offset: AtomicI64::new(0),
            follows: false,
        }
    }

    /// A clock that follows the database's, `ahead` of the machine's until it is first told.
    pub fn following(ahead: chrono::Duration) -> Self {
        Self {
            offset: AtomicI64::new(ahead.num_microseconds().unwrap_or(0)),
            follows: true,
            ..Self::new()
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
        let offset = chrono::Duration::microseconds(self.offset.load(Ordering::Relaxed));
        whole_micros(chrono::Utc::now() + offset)
    }

    fn monotonic(&self) -> Duration {
        awake_or_not().saturating_sub(self.start)
    }

    async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    fn adjust(&self, by: chrono::Duration) {
        if self.follows {
            self.offset
                .fetch_add(by.num_microseconds().unwrap_or(0), Ordering::Relaxed);
        }
    }
}

/// A reading of the clock that counts the machine's sleep, since some fixed instant.
#[cfg(target_os = "linux")]
fn awake_or_not() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    // It cannot fail: the clock exists since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Elsewhere the standard library's clock has to do; on macOS it does not count sleep.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
fn awake_or_not() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// Cuts an instant to the microseconds that every store keeps.
pub fn whole_micros(instant: Timestamp) -> Timestamp {
    Timestamp::from_timestamp_micros(instant.timestamp_micros()).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_following_clock_is_adjusted() {
        let minute = chrono::Duration::minutes(1);
        let (reference, follower) = (SystemClock::new(), SystemClock::following(minute));
        assert!(follower.now() - reference.now() > minute / 2);
        follower.adjust(-minute);
        reference.adjust(minute);
        let apart = (follower.now() - reference.now()).abs();
        assert!(apart < minute / 2, "{apart}");
    }

    /// Its wall clock and its monotonic reading are one number of microseconds.
    #[derive(Default)]
    struct Still(AtomicI64);

    #[async_trait::async_trait]
    impl Clock for Still {
        fn now(&self) -> Timestamp {
            at(self.0.load(Ordering::Relaxed))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(10)
        }

        async fn sleep(&self, _: Duration) {}

        fn adjust(&self, by: chrono::Duration) {
            self.0
                .fetch_add(by.num_microseconds().expect("fits"), Ordering::Relaxed);
        }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_timestamp_micros(micros).expect("an instant")
    }

    #[test]
    fn an_answer_moves_the_clock_only_as_far_as_it_is_certainly_wrong() {
        for (database_now, took, wanted) in [
            // The answer was given at the end of two seconds, by a clock that agrees: half of them is no error.
            (0, 2_000_000, 0),
            (-1, 2_000_000, 0),
            (-2_000_000, 2_000_000, 0),
            // It cannot be: behind by at least this much, ahead by at least that much.
            (1, 2_000_000, 1),
            (-2_000_010, 2_000_000, -10),
            (60_000_000, 1_000, 60_000_000),
            (-60_000_000, 1_000, -59_999_000),
        ] {
            let clock = Still::default();
            let took = Duration::from_micros(took);
            clock.meet(at(database_now), clock.monotonic() - took);
            assert_eq!(clock.now(), at(wanted), "{database_now} after {took:?}");
        }
    }

    #[test]
    fn monotonic_time_does_not_go_back() {
        let clock = SystemClock::new();
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}

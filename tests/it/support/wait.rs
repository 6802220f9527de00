//! Waiting: always for something, never for longer than told.

use std::time::{Duration, Instant};

/// How long between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An instant after which a test gives up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// So many seconds from now.
    #[expect(clippy::disallowed_methods, reason = "bounds the test, measures nothing")]
    pub(crate) fn seconds(seconds: u64) -> Self {
        Self(Instant::now() + Duration::from_secs(seconds))
    }

    /// Whether it is over.
    #[expect(clippy::disallowed_methods, reason = "bounds the test, measures nothing")]
    pub(crate) fn passed(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Looks again and again until `look` finds something: the one place in these tests that waits.
///
/// # Panics
/// When nothing was found in time, naming `what` was waited for.
pub(crate) fn until<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::seconds(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(!deadline.passed(), "within {seconds} s there was no {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

//! Waiting: always for something, never for ever.

use std::time::{Duration, Instant};

/// How long between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The longest anything here may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(100);

/// Looks again and again until `look` finds something: the one place in these tests that waits.
///
/// # Panics
/// When nothing was found in time, naming `what` was waited for.
#[expect(
    clippy::disallowed_methods,
    reason = "bounds the test, measures nothing"
)]
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

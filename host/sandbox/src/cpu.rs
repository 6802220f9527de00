//! CPU time of the current thread.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// CPU time this thread has used, zero where the system does not say.
pub(crate) fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// CPU time this process has used, zero where the system does not say.
pub(crate) fn process_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

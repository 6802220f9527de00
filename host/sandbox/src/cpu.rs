//! CPU time of threads and of the process. Asking the kernel for a thread's costs about as much as everything else
//! around a small run, so it is asked only where the wall clock cannot tell.

use nix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// What takes no longer is counted by the wall clock, and wrong by no more than this if the thread was pushed aside.
const SHORT: Duration = Duration::from_micros(50);
/// How old the last figure of a thread may be when something begins: what else the thread did since then is counted as
/// well where the thread was pushed aside.
const FRESH: Duration = Duration::from_millis(1);

/// What a thread had used at some instant.
#[derive(Debug, Clone, Copy)]
struct Known {
    at: Instant,
    cpu: Duration,
}

thread_local! {
    static KNOWN: Cell<Option<Known>> = const { Cell::new(None) };
}

/// Calls `work`, and tells how much CPU time of this thread that took: within [`SHORT`] for what is short, within
/// [`FRESH`] for the rest, never more than passed by the wall clock.
#[allow(
    clippy::disallowed_methods,
    reason = "this is about the machine's time, whatever the clock says"
)]
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let fresh = |known: &Known| begun.duration_since(known.at) < FRESH;
    let before = KNOWN.get().filter(fresh).unwrap_or_else(|| Known {
        at: begun,
        cpu: thread_time(),
    });
    let value = work();
    let ended = Instant::now();
    let wall = ended.duration_since(begun);
    if wall <= SHORT {
        let cpu = before.cpu + wall;
        KNOWN.set(Some(Known { cpu, ..before }));
        return (value, wall);
    }
    let cpu = thread_time();
    KNOWN.set(Some(Known { at: ended, cpu }));
    (value, wall.min(cpu.saturating_sub(before.cpu)))
}

/// CPU time this thread has used, zero where the system does not say.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// CPU time this process has used, zero where the system does not say.
pub(crate) fn process_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes until this thread has used so much more.
    fn compute(cpu: Duration) {
        let until = thread_time() + cpu;
        while thread_time() < until {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn what_computes_is_counted_and_what_waits_is_not() {
        let work = Duration::from_millis(5);
        let (_, used) = measured(|| compute(work));
        assert!(used >= work, "{used:?}");
        let (_, used) = measured(|| std::thread::spawn(move || compute(4 * work)).join());
        assert!(used < 2 * work, "{used:?} while another thread computed");
    }

    #[test]
    fn many_short_ones_are_counted_once() {
        // However the thread is pushed aside: all of them together use what the thread did, but for its own loop.
        let before = thread_time();
        let mut sum = Duration::ZERO;
        for _ in 0..200 {
            sum += measured(|| compute(Duration::from_micros(5))).1;
        }
        let (_, last) = measured(|| compute(Duration::from_millis(2)));
        sum += last;
        let all = thread_time() - before;
        let least = Duration::from_millis(3);
        assert!(sum >= least, "{sum:?} of {all:?}");
        // A short one may be counted for SHORT though it used less.
        let most = all + SHORT * 200;
        assert!(sum <= most, "{sum:?} of {all:?}");
    }
}

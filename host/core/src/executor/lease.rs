//! How long a host may believe that what it runs is still its own (rule E5).
//!
//! The store gives a heartbeat's host [`LEASE`] by the database's clock. The host trusts itself for the shorter
//! [`TRUST`], counted from before it sent the heartbeat, on a clock that goes on while the machine sleeps: when it
//! stops believing, nobody else has begun.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Between two heartbeats.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long after a heartbeat others leave a host's runs alone.
pub const LEASE: Duration = Duration::from_secs(15);
/// How long after sending its last good heartbeat a host trusts itself.
pub const TRUST: Duration = Duration::from_secs(12);

/// The standing of one host.
#[derive(Debug)]
pub(super) struct Lease {
    /// Whether the store gives leases at all: one process alone on its file needs none.
    leased: bool,
    incarnation: AtomicI64,
    /// Monotonic microseconds when the last good heartbeat was sent.
    proved: AtomicU64,
    /// What the store thinks we hold may differ from what we know.
    in_doubt: AtomicBool,
}

impl Lease {
    pub(super) fn new(leased: bool, incarnation: i64, now: Duration) -> Self {
        Self {
            leased,
            incarnation: AtomicI64::new(incarnation),
            proved: AtomicU64::new(micros(now)),
            in_doubt: AtomicBool::new(false),
        }
    }

    /// The incarnation to claim and to prove alive.
    pub(super) fn incarnation(&self) -> i64 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// A heartbeat sent at `sent` was answered.
    pub(super) fn renew(&self, sent: Duration) {
        self.proved.fetch_max(micros(sent), Ordering::AcqRel);
    }

    /// The others gave this host up; it goes on as another incarnation, registered by a call sent at `sent`.
    pub(super) fn reborn(&self, incarnation: i64, sent: Duration) {
        self.incarnation.store(incarnation, Ordering::Release);
        self.renew(sent);
    }

    /// How long ago the last good heartbeat was sent.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_micros(self.proved.load(Ordering::Acquire)))
    }

    /// How long the host may go on without another heartbeat; none when it need not ask.
    pub(super) fn trust_left(&self, now: Duration) -> Option<Duration> {
        self.leased.then(|| TRUST.saturating_sub(self.age(now)))
    }

    /// Whether what runs here is certainly still ours.
    pub(super) fn is_trusted(&self, now: Duration) -> bool {
        self.trust_left(now).is_none_or(|left| !left.is_zero())
    }

    /// A claim's answer was lost, or runs were stopped without a word to the store.
    pub(super) fn doubt(&self) {
        self.in_doubt.store(true, Ordering::Release);
    }

    /// Whether to compare with the store what we hold; asking settles the doubt, [`Lease::doubt`] revives it.
    pub(super) fn take_doubt(&self) -> bool {
        self.in_doubt.swap(false, Ordering::AcqRel)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn trust_ends_before_the_lease_and_comes_back_with_a_heartbeat() {
        let lease = Lease::new(true, 1, s(100));
        assert!(lease.is_trusted(s(111)));
        assert!(!lease.is_trusted(s(112)));
        assert!(TRUST + Duration::from_secs(2) < LEASE);
        lease.renew(s(110));
        assert_eq!(lease.trust_left(s(115)), Some(s(7)));
        // An answer that comes late counts from when its question was sent.
        lease.renew(s(105));
        assert_eq!(lease.age(s(115)), s(5));
    }

    #[test]
    fn one_process_on_its_file_needs_no_heartbeat() {
        let lease = Lease::new(false, 1, s(0));
        assert!(lease.is_trusted(s(1_000_000)));
    }

    #[test]
    fn another_incarnation_starts_afresh() {
        let lease = Lease::new(true, 1, s(0));
        lease.reborn(9, s(50));
        assert_eq!((lease.incarnation(), lease.is_trusted(s(60))), (9, true));
        lease.doubt();
        assert!(lease.take_doubt() && !lease.take_doubt());
    }
}

//! Failed attempts to be let in, bounded by the address they come from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Addresses remembered; beyond that, those with nothing left to wait for are forgotten, and then all.
const REMEMBERED: usize = 10_000;
/// A bucket fills in this time.
const FILLS_IN: Duration = Duration::from_secs(60);

/// Buckets of failures by address: so many at once, and as many a minute.
#[derive(Debug)]
pub struct Attempts {
    per_minute: u32,
    /// When each address's bucket will be full again, on the monotonic clock.
    full_at: Mutex<HashMap<IpAddr, Duration>>,
}

impl Attempts {
    /// Allows `per_minute` failures, at least one.
    pub fn new(per_minute: u32) -> Self {
        Self {
            per_minute: per_minute.max(1),
            full_at: Mutex::default(),
        }
    }

    fn interval(&self) -> Duration {
        FILLS_IN / self.per_minute
    }

    /// Whether the address may fail once more; else after how many seconds.
    pub(super) fn left(&self, address: IpAddr, now: Duration) -> Result<(), u32> {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let owed = full_at
            .get(&counted(address))
            .map_or(Duration::ZERO, |full_at| full_at.saturating_sub(now));
        let room = FILLS_IN.saturating_sub(self.interval());
        match owed.checked_sub(room) {
            Some(wait) if !wait.is_zero() => Err(wait.as_secs_f64().ceil().max(1.0) as u32),
            _ => Ok(()),
        }
    }

    /// It failed.
    pub(super) fn failed(&self, address: IpAddr, now: Duration) {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= REMEMBERED {
            full_at.retain(|_, full_at| *full_at > now);
            if full_at.len() >= REMEMBERED {
                full_at.clear();
            }
        }
        let entry = full_at.entry(counted(address)).or_insert(now);
        *entry = (*entry).max(now) + self.interval();
    }
}

/// Who has one IPv6 address has its network.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn so_many_at_once_and_then_one_an_interval() {
        let attempts = Attempts::new(6);
        let (here, now) = (ip("10.0.0.1"), Duration::from_secs(100));
        for _ in 0..6 {
            assert_eq!(attempts.left(here, now), Ok(()));
            attempts.failed(here, now);
        }
        assert_eq!(attempts.left(here, now), Err(10));
        assert_eq!(attempts.left(ip("10.0.0.2"), now), Ok(()));
        assert_eq!(
            attempts.left(here, now + Duration::from_millis(9_500)),
            Err(1)
        );
        let later = now + Duration::from_secs(10);
        assert_eq!(attempts.left(here, later), Ok(()));
        attempts.failed(here, later);
        assert_eq!(attempts.left(here, later), Err(10));
        assert_eq!(attempts.left(here, later + Duration::from_secs(60)), Ok(()));
    }

    #[test]
    fn a_network_is_one_address_and_memory_is_bounded() {
        let attempts = Attempts::new(1);
        attempts.failed(ip("2001:db8::1"), Duration::ZERO);
        assert!(attempts.left(ip("2001:db8::2"), Duration::ZERO).is_err());
        assert!(attempts.left(ip("2001:db8:0:1::2"), Duration::ZERO).is_ok());
        attempts.failed(ip("::ffff:10.0.0.1"), Duration::ZERO);
        assert!(attempts.left(ip("10.0.0.1"), Duration::ZERO).is_err());
        for n in 0..2 * REMEMBERED as u32 {
            attempts.failed(IpAddr::from(n.to_be_bytes()), Duration::ZERO);
        }
        assert!(attempts.full_at.lock().expect("whole").len() <= REMEMBERED);
    }
}

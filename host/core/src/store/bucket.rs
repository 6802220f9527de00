//! Rate limits (rule E3): a token bucket that is one instant.
//!
//! `full_at` is when the bucket will be full again. A token taken moves it by one interval; there is one to
//! take as long as it stays within `count` intervals from now. One number, written under the key's lock, so
//! nothing can drift.

use horarium_model::Timestamp;
use horarium_model::concurrency::Rate;

/// Tokens are waited for in portions, so that fast rates do not wake hosts for each single one. Microseconds.
const PORTION: i64 = 100_000;
/// After this long it is looked again whether what was let on its way was taken. Microseconds.
const LOOK_AGAIN: i64 = 1_000_000;

/// What bounds how often executions start: those with equal keys share a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateBound {
    /// Name of the bucket, within the tenant.
    pub key: String,
    /// How fast it fills.
    pub rate: Rate,
}

impl RateBound {
    /// Before the run key whose executions share a bucket.
    const OF_RUN_KEY: &str = "rate:";

    /// One bucket for all executions with a run key.
    pub fn of(run_key: &str, rate: Rate) -> Self {
        Self {
            key: format!("{}{run_key}", Self::OF_RUN_KEY),
            rate,
        }
    }

    /// The run key whose executions share this bucket, by its name.
    pub fn run_key_of(key: &str) -> Option<&str> {
        key.strip_prefix(Self::OF_RUN_KEY)
    }
}

/// One bucket. Instants and durations in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// When it will be full; in the past when it is.
    pub full_at: i64,
    /// Tokens it holds.
    pub count: i64,
    /// Until the next token comes.
    pub interval: i64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        Self {
            full_at: i64::MIN / 2,
            count: i64::from(rate.count),
            interval: rate.interval_micros(),
        }
    }

    /// The bucket with another rate; what was taken stays taken.
    #[must_use]
    pub fn with_rate(self, rate: Rate) -> Self {
        Self {
            full_at: self.full_at,
            ..Self::new(rate)
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Timestamp) -> bool {
        let there = self.tokens(now) > 0;
        if there {
            self.full_at = self.full_at.max(now.timestamp_micros()) + self.interval;
        }
        there
    }

    /// Tokens that are there.
    pub fn tokens(&self, now: Timestamp) -> i64 {
        let missing = (self.full_at - now.timestamp_micros()).max(0);
        let taken = (missing + self.interval - 1) / self.interval;
        (self.count - taken).max(0)
    }

    /// When the next portion of tokens will be there, for who found too few.
    pub fn ready_at(&self, now: Timestamp) -> i64 {
        let portion = (PORTION / self.interval).clamp(1, self.count);
        let at = self.full_at - (self.count - portion) * self.interval;
        at.max(now.timestamp_micros() + 1)
    }

    /// When to look again after as many were let on their way as there are tokens.
    pub fn look_again_at(&self, now: Timestamp) -> i64 {
        self.ready_at(now).max(now.timestamp_micros() + LOOK_AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_timestamp_micros(1_800_000_000_000_000 + micros).expect("in range")
    }

    #[test]
    fn a_full_bucket_gives_its_tokens_at_once_and_then_one_an_interval() {
        let mut bucket = Bucket::new(Rate {
            count: 3,
            seconds: 6,
        });
        assert_eq!(bucket.tokens(at(0)), 3);
        assert!((0..3).all(|_| bucket.take(at(0))));
        assert!(!bucket.take(at(1_999_999)));
        assert_eq!(bucket.ready_at(at(0)), at(2_000_000).timestamp_micros());
        assert!(bucket.take(at(2_000_000)) && !bucket.take(at(2_000_000)));
        assert_eq!(
            bucket.tokens(at(60_000_000)),
            3,
            "it holds no more than three"
        );
    }

    #[test]
    fn a_clock_that_is_behind_gets_nothing_extra() {
        let mut bucket = Bucket::new(Rate {
            count: 1,
            seconds: 1,
        });
        assert!(bucket.take(at(5_000_000)));
        assert!(!bucket.take(at(0)) && !bucket.take(at(5_999_999)) && bucket.take(at(6_000_000)));
    }

    #[test]
    fn fast_rates_are_waited_for_in_portions() {
        let mut bucket = Bucket::new(Rate {
            count: 1000,
            seconds: 1,
        });
        while bucket.take(at(0)) {}
        assert_eq!(bucket.ready_at(at(0)), at(100_000).timestamp_micros());
    }

    /// In no stretch of time are more taken than the bucket holds and what comes in meanwhile.
    #[test]
    fn never_more_than_it_holds_and_gets() {
        let mut rng = SmallRng::seed_from_u64(7);
        for _ in 0..200 {
            let rate = Rate {
                count: rng.random_range(1..20),
                seconds: rng.random_range(1..20),
            };
            let (mut bucket, mut now, mut taken) = (Bucket::new(rate), 0, Vec::new());
            for _ in 0..150 {
                now += rng.random_range(0..2_000_000);
                if bucket.take(at(now)) {
                    taken.push(now);
                    continue;
                }
                let ready = bucket.ready_at(at(now)) - at(0).timestamp_micros();
                assert!(ready > now && bucket.tokens(at(ready)) > 0, "{rate:?}");
            }
            for (place, first) in taken.iter().enumerate() {
                for (more, last) in (1..).zip(&taken[place..]) {
                    let allowed = i64::from(rate.count) + (last - first) / rate.interval_micros();
                    assert!(more <= allowed, "{rate:?}: {more} within {}", last - first);
                }
            }
        }
    }
}

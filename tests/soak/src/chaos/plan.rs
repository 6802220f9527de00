//! What is done to whom and when, made from a seed.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// SIGKILL; later it is started again.
    Killed,
    /// SIGSTOP for longer than its lease.
    StoppedLong,
    /// SIGSTOP for less than that.
    StoppedShortly,
    /// The way to the database carries nothing for longer than the lease.
    CutOffLong,
    /// The same for less than that.
    CutOffShortly,
    /// SIGTERM, and a new start: an upgrade.
    Replaced,
    /// The database's server is restarted, in order or by a crash.
    DatabaseRestarted,
}

impl Kind {
    /// What every run meets at least once.
    const ALWAYS: [Self; 4] = [
        Self::Killed,
        Self::StoppedLong,
        Self::CutOffLong,
        Self::DatabaseRestarted,
    ];
    const ALL: [Self; 7] = [
        Self::Killed,
        Self::StoppedLong,
        Self::StoppedShortly,
        Self::CutOffLong,
        Self::CutOffShortly,
        Self::Replaced,
        Self::DatabaseRestarted,
    ];

    /// For people and for JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::StoppedLong => "stopped past the lease",
            Self::StoppedShortly => "stopped shortly",
            Self::CutOffLong => "cut off past the lease",
            Self::CutOffShortly => "cut off shortly",
            Self::Replaced => "replaced",
            Self::DatabaseRestarted => "database restarted",
        }
    }

    /// Whether others must take over what the host ran.
    pub(crate) fn is_taken_over(self) -> bool {
        matches!(self, Self::Killed | Self::StoppedLong | Self::CutOffLong)
    }

    /// How long it lasts, in milliseconds.
    fn lasts(self) -> std::ops::Range<u64> {
        match self {
            Self::Killed | Self::StoppedLong | Self::CutOffLong => 18_500..24_000,
            Self::StoppedShortly | Self::CutOffShortly => 1_000..7_000,
            Self::Replaced => 500..2_000,
            Self::DatabaseRestarted => 500..3_000,
        }
    }
}

/// One trouble, its times counted from the beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Episode {
    pub(crate) kind: Kind,
    /// Which host; none when it is the database's.
    pub(crate) host: Option<usize>,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    /// Of a cut: the connections are broken off at its end. Of a restart: the server crashes.
    pub(crate) hard: bool,
}

/// Hosts in trouble at once.
const AT_ONCE: usize = 2;
/// Until a host that was in trouble is again.
const REST: Duration = Duration::from_secs(8);
/// Until what a host ran was surely taken over.
const TAKEN_OVER: Duration = Duration::from_secs(18);
/// Runs of this length have the database restarted in the middle of takeovers too.
const LONG: Duration = Duration::from_secs(180);

/// Troubles for `span` among `hosts`; the last ones may end later.
pub(crate) fn plan(seed: u64, span: Duration, hosts: usize) -> Vec<Episode> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut planned: Vec<Episode> = Vec::new();
    let mut deck: Vec<Kind> = Kind::ALWAYS.into();
    deck.shuffle(&mut rng);
    let mut always = deck.len();
    let mut at = Duration::from_secs(3);
    while always > 0 || at < span {
        let Some(kind) = deck.last().copied() else {
            deck.extend(Kind::ALL);
            deck.shuffle(&mut rng);
            continue;
        };
        let (host, from) = match kind {
            Kind::DatabaseRestarted => (None, quiet(&mut rng, span, &planned, at)),
            _ => match free(&mut rng, &planned, at, hosts) {
                Ok(host) => (Some(host), at),
                Err(later) => {
                    at = later;
                    continue;
                }
            },
        };
        deck.pop();
        always = always.saturating_sub(1);
        let until = from + Duration::from_millis(rng.random_range(kind.lasts()));
        let hard = rng.random_bool(0.5);
        planned.push(Episode {
            kind,
            host,
            from,
            until,
            hard,
        });
        let rest = Duration::from_millis(rng.random_range(2_000..6_000));
        at = rest + if host.is_some() { from } else { until };
    }
    planned
}

/// When the database may be restarted.
fn quiet(rng: &mut SmallRng, span: Duration, planned: &[Episode], at: Duration) -> Duration {
    if span >= LONG && rng.random_bool(0.5) {
        return at;
    }
    let watched = planned.iter().filter(|e| e.kind.is_taken_over());
    watched.map(|e| e.from + TAKEN_OVER).fold(at, Duration::max)
}

/// A host that is well at `at`, or when to ask again.
fn free(
    rng: &mut SmallRng,
    planned: &[Episode],
    at: Duration,
    hosts: usize,
) -> Result<usize, Duration> {
    let troubled = |e: &&Episode| e.host.is_some() && e.until > at;
    let ends = planned.iter().filter(troubled).map(|e| e.until);
    if ends.clone().count() >= AT_ONCE {
        return Err(ends.min().unwrap_or(at));
    }
    let resting = |host: &usize| {
        let own = planned.iter().filter(|e| e.host == Some(*host));
        own.clone().any(|e| e.until + REST > at)
    };
    let well: Vec<usize> = (0..hosts).filter(|host| !resting(host)).collect();
    match well.len() {
        0 => Err(at + Duration::from_secs(1)),
        n => Ok(well[rng.random_range(0..n)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_has_what_it_must_and_leaves_hosts_standing() {
        for seed in 0..200 {
            let span = Duration::from_secs(if seed % 2 == 0 { 40 } else { 600 });
            let plan = plan(seed, span, 4);
            for kind in Kind::ALWAYS {
                assert!(plan.iter().any(|e| e.kind == kind), "{seed}: {kind:?}");
            }
            for one in &plan {
                let same_time = |e: &&Episode| e.from <= one.from && e.until > one.from;
                let down: Vec<_> = plan
                    .iter()
                    .filter(same_time)
                    .filter_map(|e| e.host)
                    .collect();
                assert!(down.len() <= AT_ONCE, "{seed}: {down:?}");
                let last = down.iter().max();
                let first = down.iter().min();
                assert!(down.len() < 2 || first != last, "{seed}: one host twice");
            }
            let end = plan.iter().map(|e| e.until).max().expect("episodes");
            assert!(end < span + Duration::from_secs(60), "{seed}: {end:?}");
        }
    }

    #[test]
    fn a_seed_is_a_plan() {
        let span = Duration::from_secs(300);
        assert_eq!(plan(7, span, 4), plan(7, span, 4));
        assert_ne!(plan(7, span, 4), plan(8, span, 4));
    }
}

//! One trouble from its beginning to its end, with a watch on how soon others take over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::plan::{Episode, Kind};
use super::{Seat, Stage};

/// Between two looks at whether the others have taken over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What came of an episode.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) episode: Episode,
    /// Executions the host ran when it began.
    pub(crate) ran: u64,
    /// When nothing of that was the host's any more, if that had to be.
    pub(crate) taken_over: Option<Duration>,
}

/// Lives through one.
pub(super) fn live(stage: &Stage, episode: &Episode) -> Result<Told> {
    stage.wait_until(episode.from);
    let mut told = Told {
        episode: *episode,
        ran: 0,
        taken_over: None,
    };
    if stage.is_over() {
        return Ok(told);
    }
    match episode.host {
        None => restart_database(stage, episode),
        Some(at) => {
            let seat = &stage.hosts[at];
            let before = incarnation(stage, seat);
            seat.set_there(false);
            let begun = begin(seat, episode)?;
            if let Some((incarnation, ran)) = before {
                told.ran = ran;
                if episode.kind.is_taken_over() {
                    told.taken_over = taken_over(stage, incarnation, begun, episode.until);
                }
            }
            stage.wait_until(episode.until);
            end(seat, episode)?;
            seat.set_there(true);
        }
    }
    Ok(told)
}

/// Brings the trouble; since when it lasts.
fn begin(seat: &Seat, episode: &Episode) -> Result<Instant> {
    let begun = Instant::now();
    match episode.kind {
        Kind::Killed => return seat.host.kill(),
        Kind::Replaced => return seat.host.stop(),
        Kind::StoppedLong | Kind::StoppedShortly => seat.host.signal(Signal::SIGSTOP)?,
        Kind::CutOffLong | Kind::CutOffShortly => seat.link.cut(),
        Kind::DatabaseRestarted => {}
    }
    Ok(begun)
}

/// Makes good what [`begin`] did, whether or not it is over.
fn end(seat: &Seat, episode: &Episode) -> Result<()> {
    match episode.kind {
        Kind::Killed | Kind::Replaced => {
            seat.host.spawn()?;
            seat.host.ready()
        }
        Kind::StoppedLong | Kind::StoppedShortly => seat.host.signal(Signal::SIGCONT),
        Kind::CutOffLong | Kind::CutOffShortly => {
            seat.link.mend(episode.hard);
            Ok(())
        }
        Kind::DatabaseRestarted => Ok(()),
    }
}

fn restart_database(stage: &Stage, episode: &Episode) {
    let cluster = stage.database.cluster();
    cluster.stop(if episode.hard { "immediate" } else { "fast" });
    stage.wait_until(episode.until);
    cluster.resume();
}

/// The living incarnation of a host, and what it runs; none while the database is away.
fn incarnation(stage: &Stage, seat: &Seat) -> Option<(i64, u64)> {
    let row = stage.database.row(&format!(
        "SELECT incarnation, (SELECT count(*) FROM live_executions l \
            WHERE l.incarnation = h.incarnation AND l.state = 'running') AS ran \
         FROM hosts h WHERE name = '{}' AND stopped_at IS NULL ORDER BY incarnation DESC LIMIT 1",
        seat.host.name()
    ));
    let row = row.ok()?;
    Some((row["incarnation"].as_i64()?, row["ran"].as_u64()?))
}

/// Waits until an incarnation was given up and nothing runs under it; how long that took since `begun`.
fn taken_over(
    stage: &Stage,
    incarnation: i64,
    begun: Instant,
    until: Duration,
) -> Option<Duration> {
    let sql = format!(
        "SELECT stopped_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM live_executions l \
            WHERE l.incarnation = h.incarnation AND l.state = 'running') AS done \
         FROM hosts h WHERE incarnation = {incarnation}"
    );
    while stage.elapsed() < until && !stage.is_over() {
        // Looked at before it is asked: the answer may take its time.
        let elapsed = begun.elapsed();
        let row = stage.database.row(&sql).context("asked again");
        if row.is_ok_and(|row| row["done"] == true) {
            return Some(elapsed);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    None
}

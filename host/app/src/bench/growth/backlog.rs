//! Costs by backlog: of a claim by itself, and of a run.

use super::{BenchError, GrowthOptions, MOST_LIVE, Point, run, sizes};
use crate::bench::lab::Lab;
use crate::bench::lab_host::LabHost;
use crate::bench::statistics::median;
use crate::bench::{Stopwatch, drain};
use horarium_core::clock::Clock;
use horarium_core::store::{ClaimRequest, Release};

/// Executions of one claim.
const CLAIM: u32 = 64;
/// Claims of a round.
const CLAIMS: usize = 7;
/// Executions enqueued between two words of progress.
const STEP: usize = 20_000;

pub(super) async fn measure(
    lab: &Lab,
    options: &GrowthOptions,
    say: &dyn Fn(String),
) -> Result<Vec<Point>, BenchError> {
    let host = LabHost::open(lab, 2).await?;
    // What is claimed is there beside the backlog.
    drain::fill(&host, CLAIM as usize).await?;
    let mut points = Vec::new();
    let mut held = 0;
    for size in sizes(options.up_to.min(MOST_LIVE)) {
        while held < size {
            say(format!("{held} of {size} executions enqueued"));
            let more = STEP.min(size - held);
            drain::fill(&host, more).await?;
            held += more;
        }
        say(format!("claiming with {size} waiting"));
        points.push(Point {
            cost: "claim",
            size,
            us: claims(&host, options.rounds * CLAIMS).await?,
            cpu_us: None,
        });
        say(format!("running with {size} waiting"));
        let (us, _) = run(lab, &host, options).await?;
        points.push(Point {
            cost: "run_backlog",
            size,
            us,
            cpu_us: None,
        });
        held = top_up(&host, size).await?;
    }
    host.close().await?;
    Ok(points)
}

/// Executions that were begun when the last of a measurement had ended are gone too; as many come again. Returns how
/// many wait beside those of a claim.
async fn top_up(host: &LabHost, size: usize) -> Result<usize, BenchError> {
    let counts = host
        .store
        .queue_counts()
        .await
        .map_err(BenchError::failed)?;
    let waiting = usize::try_from(counts.available).unwrap_or(usize::MAX);
    let wanted = size + CLAIM as usize;
    drain::fill(host, wanted.saturating_sub(waiting)).await?;
    Ok(size)
}

/// Claims and hands back; microseconds of one execution's claim.
async fn claims(host: &LabHost, count: usize) -> Result<f64, BenchError> {
    let store = &host.store;
    let incarnation = store.start_host(host.clock.now(), "bench").await;
    let incarnation = incarnation.map_err(BenchError::failed)?;
    let mut times = Vec::with_capacity(count);
    for number in 0..=count {
        let request = ClaimRequest {
            now: host.clock.now(),
            incarnation,
            types: host.registry.claimable().types,
            limit: CLAIM,
        };
        let watch = Stopwatch::start();
        let claims = store.claim(request).await.map_err(BenchError::failed)?;
        let us = watch.elapsed().as_secs_f64() * 1e6;
        if claims.claimed.len() != CLAIM as usize {
            let text = format!("a claim of {CLAIM} brought {}", claims.claimed.len());
            return Err(BenchError::Failed(text));
        }
        // The first finds nothing prepared.
        if number > 0 {
            times.push(us / f64::from(CLAIM));
        }
        let back = claims.claimed.iter().map(|claimed| Release {
            id: claimed.id,
            claim: claimed.claim,
            incarnation,
            record: None,
            due_at: None,
        });
        let released = store.release(host.clock.now(), back.collect()).await;
        released.map_err(BenchError::failed)?;
    }
    let stopped = store.stop_host(host.clock.now(), incarnation).await;
    stopped.map_err(BenchError::failed)?;
    Ok(median(&times))
}

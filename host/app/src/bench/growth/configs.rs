//! The cost of a tick by configs, of which the same number is due each time.

use super::{BenchError, GrowthOptions, MOST_LIVE, Point, sizes};
use crate::bench::lab::Lab;
use crate::bench::lab_host::LabHost;
use crate::bench::statistics::median;
use crate::bench::{Stopwatch, schedule};
use horarium_core::clock::Clock;
use horarium_core::observe::Observer;
use horarium_core::scheduler::{Round, Scheduler};
use horarium_model::Timestamp;
use horarium_model::schedule::Overlap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Fires each second.
const EVERY_SECOND: &str = "* * * * * *";
/// After the second has begun, the tick begins.
const AFTER: Duration = Duration::from_millis(20);

/// Counts slots that fired.
#[derive(Default)]
struct Fired(AtomicUsize);

impl Observer for Fired {
    fn fired(&self, _lateness: Duration) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) async fn measure(
    lab: &Lab,
    options: &GrowthOptions,
    say: &dyn Fn(String),
) -> Result<Vec<Point>, BenchError> {
    let host = LabHost::open(lab, 3).await?;
    // They may wait beside each other: nothing runs here.
    let often = |_| EVERY_SECOND.to_owned();
    schedule::write(&host, options.due, Overlap::Allow, often, say).await?;
    let fired = Arc::new(Fired::default());
    let scheduler = host.scheduler(fired.clone());
    let mut points = Vec::new();
    let mut held = 0;
    for size in sizes(options.up_to.min(MOST_LIVE)) {
        let now = host.clock.now();
        let far = |number| schedule::far_from(now, held + number);
        schedule::write(&host, size - held, Overlap::Skip, far, say).await?;
        held = size;
        say(format!("firing with {size} configs that are not due"));
        let mut times = Vec::with_capacity(options.rounds);
        for number in 0..=options.rounds {
            let us = tick(&host, &scheduler, &fired, options.due).await?;
            // The first makes up for what was missed meanwhile, and compiles.
            if number > 0 {
                times.push(us);
            }
        }
        points.push(Point {
            cost: "tick",
            size,
            us: median(&times),
            cpu_us: None,
        });
    }
    host.close().await?;
    Ok(points)
}

/// Fires what is due in the next second; microseconds of one slot.
async fn tick(
    host: &LabHost,
    scheduler: &Scheduler,
    fired: &Fired,
    due: usize,
) -> Result<f64, BenchError> {
    let count = || fired.0.load(Ordering::Relaxed);
    let second = host.clock.now().timestamp() + 1;
    let second = Timestamp::from_timestamp(second, 0).unwrap_or_default();
    host.clock.sleep_until(second + AFTER).await;
    let before = count();
    let watch = Stopwatch::start();
    // They are due again in a second, which a slow machine may need for them.
    while scheduler.round().await.map_err(BenchError::failed)? == Round::More
        && count() - before < due
    {}
    let us = watch.elapsed().as_secs_f64() * 1e6;
    match count() - before {
        0 => Err(BenchError::Failed("nothing fired".to_owned())),
        fired => Ok(us / fired as f64),
    }
}

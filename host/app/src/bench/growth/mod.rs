//! `bench growth`: costs that must not grow with what a database holds. Each is measured again and again while history,
//! backlog or configs become more.

mod backlog;
mod configs;
mod history;
mod picture;

pub(crate) use picture::picture;

use super::lab::Lab;
use super::lab_host::LabHost;
use super::statistics::{median, rounded};
use super::{BenchError, Options, drain, process};
use serde_json::{Map, Value, json};

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct GrowthOptions {
    pub(crate) common: Options,
    /// The most rows of history; of waiting executions and configs too, as far as [`MOST_LIVE`].
    pub(crate) up_to: usize,
    /// Executions that are run for each point.
    pub(crate) tasks: usize,
    /// Schedules that are due in each tick.
    pub(crate) due: usize,
    /// How often each point is measured; the medians are reported.
    pub(crate) rounds: usize,
}

/// Waiting executions and configs of the largest point.
pub(crate) const MOST_LIVE: usize = 1_000_000;
/// From here on there is a point at every power of ten.
const FIRST: usize = 10_000;

/// A cost that must not grow.
#[derive(Debug)]
pub(crate) struct Cost {
    /// Its name in the document.
    pub(crate) name: &'static str,
    /// What is done.
    pub(crate) what: &'static str,
    /// What there is more and more of.
    pub(crate) of: &'static str,
}

const fn cost(name: &'static str, what: &'static str, of: &'static str) -> Cost {
    Cost { name, what, of }
}

/// All of them. Times are of an execution that is run or claimed, of a slot that is fired, of a page.
pub(crate) const COSTS: &[Cost] = &[
    cost("run", "run", "history"),
    cost("list", "first page", "history"),
    cost("list_failed", "page of failures", "history"),
    cost("list_task", "page of a task", "history"),
    cost("list_deep", "page far back", "history"),
    cost("claim", "claim", "backlog"),
    cost("run_backlog", "run", "backlog"),
    cost("tick", "fire", "configs"),
];

/// A cost at a size.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    cost: &'static str,
    size: usize,
    us: f64,
    /// The same in CPU time of this process, where that can be told apart.
    cpu_us: Option<f64>,
}

impl Point {
    fn document(&self) -> Value {
        let mut document = json!({"cost": self.cost, "size": self.size, "us": rounded(self.us)});
        if let Some(cpu_us) = self.cpu_us {
            document["cpu_us"] = rounded(cpu_us).into();
        }
        document
    }
}

/// Measures and returns the document; `progress` hears what is being done.
pub(crate) fn growth(
    options: &GrowthOptions,
    progress: &dyn Fn(String),
) -> Result<Value, BenchError> {
    let lab = Lab::new(&options.common)?;
    progress("compiling the plugin".to_owned());
    let points = lab.measured(async {
        let mut points = history::measure(&lab, options, progress).await?;
        points.extend(backlog::measure(&lab, options, progress).await?);
        points.extend(configs::measure(&lab, options, progress).await?);
        Ok::<_, BenchError>(points)
    })?;
    Ok(json!({
        "points": points.iter().map(Point::document).collect::<Vec<_>>(),
        "growth": grown(&points),
        "up_to": options.up_to,
        "tasks": options.tasks,
        "due": options.due,
        "rounds": options.rounds,
        "slots": lab.slots,
        "store": lab.store_name(),
        "optimised": !cfg!(debug_assertions),
    }))
}

/// How many times its first point the last one of each cost is.
fn grown(points: &[Point]) -> Map<String, Value> {
    let ratio = |cost: &Cost| {
        let mut of = points.iter().filter(|point| point.cost == cost.name);
        let first = of.next()?;
        let ratio = of.next_back()?.us / first.us.max(1e-9);
        Some((cost.name.to_owned(), rounded(ratio).into()))
    };
    COSTS.iter().filter_map(ratio).collect()
}

/// Where points are: at nothing, at every power of ten from [`FIRST`] on, and at `most`.
fn sizes(most: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(FIRST), |size| size.checked_mul(10));
    let mut sizes = vec![0];
    sizes.extend(powers.take_while(|size| *size < most));
    sizes.push(most);
    sizes
}

/// Enqueues and runs executions; microseconds of one, by the wall clock and of CPU.
async fn run(lab: &Lab, host: &LabHost, options: &GrowthOptions) -> Result<(f64, f64), BenchError> {
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        drain::fill(host, options.tasks).await?;
        let before = process::cpu_time()?;
        wall.push(1e6 / drain::empty(lab, host, options.tasks).await?);
        let used = process::cpu_time()?.saturating_sub(before);
        cpu.push(used.as_secs_f64() * 1e6 / options.tasks as f64);
    }
    Ok((median(&wall), median(&cpu)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_at_powers_of_ten_and_at_the_end() {
        assert_eq!(sizes(1_000_000), [0, 10_000, 100_000, 1_000_000]);
        assert_eq!(sizes(25_000), [0, 10_000, 25_000]);
        assert_eq!(sizes(300), [0, 300]);
    }

    #[test]
    fn growth_is_the_last_point_over_the_first() {
        let point = |cost, size, us| Point {
            cost,
            size,
            us,
            cpu_us: None,
        };
        let points = [
            point("run", 0, 80.0),
            point("run", 10, 800.0),
            point("run", 100, 120.0),
            point("list", 100, 7.0),
        ];
        assert_eq!(Value::Object(grown(&points)), json!({"run": 1.5}));
    }
}

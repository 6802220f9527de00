//! `bench`: flags and figures of [`crate::bench`].

use super::failure::{Exit, Failure, Outcome};
use super::render::{Facts, Paint, Style};
use super::task_trigger::bar;
use super::{Global, print};
use crate::bench::{self, BenchError, DrainOptions, LatencyOptions, Options, ScheduleOptions};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// How fast a full queue is emptied, against the engine alone
    Drain(DrainArguments),
    /// From a trigger to the start, and to the recorded end, on an idle host
    Latency(LatencyArguments),
    /// Whether every slot of many cron tasks fires once, and how late
    Schedule(ScheduleArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Executions at once. Many, as short tasks want it: a claim and a flush of the disk serve a batch
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// Executions in the queue
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    tasks: u32,
    /// How often all is measured; medians are printed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

#[derive(Debug, Args)]
pub(crate) struct LatencyArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Executions at once [default: 8 for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: Option<u32>,
    /// Triggers, one after another
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tasks: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Executions at once [default: 8 for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: Option<u32>,
    /// Cron tasks in all
    #[arg(long, visible_alias = "tasks", value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    configs: u32,
    /// How many of them are due in each second
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    due_per_second: u32,
    /// For so many seconds
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3000))]
    seconds: u32,
}

#[derive(Debug, Args)]
struct CommonArguments {
    /// The component to run, with parameters {} [default: an embedded hello]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Where to make the database: sqlite:FILE, or postgres://USER@HOST/NAME, in a schema that is dropped afterwards
    /// [default: a file in a temporary directory]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl CommonArguments {
    fn options(self, slots: u32) -> Options {
        Options {
            plugin: self.plugin,
            database_url: self.database_url,
            slots,
        }
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Refused(detail) => Self::refused(detail),
            BenchError::Failed(detail) => Self::failed(detail),
        }
    }
}

pub(crate) fn run(global: &Global, verb: Verb) -> Outcome {
    let bar = bar();
    let progress = |what: String| bar.set_message(what);
    let (document, human): (Value, fn(&Value) -> String) = match verb {
        Verb::Drain(arguments) => {
            let options = DrainOptions {
                common: arguments.common.options(arguments.slots),
                tasks: arguments.tasks as usize,
                runs: arguments.runs as usize,
            };
            (bench::drain(&options, &progress)?, render_drain)
        }
        Verb::Latency(arguments) => {
            let slots = arguments.slots.unwrap_or(8 * bench::cores());
            let options = LatencyOptions {
                common: arguments.common.options(slots),
                tasks: arguments.tasks as usize,
            };
            (bench::latency(&options, &progress)?, render_latency)
        }
        Verb::Schedule(arguments) => {
            let slots = arguments.slots.unwrap_or(8 * bench::cores());
            let options = ScheduleOptions {
                common: arguments.common.options(slots),
                configs: arguments.configs as usize,
                due_per_second: arguments.due_per_second as usize,
                seconds: arguments.seconds as usize,
            };
            (bench::schedule(&options, &progress)?, render_schedule)
        }
    };
    bar.finish_and_clear();
    if global.json {
        print(&format!("{document}\n"))?;
    } else {
        print(&human(&document))?;
    }
    Ok(Exit::Done)
}

fn render_drain(figures: &Value) -> String {
    let style = Style::of_stdout();
    let number = |key: &str| figures[key].as_f64().unwrap_or(0.0);
    let rate = |key: &str| format!("{:>10.0} a second", number(key));
    let mut facts = Facts::default();
    facts
        .add("plain engine", rate("plain_per_second"))
        .add(
            "our sandbox",
            format!(
                "{}, {:.2} x plain",
                rate("bare_per_second"),
                number("bare_over_plain")
            ),
        )
        .add("enqueue", rate("enqueue_per_second"))
        .add(
            "by single calls",
            format!(
                "{}, {} clients of REST",
                rate("enqueue_single_per_second"),
                figures["enqueue_clients"]
            ),
        )
        .add(
            "by one call",
            format!(
                "{}, {} of REST",
                rate("enqueue_batch_per_second"),
                figures["enqueue_batch"]
            ),
        )
        .add(
            "drain",
            format!(
                "{}, {:.2} x plain",
                rate("drain_per_second"),
                number("drain_over_plain")
            ),
        )
        .add(
            "overhead",
            format!("{:>10.1} µs of a core an execution", number("overhead_us")),
        )
        .add(
            "measured",
            format!(
                "{} executions, {} cores, {} slots, {}, medians of {}",
                figures["tasks"],
                figures["workers"],
                figures["slots"],
                figures["store"].as_str().unwrap_or_default(),
                figures["runs"].as_array().map_or(0, Vec::len)
            ),
        );
    facts.render(style) + &warning(figures, style)
}

fn render_latency(figures: &Value) -> String {
    let style = Style::of_stdout();
    let spread = |key: &str| {
        let figure = |share: &str| figures[key][share].as_f64().unwrap_or(0.0);
        format!("p50 {:.2} ms, p99 {:.2} ms", figure("p50"), figure("p99"))
    };
    let mut facts = Facts::default();
    facts
        .add("started after", spread("start_ms"))
        .add("recorded after", spread("recorded_ms"));
    if figures["pickup_other_ms"].is_object() {
        facts.add("on another host", spread("pickup_other_ms"));
    }
    facts.add(
        "measured",
        format!("{} triggers on an idle host", figures["tasks"]),
    );
    facts.render(style) + &warning(figures, style)
}

fn render_schedule(figures: &Value) -> String {
    let style = Style::of_stdout();
    let spread = |key: &str| {
        let figure = |share: &str| figures[key][share].as_f64().unwrap_or(0.0);
        format!(
            "p50 {:.2} ms, p99 {:.2} ms, at most {:.2} ms",
            figure("p50"),
            figure("p99"),
            figure("max")
        )
    };
    let mut facts = Facts::default();
    facts
        .add(
            "fired",
            format!(
                "{} of {} slots, {} doubled, {} missed",
                figures["fired"], figures["due"], figures["doubled"], figures["missed"]
            ),
        )
        .add("enqueued after", spread("lateness_ms"))
        .add("started after", spread("started_ms"))
        .add(
            "measured",
            format!(
                "{} cron tasks, {} due each second for {} s, {}",
                figures["configs"],
                figures["due_per_second"],
                figures["seconds"],
                figures["store"].as_str().unwrap_or_default()
            ),
        );
    facts.render(style) + &warning(figures, style)
}

/// Figures of a debug build say little.
fn warning(figures: &Value, style: Style) -> String {
    if figures["optimised"] == false {
        let text =
            "This build is not optimised: its figures say little. Use cargo build --release.";
        format!("{}\n", style.paint(Paint::Warning, text))
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_shown_against_plain() {
        let figures = json!({"plain_per_second": 15_000.0, "bare_per_second": 60_000.0, "bare_over_plain": 4.0,
            "enqueue_per_second": 40_000.0, "enqueue_single_per_second": 5_500.0, "enqueue_clients": 16,
            "enqueue_batch_per_second": 90_000.0, "enqueue_batch": 10_000, "drain_per_second": 12_000.0, "drain_over_plain": 0.8,
            "overhead_us": 133.33, "tasks": 10, "workers": 2, "slots": 16, "store": "sqlite", "runs": [{}],
            "optimised": true});
        let text = render_drain(&figures);
        for part in [
            "15000 a second",
            "4.00 x plain",
            "5500 a second, 16 clients",
            "90000 a second, 10000 of REST",
            "0.80 x plain",
            "133.3 µs",
            "medians of 1",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
        assert!(!text.contains("not optimised"));
        let spread = json!({"p50": 3.0, "p99": 9.5, "max": 12.25});
        let figures = json!({"due": 30_000, "fired": 29_999, "doubled": 0, "missed": 1, "lateness_ms": spread,
            "started_ms": spread, "configs": 100_000, "due_per_second": 1000, "seconds": 30, "store": "sqlite"});
        let text = render_schedule(&figures);
        for part in [
            "29999 of 30000 slots, 0 doubled, 1 missed",
            "at most 12.25 ms",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
        let figures = json!({"start_ms": {"p50": 0.5, "p99": 2.0}, "recorded_ms": {"p50": 1.0, "p99": 4.0},
            "tasks": 300, "optimised": false});
        let text = render_latency(&figures);
        assert!(text.contains("p50 0.50 ms, p99 2.00 ms") && text.contains("not optimised"));
    }
}

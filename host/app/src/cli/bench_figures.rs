//! Figures of [`crate::bench`] as people see them.

use super::render::{Facts, Paint, Style};
use super::words;
use crate::bench::COSTS;
use serde_json::Value;

pub(super) fn drain(figures: &Value) -> String {
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
    for point in items(&figures["payload"]["points"]) {
        let written = match point["written_bytes"].as_f64() {
            Some(written) => format!(", {written:.0} bytes written"),
            None => String::new(),
        };
        facts.add(
            &format!("{} bytes", point["bytes"]),
            format!(
                "{:>10.0} a second{written}; as parameters, and as many in the result",
                point["drain_per_second"].as_f64().unwrap_or(0.0)
            ),
        );
    }
    facts.render(style) + &warning(figures, style)
}

pub(super) fn latency(figures: &Value) -> String {
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

pub(super) fn schedule(figures: &Value) -> String {
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

pub(super) fn growth(figures: &Value) -> String {
    let style = Style::of_stdout();
    let mut facts = Facts::default();
    for cost in COSTS {
        let points = items(&figures["points"]).iter();
        let points = points.filter(|point| point["cost"] == cost.name);
        let shown: Vec<String> = points
            .map(|point| {
                format!(
                    "{:.1} ({})",
                    point["us"].as_f64().unwrap_or(0.0),
                    point["size"]
                )
            })
            .collect();
        if let Some(growth) = figures["growth"][cost.name].as_f64() {
            let label = format!("{}, by {}", cost.what, cost.of);
            facts.add(&label, format!("{} µs, {growth:.2} x", shown.join(" → ")));
        } else if let Some(only) = shown.first() {
            facts.add(
                &format!("{}, by {}", cost.what, cost.of),
                format!("{only} µs"),
            );
        }
    }
    facts.add(
        "measured",
        format!(
            "{} executions and {} due slots a point, medians of {}, {}",
            figures["tasks"],
            figures["due"],
            figures["rounds"],
            figures["store"].as_str().unwrap_or_default()
        ),
    );
    facts.render(style) + &warning(figures, style)
}

pub(super) fn waiting(figures: &Value) -> String {
    let style = Style::of_stdout();
    let number = |key: &str| figures[key].as_f64().unwrap_or(0.0);
    let mut facts = Facts::default();
    facts
        .add(
            "waiting",
            format!("{} runs in HTTP calls", figures["waiting"]),
        )
        .add(
            "resident",
            format!(
                "{:.0} MiB before, {:.0} while they wait, {:.0} at most; {:.0} KiB each",
                number("resident_before_mib"),
                number("resident_waiting_mib"),
                number("resident_peak_mib"),
                number("resident_each_kib")
            ),
        )
        .add(
            "computing",
            format!(
                "{:.1} ms alone, {:.1} ms beside them, {:.2} x",
                number("alone_ms"),
                number("beside_ms"),
                number("beside_over_alone")
            ),
        )
        .add(
            "measured",
            format!(
                "{} runs of {} fuel each, {}",
                figures["loops"],
                figures["fuel"],
                figures["store"].as_str().unwrap_or_default()
            ),
        );
    facts.render(style) + &warning(figures, style)
}

pub(super) fn guest(figures: &Value) -> String {
    let style = Style::of_stdout();
    let number = |key: &str| figures[key].as_f64().unwrap_or(0.0);
    let size = |key: &str| words::bytes(figures[key].as_u64().unwrap_or(0));
    let metered = |of: &Value| match of["on_over_off"].as_f64() {
        Some(ratio) => format!(
            "{} ms without, {} ms with: {ratio:.3} x",
            of["off_ms"], of["on_ms"]
        ),
        None => format!(
            "not measured: {}",
            of["skipped"].as_str().unwrap_or_default()
        ),
    };
    let mut facts = Facts::default();
    facts
        .add(
            "compiled",
            format!(
                "in {:.0} ms, {} from {}",
                number("compile_ms"),
                size("compiled_bytes"),
                size("size_bytes")
            ),
        )
        .add(
            "loaded",
            format!(
                "in {:.1} ms from disk, first run {:.2} ms",
                number("load_ms"),
                number("first_run_ms")
            ),
        )
        .add(
            "a run",
            format!(
                "p50 {:.3} ms, p99 {:.3} ms, {} fuel, {}",
                figures["run_ms"]["p50"].as_f64().unwrap_or(0.0),
                figures["run_ms"]["p99"].as_f64().unwrap_or(0.0),
                figures["fuel"],
                size("memory_peak_bytes")
            ),
        )
        .add("fuel and epochs", metered(&figures["metering"]["guest"]))
        .add("the same, a loop", metered(&figures["metering"]["loop"]))
        .add(
            "measured",
            format!("{} runs, {} loads", figures["runs"], figures["loads"]),
        );
    facts.render(style) + &warning(figures, style)
}

pub(super) fn host(figures: &Value) -> String {
    let style = Style::of_stdout();
    let number = |key: &str| figures[key].as_f64().unwrap_or(0.0);
    let mut facts = Facts::default();
    facts
        .add(
            "first run",
            format!(
                "starts after {:.0} ms, has ended after {:.0}",
                number("first_start_ms"),
                number("first_end_ms")
            ),
        )
        .add("ready", format!("after {:.0} ms", number("ready_ms")))
        .add(
            "at rest",
            format!(
                "{:.3} % of a core over {} s, {:.1} MiB resident ({:.1} at most)",
                number("idle_cpu_percent"),
                figures["idle_seconds"],
                number("resident_mib"),
                number("resident_peak_mib")
            ),
        )
        .add(
            "program",
            words::bytes(figures["binary_bytes"].as_u64().unwrap_or(0)),
        )
        .add(
            "measured",
            format!(
                "{} plugins, medians of {} starts",
                figures["plugins"],
                items(&figures["starts"]).len()
            ),
        );
    facts.render(style) + &warning(figures, style)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
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
        let text = drain(&figures);
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
        let text = schedule(&figures);
        for part in [
            "29999 of 30000 slots, 0 doubled, 1 missed",
            "at most 12.25 ms",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
        let figures = json!({"start_ms": {"p50": 0.5, "p99": 2.0}, "recorded_ms": {"p50": 1.0, "p99": 4.0},
            "tasks": 300, "optimised": false});
        let text = latency(&figures);
        assert!(text.contains("p50 0.50 ms, p99 2.00 ms") && text.contains("not optimised"));
    }

    #[test]
    fn what_was_measured_of_guests_and_hosts_is_shown() {
        let points = json!([{"cost": "run", "size": 0, "us": 90.04}, {"cost": "run", "size": 10_000, "us": 93.0}]);
        let text = growth(
            &json!({"points": points, "growth": {"run": 1.033}, "tasks": 20, "due": 5, "rounds": 3,
            "store": "sqlite", "optimised": true}),
        );
        assert!(
            text.contains("run, by history") && text.contains("90.0 (0) → 93.0 (10000) µs, 1.03 x"),
            "{text}"
        );
        let text = waiting(
            &json!({"waiting": 2000, "resident_before_mib": 60.0, "resident_waiting_mib": 700.4,
            "resident_peak_mib": 720.0, "resident_each_kib": 327.9, "alone_ms": 100.0, "beside_ms": 104.0,
            "beside_over_alone": 1.04, "loops": 7, "fuel": 5, "store": "sqlite"}),
        );
        assert!(
            text.contains("700 while they wait") && text.contains("104.0 ms beside them, 1.04 x"),
            "{text}"
        );
        let ratio = json!({"off_ms": 10.0, "on_ms": 12.5, "on_over_off": 1.25});
        let text = guest(
            &json!({"compile_ms": 900.4, "compiled_bytes": 2048, "size_bytes": 1024, "load_ms": 3.04,
            "run_ms": {"p50": 0.016, "p99": 0.04}, "fuel": 7, "memory_peak_bytes": 65536, "runs": 9, "loads": 5,
            "metering": {"guest": {"skipped": "it wants the network"}, "loop": ratio}}),
        );
        for part in [
            "in 900 ms",
            "p50 0.016 ms",
            "not measured: it wants the network",
            "10.0 ms without, 12.5 ms with: 1.250 x",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
        let text = host(
            &json!({"first_start_ms": 120.2, "first_end_ms": 121.0, "ready_ms": 110.0, "idle_cpu_percent": 0.12,
            "idle_seconds": 20.0, "resident_mib": 33.3, "resident_peak_mib": 40.0, "binary_bytes": 1048576,
            "plugins": 50, "starts": [{}, {}]}),
        );
        assert!(
            text.contains("starts after 120 ms")
                && text.contains("0.120 % of a core")
                && text.contains("of 2 starts"),
            "{text}"
        );
    }
}

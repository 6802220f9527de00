//! `usage`: what was used, fit for a bill.

use super::failure::Outcome;
use super::render::{Style, Table, text_of};
use super::{Global, Remote, words};
use clap::Args;
use serde_json::Value;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The first day, in UTC, such as 2026-03-01 [default: 30 days before --to]
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The day after the last [default: tomorrow]
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
}

pub(crate) fn run(global: &Global, remote: &Remote, arguments: Arguments) -> Outcome {
    let query: Vec<(&str, String)> = [
        ("from", arguments.from),
        ("to", arguments.to),
        ("tenant", global.tenant.clone()),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect();
    let answer = remote.client.get("/v1/usage", &query)?;
    remote.show(&answer, render)
}

fn render(report: &Value) -> String {
    let none = Vec::new();
    let items = report["items"].as_array().unwrap_or(&none);
    let days = format!(
        "From {} up to {} (UTC, that day not among them)",
        text_of(report, "from"),
        text_of(report, "to")
    );
    if items.is_empty() {
        return format!("{days} nothing ran.\n");
    }
    let mut table = Table::new(&[
        "DAY",
        "TENANT",
        "TYPE",
        "RUNS>",
        "FAILED>",
        "FUEL>",
        "CPU>",
        "WALL>",
        "SENT>",
        "RECEIVED>",
        "LOGS>",
        "RESULTS>",
    ]);
    let mut row = |day: &str, tenant: &str, task_type: &str, tally: &Value| {
        let number = |key: &str| tally[key].as_u64().unwrap_or(0);
        let seconds = |key: &str| words::span(tally[key].as_f64().unwrap_or(0.0));
        table.row(vec![
            day.into(),
            tenant.into(),
            task_type.into(),
            words::count(number("runs")).into(),
            words::count(number("failed")).into(),
            words::count(number("fuel")).into(),
            seconds("cpu_seconds").into(),
            seconds("wall_seconds").into(),
            words::bytes(number("http_request_bytes")).into(),
            words::bytes(number("http_response_bytes")).into(),
            words::bytes(number("log_bytes")).into(),
            words::bytes(number("result_bytes")).into(),
        ]);
    };
    for item in items {
        let text = |key| text_of(item, key);
        row(&text("day"), &text("tenant"), &text("task_type"), item);
    }
    row("total", "", "", &report["total"]);
    format!("{days}\n{}", table.render(Style::of_stdout()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_has_a_line_a_day_and_a_total() {
        let tally = json!({"runs": 1200, "failed": 3, "fuel": 5_000_000, "cpu_seconds": 1.5, "log_bytes": 2048});
        let mut item = tally.clone();
        item["day"] = "2026-03-01".into();
        item["tenant"] = "acme".into();
        item["task_type"] = "mail".into();
        let text = render(
            &json!({"from": "2026-03-01", "to": "2026-03-02", "items": [item], "total": tally}),
        );
        for part in [
            "From 2026-03-01 up to 2026-03-02",
            "acme",
            "1 200",
            "2 KiB",
            "1.5 s",
            "total",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let empty = render(&json!({"from": "a", "to": "b", "items": [], "total": {}}));
        assert!(empty.contains("nothing ran"), "{empty}");
    }
}

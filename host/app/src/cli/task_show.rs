//! Task configs as people read them.

use super::render::{Cell, Facts, Paint, Style, Table, instant_of, pretty, text_of};
use super::words;
use horarium_model::Timestamp;
use serde_json::Value;

/// When a config fires, in a few words.
pub(crate) fn schedule(task: &Value) -> String {
    let config = &task["schedule_config"];
    match task["scheduler_type"].as_str() {
        Some("cron") => {
            let zone = text_of(config, "timezone");
            let expression = text_of(config, "cron_expression");
            if zone == "UTC" {
                expression
            } else {
                format!("{expression} {zone}")
            }
        }
        Some("date") => match instant_of(config, "run_at") {
            Some(at) => format!("once, {}", words::instant(at)),
            None => "once".to_owned(),
        },
        _ => "by hand".to_owned(),
    }
}

fn next_fire(task: &Value, now: Timestamp) -> String {
    if task["paused"] == true {
        return "paused".to_owned();
    }
    match instant_of(task, "next_fire_at") {
        Some(at) => words::from_now(at, now),
        None if task["is_scheduled"] == true => "never again".to_owned(),
        None => "-".to_owned(),
    }
}

/// A list of configs.
pub(crate) fn table(tasks: &[Value], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "ID>",
        "KEY",
        "NAME",
        "TYPE",
        "SCHEDULE",
        "NEXT",
        "PRIORITY>",
        "OVERLAP+",
        "RETRIES+>",
        "TIMEOUT+>",
        "DECLARED BY+",
        "CHANGED+",
        "PAUSED BECAUSE+",
    ]);
    for task in tasks {
        let next = next_fire(task, now);
        let paint = if next == "paused" {
            Paint::Warning
        } else {
            Paint::Plain
        };
        table.row(vec![
            text_of(task, "id").into(),
            text_of(task, "key").into(),
            text_of(task, "name").into(),
            text_of(task, "task_type").into(),
            schedule(task).into(),
            Cell::painted(paint, next),
            text_of(task, "priority").into(),
            text_of(task, "overlap").into(),
            text_of(task, "max_retries").into(),
            text_of(task, "timeout_seconds").into(),
            text_of(task, "declared_by").into(),
            instant_of(task, "updated_at")
                .map(words::instant)
                .unwrap_or_default()
                .into(),
            text_of(task, "pause_reason").into(),
        ]);
    }
    table
}

/// One config, what is at its default left out.
pub(crate) fn describe(task: &Value, now: Timestamp) -> String {
    let mut facts = Facts::default();
    facts
        .add("id", text_of(task, "id"))
        .add("key", text_of(task, "key"))
        .add("declared by", text_of(task, "declared_by"))
        .add("name", text_of(task, "name"))
        .add("type", text_of(task, "task_type"))
        .add("version pinned", text_of(task, "plugin_version"))
        .add("schedule", schedule(task));
    if task["is_scheduled"] == true {
        let at = instant_of(task, "next_fire_at").filter(|_| task["paused"] != true);
        let at = at.map(|at| format!(" ({})", words::instant(at)));
        facts.add("next fire", next_fire(task, now) + &at.unwrap_or_default());
    }
    if task["paused"] == true {
        let reason = text_of(task, "pause_reason");
        facts.add(
            "paused",
            if reason.is_empty() {
                "yes".into()
            } else {
                reason
            },
        );
    }
    if let Some(last) = instant_of(task, "last_slot") {
        facts.add("last slot", words::instant(last));
    }
    if let Some(skipped) = task.get("open_skip").filter(|skip| skip.is_object()) {
        facts.add(
            "skipping",
            format!(
                "{} slots: {}",
                text_of(skipped, "count"),
                text_of(skipped, "reason")
            ),
        );
    }
    facts
        .add("parameters", pretty(&task["parameters"]))
        .add(
            "attempts",
            task["max_retries"]
                .as_u64()
                .map(|retries| format!("up to {}", retries + 1))
                .unwrap_or_default(),
        )
        .add(
            "timeout",
            task["timeout_seconds"]
                .as_f64()
                .map(words::span)
                .unwrap_or_default(),
        )
        .add("priority", text_of(task, "priority"))
        .add("overlap", text_of(task, "overlap"))
        .add("limits", limits(&task["limits"]));
    if task["concurrency"].is_object() {
        facts.add("concurrency", task["concurrency"].to_string());
    }
    for step in task["chain"].as_array().into_iter().flatten() {
        let on = step["on"].as_array().into_iter().flatten();
        let on: Vec<&str> = on.filter_map(|end| end.as_str()).collect();
        let target = text_of(step, "task");
        facts.add("then", format!("task {target} when {}", on.join(" or ")));
    }
    facts.add("version", text_of(task, "version"));
    facts.render(Style::of_stdout())
}

/// Limits in their units.
pub(crate) fn limits(limits: &Value) -> String {
    let Some(map) = limits.as_object() else {
        return String::new();
    };
    let items: Vec<String> = map
        .iter()
        .filter_map(|(name, value)| {
            let number = value.as_u64()?;
            let shown = match name.strip_suffix("_bytes") {
                Some(_) => words::bytes(number),
                None => words::count(number),
            };
            Some(format!("{name} {shown}"))
        })
        .collect();
    items.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("an instant")
    }

    #[test]
    fn a_list_tells_when_each_fires_next() {
        let cron = json!({"id": 1, "name": "a", "task_type": "t", "scheduler_type": "cron", "is_scheduled": true,
            "schedule_config": {"cron_expression": "@daily", "timezone": "Europe/Berlin"},
            "next_fire_at": "2026-01-01T00:03:00Z", "paused": false, "priority": 0});
        let text = table(std::slice::from_ref(&cron), now()).render(Style::of_stdout());
        assert!(text.contains("@daily Europe/Berlin  in 3 min"), "{text}");
        let mut paused = cron;
        paused["paused"] = true.into();
        assert!(
            table(&[paused], now())
                .render(Style::of_stdout())
                .contains("paused")
        );
    }

    #[test]
    fn one_task_shows_limits_in_their_units() {
        let task = json!({"id": 1, "limits": {"memory_bytes": 16 << 20, "fuel": 1_000_000_000},
            "scheduler_type": "manual", "parameters": {"a": 1}, "max_retries": 3, "timeout_seconds": 60});
        let text = describe(&task, now());
        assert!(
            text.contains("fuel 1 000 000 000, memory_bytes 16 MiB"),
            "{text}"
        );
        assert!(text.contains("up to 4") && text.contains("1 min") && text.contains("by hand"));
    }
}

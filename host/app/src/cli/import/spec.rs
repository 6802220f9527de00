//! Making a spec that the server takes of one that another system took.

use horarium_model::text::one_line;
use horarium_model::{Invalid, TaskSpec, Timestamp};
use serde_json::{Map, Value, json};

/// Longest reason of a pause that is made up here.
const MAX_REASON: usize = 450;

/// Pauses a task, with the reason; an earlier one stays in front.
pub(super) fn pause(task: &mut Map<String, Value>, reason: &str) {
    let before = task.get("pause_reason").and_then(Value::as_str);
    let reason = match before.filter(|before| !before.is_empty()) {
        Some(before) => format!("{before}; {reason}"),
        None => reason.to_owned(),
    };
    task.insert("paused".into(), true.into());
    task.insert("pause_reason".into(), one_line(&reason, MAX_REASON).into());
}

/// Takes the schedule away from a task that cannot keep it, and pauses it with the reason.
pub(super) fn unschedule(task: &mut Map<String, Value>, reason: &str) {
    task.remove("schedule_config");
    task.insert("scheduler_type".into(), "manual".into());
    pause(task, reason);
}

/// What the model refuses is left out, or, where that would change when it fires, paused; both is noted.
pub(super) fn settle(task: &mut Map<String, Value>, notes: &mut Vec<String>, now: Timestamp) {
    // Each round mends at least one key, of which there are few.
    for _ in 0..TaskSpec::KEYS.len() {
        let Err(Invalid(problems)) = TaskSpec::from_json(&Value::Object(task.clone()), now, None)
        else {
            return;
        };
        let of_schedule = |pointer: &str| {
            pointer.starts_with("/schedule_config") || pointer.starts_with("/scheduler_type")
        };
        let told: Vec<String> = problems
            .iter()
            .filter(|problem| of_schedule(&problem.pointer))
            .map(ToString::to_string)
            .collect();
        if !told.is_empty() {
            let schedule = task
                .get("schedule_config")
                .cloned()
                .unwrap_or_else(|| json!({}));
            let reason = format!(
                "its schedule {schedule} is not taken here: {}",
                told.join("; ")
            );
            notes.push(one_line(&reason, MAX_REASON));
            unschedule(task, &reason);
            continue;
        }
        for problem in &problems {
            let key = problem.pointer.split('/').nth(1).unwrap_or_default();
            if let Some(value) = task.remove(key) {
                notes.push(one_line(
                    &format!("{key} {value} is left out: {}", problem.detail),
                    MAX_REASON,
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(task: Value) -> (Map<String, Value>, Vec<String>) {
        let mut task = task.as_object().cloned().expect("an object");
        let mut notes = Vec::new();
        let now = "2026-01-01T00:00:00Z".parse().expect("an instant");
        settle(&mut task, &mut notes, now);
        TaskSpec::from_json(&Value::Object(task.clone()), now, None).expect("is taken");
        (task, notes)
    }

    #[test]
    fn what_is_refused_is_left_out_or_paused() {
        let good = json!({"name": "n", "task_type": "t", "key": "k", "scheduler_type": "cron",
            "schedule_config": {"cron_expression": "0 3 * * *"}});
        assert_eq!(
            settled(good.clone()),
            (good.as_object().cloned().expect("an object"), vec![])
        );
        let odd = json!({"name": "n", "task_type": "t", "key": "k", "scheduler_type": "cron", "max_retries": 1000,
            "timeout_seconds": 0, "pause_reason": "by hand", "paused": true,
            "schedule_config": {"cron_expression": "0 0 L * *"}});
        let (task, notes) = settled(odd);
        assert_eq!(
            (&task["scheduler_type"], &task["paused"]),
            (&json!("manual"), &json!(true))
        );
        let reason = task["pause_reason"].as_str().expect("a reason");
        assert!(
            reason.starts_with("by hand; its schedule") && reason.contains("0 0 L * *"),
            "{reason}"
        );
        assert!(!task.contains_key("max_retries") && !task.contains_key("timeout_seconds"));
        assert_eq!(notes.len(), 3, "{notes:?}");
    }
}

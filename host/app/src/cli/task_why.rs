//! `task why`: the reason a task does not fire now, and what became of a slot.

use super::failure::Outcome;
use super::render::{Facts, Style, instant_of, text_of};
use super::task::TaskArgument;
use super::{Remote, now, words};
use crate::client::Query;
use clap::Args;
use horarium_model::Timestamp;
use serde_json::Value;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    task: TaskArgument,
    /// Ask about this slot [default: the newest one]
    #[arg(long, value_name = "INSTANT")]
    slot: Option<String>,
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Outcome {
    let query: Query<'_> = arguments
        .slot
        .iter()
        .map(|slot| ("slot", slot.clone()))
        .collect();
    let answer = remote.client.get(&arguments.task.path("/why"), &query)?;
    remote.show(&answer, |why| render(why, now()))
}

fn render(why: &Value, now: Timestamp) -> String {
    let mut facts = Facts::default();
    facts
        .add("reason", text_of(why, "reason"))
        .add("because", text_of(why, "message"));
    if let Some(at) = instant_of(why, "next_fire_at") {
        let when = format!("{} ({})", words::from_now(at, now), words::instant(at));
        facts.add("next fire", when);
    }
    if let Some(slot) = why.get("slot").filter(|slot| slot.is_object()) {
        let at = instant_of(slot, "slot").map(words::instant);
        facts
            .add("slot", at.unwrap_or_default())
            .add("what became", text_of(slot, "reason"))
            .add("because", text_of(slot, "message"));
    }
    facts.render(Style::of_stdout())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reason_and_slot_are_told() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("an instant");
        let text = render(
            &json!({"id": 7, "state": "held", "reason": "paused", "message": "it is paused (holiday)",
                "next_slot": "2026-01-01T01:00:00Z", "next_fire_at": "2026-01-01T01:00:00Z",
                "slot": {"slot": "2025-12-31T23:00:00Z", "reason": "fired", "message": "it fired", "task_id": "x"}}),
            now,
        );
        for part in [
            "paused",
            "it is paused (holiday)",
            "2026-01-01 01:00",
            "fired",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
    }
}

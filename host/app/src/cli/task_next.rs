//! `task next`: when a task, or a cron expression nobody saved yet, fires.

use super::failure::{Failure, Outcome};
use super::render::{Style, Table, instant_of, text_of};
use super::{Global, Remote, now, print, words};
use crate::client::{Query, segment};
use clap::{ArgGroup, Args};
use horarium_model::cron::CronSchedule;
use horarium_model::schedule::wire;
use horarium_model::{Invalid, Problem, Timestamp, input};
use serde_json::{Value, json};

/// Most slots shown at once.
const MAX_COUNT: i64 = 1000;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["task", "cron"])))]
pub(crate) struct Arguments {
    /// The task's id or key
    #[arg(value_name = "TASK")]
    task: Option<String>,
    /// A cron expression instead of a task
    #[arg(long, value_name = "EXPR")]
    cron: Option<String>,
    /// The zone the expression means, an IANA name
    #[arg(long, value_name = "ZONE", requires = "cron", default_value = "UTC")]
    timezone: String,
    /// How many, 1 to 1000
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5,
        allow_negative_numbers = true
    )]
    count: i64,
    /// Slots after this instant, itself excluded [default: now]
    #[arg(long, value_name = "INSTANT")]
    after: Option<String>,
}

/// Here for an expression, at the server for a task.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let Some(expression) = &arguments.cron else {
        return remote(&Remote::new(global)?, arguments);
    };
    let body = local(expression, arguments, now())?;
    if global.json {
        print(&format!("{body}\n"))?;
    } else {
        print(&render(&body, now()))?;
    }
    Ok(super::Exit::Done)
}

/// The slots of a saved task.
pub(crate) fn remote(remote: &Remote, arguments: &Arguments) -> Outcome {
    let task = arguments.task.as_deref().unwrap_or_default();
    let mut query: Query<'_> = vec![("count", arguments.count.to_string())];
    query.extend(arguments.after.clone().map(|after| ("after", after)));
    let path = format!("/v1/tasks/{}/next", segment(task));
    let answer = remote.client.get(&path, &query)?;
    remote.show(&answer, |body| render(body, now()))
}

fn local(expression: &str, arguments: &Arguments, now: Timestamp) -> Result<Value, Failure> {
    let mut problems = Vec::new();
    if !(1..=MAX_COUNT).contains(&arguments.count) {
        let detail = format!("is {}; it must be from 1 to {MAX_COUNT}", arguments.count);
        problems.push(Problem::at("/count", detail));
    }
    let after = match arguments.after.as_deref().map(input::parse_instant) {
        Some(Err(detail)) => {
            problems.push(Problem::at("/after", detail));
            now
        }
        Some(Ok(after)) => after,
        None => now,
    };
    // Judged at `after`: whoever asks about the past means slots of the past.
    let schedule = CronSchedule::parse_at(expression, &arguments.timezone, 0, after.min(now));
    let schedule = match schedule {
        Ok(schedule) if problems.is_empty() => schedule,
        Ok(_) => return Err(Invalid(problems).into()),
        Err(error) => {
            let pointer = match error.field {
                Some("timezone") => "/timezone",
                _ => "/cron_expression",
            };
            problems.push(Problem::at(pointer, error.message).position(error.position));
            return Err(Invalid(problems).into());
        }
    };
    let count = usize::try_from(arguments.count).unwrap_or(1);
    let slots: Vec<Timestamp> = schedule.slots(after).take(count).collect();
    let mut before = after;
    let mut preview = Vec::with_capacity(slots.len());
    for slot in &slots {
        let note = schedule.remark(before, *slot);
        preview.push(json!({"slot": wire(*slot), "fires_at": wire(*slot), "note": note}));
        before = *slot;
    }
    let slots: Vec<String> = slots.into_iter().map(wire).collect();
    Ok(json!({"slots": slots, "preview": preview}))
}

fn render(body: &Value, now: Timestamp) -> String {
    let none = Vec::new();
    let items = body["preview"].as_array().unwrap_or(&none);
    if items.is_empty() {
        return "It does not fire again by itself.\n".to_owned();
    }
    let jittered = items.iter().any(|item| item["slot"] != item["fires_at"]);
    let headings: &[&str] = if jittered {
        &["SLOT", "FIRES AT", "FROM NOW", "NOTE"]
    } else {
        &["SLOT", "FROM NOW", "NOTE"]
    };
    let mut table = Table::new(headings);
    for item in items {
        let at = |key| {
            instant_of(item, key)
                .map(words::instant)
                .unwrap_or_default()
        };
        let mut row = vec![at("slot").into()];
        if jittered {
            row.push(at("fires_at").into());
        }
        let fires = instant_of(item, "fires_at");
        row.push(
            fires
                .map(|at| words::from_now(at, now))
                .unwrap_or_default()
                .into(),
        );
        row.push(text_of(item, "note").into());
        table.row(row);
    }
    table.render(Style::of_stdout())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Next {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn next(flags: &[&str]) -> Result<Value, Failure> {
        let flags = ["next", "--cron"].iter().chain(flags);
        let arguments = Next::try_parse_from(flags).expect("flags").arguments;
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("an instant");
        local(
            arguments.cron.as_deref().unwrap_or_default(),
            &arguments,
            now,
        )
    }

    #[test]
    fn slots_come_strictly_after_the_instant() {
        let body = next(&[
            "0 9 * * *",
            "--after",
            "2026-01-05T09:00:00Z",
            "--count",
            "2",
        ]);
        assert_eq!(
            body.map(|body| body["slots"].clone()),
            Ok(json!(["2026-01-06T09:00:00Z", "2026-01-07T09:00:00Z"]))
        );
        let body = next(&["0 9 * * *", "--timezone", "Europe/Berlin", "--count", "1"]);
        assert_eq!(
            body.map(|body| body["preview"].clone()),
            Ok(
                json!([{"slot": "2026-01-01T08:00:00Z", "fires_at": "2026-01-01T08:00:00Z", "note": null}])
            )
        );
    }

    #[test]
    fn a_change_of_the_clocks_is_noted_once() {
        let flags = [
            "30 2 * * *",
            "--timezone",
            "Europe/Berlin",
            "--after",
            "2026-03-28T00:00:00Z",
        ];
        let body = next(&flags).expect("slots");
        let notes: Vec<bool> = body["preview"]
            .as_array()
            .map(|items| items.iter().map(|item| item["note"].is_string()).collect())
            .unwrap_or_default();
        assert_eq!(notes, [false, true, false, false, false]);
        assert_eq!(
            body["preview"][1]["note"],
            "2026-03-29 02:30 does not exist in Europe/Berlin: clocks go from 02:00 to 03:00; it fires at the first instant after the gap"
        );
        assert_eq!(body["slots"][1], "2026-03-29T01:00:00Z");
    }

    #[test]
    fn refusals_name_field_and_position() {
        for (flags, pointer, position) in [
            (&["61 * * * *"][..], "/cron_expression", Some(0)),
            (&["* * *"], "/cron_expression", None),
            (&["0 0 31 2 *"], "/cron_expression", Some(4)),
            (&["@daily", "--timezone", "Mars/Base"], "/timezone", None),
            (
                &["@daily", "--after", "2026-01-01T00:00:00"],
                "/after",
                None,
            ),
            (&["@daily", "--count", "0"], "/count", None),
        ] {
            let failure = next(flags).expect_err("refused");
            let document: Value = serde_json::from_str(&failure.render(true)).expect("JSON");
            let error = &document["errors"][0];
            assert_eq!(failure.exit, super::super::Exit::Refused);
            assert_eq!(error["pointer"], pointer, "{document}");
            if let Some(position) = position {
                assert_eq!(error["position"], position, "{document}");
            }
        }
    }

    #[test]
    fn a_task_or_an_expression_is_needed() {
        assert!(Next::try_parse_from(["next"]).is_err());
        assert!(Next::try_parse_from(["next", "7", "--cron", "@daily"]).is_err());
        assert!(Next::try_parse_from(["next", "7"]).is_ok());
    }
}

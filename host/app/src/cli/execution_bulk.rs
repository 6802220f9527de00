//! `execution retry` and `execution cancel` by filter: in calls of many, until nothing is left.

use super::execution::FilterArguments;
use super::failure::{Exit, Failure, Outcome};
use super::render::text_of;
use super::task_trigger::bar;
use super::{Remote, print};
use clap::Args;
use serde_json::{Value, json};

/// Executions of one call that are told one by one.
const SHOWN: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct BulkArguments {
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
    /// Only tell which executions these are
    #[arg(long, conflicts_with = "task_id")]
    pub(crate) dry_run: bool,
}

/// What is done, in the words of the API and of people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deed {
    /// Last segment of the path.
    pub(crate) path: &'static str,
    /// Counts in the answer, with what they mean.
    pub(crate) counts: &'static [(&'static str, &'static str)],
}

/// Runs again.
pub(crate) const RETRY: Deed = Deed {
    path: "retry",
    counts: &[("retried", "run again")],
};
/// Ends.
pub(crate) const CANCEL: Deed = Deed {
    path: "cancel",
    counts: &[
        ("cancelled", "were cancelled"),
        ("requested", "were asked to end"),
        ("ended", "had ended by themselves meanwhile"),
    ],
};

/// Does it to every execution that fits.
pub(crate) fn run(
    remote: &Remote,
    deed: Deed,
    arguments: &BulkArguments,
    key: Option<&str>,
) -> Outcome {
    let filter = arguments.filter.to_json();
    if filter.is_empty() {
        return Err(Failure::refused(format!(
            "say which: a TASK_ID, or a filter such as `execution {} --task nightly`",
            deed.path
        )));
    }
    let path = format!("/v1/executions/{}", deed.path);
    let bar = bar();
    let mut sum = json!({ "dry_run": arguments.dry_run, "items": [] });
    let mut cursor = Value::Null;
    for call in 0.. {
        // One key names one request.
        let key = key.map(|key| format!("{key}/{call}"));
        let body = json!({ "filter": filter, "dry_run": arguments.dry_run, "cursor": cursor });
        let answer = remote
            .client
            .post_once(&path, &body, key.as_deref())?
            .json()?;
        add(&mut sum, &answer);
        bar.set_message(format!("{} executions", sum["matched"]));
        cursor = answer["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    bar.finish_and_clear();
    sum["next_cursor"] = Value::Null;
    match remote.json {
        true => print(&format!("{sum}\n"))?,
        false => print(&told(&sum, deed))?,
    }
    Ok(match sum["refused"].as_u64() {
        None | Some(0) => Exit::Done,
        Some(_) => Exit::Failed,
    })
}

/// Adds the counts and the items of one answer.
fn add(sum: &mut Value, answer: &Value) {
    let Some(answer) = answer.as_object() else {
        return;
    };
    for (name, value) in answer {
        match (value, &mut sum[name.as_str()]) {
            (Value::Array(items), Value::Array(all)) => all.extend(items.iter().cloned()),
            (Value::Number(n), before) => {
                let total = before.as_u64().unwrap_or(0) + n.as_u64().unwrap_or(0);
                *before = total.into();
            }
            _ => {}
        }
    }
}

fn told(sum: &Value, deed: Deed) -> String {
    let count = |name: &str| sum[name].as_u64().unwrap_or(0);
    let none = Vec::new();
    let items = sum["items"].as_array().unwrap_or(&none);
    if items.is_empty() {
        return "No execution fits. See which there are: horarium execution list\n".to_owned();
    }
    if sum["dry_run"] == true {
        let mut text = format!("{} executions fit; nothing was done:\n", items.len());
        for item in items.iter().take(SHOWN) {
            let (id, state) = (text_of(item, "task_id"), text_of(item, "state"));
            text.push_str(&format!("  {id}  {state}\n"));
        }
        if items.len() > SHOWN {
            text.push_str(&format!("  and {} more\n", items.len() - SHOWN));
        }
        text.push_str(&format!(
            "Do it: the same without --dry-run (horarium execution {} …)\n",
            deed.path
        ));
        return text;
    }
    let mut text = String::new();
    for (name, meaning) in deed.counts {
        if count(name) > 0 || *name == deed.counts[0].0 {
            text.push_str(&format!("{} executions {meaning}.\n", count(name)));
        }
    }
    let refused: Vec<&Value> = items
        .iter()
        .filter(|item| !item["error"].is_null())
        .collect();
    if !refused.is_empty() {
        text.push_str(&format!("{} were left alone:\n", refused.len()));
    }
    for item in refused.iter().take(SHOWN) {
        let id = match item["retry_of"].as_str() {
            Some(id) => id.to_owned(),
            None => text_of(item, "task_id"),
        };
        text.push_str(&format!("  {id}: {}\n", text_of(item, "error")));
    }
    text + "See them: horarium execution list\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_add_up_and_are_told() {
        let mut sum = json!({"dry_run": false, "items": []});
        let call = json!({"matched": 2, "retried": 1, "refused": 1, "next_cursor": "c1",
            "items": [{"task_id": "n", "retry_of": "o"}, {"retry_of": "p", "error": "gone"}]});
        add(&mut sum, &call);
        add(&mut sum, &call);
        assert_eq!((&sum["matched"], &sum["retried"]), (&json!(4), &json!(2)));
        let text = told(&sum, RETRY);
        assert!(
            text.starts_with("2 executions run again.\n2 were left alone:\n  p: gone"),
            "{text}"
        );
        let late = json!({"items": [{"task_id": "n", "state": "succeeded"}], "ended": 1});
        assert!(told(&late, CANCEL).contains("1 executions had ended by themselves meanwhile."));
        assert!(told(&json!({"items": []}), CANCEL).starts_with("No execution fits."));
    }
}

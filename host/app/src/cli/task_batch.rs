//! `task trigger --batch`: many executions, one for each line of parameters.

use super::failure::{Exit, Failure, Outcome};
use super::render::{Paint, Style, progress_bar};
use super::task::TaskArgument;
use super::values::read_file;
use super::{Remote, print};
use horarium_model::json;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::Path;

/// Most lines in one call, as the server takes them.
const CALL_ITEMS: usize = 10_000;
/// Text in one call, below what the server takes as a body.
const CALL_BYTES: usize = 8 << 20;
/// Refused lines that are told one by one.
const SHOWN: usize = 10;

/// Enqueues an execution of `task` for each line of `file` (`-` is standard input), each with what `common`
/// says besides.
pub(crate) fn run(
    remote: &Remote,
    task: &TaskArgument,
    (file, atomic): (&str, bool),
    common: &Map<String, Value>,
    key: Option<&str>,
) -> Outcome {
    let lines = read(file)?;
    let calls = calls(lines, atomic)?;
    let total: usize = calls.iter().map(Vec::len).sum();
    let bar = bar(total);
    let mut outcome = Sum::default();
    let several = calls.len() > 1;
    let mut sent_up_to = None;
    for (number, call) in calls.into_iter().enumerate() {
        let items: Vec<Value> = call
            .iter()
            .map(|(_, parameters)| {
                let mut item = common.clone();
                item.insert("task".into(), task.task.clone().into());
                item.insert("parameters".into(), parameters.clone());
                Value::Object(item)
            })
            .collect();
        let body = json!({ "items": items, "atomic": atomic });
        // One key names one request; a file that is cut the same way has the same ones again.
        let key = key.map(|key| match several {
            true => format!("{key}/{number}"),
            false => key.to_owned(),
        });
        let answer = remote
            .client
            .post_once("/v1/executions/batch", &body, key.as_deref())
            .and_then(|answer| answer.json())
            .map_err(|failure| match sent_up_to {
                None => failure,
                Some(line) => failure.hint(format!(
                    "lines up to {line} were sent before; go on with line {}, or repeat all with the \
                     --idempotency-key you gave",
                    line + 1
                )),
            })?;
        outcome.add(&call, answer);
        sent_up_to = call.last().map(|(line, _)| *line);
        bar.inc(u64::try_from(call.len()).unwrap_or(0));
    }
    bar.finish_and_clear();
    outcome.show(remote, task)
}

/// A line's number, from 1, and its parameters.
type Line = (usize, Value);

fn read(file: &str) -> Result<Vec<Line>, Failure> {
    let bytes = if file == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::refused(format!("--batch -: {error}")))?;
        bytes
    } else {
        read_file(Path::new(file))?
    };
    let mut lines = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match json::parse(line.trim_ascii()) {
            Ok(parameters @ Value::Object(_)) => lines.push((number, parameters)),
            Ok(other) => {
                let kind = horarium_model::input::type_name(&other);
                return Err(Failure::refused(format!(
                    "{file}, line {number}: each line is an object of parameters, not {kind}"
                )));
            }
            Err(problem) => {
                return Err(Failure::refused(format!(
                    "{file}, line {number}: {problem}"
                )));
            }
        }
    }
    if lines.is_empty() {
        return Err(Failure::refused(format!("{file} has no lines")).hint(
            "each line is a JSON object, the parameters of one execution; {} for the task's own",
        ));
    }
    Ok(lines)
}

/// Lines as they are sent together.
fn calls(lines: Vec<Line>, atomic: bool) -> Result<Vec<Vec<Line>>, Failure> {
    let mut calls: Vec<Vec<Line>> = Vec::new();
    let mut bytes = 0;
    for line in lines {
        let size = line.1.to_string().len() + 200;
        match calls.last_mut() {
            Some(call) if call.len() < CALL_ITEMS && bytes + size <= CALL_BYTES => {
                bytes += size;
                call.push(line);
            }
            _ => {
                bytes = size;
                calls.push(vec![line]);
            }
        }
    }
    if atomic && calls.len() > 1 {
        return Err(Failure::refused(format!(
            "--atomic takes one call of at most {CALL_ITEMS} lines and {} MiB; leave it out or split the file",
            CALL_BYTES >> 20
        )));
    }
    Ok(calls)
}

fn bar(total: usize) -> ProgressBar {
    let bar = progress_bar(u64::try_from(total).unwrap_or(0));
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {per_sec} {elapsed}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// The answers of all calls as one.
#[derive(Default)]
struct Sum {
    items: Vec<Value>,
    refused: Vec<(usize, String)>,
}

impl Sum {
    fn add(&mut self, call: &[Line], answer: Value) {
        let before = self.items.len();
        let items = match answer {
            Value::Object(mut map) => map.remove("items"),
            _ => None,
        };
        let Some(Value::Array(items)) = items else {
            return;
        };
        for (index, (mut item, (line, _))) in items.into_iter().zip(call).enumerate() {
            if let Some(problem) = item["errors"].get(0) {
                let pointer = problem["pointer"].as_str().unwrap_or_default();
                let detail = problem["detail"].as_str().unwrap_or("refused");
                let place = match pointer {
                    "" => String::new(),
                    pointer => format!("{pointer}: "),
                };
                self.refused.push((*line, format!("{place}{detail}")));
            }
            item["index"] = (before + index).into();
            self.items.push(item);
        }
    }

    fn show(self, remote: &Remote, task: &TaskArgument) -> Outcome {
        let refused = self.refused.len();
        let enqueued = self.items.len() - refused;
        if remote.json {
            let body = json!({ "items": self.items, "enqueued": enqueued, "refused": refused });
            print(&format!("{body}\n"))?;
        } else {
            let mut text = format!("Enqueued {enqueued} executions.\n");
            if refused > 0 {
                let style = Style::of_stdout();
                let told = style.paint(Paint::Bad, &format!("{refused} lines were refused:"));
                text.push_str(&format!("{told}\n"));
                for (line, detail) in self.refused.iter().take(SHOWN) {
                    text.push_str(&format!("  line {line}: {detail}\n"));
                }
                if refused > SHOWN {
                    text.push_str(&format!(
                        "  and {} more; --json tells all\n",
                        refused - SHOWN
                    ));
                }
            }
            text.push_str(&format!(
                "See them: horarium execution list --task {}\n",
                task.task
            ));
            print(&text)?;
        }
        Ok(match (refused, enqueued) {
            (0, _) => Exit::Done,
            // Nothing was written.
            (_, 0) => Exit::Refused,
            _ => Exit::Failed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_cut_into_calls() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "{\"a\":1}\n\n  {}\n").expect("written");
        let lines = read(&file.path().display().to_string()).expect("read");
        assert_eq!(lines, [(1, json!({"a": 1})), (3, json!({}))]);
        let many: Vec<Line> = (0..CALL_ITEMS + 1).map(|n| (n, json!({}))).collect();
        assert_eq!(calls(many.clone(), false).expect("cut").len(), 2);
        assert!(calls(many, true).is_err());
        for bad in ["{\"a\":1}\n[1]\n", "{\"a\":1}\n{\n", "\n"] {
            std::fs::write(file.path(), bad).expect("written");
            let failure = read(&file.path().display().to_string()).expect_err("refused");
            assert_eq!(failure.exit, Exit::Refused);
            assert!(
                bad == "\n" || failure.render(false).contains("line 2"),
                "{bad}"
            );
        }
    }
}

//! Executions of the Python system, batch after batch. What is known already is left alone, so that an import that broke
//! off is given again.

use super::sqlalchemy::{Known, Reading};
use super::types::hash;
use super::zone::instant;
use crate::cli::Remote;
use crate::cli::failure::Failure;
use crate::cli::render::progress_bar;
use chrono::{Datelike, Duration};
use horarium_core::store::chunks;
use horarium_model::json::is_deeper_than;
use horarium_model::schedule::wire;
use horarium_model::text::one_line;
use horarium_model::{TaskId, Timestamp};
use horarium_store::{ForeignDatabase, ForeignRow, ForeignTable};
use indicatif::ProgressStyle;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Rows read at once.
const PAGE: u32 = 500;
/// Text of one call, below what the server takes as a body.
const CALL_BYTES: usize = 8 << 20;
/// Largest result that is kept.
const MAX_RESULT: usize = 16 << 20;
/// Largest execution that is sent; a call is at most one that large, or [`CALL_BYTES`].
const MAX_ITEM: usize = 16 << 20;
/// The last year an instant here may lie in.
const LAST_YEAR: i32 = 9999;
/// Deepest result that still fits the document it is sent in.
const MAX_DEPTH: usize = 96;
/// Longest error message that is kept as one.
const MAX_MESSAGE: usize = 2000;
/// The type of executions that have no task and name none.
const NO_TYPE: &str = "imported";

/// What became of the executions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Moved {
    /// How many there are.
    pub(crate) total: u64,
    /// Taken now; in a report those that would be, if none of them is known.
    pub(crate) imported: u64,
    /// Taken before.
    pub(crate) known: u64,
    /// Not ended there: another import takes them when they are.
    pub(crate) unfinished: u64,
    /// Taken with a remark in their log.
    pub(crate) noted: u64,
    /// The first such remarks.
    pub(crate) notes: Vec<String>,
    /// Not taken, each with the reason.
    pub(crate) left: Vec<String>,
}

/// Remarks that a report repeats.
const TOLD: usize = 20;

/// The way of executions from there to here.
pub(super) struct History<'a> {
    pub(super) remote: &'a Remote,
    pub(super) reading: &'a Reading<'a>,
    /// Tasks by their id there.
    pub(super) tasks: &'a HashMap<String, Known>,
}

/// A row as it is sent, or why it is not.
enum Row {
    Ended { item: Value, remark: Option<String> },
    Unfinished,
    Left(String),
}

impl History<'_> {
    /// Reads everything and sends nothing.
    pub(super) fn look(
        &self,
        runtime: &tokio::runtime::Runtime,
        source: &mut ForeignDatabase,
    ) -> Result<Moved, Failure> {
        self.walk(runtime, source, |_, _| Ok(None))
    }

    /// Sends what has ended.
    pub(super) fn carry(
        &self,
        runtime: &tokio::runtime::Runtime,
        source: &mut ForeignDatabase,
    ) -> Result<Moved, Failure> {
        self.walk(runtime, source, |items, done| {
            let body = json!({ "items": items });
            let answer = self.remote.client.post("/v1/executions/import", &body);
            let answer = answer.map_err(|failure| {
                failure.hint(format!(
                    "{done} executions were sent before; give the same command again, and it goes on"
                ))
            })?;
            let answer = answer.json()?;
            Ok(answer["imported"].as_u64().zip(answer["known"].as_u64()))
        })
    }

    fn walk(
        &self,
        runtime: &tokio::runtime::Runtime,
        source: &mut ForeignDatabase,
        mut send: impl FnMut(&[Value], u64) -> Result<Option<(u64, u64)>, Failure>,
    ) -> Result<Moved, Failure> {
        let mut moved = Moved {
            total: runtime.block_on(source.count(ForeignTable::Executions))?,
            ..Moved::default()
        };
        let repeated = runtime.block_on(source.repeated_task_ids())?;
        let repeated: HashMap<String, String> = repeated.into_iter().collect();
        let bar = progress_bar(moved.total);
        if let Ok(style) =
            ProgressStyle::with_template("[{bar:30}] {human_pos} of {human_len} executions")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        let mut after: Option<String> = None;
        loop {
            let page = source.rows(ForeignTable::Executions, after.as_deref(), PAGE);
            let rows = runtime.block_on(page)?;
            let Some(last) = rows.last() else { break };
            after = last.get("id").map(str::to_owned);
            let mut items = Vec::with_capacity(rows.len());
            for row in &rows {
                match self.row(row, &repeated) {
                    Row::Unfinished => moved.unfinished += 1,
                    Row::Left(reason) => moved.left.push(reason),
                    Row::Ended { item, remark } => {
                        if let Some(remark) = remark {
                            moved.noted += 1;
                            if moved.notes.len() < TOLD {
                                moved.notes.push(remark);
                            }
                        }
                        items.push(item);
                    }
                }
            }
            for call in chunks(items, CALL_BYTES, |item| item.to_string().len()) {
                let before = moved.imported + moved.known;
                let count = u64::try_from(call.len()).unwrap_or(0);
                let (imported, known) = send(&call, before)?.unwrap_or((count, 0));
                moved.imported += imported;
                moved.known += known;
            }
            bar.inc(u64::try_from(rows.len()).unwrap_or(0));
        }
        bar.finish_and_clear();
        Ok(moved)
    }

    fn row(&self, row: &ForeignRow, repeated: &HashMap<String, String>) -> Row {
        let id = row.get("id").unwrap_or_default();
        let mut notes = Vec::new();
        let times = match self.times(row, &mut notes) {
            Ok(Some(times)) => times,
            Ok(None) => return Row::Unfinished,
            Err(reason) => return Row::Left(format!("row {id}: {reason}")),
        };
        let (task_id, fields) = self.task_id(row, repeated, &mut notes);
        let (task, task_type) = self.task(row, &mut notes);
        let result = match result(row, &mut notes) {
            Ok(result) => result,
            Err(reason) => return Row::Left(format!("row {id}: {reason}")),
        };
        let is_success = match row.get("is_success") {
            Some("true") => true,
            Some(_) => false,
            None => {
                let well = row.get("error_message").is_none();
                notes.push(format!(
                    "whether it succeeded was not kept there; it counts as {}, since {}",
                    if well { "succeeded" } else { "failed" },
                    if well {
                        "it has no error"
                    } else {
                        "it has an error"
                    },
                ));
                well
            }
        };
        let (message, traceback) = errors(row);
        let remark = notes.first().map(|note| format!("row {id}: {note}"));
        let fields = fields.filter(|_| !notes.is_empty());
        let notes: Vec<Value> = notes
            .iter()
            .enumerate()
            .map(|(index, note)| match (&fields, index) {
                (Some(fields), 0) => json!({"message": note, "fields": fields}),
                _ => json!({ "message": note }),
            })
            .collect();
        let item = json!({
            "task_id": task_id.to_string(),
            "task": task,
            "task_type": task_type,
            "is_success": is_success,
            "started_at": times.started_at.map(wire),
            "completed_at": wire(times.completed_at),
            "duration_seconds": times.duration,
            "result": result,
            "error_message": message,
            "error_traceback": traceback,
            "notes": notes,
        });
        match oversize(row, &item) {
            Some(reason) => Row::Left(format!("row {id}: {reason}")),
            None => Row::Ended { item, remark },
        }
    }

    /// The id here: the same where it is a UUID that no other row has; else one made of it, always the same.
    fn task_id(
        &self,
        row: &ForeignRow,
        repeated: &HashMap<String, String>,
        notes: &mut Vec<String>,
    ) -> (TaskId, Option<Value>) {
        let id = row.get("id").unwrap_or_default();
        let set = self.reading.set;
        let Some(old) = row.get("task_id") else {
            notes.push("it had no task_id there; the one here is made of its row's id".to_owned());
            return (made(&[set, "row", id]), Some(json!({ "row": id })));
        };
        if repeated.get(old).is_some_and(|newest| newest != id) {
            notes.push(format!(
                "its task_id `{}` is that of a later execution too; the one here is made of its row's id",
                one_line(old, 200)
            ));
            return (
                made(&[set, "row", id]),
                Some(json!({"row": id, "task_id": old})),
            );
        }
        match old.trim().parse::<TaskId>() {
            Ok(task_id) => (task_id, None),
            Err(_) => {
                notes.push(format!(
                    "its task_id there was `{}`, which is no UUID; the one here is made of it",
                    one_line(old, 200)
                ));
                (
                    made(&[set, "task_id", old]),
                    Some(json!({"row": id, "task_id": old})),
                )
            }
        }
    }

    /// The task here, if it is one, and the plugin.
    fn task(&self, row: &ForeignRow, notes: &mut Vec<String>) -> (Option<String>, String) {
        let said = row.get("task_type").map(|old| self.reading.types.of(old));
        let otherwise = || said.clone().unwrap_or_else(|| NO_TYPE.to_owned());
        let Some(config) = row.get("config_id") else {
            return (None, otherwise());
        };
        match self.tasks.get(config) {
            Some(known) => (Some(known.key.clone()), known.task_type.clone()),
            None => {
                notes.push(format!(
                    "it was of task {}, which is not there",
                    one_line(config, 60)
                ));
                (None, otherwise())
            }
        }
    }

    /// When it ran; none while it runs. What is missing is worked out from the rest.
    fn times(&self, row: &ForeignRow, notes: &mut Vec<String>) -> Result<Option<Times>, String> {
        let at = |column: &str| -> Result<Option<Timestamp>, String> {
            let Some(text) = row.get(column) else {
                return Ok(None);
            };
            match instant(text, self.reading.zone) {
                Some(at) => Ok(Some(at)),
                None => Err(format!(
                    "{column} is `{}`, which is no instant",
                    one_line(text, 60)
                )),
            }
        };
        let (started_at, completed_at) = (at("started_at")?, at("completed_at")?);
        let duration: Option<f64> = row
            .get("duration_seconds")
            .and_then(|text| text.parse().ok())
            .filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
        let span = duration.map(|seconds| Duration::microseconds((seconds.min(1e12) * 1e6) as i64));
        let ended = row.get("is_success").is_some();
        let completed_at = match (completed_at, started_at, ended) {
            (Some(at), _, _) => at,
            (None, _, false) => return Ok(None),
            (None, Some(started), true) => {
                notes.push(
                    "when it ended was not kept there; it is worked out from its start".to_owned(),
                );
                let ended = started.checked_add_signed(span.unwrap_or_default());
                let ended = ended.filter(|at| at.year() <= LAST_YEAR);
                ended.ok_or("its duration leads to no instant")?
            }
            (None, None, true) => {
                return Err("it ended, but neither its start nor its end was kept".to_owned());
            }
        };
        let measured = started_at.and_then(|started| {
            let micros = (completed_at - started).num_microseconds()?;
            (micros >= 0).then_some(micros as f64 / 1e6)
        });
        Ok(Some(Times {
            started_at,
            completed_at,
            duration: duration.or(measured),
        }))
    }
}

struct Times {
    started_at: Option<Timestamp>,
    completed_at: Timestamp,
    duration: Option<f64>,
}

/// Why an execution is too large to be sent: as JSON its texts may be longer than they were.
fn oversize(row: &ForeignRow, item: &Value) -> Option<String> {
    let texts = ["result", "error_message", "error_traceback"].map(|column| row.get(column));
    // A character takes at most six bytes more; what cannot reach the bound is not written out for it.
    let texts: usize = texts.iter().flatten().map(|text| text.len()).sum();
    if texts.saturating_mul(8) < MAX_ITEM {
        return None;
    }
    let size = item.to_string().len();
    (size > MAX_ITEM).then(|| {
        format!(
            "its result and errors have {size} bytes as JSON; {MAX_ITEM} are the most that is taken"
        )
    })
}

/// A UUID of our own making (version 8) that is the same for the same parts.
fn made(parts: &[&str]) -> TaskId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash(parts).as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A result as JSON. What JSON here is not (a key twice, an integer beyond 64 bits, too deep) is kept as the text it was.
fn result(row: &ForeignRow, notes: &mut Vec<String>) -> Result<Value, String> {
    let Some(text) = row.get("result") else {
        return Ok(Value::Null);
    };
    if text.len() > MAX_RESULT {
        return Err(format!(
            "its result has {} bytes; {MAX_RESULT} are the most that is kept",
            text.len()
        ));
    }
    let parsed = horarium_model::json::parse(text.as_bytes());
    match parsed {
        Ok(value) if !is_deeper_than(&value, MAX_DEPTH) => Ok(value),
        Ok(_) => {
            notes.push(
                "its result is deeper than results may be here; it is kept as text".to_owned(),
            );
            Ok(text.into())
        }
        Err(problem) => {
            notes.push(one_line(
                &format!(
                    "its result is JSON that is not taken here ({problem}); it is kept as text"
                ),
                MAX_MESSAGE,
            ));
            Ok(text.into())
        }
    }
}

/// The message, one line; what it had more stands above the traceback.
fn errors(row: &ForeignRow) -> (Option<String>, Option<String>) {
    let message = row.get("error_message");
    let traceback = row.get("error_traceback").filter(|text| !text.is_empty());
    let Some(whole) = message else {
        return (None, traceback.map(str::to_owned));
    };
    let line = one_line(whole, MAX_MESSAGE);
    if line == whole.trim() {
        return (Some(line), traceback.map(str::to_owned));
    }
    let traceback = match traceback {
        Some(traceback) => format!("{whole}\n\n{traceback}"),
        None => whole.to_owned(),
    };
    (Some(line), Some(traceback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_are_uuids_and_always_the_same() {
        let id = made(&["sqlalchemy", "task_id", "celery-7"]);
        assert_eq!(id, made(&["sqlalchemy", "task_id", "celery-7"]));
        assert_ne!(id, made(&["sqlalchemy", "task_idcelery-7", ""]));
        assert_eq!(id.get_version_num(), 8);
    }
}

//! Executions that ended in another system, taken in so that their history is found here.

use super::validate::refuse;
use super::{Executions, ServiceResult, TaskRef, Tasks};
use crate::store::{EndedElsewhere, ImportNote};
use horarium_model::input::Fields;
use horarium_model::task_type::{NAME, check_name};
use horarium_model::text::{one_line, sanitize};
use horarium_model::{ConfigId, Invalid, Problem, TaskId, TenantId};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Most executions of one call: it is one transaction.
const MAX_ITEMS: usize = 1000;
/// Largest result, as JSON text: what the limit `result_bytes` is at most.
const MAX_RESULT_BYTES: u64 = 16 << 20;
/// Longest error message, as executions have it.
const MAX_MESSAGE: usize = 2000;
/// Most remarks on one execution.
const MAX_NOTES: usize = 20;

/// Executions to take in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportRequest {
    /// Each with the task it was of.
    items: Vec<(Option<TaskRef>, EndedElsewhere)>,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOutcome {
    /// Of each whether it was taken; the others were known.
    pub taken: Vec<bool>,
}

impl ImportOutcome {
    /// `{"imported", "known"}`
    pub fn to_json(&self) -> Value {
        let imported = self.taken.iter().filter(|taken| **taken).count();
        json!({"imported": imported, "known": self.taken.len() - imported})
    }
}

impl ImportRequest {
    /// Reads `{"items": [{"task_id", "task", "task_type", "is_success", "started_at", "completed_at",
    /// "duration_seconds", "result", "error_message", "error_traceback", "notes": [{"message", "fields"}]}]}`.
    ///
    /// # Errors
    /// Every problem of every item.
    pub fn from_json(body: &Value) -> Result<Self, Invalid> {
        Fields::read(body, "", Self::read)
    }

    /// What [`Self::from_json`] takes, as a JSON Schema.
    pub fn describe() -> Value {
        Fields::describe(Self::read)
    }

    fn read(fields: &mut Fields<'_>) -> Self {
        if fields.value("items").is_none() {
            fields.missing("items", "is missing; give the executions");
        }
        Self {
            items: fields
                .objects("items", MAX_ITEMS, read_item)
                .unwrap_or_default(),
        }
    }
}

/// An item and the task it was of; what is missing has a problem in `fields`.
fn read_item(fields: &mut Fields<'_>) -> (Option<TaskRef>, EndedElsewhere) {
    let task = match fields.value("task") {
        None => None,
        Some(Value::String(text)) if !text.is_empty() => Some(TaskRef::parse(text)),
        Some(Value::Number(n)) if n.is_i64() => n.as_i64().map(TaskRef::Id),
        Some(_) => {
            fields.problem("task", "must be the id or key of a task");
            None
        }
    };
    let task_id = fields.text("task_id", 1, 64).and_then(|text| {
        let parsed = text.parse::<TaskId>();
        if parsed.is_err() {
            fields.problem("task_id", format!("`{}` is no UUID", one_line(&text, 60)));
        }
        parsed.ok()
    });
    let task_type = fields.text("task_type", 1, 64);
    if let Some(Err(detail)) = task_type.as_deref().map(check_name) {
        fields.problem("task_type", detail);
    }
    let is_success = fields.boolean("is_success");
    let completed_at = fields.instant("completed_at");
    for key in ["task_id", "task_type", "is_success", "completed_at"] {
        if fields.value(key).is_none() {
            fields.missing(key, "is missing");
        }
    }
    fields.shape("task", TaskRef::describe);
    fields.shape("task_id", || json!({ "format": "uuid" }));
    fields.shape("task_type", || json!({ "pattern": NAME }));
    let result = fields.value("result").cloned();
    if let Some(size) = result
        .as_ref()
        .map(|result| result.to_string().len() as u64)
        && size > MAX_RESULT_BYTES
    {
        let detail = format!("has {size} bytes as JSON; a result has at most {MAX_RESULT_BYTES}");
        fields.problem("result", detail);
    }
    let item = EndedElsewhere {
        task_id: task_id.unwrap_or_default(),
        config_id: None,
        task_type: task_type.unwrap_or_default(),
        is_success: is_success.unwrap_or_default(),
        started_at: fields.instant("started_at"),
        completed_at: completed_at.unwrap_or_default(),
        duration_seconds: fields.number("duration_seconds", 0.0, 1e12),
        result,
        error_message: fields
            .text("error_message", 0, usize::MAX)
            .map(|text| one_line(&text, MAX_MESSAGE)),
        error_traceback: fields
            .text("error_traceback", 0, usize::MAX)
            .map(|text| sanitize(&text, true)),
        notes: fields
            .objects("notes", MAX_NOTES, read_note)
            .unwrap_or_default(),
    };
    (task, item)
}

fn read_note(fields: &mut Fields<'_>) -> ImportNote {
    let message = fields.text("message", 0, usize::MAX);
    if fields.value("message").is_none() {
        fields.missing("message", "is missing");
    }
    ImportNote {
        message: one_line(&message.unwrap_or_default(), MAX_MESSAGE),
        fields: fields.map("fields").map(Value::Object),
    }
}

impl Executions {
    /// Takes in executions that ended elsewhere, all or none. One whose `task_id` is known is left as it is, so that
    /// the same call may be made again.
    ///
    /// # Errors
    /// `Invalid` with every problem; nothing was taken then.
    pub async fn take_in(
        &self,
        tenant: TenantId,
        request: ImportRequest,
    ) -> ServiceResult<ImportOutcome> {
        let tasks = Tasks(self.0.clone());
        let mut known: HashMap<TaskRef, Option<ConfigId>> = HashMap::new();
        let mut items = Vec::with_capacity(request.items.len());
        let mut problems = Vec::new();
        for (index, (task, mut item)) in request.items.into_iter().enumerate() {
            if let Some(task) = task {
                let found = match known.get(&task) {
                    Some(found) => *found,
                    None => {
                        let found = match tasks.show(tenant, &task).await {
                            Ok(config) => Some(config.id),
                            Err(super::ServiceError::NotFound(detail)) => {
                                problems.push(Problem::at(format!("/items/{index}/task"), detail));
                                None
                            }
                            Err(other) => return Err(other),
                        };
                        known.insert(task, found);
                        found
                    }
                };
                item.config_id = found;
            }
            items.push(item);
        }
        refuse(problems)?;
        let taken = self.0.store.take_in(tenant, items).await?;
        Ok(ImportOutcome { taken })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read_and_every_fault_is_told() {
        let good = json!({"items": [{"task_id": "0198000000007000800000000000000a", "task": "k", "task_type": "t",
            "is_success": false, "completed_at": "2025-01-01T00:00:00Z", "error_message": "one\ntwo",
            "notes": [{"message": "m", "fields": {"a": 1}}]}]});
        let read = ImportRequest::from_json(&good).expect("read");
        let (task, item) = &read.items[0];
        assert_eq!(task, &Some(TaskRef::Key("k".into())));
        assert_eq!(
            item.task_id.to_string(),
            "01980000-0000-7000-8000-00000000000a"
        );
        assert_eq!(item.notes[0].fields, Some(json!({"a": 1})));
        assert!(
            item.error_message
                .as_deref()
                .is_some_and(|m| !m.contains('\n'))
        );
        let bad = json!({"items": [{}, {"task_id": "celery-1", "task_type": "T", "is_success": true,
            "completed_at": "2025-01-01T00:00:00", "task": [], "extra": 1, "notes": ["x"]}, 7]});
        let Err(Invalid(problems)) = ImportRequest::from_json(&bad) else {
            panic!("refused");
        };
        let places: Vec<&str> = problems.iter().map(|p| p.pointer.as_str()).collect();
        for place in [
            "/items/0/task_id",
            "/items/1/task",
            "/items/1/task_id",
            "/items/1/task_type",
            "/items/1/completed_at",
            "/items/1/notes/0",
            "/items/1/extra",
            "/items/2",
        ] {
            assert!(places.contains(&place), "{place} in {places:?}");
        }
    }
}

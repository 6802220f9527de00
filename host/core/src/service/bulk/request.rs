//! What a call for many executions asks, read from JSON.

use super::{Bulk, MAX_ITEMS};
use crate::service::TaskRef;
use crate::store::ExecutionFilter;
use horarium_model::execution::State;
use horarium_model::input::{Fields, type_name};
use horarium_model::text::one_line;
use horarium_model::{ErrorKind, Invalid, Trigger};
use serde_json::{Value, json};
use std::str::FromStr;

/// Which executions, and whether to touch them.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkRequest {
    pub(super) filter: ExecutionFilter,
    pub(super) task: Option<TaskRef>,
    pub(super) dry_run: bool,
    pub(super) limit: usize,
    pub(super) after: Option<i64>,
}

impl BulkRequest {
    /// Reads `{"filter": {"state", "task", "task_type", "trigger", "error_kind", "text", "since", "until"},
    /// "dry_run": false, "limit": 10000, "cursor"}`; the filter says something. `cursor` reads a cursor.
    ///
    /// # Errors
    /// Every problem found.
    pub fn from_json(
        body: &Value,
        what: Bulk,
        cursor: impl Fn(&str) -> Option<i64>,
    ) -> Result<Self, Invalid> {
        Fields::read(body, "", |fields| Self::read(fields, what, cursor))
    }

    /// Everything that fits, in calls of at most [`MAX_ITEMS`].
    pub(in crate::service) fn of(filter: ExecutionFilter) -> Self {
        Self {
            filter,
            task: None,
            dry_run: false,
            limit: MAX_ITEMS,
            after: None,
        }
    }

    /// The same, going on where a call ended.
    pub(in crate::service) fn after(self, next: i64) -> Self {
        Self {
            after: Some(next),
            ..self
        }
    }

    /// What [`Self::from_json`] takes, as a JSON Schema.
    pub fn describe(what: Bulk) -> Value {
        Fields::describe(|fields| Self::read(fields, what, |_| None))
    }

    fn read(fields: &mut Fields<'_>, what: Bulk, cursor: impl Fn(&str) -> Option<i64>) -> Self {
        let filter = fields.object("filter", |inner| read_filter(inner, what));
        if filter.is_none() && !fields.has_problems() {
            let detail = "is missing; say which executions, such as {\"task\": \"nightly\"}";
            fields.missing("filter", detail);
        }
        let (filter, task) = filter.unwrap_or_default();
        let limit = fields.integer("limit", 1, MAX_ITEMS as i64);
        let after = fields.text("cursor", 1, 40).and_then(|text| {
            let found = cursor(&text);
            if found.is_none() {
                let detail = format!(
                    "`{}` is not a cursor of an answer before",
                    one_line(&text, 40)
                );
                fields.problem("cursor", detail);
            }
            found
        });
        Self {
            filter,
            task,
            dry_run: fields.boolean("dry_run").unwrap_or(false),
            limit: limit
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(MAX_ITEMS),
            after,
        }
    }
}

fn word<T: FromStr<Err = String>>(
    fields: &mut Fields<'_>,
    key: &'static str,
    words: impl FnOnce() -> Vec<&'static str>,
) -> Option<T> {
    let text = fields.text(key, 1, 64);
    fields.shape(key, || json!({ "enum": words() }));
    let text = text?;
    let word = text.parse();
    word.map_err(|detail: String| fields.problem(key, detail))
        .ok()
}

fn read_filter(fields: &mut Fields<'_>, what: Bulk) -> (ExecutionFilter, Option<TaskRef>) {
    let task = fields.value("task");
    fields.shape("task", TaskRef::describe);
    let task = match task {
        Some(Value::String(text)) if !text.is_empty() => Some(TaskRef::parse(text)),
        Some(Value::Number(n)) if n.is_i64() => n.as_i64().map(TaskRef::Id),
        Some(other) => {
            let detail = format!("must be the id or key of a task, not {}", type_name(other));
            fields.problem("task", detail);
            None
        }
        None => None,
    };
    let states = read_states(fields, what);
    let filter = ExecutionFilter {
        config_id: None,
        task_type: fields.text("task_type", 1, 64),
        states: states.clone(),
        trigger: word::<Trigger>(fields, "trigger", || {
            Trigger::ALL.iter().map(|word| word.as_str()).collect()
        }),
        error_kind: word::<ErrorKind>(fields, "error_kind", || {
            ErrorKind::ALL.iter().map(|word| word.as_str()).collect()
        }),
        text: fields.text("text", 1, 200),
        created_from: fields.instant("since"),
        created_until: fields.instant("until"),
    };
    let says = task.is_some() || filter != ExecutionFilter::default();
    if !says && !fields.has_problems() {
        let detail = "says nothing; give at least one of state, task, task_type, trigger, error_kind, text, since, until";
        fields.problem("state", detail);
    }
    let states = match states.is_empty() {
        true => what.states().1.to_vec(),
        false => states,
    };
    (ExecutionFilter { states, ..filter }, task)
}

/// One state, several separated by commas, or an array.
fn read_states(fields: &mut Fields<'_>, what: Bulk) -> Vec<State> {
    let given = fields.value("state");
    fields.shape("state", || {
        let words: Vec<&str> = what.states().0.iter().map(|state| state.as_str()).collect();
        let list = format!("^\\s*({0})\\s*(,\\s*({0})\\s*)*$", words.join("|"));
        json!({ "anyOf": [
            { "type": "string", "pattern": list },
            { "type": "array", "items": { "type": "string", "enum": words } },
        ] })
    });
    let words: Vec<String> = match given {
        None => return Vec::new(),
        Some(Value::String(text)) => text.split(',').map(|word| word.trim().to_owned()).collect(),
        Some(Value::Array(items)) => {
            let text = |item: &Value| {
                item.as_str()
                    .map_or_else(|| item.to_string(), str::to_owned)
            };
            items.iter().map(text).collect()
        }
        Some(other) => {
            let detail = format!(
                "must be a state or an array of them, not {}",
                type_name(other)
            );
            fields.problem("state", detail);
            return Vec::new();
        }
    };
    let (allowed, _) = what.states();
    let mut states = Vec::new();
    for word in words {
        match allowed
            .iter()
            .find(|state| state.as_str().eq_ignore_ascii_case(&word))
        {
            Some(state) => states.push(*state),
            None => {
                let known: Vec<&str> = allowed.iter().map(|state| state.as_str()).collect();
                let word = one_line(&word, 40);
                let detail = format!("`{word}` is not one of {}", known.join(", "));
                fields.problem("state", detail);
            }
        }
    }
    states
}

//! Many executions in one call: each item is taken or refused by itself, or all or none (`atomic`).

use super::once::{Begun, Once, RequestKey, keyed};
use super::trigger::refused;
use super::{Executions, ServiceError, ServiceResult, TaskRef, TriggerRequest, below};
use crate::config_cache::CompiledConfig;
use crate::store::{Answer, Enqueue, EnqueueReceipt, NewExecution};
use horarium_model::input::{Fields, type_name};
use horarium_model::{
    ConfigId, ExecutionId, Invalid, Problem, State, TaskId, TenantId, Timestamp, Trigger,
};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Most items of one batch.
pub(super) const MAX_ITEMS: usize = 10_000;

/// Most text that the parameters of one call have altogether: it is one transaction, and others wait for it.
pub(super) const MAX_BYTES: usize = 256 << 20;

/// What a batch says: its items, each read or refused.
#[derive(Debug, Clone, Default)]
pub struct BatchRequest {
    items: Vec<Result<(TaskRef, TriggerRequest), Invalid>>,
    atomic: bool,
}

impl BatchRequest {
    /// Reads `{"items": [{"task": id or key, …as a trigger…}], "atomic": false}`.
    ///
    /// # Errors
    /// When the document as a whole is wrong; what is wrong with an item is kept with the item.
    pub fn from_json(body: &Value, now: Timestamp) -> Result<Self, Invalid> {
        Fields::read(body, "", |fields| {
            let atomic = fields.boolean("atomic").unwrap_or(false);
            let items = match fields.value("items") {
                None => {
                    fields.missing("items", "is missing; give the executions to enqueue");
                    Vec::new()
                }
                Some(Value::Array(items)) if items.len() > MAX_ITEMS => {
                    let detail = format!(
                        "has {} items; one batch takes {MAX_ITEMS} at most, send several",
                        items.len()
                    );
                    fields.problem("items", detail);
                    Vec::new()
                }
                Some(Value::Array(items)) => {
                    items.iter().map(|item| checked_item(item, now)).collect()
                }
                Some(other) => {
                    let detail = format!("must be an array, not {}", type_name(other));
                    fields.problem("items", detail);
                    Vec::new()
                }
            };
            Self { items, atomic }
        })
    }

    /// What [`Self::from_json`] takes, as a JSON Schema. Of an item everything is taken: what is wrong with it is told in
    /// its place in the answer; `x-item` is what is right.
    pub fn describe() -> Value {
        let item = Fields::describe(|fields| read_item(fields, Timestamp::UNIX_EPOCH));
        Fields::describe(|fields| {
            fields.boolean("atomic");
            fields.value("items");
            fields.missing("items", "is missing");
            fields.shape("items", || {
                let items = json!({ "x-item": item });
                json!({ "type": "array", "maxItems": MAX_ITEMS, "items": items })
            });
        })
    }
}

/// Reads an item: which task, and what a trigger may say. `config_id` is the name that executions show the task by.
fn read_item(fields: &mut Fields<'_>, now: Timestamp) -> (Option<TaskRef>, TriggerRequest) {
    let (task, config) = (fields.value("task"), fields.value("config_id"));
    for key in ["task", "config_id"] {
        fields.shape(key, TaskRef::describe);
    }
    if task.is_some() && config.is_some() {
        fields.problem("config_id", "and `task` both name the task; give one");
    }
    let task = match task.or(config) {
        Some(Value::String(text)) if !text.is_empty() => Some(TaskRef::parse(text)),
        Some(Value::Number(n)) => n.as_i64().map(TaskRef::Id),
        _ => None,
    };
    if task.is_none() {
        fields.problem("task", "is missing; name the task by its id or key");
    }
    (task, TriggerRequest::read(fields, now))
}

fn checked_item(item: &Value, now: Timestamp) -> Result<(TaskRef, TriggerRequest), Invalid> {
    match Fields::read(item, "", |fields| read_item(fields, now))? {
        (Some(task), request) => Ok((task, request)),
        (None, _) => Err(Invalid::one("/task", "is missing")),
    }
}

/// What became of each item, in order. As JSON: `{"items": [{"index", "task_id", "id", "config_id", "state", "due_at"} |
/// {"index", "errors"}], "enqueued", "refused"}`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchOutcome(pub Vec<Result<Taken, Vec<Problem>>>);

/// An item that was enqueued.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Taken {
    /// Its public id.
    pub task_id: TaskId,
    /// Its row.
    pub id: ExecutionId,
    /// Its task.
    pub config_id: Option<ConfigId>,
    /// Its first state.
    pub state: State,
    /// When it may start.
    #[serde(with = "horarium_model::schedule::wire_time")]
    pub due_at: Timestamp,
}

/// An item as JSON shows it.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Taken {
        index: usize,
        #[serde(flatten)]
        taken: &'a Taken,
    },
    Refused {
        index: usize,
        errors: &'a [Problem],
    },
}

impl<'a> From<(usize, &'a Result<Taken, Vec<Problem>>)> for Shown<'a> {
    fn from((index, item): (usize, &'a Result<Taken, Vec<Problem>>)) -> Self {
        match item {
            Ok(taken) => Self::Taken { index, taken },
            Err(errors) => Self::Refused { index, errors },
        }
    }
}

impl Serialize for BatchOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items: Vec<Shown<'_>> = self.0.iter().enumerate().map(Shown::from).collect();
        let enqueued = self.0.iter().filter(|item| item.is_ok()).count();
        let mut whole = serializer.serialize_struct("BatchOutcome", 3)?;
        whole.serialize_field("items", &items)?;
        whole.serialize_field("enqueued", &enqueued)?;
        whole.serialize_field("refused", &(self.0.len() - enqueued))?;
        whole.end()
    }
}

/// Items that passed every check but the store's.
type Prepared = Vec<Result<NewExecution, Vec<Problem>>>;

/// What is still to be told of items that went to the store, or was refused before.
type Asked = Vec<Result<(TaskId, Option<ConfigId>, Timestamp), Vec<Problem>>>;

impl Executions {
    /// Enqueues a batch, trigger `batch`.
    ///
    /// # Errors
    /// `Invalid` with every problem when the batch is atomic and an item is refused; then nothing is
    /// enqueued. As [`super::Tasks::trigger`] for the key.
    pub async fn batch(
        &self,
        tenant: TenantId,
        request: BatchRequest,
        key: Option<&RequestKey>,
    ) -> ServiceResult<Once<BatchOutcome>> {
        let cx = &self.0;
        let _in_flight = match cx.begin(tenant, key).await? {
            Begun::Fresh(in_flight) => in_flight,
            Begun::Repeated(answer) => return Ok(Once::Repeated(answer)),
        };
        let atomic = request.atomic;
        let now = cx.clock.now();
        let prepared = self.prepare_batch(tenant, request, now).await?;
        if atomic {
            all_or_none(prepared.iter().map(|item| item.as_ref().err().cloned()))?;
        }
        let mut items = Vec::with_capacity(prepared.len());
        let ask = |item: Result<NewExecution, _>| {
            item.map(|new| {
                let asked = (new.task_id, new.config_id, new.due_at);
                items.push(new);
                asked
            })
        };
        let asked: Arc<Asked> = Arc::new(prepared.into_iter().map(ask).collect());
        let answer = {
            let asked = asked.clone();
            move |receipts: &Vec<EnqueueReceipt>| {
                let outcome = outcome(&asked, receipts);
                let taken = outcome.0.iter().any(Result::is_ok);
                // Numbers, texts and instants: nothing of it cannot be written.
                let body = serde_json::to_string(&outcome).ok().filter(|_| taken)?;
                Some(Answer {
                    status: 202,
                    body: body.into(),
                })
            }
        };
        let batch = Enqueue {
            items,
            atomic,
            request: keyed(tenant, key, answer),
        };
        let receipts = match cx.enqueue(now, batch, key).await? {
            Once::Done(receipts) => receipts,
            Once::Repeated(answer) => return Ok(Once::Repeated(answer)),
        };
        let outcome = outcome(&asked, &receipts);
        if atomic {
            let void = |item: &Result<_, Vec<Problem>>| item.as_ref().err().cloned();
            let told = outcome.0.iter().map(void);
            all_or_none(told.map(|problems| problems.filter(|p| !is_void(p))))?;
        }
        Ok(Once::Done(outcome))
    }

    async fn prepare_batch(
        &self,
        tenant: TenantId,
        request: BatchRequest,
        now: Timestamp,
    ) -> ServiceResult<Prepared> {
        let tasks = super::Tasks(self.0.clone());
        let mut known: HashMap<TaskRef, Result<Arc<CompiledConfig>, String>> = HashMap::new();
        let mut prepared = Vec::with_capacity(request.items.len());
        let mut bytes = 0;
        for item in request.items {
            let (task, request) = match item {
                Ok(item) => item,
                Err(Invalid(problems)) => {
                    prepared.push(Err(problems));
                    continue;
                }
            };
            if !known.contains_key(&task) {
                let found = match tasks.show(tenant, &task).await {
                    Ok(config) => Ok(self.0.configs.keep(config)),
                    Err(ServiceError::NotFound(detail)) => Err(detail),
                    Err(other) => return Err(other),
                };
                known.insert(task.clone(), found);
            }
            prepared.push(match &known[&task] {
                Ok(compiled) => {
                    let by = Trigger::Batch;
                    let item = self.0.prepare(tenant, compiled, &request, by, now).await;
                    bytes += item.as_ref().map_or(0, |new| new.parameters.len());
                    if bytes > MAX_BYTES {
                        return Err(too_large(prepared.len()).into());
                    }
                    item.map_err(|Invalid(problems)| problems)
                }
                Err(detail) => Err(vec![Problem::at("/task", detail.clone())]),
            });
        }
        Ok(prepared)
    }
}

/// The refusal of a batch whose parameters are too much for one call from item `index` on.
fn too_large(index: usize) -> Invalid {
    let detail = format!(
        "the parameters of the items before have {} MiB altogether, as much as one batch takes; send the rest in \
         others",
        MAX_BYTES >> 20
    );
    Invalid::one(format!("/items/{index}"), detail)
}

fn is_void(problems: &[Problem]) -> bool {
    problems
        .iter()
        .any(|p| p.detail.ends_with("the batch is atomic"))
}

/// Puts the store's receipts to the items that reached it.
fn outcome(asked: &Asked, receipts: &[EnqueueReceipt]) -> BatchOutcome {
    let mut receipts = receipts.iter();
    let judge = |item: &Result<_, Vec<Problem>>| {
        let &(task_id, config_id, due_at) = item.as_ref().map_err(Clone::clone)?;
        match receipts.next().unwrap_or(&EnqueueReceipt::Duplicate) {
            EnqueueReceipt::Enqueued { id, state } => Ok(Taken {
                task_id,
                id: *id,
                config_id,
                state: *state,
                due_at,
            }),
            other => Err(refused(other, task_id).into_iter().collect()),
        }
    };
    BatchOutcome(asked.iter().map(judge).collect())
}

/// Refuses an atomic batch with every problem of every item.
fn all_or_none(items: impl Iterator<Item = Option<Vec<Problem>>>) -> ServiceResult<()> {
    let mut all = Vec::new();
    for (index, problems) in items.enumerate() {
        if let Some(problems) = problems {
            let Invalid(problems) = below(&format!("/items/{index}"), Invalid(problems));
            all.extend(problems);
        }
    }
    super::validate::refuse(all)
}

//! Retrying and cancelling by filter, in calls of at most [`MAX_ITEMS`] executions, newest first; a cursor
//! leads to the rest.

use super::once::{Begun, Once, RequestKey, keyed};
use super::trigger::refused;
use super::{Executions, ServiceError, ServiceResult, TaskRef};
use crate::store::{
    Answer, CancelReceipt, Enqueue, EnqueueReceipt, ExecutionFilter, NewExecution, Page,
};
use futures_util::StreamExt;
use horarium_model::execution::State;
use horarium_model::input::{Fields, type_name};
use horarium_model::text::one_line;
use horarium_model::{ErrorKind, Execution, Invalid, TaskId, TenantId, Trigger};
use serde_json::{Value, json};
use std::str::FromStr;
use std::sync::Arc;

/// Most executions that one call touches.
const MAX_ITEMS: usize = super::batch::MAX_ITEMS;
/// Most text of parameters that one call enqueues.
const MAX_BYTES: usize = super::batch::MAX_BYTES;
/// Executions read or cancelled at the same time.
const AT_ONCE: usize = 32;

/// What is done to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    /// Ended ones run again as new executions.
    Retry,
    /// Live ones end.
    Cancel,
}

impl Bulk {
    /// The states it can be asked of, and those meant when nobody says.
    fn states(self) -> (&'static [State], &'static [State]) {
        use State::{Available, Cancelled, Failed, Retryable, Running, Scheduled, Succeeded};
        const LIVE: &[State] = &[Scheduled, Available, Running, Retryable];
        match self {
            Self::Retry => (&[Failed, Cancelled, Succeeded], &[Failed]),
            Self::Cancel => (LIVE, LIVE),
        }
    }
}

/// Which executions, and whether to touch them.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkRequest {
    filter: ExecutionFilter,
    task: Option<TaskRef>,
    dry_run: bool,
    limit: usize,
    after: Option<i64>,
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
    pub(super) fn of(filter: ExecutionFilter) -> Self {
        Self {
            filter,
            task: None,
            dry_run: false,
            limit: MAX_ITEMS,
            after: None,
        }
    }

    /// The same, going on where a call ended.
    pub(super) fn after(self, next: i64) -> Self {
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

/// What became of the executions that fitted the filter.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkOutcome {
    what: Bulk,
    /// Nothing was done.
    pub dry_run: bool,
    items: Vec<(TaskId, BulkItem)>,
    /// Where the next call goes on; none when this was all.
    pub next: Option<i64>,
}

/// What became of one execution.
#[derive(Debug, Clone, PartialEq)]
enum BulkItem {
    /// It fits; nothing was done (`dry_run`).
    Fits(State),
    /// It runs again as this one.
    Retried(TaskId),
    /// It has ended, or was asked to end.
    Cancelled(CancelReceipt),
    /// It ended between the look and the cancel: nobody is refused anything.
    Ended(State),
    /// It was left alone, and why.
    Refused(String),
}

impl BulkOutcome {
    /// How many ended at once.
    pub(super) fn cancelled(&self) -> u64 {
        let ended = |item: &BulkItem| matches!(item, BulkItem::Cancelled(CancelReceipt::Ended));
        self.items.iter().filter(|(_, item)| ended(item)).count() as u64
    }

    /// `{"dry_run", "matched", "retried" | "cancelled", "requested" and "ended", "refused", "items", "next_cursor"}`
    pub fn to_json(&self, cursor: impl Fn(i64) -> String) -> Value {
        let count = |wanted: fn(&BulkItem) -> bool| {
            self.items.iter().filter(|(_, item)| wanted(item)).count()
        };
        let show = |(task_id, item): &(TaskId, BulkItem)| match item {
            BulkItem::Fits(state) | BulkItem::Ended(state) => {
                json!({ "task_id": task_id, "state": state })
            }
            BulkItem::Retried(new) => json!({ "task_id": new, "retry_of": task_id }),
            BulkItem::Cancelled(CancelReceipt::Requested) => {
                json!({ "task_id": task_id, "state": State::Running })
            }
            BulkItem::Cancelled(_) => json!({ "task_id": task_id, "state": State::Cancelled }),
            BulkItem::Refused(why) => match self.what {
                Bulk::Retry => json!({ "retry_of": task_id, "error": why }),
                Bulk::Cancel => json!({ "task_id": task_id, "error": why }),
            },
        };
        let items: Vec<Value> = self.items.iter().map(show).collect();
        let mut body = json!({
            "dry_run": self.dry_run,
            "matched": items.len(),
            "refused": count(|item| matches!(item, BulkItem::Refused(_))),
            "items": items,
            "next_cursor": self.next.map(cursor),
        });
        let counts: &[(&str, usize)] = match self.what {
            Bulk::Retry => &[(
                "retried",
                count(|item| matches!(item, BulkItem::Retried(_))),
            )],
            Bulk::Cancel => &[
                (
                    "cancelled",
                    count(|item| matches!(item, BulkItem::Cancelled(CancelReceipt::Ended))),
                ),
                (
                    "requested",
                    count(|item| matches!(item, BulkItem::Cancelled(CancelReceipt::Requested))),
                ),
                ("ended", count(|item| matches!(item, BulkItem::Ended(_)))),
            ],
        };
        for (name, count) in counts {
            body[*name] = (*count).into();
        }
        body
    }
}

impl Executions {
    /// Executions that fit, newest first, and where to go on.
    async fn fitting(
        &self,
        tenant: TenantId,
        request: &BulkRequest,
    ) -> ServiceResult<(Vec<Execution>, Option<i64>)> {
        let mut filter = request.filter.clone();
        filter.config_id = match &request.task {
            None => None,
            Some(task) => Some(super::Tasks(self.0.clone()).show(tenant, task).await?.id),
        };
        let mut found: Vec<Execution> = Vec::new();
        let mut after = request.after;
        loop {
            let left = request.limit - found.len();
            let limit = Page::MAX.min(u32::try_from(left).unwrap_or(Page::MAX));
            let page = Page { limit, after };
            let listed = self.0.store.executions(tenant, &filter, &page).await?;
            found.extend(listed.items);
            after = listed.next;
            if after.is_none() || found.len() >= request.limit {
                return Ok((found, after));
            }
        }
    }

    /// Runs ended executions again, as [`Self::retry`] does one; all that can are enqueued in one transaction.
    ///
    /// # Errors
    /// `NotFound` when the filter names a task that does not exist. As [`super::Tasks::trigger`] for the key.
    pub async fn retry_many(
        &self,
        tenant: TenantId,
        request: &BulkRequest,
        key: Option<&RequestKey>,
        cursor: fn(i64) -> String,
    ) -> ServiceResult<Once<BulkOutcome>> {
        let cx = &self.0;
        let _in_flight = match cx.begin(tenant, key).await? {
            Begun::Fresh(in_flight) => in_flight,
            Begun::Repeated(answer) => return Ok(Once::Repeated(answer)),
        };
        let (found, mut next) = self.fitting(tenant, request).await?;
        if request.dry_run {
            return Ok(Once::Done(fits(Bulk::Retry, found, next)));
        }
        let now = cx.clock.now();
        let count = found.len();
        let mut prepared = futures_util::stream::iter(found)
            .map(|old| async move {
                let item = self.again(tenant, old.task_id, now).await;
                (old, item)
            })
            .buffered(AT_ONCE);
        let (mut plans, mut bytes) = (Vec::with_capacity(count), 0);
        while let Some((old, item)) = prepared.next().await {
            match item {
                Ok(item) => {
                    bytes += item.parameters.len();
                    plans.push((old.task_id, Ok(item)));
                }
                Err(error @ (ServiceError::Unavailable(_) | ServiceError::Internal(_))) => {
                    return Err(error);
                }
                Err(refusal) => plans.push((old.task_id, Err(refusal.to_string()))),
            }
            // The next call goes on behind the one that filled this.
            if bytes >= MAX_BYTES && plans.len() < count {
                next = Some(old.id);
                break;
            }
        }
        drop(prepared);
        let plans: Arc<Plans> = Arc::new(plans);
        let items: Vec<NewExecution> = plans.iter().flat_map(|(_, item)| item.clone()).collect();
        let answer = {
            let plans = plans.clone();
            move |receipts: &Vec<EnqueueReceipt>| {
                let outcome = retried(&plans, receipts, next);
                Some(Answer {
                    status: 200,
                    body: outcome.to_json(cursor).to_string().into(),
                })
            }
        };
        let batch = Enqueue {
            request: keyed(tenant, key, answer),
            ..Enqueue::each(items)
        };
        let receipts = match cx.enqueue(now, batch, key).await? {
            Once::Done(receipts) => receipts,
            Once::Repeated(answer) => return Ok(Once::Repeated(answer)),
        };
        Ok(Once::Done(retried(&plans, &receipts, next)))
    }

    /// Ends live executions, as [`Self::cancel`] does one.
    ///
    /// # Errors
    /// `NotFound` when the filter names a task that does not exist.
    pub async fn cancel_many(
        &self,
        tenant: TenantId,
        request: &BulkRequest,
    ) -> ServiceResult<BulkOutcome> {
        let cx = &self.0;
        let (found, next) = self.fitting(tenant, request).await?;
        if request.dry_run {
            return Ok(fits(Bulk::Cancel, found, next));
        }
        let now = cx.clock.now();
        // Together they share the store's transactions.
        let mut asked = futures_util::stream::iter(found)
            .map(|old| async move {
                let receipt = cx.store.cancel(now, tenant, old.task_id).await;
                (old.task_id, receipt)
            })
            .buffered(AT_ONCE);
        let mut items = Vec::new();
        while let Some((task_id, receipt)) = asked.next().await {
            let item = match receipt? {
                CancelReceipt::AlreadyEnded(state) => BulkItem::Ended(state),
                CancelReceipt::NotFound => BulkItem::Refused("it is gone".to_owned()),
                receipt => {
                    if receipt == CancelReceipt::Requested {
                        cx.wakes.cancelled(task_id);
                    }
                    BulkItem::Cancelled(receipt)
                }
            };
            items.push((task_id, item));
        }
        cx.wakes.rescheduled();
        cx.wakes.enqueued();
        Ok(BulkOutcome {
            what: Bulk::Cancel,
            dry_run: false,
            items,
            next,
        })
    }
}

/// Ended executions, each with the one that repeats it or why there is none.
type Plans = Vec<(TaskId, Result<NewExecution, String>)>;

fn fits(what: Bulk, found: Vec<Execution>, next: Option<i64>) -> BulkOutcome {
    let item = |e: Execution| (e.task_id, BulkItem::Fits(e.state));
    BulkOutcome {
        what,
        dry_run: true,
        items: found.into_iter().map(item).collect(),
        next,
    }
}

fn retried(plans: &Plans, receipts: &[EnqueueReceipt], next: Option<i64>) -> BulkOutcome {
    let mut receipts = receipts.iter();
    let judge = |(task_id, item): &(TaskId, Result<NewExecution, String>)| {
        let item = match item {
            Err(why) => BulkItem::Refused(why.clone()),
            Ok(new) => {
                let receipt = receipts.next().unwrap_or(&EnqueueReceipt::Duplicate);
                match refused(receipt, new.task_id) {
                    None => BulkItem::Retried(new.task_id),
                    Some(problem) => BulkItem::Refused(problem.detail),
                }
            }
        };
        (*task_id, item)
    };
    BulkOutcome {
        what: Bulk::Retry,
        dry_run: false,
        items: plans.iter().map(judge).collect(),
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_by_itself_meanwhile_is_no_refusal() {
        let items = [
            BulkItem::Cancelled(CancelReceipt::Ended),
            BulkItem::Ended(State::Succeeded),
            BulkItem::Refused("it is gone".to_owned()),
        ];
        let outcome = BulkOutcome {
            what: Bulk::Cancel,
            dry_run: false,
            items: items.map(|item| (TaskId::nil(), item)).into(),
            next: None,
        };
        let told = outcome.to_json(|_| String::new());
        let counts = ["matched", "cancelled", "requested", "ended", "refused"];
        assert_eq!(
            counts.map(|name| told[name].as_u64()),
            [3, 1, 0, 1, 1].map(Some)
        );
        assert_eq!(told["items"][1]["state"], "succeeded");
    }
}

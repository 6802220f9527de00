//! What a call for many executions did, as its answer tells.

use super::Bulk;
use crate::store::CancelReceipt;
use horarium_model::TaskId;
use horarium_model::execution::State;
use serde_json::{Value, json};

/// What became of the executions that fitted the filter.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkOutcome {
    pub(super) what: Bulk,
    /// Nothing was done.
    pub dry_run: bool,
    pub(super) items: Vec<(TaskId, BulkItem)>,
    /// Where the next call goes on; none when this was all.
    pub next: Option<i64>,
}

/// What became of one execution.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum BulkItem {
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
    pub(in crate::service) fn cancelled(&self) -> u64 {
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

//! Retrying and cancelling by filter, in calls of at most [`MAX_ITEMS`] executions, newest first; a cursor
//! leads to the rest.

mod outcome;
mod request;

pub use outcome::BulkOutcome;
pub use request::BulkRequest;

use super::once::{Begun, Once, RequestKey, keyed};
use super::trigger::refused;
use super::{Executions, ServiceError, ServiceResult};
use crate::store::{Answer, CancelReceipt, Enqueue, EnqueueReceipt, NewExecution, Page};
use futures_util::StreamExt;
use horarium_model::execution::State;
use horarium_model::{Execution, TaskId, TenantId};
use outcome::BulkItem;
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

//! Executions: list, show, attempts, cancel, retry.

use super::once::{Begun, Once, RequestKey};
use super::{Context, ServiceError, ServiceResult, TriggerRequest};
use crate::store::{CancelReceipt, ExecutionFilter, Listing, NewExecution, Page, WaitingHead};
use horarium_model::execution::{AttemptRecord, State};
use horarium_model::{Execution, Limits, TaskId, TenantId, Timestamp, Trigger};
use serde_json::{Map, Value};

/// Operations on executions.
#[derive(Clone)]
pub struct Executions(pub(super) Context);

/// An execution with what belongs beside it.
#[derive(Debug, Clone)]
pub struct ExecutionView {
    /// The execution, with live progress when it runs here.
    pub execution: Execution,
    /// The limits its last attempt had; before its end those in force for its config now, none when that is gone.
    pub limits: Option<Limits>,
    /// Wall-clock limit of an attempt, likewise.
    pub timeout_seconds: Option<u32>,
}

impl Executions {
    /// Executions, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        tenant: TenantId,
        filter: &ExecutionFilter,
        page: &Page,
    ) -> ServiceResult<Listing<Execution>> {
        let mut listing = self.0.store.executions(tenant, filter, page).await?;
        for execution in &mut listing.items {
            self.live_progress(execution);
        }
        Ok(listing)
    }

    /// Of each enabled type, what waits longest for a slot, whoever owns it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn waiting_heads(&self) -> ServiceResult<Vec<WaitingHead>> {
        let types = self.0.registry.enabled();
        Ok(self.0.store.waiting_heads(&types).await?)
    }

    /// One execution.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn find(&self, tenant: TenantId, task_id: TaskId) -> ServiceResult<Execution> {
        let found = self.0.store.execution(tenant, task_id).await?;
        let mut execution = found
            .ok_or_else(|| ServiceError::NotFound(format!("there is no execution {task_id}")))?;
        self.live_progress(&mut execution);
        Ok(execution)
    }

    /// One execution with the limits that hold for it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn show(&self, tenant: TenantId, task_id: TaskId) -> ServiceResult<ExecutionView> {
        let execution = self.find(tenant, task_id).await?;
        let config = match execution.config_id {
            Some(id) => self.0.store.config(tenant, id).await?,
            None => None,
        };
        let limits = config.as_ref().map(|config| {
            let name = &execution.task_type;
            let pin = execution
                .plugin_digest
                .as_deref()
                .or(config.spec.plugin_version.as_deref());
            let version = self.0.registry.chosen(tenant, name, pin);
            self.0.policy.effective(version.as_deref(), Some(config))
        });
        let timeout = config.map(|c| c.spec.timeout_seconds);
        Ok(ExecutionView {
            limits: execution.limits.or(limits),
            timeout_seconds: execution.timeout_seconds.or(timeout),
            execution,
        })
    }

    /// The progress of a run on this host is newer in memory than in the store.
    fn live_progress(&self, execution: &mut Execution) {
        if execution.state == State::Running
            && let Some(control) = self.0.live.control_of(execution.task_id)
            && let Some(progress) = control.progress()
        {
            execution.progress = Some(progress);
        }
    }

    /// Attempts that ended, oldest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn attempts(
        &self,
        tenant: TenantId,
        task_id: TaskId,
    ) -> ServiceResult<Vec<AttemptRecord>> {
        self.find(tenant, task_id).await?;
        Ok(self.0.store.attempts(tenant, task_id).await?)
    }

    /// Ends a waiting execution at once, asks a running one to end (rule E7). Returns it as it stands.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it had ended before.
    pub async fn cancel(&self, tenant: TenantId, task_id: TaskId) -> ServiceResult<Execution> {
        let cx = &self.0;
        match cx.store.cancel(cx.clock.now(), tenant, task_id).await? {
            CancelReceipt::NotFound => {
                return Err(ServiceError::NotFound(format!(
                    "there is no execution {task_id}"
                )));
            }
            CancelReceipt::AlreadyEnded(state) => {
                return Err(ServiceError::Conflict(format!(
                    "execution {task_id} has ended already: {state}"
                )));
            }
            CancelReceipt::Requested => cx.wakes.cancelled(task_id),
            CancelReceipt::Ended => {
                cx.wakes.rescheduled();
                // Its chain may have enqueued others.
                cx.wakes.enqueued();
            }
        }
        self.find(tenant, task_id).await
    }

    /// Runs an ended execution again as a new one (rule E4): same parameters, checked against the
    /// version that would run now.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has not ended, never ran, or its task is gone; `Invalid` when the
    /// parameters no longer fit. As [`super::Tasks::trigger`] for the key.
    pub async fn retry(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        key: Option<&RequestKey>,
    ) -> ServiceResult<Once<Execution>> {
        let cx = &self.0;
        let _in_flight = match cx.begin(tenant, key).await? {
            Begun::Fresh(in_flight) => in_flight,
            Begun::Repeated(answer) => return Ok(Once::Repeated(answer)),
        };
        let now = cx.clock.now();
        let item = self.again(tenant, task_id, now).await?;
        cx.enqueue_one(tenant, item, now, "its task", key).await
    }

    /// The execution that repeats an ended one.
    pub(super) async fn again(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        now: Timestamp,
    ) -> ServiceResult<NewExecution> {
        let cx = &self.0;
        let old = self.find(tenant, task_id).await?;
        let refusal = match old.state {
            State::Skipped => Some("was skipped and has nothing to repeat; trigger its task"),
            state if !state.is_end() => Some("has not ended; cancel it first or wait"),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return Err(ServiceError::Conflict(format!(
                "execution {task_id} {refusal}"
            )));
        }
        let config = match old.config_id {
            Some(id) => cx.store.config(tenant, id).await?,
            None => None,
        };
        let config = config.ok_or_else(|| {
            ServiceError::Conflict(format!(
                "the task of execution {task_id} was deleted; nothing says how to run it"
            ))
        })?;
        let parameters = match old.parameters {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let request = TriggerRequest {
            parameters: Some(parameters),
            priority: Some(old.priority),
            ..TriggerRequest::default()
        };
        let compiled = cx.configs.keep(config);
        let fresh = cx
            .prepare(tenant, &compiled, &request, Trigger::Retry, now)
            .await?;
        Ok(NewExecution {
            slot: old.slot,
            retry_of: Some(task_id),
            ..fresh
        })
    }
}

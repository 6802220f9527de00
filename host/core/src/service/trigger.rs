//! A person or a program starts a task now (rule S8).

use super::{ServiceError, ServiceResult, TaskRef, Tasks};
use crate::config_cache::{CompiledConfig, Overrides, freeze};
use crate::scheduler::new_task_id;
use crate::store::EnqueueReceipt;
use horarium_model::input::Fields;
use horarium_model::{Execution, Invalid, TenantId, Trigger};
use serde_json::{Map, Value};

/// What a trigger may say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TriggerRequest {
    /// Replaces the config's parameters.
    pub parameters: Option<Map<String, Value>>,
    /// Replaces the config's priority.
    pub priority: Option<i32>,
    /// Refuse when an execution of the config lives, instead of queueing.
    pub refuse_if_running: bool,
    /// Recorded as `api` instead of `manual`.
    pub by_program: bool,
}

impl TriggerRequest {
    /// Reads `{"parameters", "priority", "if_running": "queue"|"refuse", "trigger": "manual"|"api"}`.
    ///
    /// # Errors
    /// Every problem found.
    pub fn from_json(body: &Value) -> Result<Self, Invalid> {
        Fields::read(body, "", |fields| Self {
            parameters: fields.map("parameters"),
            priority: fields.integer("priority", -100, 100).map(|n| n as i32),
            refuse_if_running: fields
                .choice("if_running", &[("queue", false), ("refuse", true)])
                .unwrap_or(false),
            by_program: fields
                .choice("trigger", &[("manual", false), ("api", true)])
                .unwrap_or(false),
        })
    }
}

impl Tasks {
    /// Enqueues one execution now, paused or not.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when the parameters do not fit; `Conflict` when an execution lives and the
    /// caller wanted a refusal then.
    pub async fn trigger(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        request: TriggerRequest,
    ) -> ServiceResult<Execution> {
        let cx = &self.0;
        let config = self.show(tenant, task).await?;
        let id = config.id;
        let version = cx.registry.chosen(
            tenant,
            &config.spec.task_type,
            config.spec.plugin_version.as_deref(),
        );
        let max = cx
            .policy
            .effective(version.as_deref(), Some(&config))
            .parameters_bytes;
        let parameters = request
            .parameters
            .as_ref()
            .unwrap_or(&config.spec.parameters);
        let frozen = cx
            .check_parameters(version.as_deref(), parameters, max)
            .await?;
        let overrides = Overrides {
            parameters: Some(frozen.to_string().into()),
            priority: request.priority,
            refuse_if_live: request.refuse_if_running,
        };
        let now = cx.clock.now();
        let trigger = if request.by_program {
            Trigger::Api
        } else {
            Trigger::Manual
        };
        let compiled = CompiledConfig::new(config);
        let item = freeze(
            &compiled,
            &cx.registry,
            new_task_id(now),
            trigger,
            now,
            overrides,
        )
        .await;
        cx.enqueue_one(tenant, item, &format!("task {id}")).await
    }
}

impl super::Context {
    /// Enqueues one execution and returns it as it stands.
    pub(super) async fn enqueue_one(
        &self,
        tenant: TenantId,
        item: crate::store::NewExecution,
        what: &str,
    ) -> ServiceResult<Execution> {
        let task_id = item.task_id;
        let receipts = self
            .store
            .enqueue_many(self.clock.now(), vec![item])
            .await?;
        match receipts.into_iter().next() {
            Some(EnqueueReceipt::Enqueued { .. }) => {}
            Some(EnqueueReceipt::Live) => {
                return Err(ServiceError::Conflict(format!(
                    "{what} has an execution that waits or runs, and `if_running` is `refuse`"
                )));
            }
            Some(EnqueueReceipt::Full(full)) => return Err(ServiceError::backlog(what, full)),
            Some(EnqueueReceipt::NoConfig) => {
                return Err(ServiceError::NotFound(format!(
                    "{what} does not exist any more"
                )));
            }
            Some(EnqueueReceipt::Duplicate) | None => {
                return Err(ServiceError::Internal(format!(
                    "the store did not take execution {task_id}"
                )));
            }
        }
        self.wakes.enqueued();
        self.wakes.rescheduled();
        self.store
            .execution(tenant, task_id)
            .await?
            .ok_or_else(|| ServiceError::Internal(format!("execution {task_id} vanished")))
    }
}

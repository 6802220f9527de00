//! A person or a program starts a task (rule S8): once, or as a batch.

use super::once::{Begun, Once, RequestKey, keyed};
use super::{Context, ServiceError, ServiceResult, TaskRef, Tasks, full_backlog};
use crate::config_cache::{CompiledConfig, Overrides, freeze};
use crate::scheduler::new_task_id;
use crate::store::{Answer, Enqueue, EnqueueReceipt, NewExecution, rules};
use horarium_model::input::Fields;
use horarium_model::parameters::ParameterChange;
use horarium_model::{Execution, Invalid, Problem, TaskId, TenantId, Timestamp, Trigger};
use serde_json::{Map, Value};
use std::sync::Arc;

/// HTTP status of a request whose executions were enqueued.
const ACCEPTED: u16 = 202;

/// What a trigger may say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TriggerRequest {
    /// Replaces the config's parameters.
    pub parameters: Option<Map<String, Value>>,
    /// Changes the config's parameters for this execution (RFC 7396).
    pub parameters_patch: Option<Map<String, Value>>,
    /// Replaces the config's priority.
    pub priority: Option<i32>,
    /// When it may start; now when absent.
    pub due: Option<Due>,
    /// Refuse when an execution of the config lives, instead of queueing.
    pub refuse_if_running: bool,
    /// Recorded as `api` instead of `manual`.
    pub by_program: bool,
}

/// When an execution may start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Due {
    /// At an instant; one that has passed is now.
    At(Timestamp),
    /// After so many seconds.
    In(u32),
}

/// The furthest an execution may be put off.
const MAX_DELAY_SECONDS: i64 = 366 * 86_400;

impl TriggerRequest {
    /// Reads `{"parameters" | "parameters_patch", "priority", "due_at" | "delay_seconds",
    /// "if_running": "queue"|"refuse", "trigger": "manual"|"api"}`.
    ///
    /// # Errors
    /// Every problem found.
    pub fn from_json(body: &Value, now: Timestamp) -> Result<Self, Invalid> {
        Fields::read(body, "", |fields| Self::read_whole(fields, now))
    }

    /// What [`Self::from_json`] takes, as a JSON Schema.
    pub fn describe() -> Value {
        Fields::describe(|fields| Self::read_whole(fields, Timestamp::UNIX_EPOCH))
    }

    fn read_whole(fields: &mut Fields<'_>, now: Timestamp) -> Self {
        let by_program = fields.choice("trigger", &[("manual", false), ("api", true)]);
        Self {
            by_program: by_program.unwrap_or(false),
            ..Self::read(fields, now)
        }
    }

    /// Reads what a trigger and an item of a batch have in common.
    pub(super) fn read(fields: &mut Fields<'_>, now: Timestamp) -> Self {
        let parameters = fields.map("parameters");
        let parameters_patch = fields.map("parameters_patch");
        if parameters.is_some() && parameters_patch.is_some() {
            let detail = "changes the task's parameters, `parameters` replaces them; give one";
            fields.problem("parameters_patch", detail);
        }
        let at = fields.instant("due_at");
        let delay = fields.integer("delay_seconds", 0, MAX_DELAY_SECONDS);
        if at.is_some() && delay.is_some() {
            fields.problem("delay_seconds", "and `due_at` both say when; give one");
        }
        if at.is_some_and(|at| at > now + chrono::Duration::seconds(MAX_DELAY_SECONDS)) {
            fields.problem("due_at", "is more than 366 days ahead");
        }
        let delay = delay.and_then(|seconds| u32::try_from(seconds).ok());
        Self {
            parameters,
            parameters_patch,
            priority: fields.integer("priority", -100, 100).map(|n| n as i32),
            due: at.map(Due::At).or(delay.map(Due::In)),
            refuse_if_running: fields
                .choice("if_running", &[("queue", false), ("refuse", true)])
                .unwrap_or(false),
            by_program: false,
        }
    }

    fn due_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self.due? {
            Due::At(at) => Some(crate::clock::whole_micros(at).max(now)),
            Due::In(seconds) => Some(now + chrono::Duration::seconds(seconds.into())),
        }
    }
}

/// Who asks for an execution, and how.
struct Asked<'a> {
    tenant: TenantId,
    request: &'a TriggerRequest,
    now: Timestamp,
    key: Option<&'a RequestKey>,
}

impl Tasks {
    /// Enqueues one execution, paused or not.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when the parameters do not fit, or the key was used for another request;
    /// `Conflict` when an execution lives and the caller wanted a refusal then, or the same request is being
    /// carried out.
    pub async fn trigger(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        request: TriggerRequest,
        key: Option<&RequestKey>,
    ) -> ServiceResult<Once<Execution>> {
        let cx = &self.0;
        let _in_flight = match cx.begin(tenant, key).await? {
            Begun::Fresh(in_flight) => in_flight,
            Begun::Repeated(answer) => return Ok(Once::Repeated(answer)),
        };
        let asked = Asked {
            tenant,
            request: &request,
            now: cx.clock.now(),
            key,
        };
        // What is remembered saves the question; if it is no more as it was, the store says so.
        let mut refused = None;
        if let Some(compiled) = self.remembered(tenant, task) {
            match self.enqueue_of(&compiled, &asked, true).await {
                Err(ServiceError::NotFound(_)) => cx.configs.drop_entry(compiled.config.id),
                Err(error @ ServiceError::Invalid(_)) => refused = Some((compiled, error)),
                done => return done,
            }
        }
        let compiled = cx.configs.keep(self.show(tenant, task).await?);
        match refused {
            Some((remembered, error)) if Arc::ptr_eq(&remembered, &compiled) => Err(error),
            _ => self.enqueue_of(&compiled, &asked, false).await,
        }
    }

    /// Enqueues what is asked of a config; of one that is `remembered`, only if it is still that version.
    async fn enqueue_of(
        &self,
        compiled: &CompiledConfig,
        asked: &Asked<'_>,
        remembered: bool,
    ) -> ServiceResult<Once<Execution>> {
        let cx = &self.0;
        let trigger = match asked.request.by_program {
            true => Trigger::Api,
            false => Trigger::Manual,
        };
        let (tenant, now) = (asked.tenant, asked.now);
        let item = cx
            .prepare(tenant, compiled, asked.request, trigger, now)
            .await?;
        let item = NewExecution {
            remembered: remembered.then_some(compiled.config.version),
            ..item
        };
        let what = format!("task {}", compiled.config.id);
        cx.enqueue_one(tenant, item, now, &what, asked.key).await
    }

    /// The config, as it was when it was last seen.
    fn remembered(&self, tenant: TenantId, task: &TaskRef) -> Option<Arc<CompiledConfig>> {
        let configs = &self.0.configs;
        match task {
            TaskRef::Id(id) => configs.remembered(tenant, *id),
            TaskRef::Key(key) => configs.remembered_by_key(tenant, key),
        }
    }
}

impl Context {
    /// The execution that a trigger asks for: parameters checked against the version that would run, with
    /// the defaults of its schema.
    pub(super) async fn prepare(
        &self,
        tenant: TenantId,
        compiled: &CompiledConfig,
        request: &TriggerRequest,
        trigger: Trigger,
        now: Timestamp,
    ) -> Result<NewExecution, Invalid> {
        let config = &compiled.config;
        let spec = &config.spec;
        let pin = spec.plugin_version.as_deref();
        let version = self.registry.chosen(tenant, &spec.task_type, pin);
        let patched = match &request.parameters_patch {
            Some(patch) => {
                let change = ParameterChange::Merge(patch.clone());
                Some(change.apply(&spec.parameters)?)
            }
            None => None,
        };
        let given = request.parameters.as_ref().or(patched.as_ref());
        let max = self
            .policy
            .effective(version.as_deref(), Some(config))
            .parameters_bytes;
        let own = match given {
            Some(_) => None,
            // Checked once for all executions that have them.
            None => {
                let (text, fits) = compiled
                    .frozen_parameters(&self.registry, version.as_deref())
                    .await;
                Some(text).filter(|text| fits && text.len() as u64 <= max)
            }
        };
        let parameters = match own {
            Some(text) => text,
            None => {
                let given = given.unwrap_or(&spec.parameters);
                let checked = self
                    .check_parameters(version.as_deref(), given, max)
                    .await?;
                checked.to_string().into()
            }
        };
        let overrides = Overrides {
            parameters: Some(parameters),
            priority: request.priority,
            due_at: request.due_at(now),
            refuse_if_live: request.refuse_if_running,
        };
        let id = new_task_id(now);
        Ok(freeze(compiled, &self.registry, id, trigger, now, overrides).await)
    }

    /// Enqueues one execution and returns it as it was enqueued.
    pub(super) async fn enqueue_one(
        &self,
        tenant: TenantId,
        item: NewExecution,
        now: Timestamp,
        what: &str,
        key: Option<&RequestKey>,
    ) -> ServiceResult<Once<Execution>> {
        let task_id = item.task_id;
        let shown = item.clone();
        let answer = move |receipts: &Vec<EnqueueReceipt>| {
            let execution = enqueued(&shown, receipts.first()?, now)?;
            let body = serde_json::to_string(&execution).ok()?;
            Some(Answer {
                status: ACCEPTED,
                body: body.into(),
            })
        };
        let batch = Enqueue {
            request: keyed(tenant, key, answer),
            ..Enqueue::each(vec![item.clone()])
        };
        let receipts = match self.enqueue(now, batch, key).await? {
            Once::Done(receipts) => receipts,
            Once::Repeated(answer) => return Ok(Once::Repeated(answer)),
        };
        let receipt = receipts.first();
        if let Some(execution) = receipt.and_then(|receipt| enqueued(&item, receipt, now)) {
            return Ok(Once::Done(execution));
        }
        Err(match receipt {
            Some(EnqueueReceipt::Live) => ServiceError::Conflict(format!(
                "{what} has an execution that waits or runs, and `if_running` is `refuse`"
            )),
            Some(EnqueueReceipt::Full(full)) => ServiceError::backlog(what, *full),
            Some(EnqueueReceipt::NoConfig) => {
                ServiceError::NotFound(format!("{what} does not exist any more"))
            }
            _ => ServiceError::Internal(format!("the store did not take execution {task_id}")),
        })
    }
}

/// An execution as it was enqueued; none when it was refused.
pub(super) fn enqueued(
    new: &NewExecution,
    receipt: &EnqueueReceipt,
    now: Timestamp,
) -> Option<Execution> {
    match receipt {
        EnqueueReceipt::Enqueued { id, state } => Some(rules::fresh(new, *id, *state, now)),
        _ => None,
    }
}

/// Why an item was not taken, for people.
pub(super) fn refused(receipt: &EnqueueReceipt, task: TaskId) -> Option<Problem> {
    let (pointer, detail) = match receipt {
        EnqueueReceipt::Enqueued { .. } => return None,
        EnqueueReceipt::Live => (
            "/if_running",
            "its task has an execution that waits or runs, and `if_running` is `refuse`".to_owned(),
        ),
        EnqueueReceipt::NoConfig => ("/task", "the task does not exist any more".to_owned()),
        EnqueueReceipt::Full(full) => ("", full_backlog("it", *full)),
        EnqueueReceipt::Duplicate => ("", format!("the store did not take execution {task}")),
        EnqueueReceipt::Void => ("", "not enqueued: the batch is atomic".to_owned()),
    };
    Some(Problem::at(pointer, detail))
}

//! The tasks of a declaration: what each becomes, and whether it may.

use super::outcome::{Action, ApplyItem, Change, Subject, differences};
use super::request::{Existing, Unfit};
use super::{Apply, Around, Plan, key_of, without_key};
use crate::service::tasks::reanchor;
use crate::service::validate::{concerns_plugin, refuse};
use crate::service::{ServiceError, ServiceResult};
use crate::store::ConfigUpdate;
use horarium_model::chain::ChainTask;
use horarium_model::text::one_line;
use horarium_model::{ConfigId, Invalid, Problem, TaskConfig, TaskSpec};
use serde_json::{Value, json};
use std::collections::HashSet;

impl Apply {
    /// Adds what becomes of one task to the plan; a task that is there is noted in `declared`.
    pub(super) async fn plan_task(
        &self,
        around: &Around<'_>,
        body: &Value,
        plan: &mut Plan,
        declared: &mut HashSet<ConfigId>,
    ) -> ServiceResult<()> {
        let request = around.request;
        let key = key_of(body).unwrap_or_default();
        let old = self.cx.store.config_by_key(around.tenant, key).await?;
        let Some(old) = old else {
            let (spec, note) = self.new_spec(around, body).await?;
            let changes = differences(&json!({}), &without_key(body));
            plan.outcome.items.push(ApplyItem {
                subject: Subject::Task {
                    key: Some(key.to_owned()),
                    stands: None,
                },
                action: Action::Create,
                changes,
                note,
            });
            plan.declaration.creates.push(spec);
            return Ok(());
        };
        declared.insert(old.id);
        let item = |action, changes, note| ApplyItem {
            subject: Subject::Task {
                key: Some(key.to_owned()),
                stands: Some((old.id, old.version)),
            },
            action,
            changes,
            note,
        };
        if request.existing == Existing::Keep {
            // It stays; still a document must be one that could have made it.
            TaskSpec::from_json(body, around.now, Some(&old.spec))?;
            let note = Some("is there already and stays as it is".to_owned());
            plan.outcome
                .items
                .push(item(Action::Unchanged, Vec::new(), note));
            return Ok(());
        }
        let spec = self.changed_spec(around, body, &old).await?;
        let mut changes = differences(
            &Value::Object(old.spec.to_json()),
            &Value::Object(spec.to_json()),
        );
        if old.declared_by.as_ref() != Some(&request.set) {
            changes.push(Change {
                pointer: "/declared_by".to_owned(),
                old: old.declared_by.clone().into(),
                new: request.set.clone().into(),
            });
        }
        if changes.is_empty() {
            plan.outcome
                .items
                .push(item(Action::Unchanged, changes, None));
            return Ok(());
        }
        plan.outcome.items.push(item(Action::Update, changes, None));
        let update = ConfigUpdate {
            expected_version: old.version,
            reanchor: reanchor(&old, &spec, around.now)?,
            spec,
        };
        plan.declaration.updates.push((old.id, update));
        Ok(())
    }

    /// The spec of a task that is not there, and why it begins paused if it does not fit.
    async fn new_spec(
        &self,
        around: &Around<'_>,
        body: &Value,
    ) -> ServiceResult<(TaskSpec, Option<String>)> {
        let mut spec = TaskSpec::from_json(body, around.now, None)?;
        let fits = match self.check_fit(around, &spec).await {
            Err(ServiceError::Invalid(invalid)) if around.request.unfit == Unfit::Pause => {
                Some(one_line(&invalid.to_string(), 400))
            }
            other => {
                other?;
                None
            }
        };
        self.check_chain(around, &spec).await?;
        let Some(reason) = fits else {
            return Ok((spec, None));
        };
        spec.paused = true;
        let before = spec.pause_reason.take();
        spec.pause_reason = Some(match before {
            Some(before) => one_line(&format!("{before}; {reason}"), 500),
            None => reason.clone(),
        });
        Ok((spec, Some(format!("is created paused: {reason}"))))
    }

    /// What a task that is there becomes.
    async fn changed_spec(
        &self,
        around: &Around<'_>,
        body: &Value,
        old: &TaskConfig,
    ) -> ServiceResult<TaskSpec> {
        if let Some(owner) = &old.declared_by
            && *owner != around.request.set
            && !around.request.take_over
        {
            let detail = format!(
                "is declared by the set `{}`; take it out there, or take it over",
                one_line(owner, 100)
            );
            return Err(Invalid::one("/key", detail).into());
        }
        let mut body = body.as_object().cloned().unwrap_or_default();
        if !body.contains_key("paused") {
            // Whoever paused it by hand, or the failures that did, know why.
            body.insert("paused".into(), old.spec.paused.into());
            body.entry("pause_reason")
                .or_insert_with(|| old.spec.pause_reason.clone().into());
        }
        let spec = TaskSpec::from_json(&body.into(), around.now, Some(&old.spec))?;
        let plugin = around.plugins.get(&spec.task_type);
        let judged_anew = plugin.is_some_and(|plugin| plugin.judges_anew);
        if judged_anew || concerns_plugin(&spec, &old.spec) {
            self.check_fit(around, &spec).await?;
        }
        self.check_chain(around, &spec).await?;
        Ok(spec)
    }

    /// Checks a spec against the version it will run.
    async fn check_fit(&self, around: &Around<'_>, spec: &TaskSpec) -> ServiceResult<()> {
        if let Some(plugin) = around.plugins.get(&spec.task_type) {
            let declared = around.request.plugins.iter();
            let mut of_type = declared.filter(|wish| wish.task_type == spec.task_type);
            let pin = spec.plugin_version.as_ref();
            if pin.is_none_or(|pin| of_type.any(|wish| wish.digest == *pin)) {
                let version = plugin.target.as_deref();
                return self.cx.check_fit(around.tenant, spec, version).await;
            }
        }
        self.cx.check_spec(around.tenant, spec).await
    }

    /// Checks that the steps of a chain name tasks that will be there.
    async fn check_chain(&self, around: &Around<'_>, spec: &TaskSpec) -> ServiceResult<()> {
        let mut problems = Vec::new();
        for (index, step) in spec.chain.iter().enumerate() {
            let store = &self.cx.store;
            let stands = match &step.task {
                ChainTask::Key(key) if around.keys.contains(key.as_str()) => continue,
                ChainTask::Key(key) => store.config_by_key(around.tenant, key).await?,
                ChainTask::Id(id) => store.config(around.tenant, *id).await?,
            };
            let detail = match stands {
                None => format!("there is no task {}, and none is declared", step.task),
                Some(config) if around.gone.contains(&config.id) => {
                    format!(
                        "task {} is declared no more, and would be deleted",
                        step.task
                    )
                }
                Some(_) => continue,
            };
            problems.push(Problem::at(format!("/chain/{index}/task"), detail));
        }
        refuse(problems)
    }
}

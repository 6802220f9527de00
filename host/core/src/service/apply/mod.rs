//! Declarations: plugins and tasks as they shall be, compared with what is there, and made so in one transaction.

mod outcome;
mod request;
mod tasks;

pub use outcome::{Action, ApplyItem, ApplyOutcome, Change, Subject};
pub use request::{ApplyRequest, Existing, PluginWish, Unfit};

use super::plugins::Plugins;
use super::validate::refuse;
use super::{Context, ServiceError, ServiceResult, below};
use crate::store::{ConfigFilter, Declaration, DeclaredVersion, Deleted, Page, StoreError, rules};
use horarium_model::task_type::{PluginVersion, TaskType, VersionState};
use horarium_model::{ConfigId, Invalid, Problem, TaskConfig, TenantId, Timestamp};
pub(super) use outcome::differences;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Configs read at once.
const PAGE: u32 = 500;

/// Operations on declarations.
#[derive(Clone)]
pub struct Apply {
    pub(super) cx: Context,
    pub(super) plugins: Plugins,
}

/// A declaration that was compared with what is there.
struct Plan {
    outcome: ApplyOutcome,
    declaration: Declaration,
    /// Versions that are not registered, or not ready.
    missing: Vec<Problem>,
}

/// A declared plugin beside what is there.
struct PluginPlan {
    /// The version that shall be active, once it is ready.
    target: Option<Arc<PluginVersion>>,
    /// Tasks must be looked at again.
    judges_anew: bool,
}

/// What all tasks of a plan are looked at by.
struct Around<'a> {
    tenant: TenantId,
    now: Timestamp,
    request: &'a ApplyRequest,
    plugins: HashMap<String, PluginPlan>,
    keys: HashSet<&'a str>,
    /// Tasks that go.
    gone: HashSet<ConfigId>,
}

impl Apply {
    /// Compares a declaration with what is there, and unless it is a dry run makes it so: all in one transaction,
    /// or nothing.
    ///
    /// # Errors
    /// `Invalid` with every problem of every item; `VersionMismatch` when what is there is not what the plan was
    /// made from. Nothing was written then.
    pub async fn apply(
        &self,
        tenant: TenantId,
        request: &ApplyRequest,
    ) -> ServiceResult<ApplyOutcome> {
        let now = self.cx.clock.now();
        let plan = self.plan(tenant, request, now).await?;
        let mut outcome = plan.outcome;
        if let Some(expected) = &request.plan
            && *expected != outcome.fingerprint()
        {
            return Err(ServiceError::VersionMismatch(
                "what is there changed since the plan was made; look at the new plan and apply that".to_owned(),
            ));
        }
        if request.dry_run || !outcome.changes_anything() {
            return Ok(outcome);
        }
        refuse(plan.missing)?;
        match self.cx.store.declare(now, tenant, plan.declaration).await {
            Ok(declared) => outcome.deleted = declared.deleted,
            Err(StoreError::Conflict(detail)) => {
                return Err(ServiceError::VersionMismatch(format!(
                    "{detail}; nothing was changed, apply it again"
                )));
            }
            Err(other) => return Err(other.into()),
        }
        self.plugins.catalog_changed().await?;
        Ok(outcome)
    }

    async fn plan(
        &self,
        tenant: TenantId,
        request: &ApplyRequest,
        now: Timestamp,
    ) -> ServiceResult<Plan> {
        let mut problems = repeated(request);
        let mut plan = Plan {
            outcome: ApplyOutcome {
                set: request.set.clone(),
                dry_run: request.dry_run,
                items: Vec::new(),
                deleted: Deleted::default(),
            },
            declaration: Declaration {
                set: request.set.clone(),
                ..Declaration::default()
            },
            missing: Vec::new(),
        };
        let mut plugins = HashMap::new();
        for (index, wish) in request.plugins.iter().enumerate() {
            problems.extend(self.cx.limit_problems(
                &wish.limits,
                None,
                &format!("/plugins/{index}/limits"),
            ));
            let planned = self.plan_plugin(tenant, index, wish, &mut plan).await?;
            plugins.insert(wish.task_type.clone(), planned);
        }
        let keys: HashSet<&str> = request.tasks.iter().filter_map(key_of).collect();
        let leftover = self.leftover(tenant, &request.set, &keys).await?;
        let mut around = Around {
            tenant,
            now,
            request,
            plugins,
            keys,
            gone: HashSet::new(),
        };
        if request.prune {
            around.gone = leftover.iter().map(|config| config.id).collect();
        }
        let mut declared: HashSet<ConfigId> = around.gone.clone();
        for (index, body) in request.tasks.iter().enumerate() {
            match self
                .plan_task(&around, body, &mut plan, &mut declared)
                .await
            {
                Ok(()) => {}
                Err(ServiceError::Invalid(invalid)) => {
                    let Invalid(more) = below(&format!("/tasks/{index}"), invalid);
                    problems.extend(more);
                }
                Err(other) => return Err(other),
            }
        }
        for config in leftover {
            plan.remove(config, request.prune);
        }
        for (index, wish) in request.plugins.iter().enumerate() {
            let planned = &around.plugins[&wish.task_type];
            if let (true, Some(target)) = (planned.judges_anew, &planned.target)
                && let Some(broken) = self
                    .plugins
                    .broken_config(target, tenant, &declared)
                    .await?
            {
                problems.push(Problem::at(format!("/plugins/{index}/digest"), broken));
            }
        }
        refuse(problems)?;
        Ok(plan)
    }

    async fn plan_plugin(
        &self,
        tenant: TenantId,
        index: usize,
        wish: &PluginWish,
        plan: &mut Plan,
    ) -> ServiceResult<PluginPlan> {
        let name = &wish.task_type;
        let row = self.cx.store.task_type(tenant, name).await?;
        if row.as_ref().is_some_and(TaskType::is_shared) {
            let taken = format!("{}; tasks name it as it is", rules::name_is_shared(name));
            return Err(Invalid::one(format!("/plugins/{index}/task_type"), taken).into());
        }
        let active = row.and_then(|row| row.active_digest);
        let versions = self.cx.store.versions(tenant, name).await?;
        let named = |digest: &str| versions.iter().find(|version| version.digest == digest);
        let wished = |version: &PluginVersion| PluginVersion {
            grants: wish.grants.clone(),
            limits: wish.limits,
            input: wish.input.clone(),
            ..version.clone()
        };
        let found = named(&wish.digest);
        let target = found
            .filter(|version| version.state == VersionState::Ready)
            .map(|version| Arc::new(wished(version)));
        let before = active.as_deref().and_then(named);
        let old = before.map_or(Value::Null, |version| {
            shown(
                &version.digest,
                &version.grants,
                &version.limits,
                &version.input,
            )
        });
        let new = shown(&wish.digest, &wish.grants, &wish.limits, &wish.input);
        let changes = match before {
            Some(_) => differences(&old, &new),
            None => differences(&json!({}), &new),
        };
        let action = match (before, changes.is_empty()) {
            (None, _) => Action::Create,
            (Some(_), true) => Action::Unchanged,
            (Some(_), false) => Action::Update,
        };
        if target.is_none() {
            let stands = found.map_or("is not registered yet".to_owned(), |version| {
                format!("is {}, not ready", version.state.as_str())
            });
            plan.missing.push(Problem::at(
                format!("/plugins/{index}/digest"),
                format!(
                    "version {} of `{name}` {stands}; register it with activate false first",
                    wish.digest
                ),
            ));
        }
        let judges_anew = before
            .is_none_or(|version| version.digest != wish.digest || version.limits != wish.limits);
        if action != Action::Unchanged {
            plan.declaration.plugins.push(DeclaredVersion {
                task_type: name.clone(),
                digest: wish.digest.clone(),
                expected_active: active,
                grants: wish.grants.clone(),
                limits: wish.limits,
                input: wish.input.clone(),
            });
        }
        plan.outcome.items.push(ApplyItem {
            subject: Subject::Plugin {
                task_type: name.clone(),
                digest: wish.digest.clone(),
                registered: target.is_some(),
            },
            action,
            changes,
            note: target.as_deref().and_then(super::finish::asks_for_more),
        });
        Ok(PluginPlan {
            target,
            judges_anew,
        })
    }

    /// Tasks of the set that are declared no more.
    async fn leftover(
        &self,
        tenant: TenantId,
        set: &str,
        keys: &HashSet<&str>,
    ) -> ServiceResult<Vec<TaskConfig>> {
        let filter = ConfigFilter {
            declared_by: Some(set.to_owned()),
            ..ConfigFilter::default()
        };
        let mut page = Page::first(PAGE);
        let mut leftover = Vec::new();
        loop {
            let listing = self.cx.store.configs(tenant, &filter, &page).await?;
            leftover.extend(listing.items.into_iter().filter(|config| {
                let key = config.spec.key.as_deref();
                key.is_none_or(|key| !keys.contains(key))
            }));
            match listing.next {
                Some(next) => page.after = Some(next),
                None => return Ok(leftover),
            }
        }
    }
}

impl Plan {
    /// A task of the set that is declared no more.
    fn remove(&mut self, config: TaskConfig, prune: bool) {
        let action = match prune {
            true => Action::Delete,
            false => Action::Undeclared,
        };
        self.outcome.items.push(ApplyItem {
            subject: Subject::Task {
                key: config.spec.key.clone(),
                stands: Some((config.id, config.version)),
            },
            action,
            changes: Vec::new(),
            note: Some(match prune {
                true => "is declared no more; its history stays".to_owned(),
                false => "is declared no more and stays, since prune was not asked for".to_owned(),
            }),
        });
        if prune {
            self.declaration.deletes.push((config.id, config.version));
        }
    }
}

/// What is declared twice.
fn repeated(request: &ApplyRequest) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (mut keys, mut types) = (HashMap::new(), HashMap::new());
    for (index, key) in request.tasks.iter().map(key_of).enumerate() {
        if let Some(first) = key.and_then(|key| keys.insert(key, index)) {
            let detail = format!("is the key of /tasks/{first} too; a key names one task");
            problems.push(Problem::at(format!("/tasks/{index}/key"), detail));
        }
    }
    for (index, wish) in request.plugins.iter().enumerate() {
        if let Some(first) = types.insert(wish.task_type.as_str(), index) {
            let detail = format!("is declared by /plugins/{first} too; one version is active");
            problems.push(Problem::at(format!("/plugins/{index}/task_type"), detail));
        }
    }
    problems
}

fn key_of(task: &Value) -> Option<&str> {
    task.get("key")?.as_str()
}

/// What a declaration says of a new task beside its key.
fn without_key(body: &Value) -> Value {
    let said = body.as_object().cloned().unwrap_or_default();
    let said: Map<String, Value> = said.into_iter().filter(|(key, _)| key != "key").collect();
    said.into()
}

/// A version as plans compare it.
fn shown(
    digest: &str,
    grants: &[horarium_model::grant::Grant],
    limits: &horarium_model::limits::LimitOverrides,
    input: &horarium_model::program::ProgramInput,
) -> Value {
    let mut shown = json!({"digest": digest, "grants": grants, "limits": limits});
    if let (Some(shown), Ok(Value::Object(input))) =
        (shown.as_object_mut(), serde_json::to_value(input))
    {
        shown.extend(input.into_iter().filter(|(_, pointer)| !pointer.is_null()));
    }
    shown
}

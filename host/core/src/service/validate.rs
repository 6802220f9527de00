//! What is checked of a task config at save, beyond its own shape: its plugin, its parameters against
//! the plugin's schema, and its limits against the levels above.

use super::{Context, ServiceResult, below};
use horarium_model::chain::ChainTask;
use horarium_model::limits::{Level, Levels, LimitOverrides};
use horarium_model::task_type::{PluginVersion, VersionState};
use horarium_model::text::{nearest, one_line};
use horarium_model::{Invalid, Problem, TaskSpec, TenantId};
use serde_json::{Map, Value};
use std::sync::Arc;

impl Context {
    /// Checks a spec that is new, or that changed in what concerns its plugin.
    pub(super) async fn check_spec(&self, tenant: TenantId, spec: &TaskSpec) -> ServiceResult<()> {
        let version = self.version_for(tenant, spec).await?;
        self.check_fit(tenant, spec, version.as_deref()).await
    }

    /// Checks a spec against the version it runs; with none, what can be checked without.
    pub(super) async fn check_fit(
        &self,
        tenant: TenantId,
        spec: &TaskSpec,
        version: Option<&PluginVersion>,
    ) -> ServiceResult<()> {
        let mut problems = self.limit_problems(&spec.limits, version, "/limits");
        if let Some(known) = self.store.quotas(tenant).await? {
            let level = Level::Tenant(&known.tenant);
            let levels = Levels::new().and(level, known.quotas.limits());
            problems.extend(beyond(&levels, &spec.limits, "/limits"));
        }
        let levels = self.policy.levels(version);
        let max = levels
            .and(Level::Task, spec.limits)
            .effective()
            .parameters_bytes;
        match self.check_parameters(version, &spec.parameters, max).await {
            Ok(_) => {}
            Err(Invalid(more)) => problems.extend(more),
        }
        refuse(problems)
    }

    /// Checks that every step of a chain names a task of the tenant. A new config may name itself by the key
    /// it is about to have.
    pub(super) async fn check_chain(&self, tenant: TenantId, spec: &TaskSpec) -> ServiceResult<()> {
        let mut problems = Vec::new();
        for (index, step) in spec.chain.iter().enumerate() {
            let exists = match &step.task {
                ChainTask::Id(id) => self.store.config(tenant, *id).await?.is_some(),
                ChainTask::Key(key) if spec.key.as_ref() == Some(key) => true,
                ChainTask::Key(key) => self.store.config_by_key(tenant, key).await?.is_some(),
            };
            if !exists {
                problems.push(Problem::at(
                    format!("/chain/{index}/task"),
                    format!("there is no task {}; create it first", step.task),
                ));
            }
        }
        refuse(problems)
    }

    /// The version a spec would run now: its pin, else the active one; none while none is active.
    async fn version_for(
        &self,
        tenant: TenantId,
        spec: &TaskSpec,
    ) -> ServiceResult<Option<Arc<PluginVersion>>> {
        let name = &spec.task_type;
        if self.registry.task_type(tenant, name).is_none()
            && self.store.task_type(tenant, name).await?.is_none()
        {
            return Err(self.unknown_type(tenant, name).into());
        }
        let Some(digest) = &spec.plugin_version else {
            return Ok(self.registry.active(tenant, name));
        };
        if let Some(version) = self.registry.version(tenant, name, digest) {
            return Ok(Some(version));
        }
        let known = self.store.versions(tenant, name).await?;
        let detail = match known.iter().find(|v| v.digest == *digest) {
            Some(v) if v.state == VersionState::Ready => {
                return Ok(Some(Arc::new(v.clone())));
            }
            Some(v) => format!(
                "version {digest} of `{name}` is {}, not ready",
                v.state.as_str()
            ),
            None => format!("`{name}` has no version {digest}; `plugin show {name}` lists them"),
        };
        Err(Invalid::one("/plugin_version", detail).into())
    }

    /// The refusal of a type nobody registered, with the nearest name.
    fn unknown_type(&self, tenant: TenantId, name: &str) -> Invalid {
        let names = self.registry.names(tenant);
        let hint = match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "register it with `plugin register`".to_owned(),
        };
        Invalid::one(
            "/task_type",
            format!(
                "no plugin is registered as `{}`; {hint}",
                one_line(name, 64)
            ),
        )
    }

    /// Checks parameters against a size and a version's schema; returns them with the schema's defaults.
    /// Pointers begin with `/parameters`.
    pub(super) async fn check_parameters(
        &self,
        version: Option<&PluginVersion>,
        parameters: &Map<String, Value>,
        max_bytes: u64,
    ) -> Result<Value, Invalid> {
        let parameters = Value::Object(parameters.clone());
        let size = parameters.to_string().len() as u64;
        if size > max_bytes {
            return Err(Invalid::one(
                "/parameters",
                format!("has {size} bytes as JSON; `parameters_bytes` allows {max_bytes}"),
            ));
        }
        match version {
            None => Ok(parameters),
            Some(version) => self
                .registry
                .runner()
                .check_parameters(version, parameters)
                .await
                .map_err(|invalid| below("/parameters", invalid)),
        }
    }

    /// Limits that ask for more than a level above allows, naming the level.
    pub(super) fn limit_problems(
        &self,
        asked: &LimitOverrides,
        version: Option<&PluginVersion>,
        pointer: &str,
    ) -> Vec<Problem> {
        let engine = LimitOverrides {
            memory_bytes: self.policy.engine_memory,
            ..LimitOverrides::default()
        };
        let levels = self.policy.levels(version).and(Level::Engine, engine);
        beyond(&levels, asked, pointer)
    }
}

/// What is asked for beyond each of some levels.
fn beyond(levels: &Levels<'_>, asked: &LimitOverrides, pointer: &str) -> Vec<Problem> {
    let problem = |(name, detail): (&str, String)| Problem::at(format!("{pointer}/{name}"), detail);
    levels.beyond(asked).into_iter().map(problem).collect()
}

/// No problems is no refusal.
pub(super) fn refuse(problems: Vec<Problem>) -> ServiceResult<()> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Invalid(problems).into())
    }
}

/// Whether two specs differ in what [`Context::check_spec`] looks at. A config that no longer fits its
/// plugin can still be renamed or paused.
pub(super) fn concerns_plugin(new: &TaskSpec, old: &TaskSpec) -> bool {
    (
        &new.task_type,
        &new.parameters,
        &new.limits,
        &new.plugin_version,
    ) != (
        &old.task_type,
        &old.parameters,
        &old.limits,
        &old.plugin_version,
    )
}

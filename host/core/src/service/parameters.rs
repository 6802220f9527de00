//! `get_parameter` and `update_parameters` of a task config.

use super::{ServiceError, ServiceResult, TaskRef, Tasks};
use horarium_model::parameters::ParameterChange;
use horarium_model::text::one_line;
use horarium_model::{TaskConfig, TaskSpec, TenantId};
use serde_json::Value;

/// Parameters, or one value of them, with the version of the config they were read from.
#[derive(Debug, Clone, PartialEq)]
pub struct ParametersView {
    /// The value.
    pub value: Value,
    /// The config's version, the ETag.
    pub version: i64,
}

impl Tasks {
    /// The value at a JSON pointer into the parameters (all of them for the empty pointer), else `default`.
    ///
    /// # Errors
    /// `NotFound` when there is no such task, or no such value and no default; `Invalid` for a pointer
    /// that is none.
    pub async fn get_parameter(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        pointer: &str,
        default: Option<Value>,
    ) -> ServiceResult<ParametersView> {
        let config = self.show(tenant, task).await?;
        let found = config.get_parameter(pointer)?.or(default);
        match found {
            Some(value) => Ok(ParametersView {
                value,
                version: config.version,
            }),
            None => Err(ServiceError::NotFound(format!(
                "the parameters of task {} have nothing at {}",
                config.id,
                one_line(pointer, 100)
            ))),
        }
    }

    /// Changes the parameters: checked against the plugin's schema, atomic, and no concurrent change is
    /// lost. With `expected` another version than that refuses it instead.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `VersionMismatch`.
    pub async fn update_parameters(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        change: &ParameterChange,
        expected: Option<i64>,
    ) -> ServiceResult<TaskConfig> {
        self.change(tenant, task, expected, |old, _| {
            Ok(TaskSpec {
                parameters: change.apply(&old.spec.parameters)?,
                ..old.spec.clone()
            })
        })
        .await
    }
}

//! `/v1/tasks/{task}/parameters`.

use super::ApiState;
use super::auth::Tenant;
use super::body::{JsonBody, JsonKind, PlainJson, document};
use super::error::ApiError;
use super::headers::{IfMatch, etag};
use super::query::{NoParams, Params};
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use horarium_core::service::TaskRef;
use horarium_model::TaskConfig;
use horarium_model::parameters::ParameterChange;
use std::sync::Arc;

type Api = State<Arc<ApiState>>;

pub(super) async fn show(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (pointer, default) = show_query(&mut params);
    params.finish()?;
    let default = match default {
        Some(text) => Some(document(text.as_bytes())?),
        None => None,
    };
    let view = api
        .services
        .tasks
        .get_parameter(tenant, &TaskRef::parse(&task), &pointer, default)
        .await?;
    Ok((etag(view.version), Json(view.value)).into_response())
}

pub(super) fn show_query(params: &mut Params) -> (String, Option<String>) {
    (
        params.text("pointer").unwrap_or_default(),
        params.json("default"),
    )
}

pub(super) async fn update(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    IfMatch(expected): IfMatch,
    _: NoParams,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let change = match body.kind {
        JsonKind::Patch => ParameterChange::patch(&body.value)?,
        JsonKind::Plain | JsonKind::MergePatch => ParameterChange::merge(body.value)?,
    };
    let config = api
        .services
        .tasks
        .update_parameters(tenant, &TaskRef::parse(&task), &change, expected)
        .await?;
    Ok(parameters_body(config))
}

pub(super) async fn replace(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    IfMatch(expected): IfMatch,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let change = ParameterChange::replace(body)?;
    let config = api
        .services
        .tasks
        .update_parameters(tenant, &TaskRef::parse(&task), &change, expected)
        .await?;
    Ok(parameters_body(config))
}

/// The parameters alone, with the task's ETag.
fn parameters_body(config: TaskConfig) -> Response {
    (etag(config.version), Json(config.spec.parameters)).into_response()
}

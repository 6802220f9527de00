//! `/v1/task-types/{type}/config`: settings an operator gives a task type. Not secret.

use super::ApiState;
use super::auth::{Owner, Tenant};
use super::body::{NoBody, PlainJson};
use super::error::ApiError;
use super::query::NoParams;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use horarium_model::input::Fields;
use serde_json::{Value, json};
use std::sync::Arc;

type Api = State<Arc<ApiState>>;

pub(super) async fn list(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(name): Path<String>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let config = api.services.plugins.config(tenant, &name).await?;
    let items: Vec<Value> = config
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect();
    Ok(Json(json!({ "items": items, "next_cursor": null })).into_response())
}

pub(super) async fn set(
    State(api): Api,
    Owner(owner): Owner,
    Path((name, key)): Path<(String, String)>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let value = Fields::read(&body, "", value)?;
    let plugins = &api.services.plugins;
    plugins
        .set_config(owner, &name, &key, value.clone())
        .await?;
    Ok(Json(json!({ "key": key, "value": value })).into_response())
}

pub(super) fn value(fields: &mut Fields<'_>) -> String {
    let value = fields.text("value", 0, usize::MAX);
    if value.is_none() && !fields.has_problems() {
        fields.missing("value", "is missing; send a text");
    }
    value.unwrap_or_default()
}

pub(super) async fn unset(
    State(api): Api,
    Owner(owner): Owner,
    Path((name, key)): Path<(String, String)>,
    _: NoParams,
    _: NoBody,
) -> Result<Response, ApiError> {
    let plugins = &api.services.plugins;
    plugins.unset_config(owner, &name, &key).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

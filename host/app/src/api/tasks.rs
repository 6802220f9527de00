//! `/v1/tasks`.

use super::auth::Tenant;
use super::body::{JsonBody, JsonKind, NoBody, PlainJson};
use super::error::ApiError;
use super::headers::{IdempotencyKey, IfMatch, etag, repeated};
use super::query::{NoParams, Params};
use super::{ApiState, list_body, resource};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use horarium_core::service::{Once, TaskRef, TriggerRequest};
use horarium_core::store::{ConfigFilter, HistoryOnDelete, Page};
use horarium_model::input::Fields;
use horarium_model::schedule::SchedulerType;
use horarium_model::{Execution, TaskConfig, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

type Api = State<Arc<ApiState>>;

/// Slots that `next` returns when nobody says.
const NEXT_DEFAULT: u32 = 10;

/// A task with its ETag.
pub(super) fn task_body(status: StatusCode, config: &TaskConfig) -> Response {
    (status, etag(config.version), Json(config.to_json())).into_response()
}

pub(super) async fn create(
    State(api): Api,
    Tenant(tenant): Tenant,
    key: IdempotencyKey,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let key = key.of(&body)?;
    let created = api
        .services
        .tasks
        .create(tenant, &body, key.as_ref())
        .await?;
    let (id, mut response) = match created {
        Once::Done(config) => (config.id, task_body(StatusCode::CREATED, &config)),
        Once::Repeated(answer) => {
            let shown: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            let mut response = repeated(&answer);
            if let Some(version) = shown["version"].as_i64() {
                response.headers_mut().extend(etag(version));
            }
            (shown["id"].as_i64().unwrap_or_default(), response)
        }
    };
    if let Ok(value) = format!("/v1/tasks/{id}").parse() {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

pub(super) async fn list(
    State(api): Api,
    Tenant(tenant): Tenant,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (page, filter) = list_query(&mut params);
    params.finish()?;
    let listing = api.services.tasks.list(tenant, &filter, &page).await?;
    Ok(list_body(listing, |config| config.to_json()))
}

pub(super) fn list_query(params: &mut Params) -> (Page, ConfigFilter) {
    let kinds = [
        SchedulerType::Cron,
        SchedulerType::Date,
        SchedulerType::Manual,
    ];
    let page = params.page();
    let filter = ConfigFilter {
        task_type: params.text("task_type"),
        scheduler_type: params.choice("scheduler_type", &kinds.map(|kind| (kind.as_str(), kind))),
        paused: params.boolean("paused"),
        name: params.text("name"),
        declared_by: params.text("declared_by"),
    };
    (page, filter)
}

pub(super) async fn show(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let config = api
        .services
        .tasks
        .show(tenant, &TaskRef::parse(&task))
        .await?;
    Ok(task_body(StatusCode::OK, &config))
}

pub(super) async fn update(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    IfMatch(expected): IfMatch,
    _: NoParams,
    body: JsonBody,
) -> Result<Response, ApiError> {
    if body.kind == JsonKind::Patch {
        return Err(ApiError::media_type(
            "a task is changed by application/merge-patch+json; only its parameters take a JSON Patch",
        ));
    }
    let config = api
        .services
        .tasks
        .update(tenant, &TaskRef::parse(&task), &body.value, expected)
        .await?;
    Ok(task_body(StatusCode::OK, &config))
}

pub(super) async fn delete(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    IfMatch(expected): IfMatch,
    mut params: Params,
    _: NoBody,
) -> Result<Response, ApiError> {
    let history = delete_query(&mut params);
    params.finish()?;
    let deleted = api
        .services
        .tasks
        .delete(tenant, &TaskRef::parse(&task), history, expected)
        .await?;
    let body = json!({ "cancelled": deleted.cancelled, "running": deleted.running });
    Ok(Json(body).into_response())
}

pub(super) fn delete_query(params: &mut Params) -> HistoryOnDelete {
    let choices = [
        ("keep", HistoryOnDelete::Keep),
        ("delete", HistoryOnDelete::Delete),
    ];
    params.choice("history", &choices).unwrap_or_default()
}

pub(super) async fn pause(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    IfMatch(expected): IfMatch,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let reason = Fields::read(&body, "", read_reason)?;
    let config = api
        .services
        .tasks
        .pause(tenant, &TaskRef::parse(&task), reason, expected)
        .await?;
    Ok(task_body(StatusCode::OK, &config))
}

pub(super) fn read_reason(fields: &mut Fields<'_>) -> Option<String> {
    fields.text("reason", 0, 500)
}

pub(super) async fn resume(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    IfMatch(expected): IfMatch,
    _: NoParams,
    _: NoBody,
) -> Result<Response, ApiError> {
    let config = api
        .services
        .tasks
        .resume(tenant, &TaskRef::parse(&task), expected)
        .await?;
    Ok(task_body(StatusCode::OK, &config))
}

pub(super) async fn trigger(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    key: IdempotencyKey,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let key = key.of(&body)?;
    let request = TriggerRequest::from_json(&body, api.services.now())?;
    let task = TaskRef::parse(&task);
    let tasks = &api.services.tasks;
    accepted(tasks.trigger(tenant, &task, request, key.as_ref()).await?)
}

/// An execution that was enqueued, now or before.
pub(super) fn accepted(enqueued: Once<Execution>) -> Result<Response, ApiError> {
    Ok(match enqueued {
        Once::Done(execution) => {
            (StatusCode::ACCEPTED, Json(resource(&execution)?)).into_response()
        }
        Once::Repeated(answer) => repeated(&answer),
    })
}

pub(super) async fn next(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (count, after) = next_query(&mut params);
    params.finish()?;
    let next = api
        .services
        .tasks
        .next(tenant, &TaskRef::parse(&task), count as usize, after)
        .await?;
    Ok(Json(resource(&next)?).into_response())
}

pub(super) fn next_query(params: &mut Params) -> (u32, Option<Timestamp>) {
    let count = params.integer("count", 1, 1000).unwrap_or(NEXT_DEFAULT);
    (count, params.instant("after"))
}

pub(super) async fn why(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let slot = why_query(&mut params);
    params.finish()?;
    let why = api
        .services
        .tasks
        .why(tenant, &TaskRef::parse(&task), slot)
        .await?;
    Ok(Json(resource(&why)?).into_response())
}

pub(super) fn why_query(params: &mut Params) -> Option<Timestamp> {
    params.instant("slot")
}

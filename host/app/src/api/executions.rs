//! `/v1/executions`.

use super::auth::{Tenant, changed_nothing};
use super::body::{NoBody, PlainJson};
use super::error::ApiError;
use super::headers::{IdempotencyKey, repeated};
use super::query::{NoParams, Params, cursor_text, parse_cursor};
use super::tasks::accepted;
use super::{ApiState, list_body, resource};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use horarium_core::service::{
    BatchRequest, Bulk, BulkOutcome, BulkRequest, ImportRequest, LogCursor, LogPage, Once, TaskRef,
};
use horarium_core::store::{ExecutionFilter, Listing, Page};
use horarium_model::text::one_line;
use horarium_model::{ErrorKind, Execution, State as ExecutionState, TaskId, TenantId, Trigger};
use serde_json::json;
use std::sync::Arc;

type Api = State<Arc<ApiState>>;

/// The id in a path. What is no id names nothing.
fn task_id(text: &str) -> Result<TaskId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::not_found(format!(
            "`{}` is not the id of an execution (a UUID)",
            one_line(text, 60)
        ))
    })
}

pub(super) async fn list(
    State(api): Api,
    Tenant(tenant): Tenant,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (page, asked) = list_query(&mut params);
    params.finish()?;
    let listing = match asked.filter(&api, tenant).await? {
        Some(filter) => api.services.executions.list(tenant, &filter, &page).await?,
        None => Listing {
            items: Vec::<Execution>::new(),
            next: None,
        },
    };
    Ok(list_body(listing, |execution| {
        serde_json::to_value(&execution).unwrap_or_default()
    }))
}

/// Which executions are asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Tasks, by id or key.
    tasks: Vec<String>,
    filter: ExecutionFilter,
}

impl Asked {
    /// The filter, its tasks looked up; none where nothing can fit, as of one task and of another.
    pub(super) async fn filter(
        self,
        api: &ApiState,
        tenant: TenantId,
    ) -> Result<Option<ExecutionFilter>, ApiError> {
        let mut filter = self.filter;
        for task in self.tasks {
            let id = match TaskRef::parse(&task) {
                // The history of a deleted task has no config any more; its id finds nothing, which is no error.
                TaskRef::Id(id) => id,
                key => api.services.tasks.show(tenant, &key).await?.id,
            };
            let before = filter.config_id.replace(id);
            if before.is_some_and(|other| other != id) {
                return Ok(None);
            }
        }
        Ok(Some(filter))
    }
}

pub(super) fn list_query(params: &mut Params) -> (Page, Asked) {
    (params.page(), filter_query(params))
}

pub(super) fn filter_query(params: &mut Params) -> Asked {
    let tasks = [params.text("config"), params.text("task")];
    let filter = ExecutionFilter {
        config_id: None,
        task_type: params.text("task_type"),
        states: params.words(
            "state",
            ExecutionState::ALL.iter().map(|word| word.as_str()),
        ),
        trigger: params.word("trigger", Trigger::ALL.iter().map(|word| word.as_str())),
        error_kind: params.word(
            "error_kind",
            ErrorKind::ALL.iter().map(|word| word.as_str()),
        ),
        text: params.bounded("text", 1, 200),
        created_from: params.instant("since"),
        created_until: params.instant("until"),
    };
    let tasks = tasks.into_iter().flatten().collect();
    Asked { tasks, filter }
}

pub(super) async fn show(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let view = api.services.executions.show(tenant, task_id(&id)?).await?;
    let mut body = resource(&view.execution)?;
    if let Some(map) = body.as_object_mut() {
        map.insert("limits".into(), resource(&view.limits)?);
        map.insert("timeout_seconds".into(), view.timeout_seconds.into());
    }
    Ok(Json(body).into_response())
}

pub(super) async fn why(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let why = api.services.executions.why(tenant, task_id(&id)?).await?;
    Ok(Json(resource(&why)?).into_response())
}

pub(super) async fn attempts(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let attempts = api
        .services
        .executions
        .attempts(tenant, task_id(&id)?)
        .await?;
    let items = resource(&attempts)?;
    Ok(Json(json!({ "items": items, "next_cursor": null })).into_response())
}

pub(super) async fn logs(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (cursor, limit, attempt) = logs_query(&mut params);
    params.finish()?;
    let page = api
        .services
        .executions
        .logs(tenant, task_id(&id)?, attempt, cursor, limit)
        .await?;
    log_body(&page)
}

pub(super) fn logs_query(params: &mut Params) -> (LogCursor, u32, Option<u32>) {
    let (cursor, limit) = log_page(params);
    (cursor, limit, params.integer("attempt", 1, u32::MAX))
}

/// Which page of a log or of requests is asked for.
pub(super) fn log_page(params: &mut Params) -> (LogCursor, u32) {
    let limit = params.limit();
    let cursor = params.cursor("^[0-9]{1,18}\\.[0-9]{1,9}\\.[0-9]{1,18}$", LogCursor::parse);
    (cursor.unwrap_or_default(), limit)
}

fn log_body<T: serde::Serialize>(page: &LogPage<T>) -> Result<Response, ApiError> {
    let items = resource(&page.items)?;
    let next = page.next.map(LogCursor::to_text);
    Ok(Json(json!({ "items": items, "next_cursor": next })).into_response())
}

pub(super) async fn http(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (cursor, limit) = log_page(&mut params);
    params.finish()?;
    let executions = &api.services.executions;
    let page = executions
        .http_calls(tenant, task_id(&id)?, cursor, limit)
        .await?;
    log_body(&page)
}

pub(super) async fn cancel(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
    _: NoParams,
    _: NoBody,
) -> Result<Response, ApiError> {
    let execution = api
        .services
        .executions
        .cancel(tenant, task_id(&id)?)
        .await?;
    let status = match execution.state {
        ExecutionState::Running => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    Ok((status, Json(resource(&execution)?)).into_response())
}

pub(super) async fn retry(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
    key: IdempotencyKey,
    _: NoParams,
    _: NoBody,
) -> Result<Response, ApiError> {
    let key = key.of(&json!({}))?;
    let executions = &api.services.executions;
    accepted(
        executions
            .retry(tenant, task_id(&id)?, key.as_ref())
            .await?,
    )
}

pub(super) async fn batch(
    State(api): Api,
    Tenant(tenant): Tenant,
    key: IdempotencyKey,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let key = key.of(&body)?;
    let request = BatchRequest::from_json(&body, api.services.now())?;
    let executions = &api.services.executions;
    Ok(
        match executions.batch(tenant, request, key.as_ref()).await? {
            Once::Done(outcome) => (StatusCode::ACCEPTED, Json(outcome)).into_response(),
            Once::Repeated(answer) => repeated(&answer),
        },
    )
}

pub(super) async fn import(
    State(api): Api,
    Tenant(tenant): Tenant,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let request = ImportRequest::from_json(&body)?;
    let outcome = api.services.executions.take_in(tenant, request).await?;
    Ok(Json(outcome.to_json()).into_response())
}

pub(super) async fn retry_many(
    State(api): Api,
    Tenant(tenant): Tenant,
    key: IdempotencyKey,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let key = key.of(&body)?;
    let request = BulkRequest::from_json(&body, Bulk::Retry, parse_cursor)?;
    let executions = &api.services.executions;
    let done = executions.retry_many(tenant, &request, key.as_ref(), cursor_text);
    Ok(match done.await? {
        Once::Done(outcome) => bulk_body(&outcome),
        Once::Repeated(answer) => repeated(&answer),
    })
}

pub(super) async fn cancel_many(
    State(api): Api,
    Tenant(tenant): Tenant,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let request = BulkRequest::from_json(&body, Bulk::Cancel, parse_cursor)?;
    let outcome = api
        .services
        .executions
        .cancel_many(tenant, &request)
        .await?;
    Ok(bulk_body(&outcome))
}

fn bulk_body(outcome: &BulkOutcome) -> Response {
    let response = Json(outcome.to_json(cursor_text)).into_response();
    match outcome.dry_run {
        true => changed_nothing(response),
        false => response,
    }
}

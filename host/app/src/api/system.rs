//! Health, metrics, and who is here.

use super::ApiState;
use super::error::ApiError;
use super::query::{NoParams, Params, cursor_text};
use crate::telemetry::{ExecutorFigures, Figures, QueueFigures};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use horarium_core::executor::LEASE;
use horarium_core::store::HostRow;
use horarium_model::schedule::wire;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

type Api = State<Arc<ApiState>>;

/// How long the store may take to prove itself for `/readyz`.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process answers.
pub(super) async fn healthz(_: NoParams) -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The process can do its work: started, not stopping, the store answers and has lately heard from this
/// host, what is compiled can be kept, and every secret there is can be opened.
pub(super) async fn readyz(State(api): Api, _: NoParams) -> Result<Json<Value>, ApiError> {
    if !api.ready.load(Ordering::Acquire) {
        return Err(ApiError::unavailable("the server is starting or stopping"));
    }
    if let Some(age) = api.executor.as_ref().map(|e| e.heartbeat_age())
        && age > LEASE
    {
        return Err(ApiError::unavailable(format!(
            "the last heartbeat was written {} s ago",
            age.as_secs()
        )));
    }
    if let Some(reason) = api.compiled.as_ref().and_then(|usable| usable().err()) {
        return Err(ApiError::unavailable(format!(
            "compiled plugins cannot be kept: {reason}"
        )));
    }
    match tokio::time::timeout(PATIENCE, api.services.secrets.check()).await {
        Ok(Ok(())) => Ok(Json(json!({ "status": "ready" }))),
        Ok(Err(error)) => Err(ApiError::unavailable(error.to_string())),
        Err(_) => Err(ApiError::unavailable(format!(
            "the database did not answer within {} s",
            PATIENCE.as_secs()
        ))),
    }
}

/// OpenMetrics.
pub(super) async fn metrics(State(api): Api, _: NoParams) -> Result<Response, ApiError> {
    let figures = Figures {
        queue: QueueFigures {
            counts: api.store.queue_counts().await?,
            heads: api.services.executions.waiting_heads().await?,
            next_due: api.store.next_due().await?,
        },
        executor: api.executor.as_ref().map(|executor| ExecutorFigures {
            running: executor.running().len(),
            slots: executor.slots(),
            heartbeat_age: executor.heartbeat_age(),
        }),
        engine: api.engine.as_ref().map(|probe| probe()),
        database: api.database.as_ref().map(|probe| probe()),
    };
    let text = api
        .metrics
        .scrape(api.clock.now(), &figures)
        .map_err(|e| ApiError::internal(e.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// The hosts that are alive, with what each runs and has loaded.
pub(super) async fn hosts(State(api): Api, mut params: Params) -> Result<Json<Value>, ApiError> {
    let page = params.page();
    params.finish()?;
    let own = api.executor.as_ref().map(|e| e.incarnation());
    let mut hosts = api.store.hosts().await?;
    hosts.retain(|host| page.after.is_none_or(|after| host.incarnation > after));
    let more = hosts.len() > page.limit as usize;
    hosts.truncate(page.limit as usize);
    let last = hosts.last().filter(|_| more);
    let next = last.map(|host| cursor_text(host.incarnation));
    let items: Vec<Value> = hosts.iter().map(|host| host_json(host, own)).collect();
    Ok(Json(json!({ "items": items, "next_cursor": next })))
}

fn host_json(host: &HostRow, own: Option<i64>) -> Value {
    let executions = host.running.iter().map(|run| {
        json!({
            "id": run.id,
            "task_id": run.task_id,
            "tenant_id": run.tenant_id,
            "config_id": run.config_id,
            "task_type": run.task_type,
            "attempt": run.attempt,
            "started_at": run.started_at.map(wire),
        })
    });
    let executions: Vec<Value> = executions.collect();
    json!({
        "name": host.name,
        "incarnation": host.incarnation,
        "is_answering": own == Some(host.incarnation),
        "version": host.facts.version,
        "slots": host.facts.slots,
        "memory_bytes": host.facts.memory_bytes,
        "running": executions.len(),
        "executions": executions,
        "loaded": host.facts.loaded,
        "started_at": wire(host.started_at),
        "seen_at": wire(host.seen_at),
    })
}

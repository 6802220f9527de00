//! Health, metrics, and who is here.

use super::ApiState;
use super::error::ApiError;
use super::query::NoParams;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use horarium_core::executor::LEASE;
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
/// host, and what is compiled can be kept.
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
    match tokio::time::timeout(PATIENCE, api.store.catalog_epoch()).await {
        Ok(Ok(_)) => Ok(Json(json!({ "status": "ready" }))),
        Ok(Err(error)) => Err(ApiError::unavailable(error.to_string())),
        Err(_) => Err(ApiError::unavailable(format!(
            "the database did not answer within {} s",
            PATIENCE.as_secs()
        ))),
    }
}

/// OpenMetrics.
pub(super) async fn metrics(State(api): Api, _: NoParams) -> Result<Response, ApiError> {
    let counts = api.store.queue_counts().await?;
    api.metrics.queue(&counts);
    if let Some(executor) = &api.executor {
        api.metrics
            .slots(executor.running().len(), executor.slots());
    }
    if let Some(probe) = &api.engine {
        api.metrics.engine(&probe());
    }
    let text = api
        .metrics
        .encode()
        .map_err(|e| ApiError::internal(e.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Who asks.
pub(super) async fn me(_: NoParams) -> Json<Value> {
    Json(json!({ "role": "host-admin", "tenant": null }))
}

/// The hosts that execute: this one.
pub(super) async fn hosts(State(api): Api, _: NoParams) -> Json<Value> {
    let executor = api.executor.as_ref();
    let running = executor.map(|e| e.running()).unwrap_or_default();
    let host = json!({
        "name": api.host.name,
        "version": api.host.version,
        "incarnation": executor.map(|e| e.incarnation()),
        "slots": executor.map(|e| e.slots()),
        "running": running.len(),
        "executions": running,
        "memory_bytes": api.host.memory_bytes,
        "started_at": wire(api.host.started_at),
    });
    Json(json!({ "items": [host], "next_cursor": null }))
}

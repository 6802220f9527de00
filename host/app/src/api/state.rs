//! `/v1/tasks/{task}/state`. A value is text where it is printable UTF-8, else `{"base64": …}`.

use super::ApiState;
use super::auth::Tenant;
use super::body::{NoBody, PlainJson};
use super::error::ApiError;
use super::query::NoParams;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use horarium_core::runner::StateEntry;
use horarium_core::service::TaskRef;
use horarium_model::Invalid;
use horarium_model::input::{Fields, type_name};
use serde_json::{Value, json};
use std::sync::Arc;

type Api = State<Arc<ApiState>>;

pub(super) async fn list(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let entries = api
        .services
        .tasks
        .state(tenant, &TaskRef::parse(&task))
        .await?;
    let items: Vec<Value> = entries
        .iter()
        .map(|(key, entry)| item(key, entry))
        .collect();
    Ok(Json(json!({ "items": items, "next_cursor": null })).into_response())
}

fn item(key: &str, entry: &StateEntry) -> Value {
    let printable = |text: &&str| {
        !text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    };
    let value = match std::str::from_utf8(&entry.value).ok().filter(printable) {
        Some(text) => json!(text),
        None => json!({ "base64": STANDARD.encode(&entry.value) }),
    };
    json!({
        "key": key,
        "size_bytes": entry.value.len(),
        "version": entry.version,
        "value": value,
    })
}

pub(super) async fn set(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path((task, key)): Path<(String, String)>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let value = read_value(&body)?;
    let task = TaskRef::parse(&task);
    let tasks = &api.services.tasks;
    tasks.set_state(tenant, &task, &key, value).await?;
    let entries = tasks.state(tenant, &task).await?;
    match entries.get(&key) {
        Some(entry) => Ok(Json(item(&key, entry)).into_response()),
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Reads `{"value": text or {"base64": text}}`.
fn read_value(body: &Value) -> Result<Vec<u8>, Invalid> {
    Fields::read(body, "", value)
}

/// Reads `value`.
pub(super) fn value(fields: &mut Fields<'_>) -> Vec<u8> {
    let given = fields.value("value");
    fields.shape("value", || {
        let base64 = Fields::describe(|inner| inner.text("base64", 0, usize::MAX));
        json!({ "anyOf": [{ "type": "string" }, base64] })
    });
    match given {
        None => {
            fields.missing("value", "is missing; send a text or {\"base64\": …}");
            Vec::new()
        }
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(Value::Object(_)) => fields
            .object("value", |inner| {
                let text = inner.text("base64", 0, usize::MAX).unwrap_or_default();
                STANDARD.decode(&text).unwrap_or_else(|e| {
                    inner.problem("base64", format!("is not base64: {e}"));
                    Vec::new()
                })
            })
            .unwrap_or_default(),
        Some(other) => {
            let found = type_name(other);
            fields.problem(
                "value",
                format!("must be a text or {{\"base64\": …}}, not {found}"),
            );
            Vec::new()
        }
    }
}

pub(super) async fn delete(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path((task, key)): Path<(String, String)>,
    _: NoParams,
    _: NoBody,
) -> Result<Response, ApiError> {
    api.services
        .tasks
        .delete_state(tenant, &TaskRef::parse(&task), &key)
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn reset(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    _: NoParams,
    _: NoBody,
) -> Result<Response, ApiError> {
    let deleted = api
        .services
        .tasks
        .reset_state(tenant, &TaskRef::parse(&task))
        .await?;
    Ok(Json(json!({ "deleted": deleted })).into_response())
}

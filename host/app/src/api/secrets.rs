//! `/v1/secrets`. Values go in and never come out.

use super::auth::Tenant;
use super::body::{NoBody, PlainJson};
use super::error::ApiError;
use super::query::{NoParams, Params};
use super::{ApiState, list_body, resource};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use horarium_core::secrets::{MAX_SECRET_BYTES, SecretValue};
use horarium_model::Invalid;
use horarium_model::input::{Fields, type_name};
use serde_json::{Value, json};
use std::sync::Arc;
use zeroize::Zeroize;

type Api = State<Arc<ApiState>>;

pub(super) async fn list(
    State(api): Api,
    Tenant(tenant): Tenant,
    mut params: Params,
) -> Result<Response, ApiError> {
    let page = params.page();
    params.finish()?;
    let listing = api.services.secrets.list(tenant, &page).await?;
    Ok(list_body(listing, |secret| {
        serde_json::to_value(&secret).unwrap_or_default()
    }))
}

pub(super) async fn show(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(name): Path<String>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let secret = api.services.secrets.show(tenant, &name).await?;
    Ok(Json(resource(&secret)?).into_response())
}

pub(super) async fn set(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(name): Path<String>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let value = read_value(body)?;
    let secret = api.services.secrets.set(tenant, &name, &value).await?;
    let status = match secret.info.version {
        1 => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok((status, Json(resource(&secret)?)).into_response())
}

/// Checks `value`, which is not copied.
pub(super) fn value(fields: &mut Fields<'_>) {
    let given = fields.value("value");
    fields.shape(
        "value",
        || json!({ "type": "string", "minLength": 1, "maxLength": MAX_SECRET_BYTES }),
    );
    match given {
        Some(Value::String(_)) => {}
        None => fields.missing("value", "is missing; send the secret's value as a text"),
        Some(other) => {
            let found = type_name(other);
            fields.problem("value", format!("must be a text, not {found}"));
        }
    }
}

/// Reads `{"value": text}`; nothing of it is repeated when it is refused.
fn read_value(mut body: Value) -> Result<SecretValue, Invalid> {
    let checked = Fields::read(&body, "", value);
    let text = match body.get_mut("value") {
        Some(Value::String(text)) => std::mem::take(text),
        _ => String::new(),
    };
    if let Err(invalid) = checked {
        let mut text = text;
        text.zeroize();
        return Err(invalid);
    }
    SecretValue::new(text).map_err(|detail| Invalid::one("/value", detail))
}

pub(super) async fn delete(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(name): Path<String>,
    _: NoParams,
    _: NoBody,
) -> Result<Response, ApiError> {
    api.services.secrets.delete(tenant, &name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) fn new_key(fields: &mut Fields<'_>) -> bool {
    fields.boolean("new_key").unwrap_or(false)
}

pub(super) async fn rekey(
    State(api): Api,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let new_key = Fields::read(&body, "", new_key)?;
    let done = api.services.secrets.rekey(new_key).await?;
    Ok(Json(resource(&done)?).into_response())
}

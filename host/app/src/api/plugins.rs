//! `/v1/task-types`.

use super::auth::{Asking, Meant, Owner, Tenant};
use super::body::{MAX_DRAINED_BYTES, NoBody, PlainJson, discard, document, media_type, read};
use super::error::ApiError;
use super::query::{NoParams, Params};
use super::{ApiState, list_body, resource};
use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use horarium_core::service::Registration;
use horarium_model::input::Fields;
use horarium_model::limits::MAX_COMPONENT_BYTES;
use horarium_model::task_type::PluginVersion;
use horarium_model::text::{nearest, one_line};
use serde_json::{Value, json};
use std::sync::Arc;

type Api = State<Arc<ApiState>>;

/// Largest upload: a component, its options (schemas of a descriptor), and the multipart frame.
const MAX_UPLOAD_BYTES: usize = MAX_COMPONENT_BYTES as usize + (1 << 20);

pub(super) async fn list(
    State(api): Api,
    Tenant(tenant): Tenant,
    mut params: Params,
) -> Result<Response, ApiError> {
    let page = params.page();
    params.finish()?;
    let listing = api.services.plugins.list(tenant, &page).await?;
    Ok(list_body(listing, |task_type| {
        serde_json::to_value(&task_type).unwrap_or_default()
    }))
}

pub(super) async fn show(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(name): Path<String>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let task_type = api.services.plugins.show(tenant, &name).await?;
    let active = match &task_type.active_digest {
        Some(digest) => {
            let version = api.services.plugins.version(tenant, &name, digest).await?;
            version_json(&version, task_type.active_digest.as_deref())?
        }
        None => Value::Null,
    };
    let mut body = resource(&task_type)?;
    if let Some(map) = body.as_object_mut() {
        map.insert("active".into(), active);
    }
    Ok(Json(body).into_response())
}

pub(super) async fn versions(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(name): Path<String>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let active = api
        .services
        .plugins
        .show(tenant, &name)
        .await?
        .active_digest;
    let versions = api.services.plugins.versions(tenant, &name).await?;
    let items = versions
        .iter()
        .map(|version| version_json(version, active.as_deref()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Json(json!({ "items": items, "next_cursor": null })).into_response())
}

pub(super) async fn version(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path((name, digest)): Path<(String, String)>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let active = api
        .services
        .plugins
        .show(tenant, &name)
        .await?
        .active_digest;
    let version = api.services.plugins.version(tenant, &name, &digest).await?;
    Ok(Json(version_json(&version, active.as_deref())?).into_response())
}

/// A version with whether it is the one that runs.
fn version_json(version: &PluginVersion, active: Option<&str>) -> Result<Value, ApiError> {
    let mut body = resource(version)?;
    if let Some(map) = body.as_object_mut() {
        let is_active = active == Some(version.digest.as_str());
        map.insert("is_active".into(), is_active.into());
    }
    Ok(body)
}

pub(super) async fn register(
    State(api): Api,
    Tenant(tenant): Tenant,
    Asking(caller): Asking,
    meant: Meant,
    Path(name): Path<String>,
    mut params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let plugins = &api.services.plugins;
    let owner = async {
        let shared = register_query(&mut params);
        params.finish()?;
        let owner = plugins.registrant(&caller, tenant, &name, shared).await;
        Ok::<_, ApiError>(meant.is(owner)?)
    };
    let owner = match owner.await {
        Ok(owner) => owner,
        Err(refused) => {
            discard(request, MAX_DRAINED_BYTES).await;
            return Err(refused);
        }
    };
    let permit = api.uploads.0.clone().acquire_owned().await;
    let (bytes, wish) = upload(request).await?;
    let version = plugins.register(owner, &name, bytes, wish).await?;
    drop(permit);
    // It may have become ready or active meanwhile.
    let active = plugins.show(owner, &name).await?.active_digest;
    let version = plugins.version(owner, &name, &version.digest).await?;
    let body = version_json(&version, active.as_deref())?;
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// Whether the type is shared with every tenant.
pub(super) fn register_query(params: &mut Params) -> bool {
    params.boolean("shared").unwrap_or(false)
}

/// The component and what is wished with it, from multipart or from bare bytes.
async fn upload(request: Request) -> Result<(Vec<u8>, Registration), ApiError> {
    let kind = media_type(request.headers()).unwrap_or_default();
    let (parts, body) = request.into_parts();
    match kind.as_str() {
        "application/wasm" | "application/octet-stream" => {
            let bytes = read(body, &parts.headers, MAX_UPLOAD_BYTES)
                .await
                .map_err(about_component)?;
            Ok((bytes.into(), Registration::default()))
        }
        "multipart/form-data" => {
            let bytes = read(body, &parts.headers, MAX_UPLOAD_BYTES)
                .await
                .map_err(about_component)?;
            let whole = Request::from_parts(parts, Body::from(bytes));
            let form = Multipart::from_request(whole, &())
                .await
                .map_err(|e| ApiError::bad_request(e.to_string()))?;
            parts_of(form).await
        }
        other => Err(ApiError::media_type(format!(
            "the body is `{}`; send the component as application/wasm, or multipart/form-data with the parts `component` and `options`",
            one_line(other, 60)
        ))),
    }
}

/// Only the component can make a body too large.
fn about_component(error: ApiError) -> ApiError {
    error.at("/component")
}

async fn parts_of(mut form: Multipart) -> Result<(Vec<u8>, Registration), ApiError> {
    let unreadable = |e: axum::extract::multipart::MultipartError| {
        ApiError::bad_request(format!(
            "the multipart body cannot be read: {}",
            e.body_text()
        ))
    };
    let (mut component, mut options) = (None, None);
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        let name = field.name().unwrap_or_default().to_owned();
        let slot = match name.as_str() {
            "component" => &mut component,
            "options" => &mut options,
            other => {
                let hint = nearest(other, ["component", "options"])
                    .map(|near| format!("; did you mean `{near}`?"))
                    .unwrap_or_default();
                return Err(ApiError::bad_request(format!(
                    "unknown part `{}`{hint}",
                    one_line(other, 60)
                )));
            }
        };
        let bytes = field.bytes().await.map_err(unreadable)?;
        if slot.replace(bytes).is_some() {
            return Err(ApiError::bad_request(format!(
                "the part `{name}` comes more than once"
            )));
        }
    }
    let component =
        component.ok_or_else(|| ApiError::bad_request("the part `component` is missing"))?;
    let wish = match options {
        Some(text) => Registration::from_json(&document(&text)?)?,
        None => Registration::default(),
    };
    Ok((component.into(), wish))
}

pub(super) async fn activate(
    State(api): Api,
    Owner(owner): Owner,
    Path(name): Path<String>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let digest = Fields::read(&body, "", read_digest)?;
    let active = api.services.plugins.activate(owner, &name, &digest).await?;
    Ok(Json(resource(&active)?).into_response())
}

pub(super) fn read_digest(fields: &mut Fields<'_>) -> String {
    let digest = fields.text("digest", 1, 80);
    if digest.is_none() && !fields.has_problems() {
        fields.missing("digest", "is missing; `plugin show` lists the versions");
    }
    digest.unwrap_or_default()
}

pub(super) async fn rollback(
    State(api): Api,
    Owner(owner): Owner,
    Path(name): Path<String>,
    _: NoParams,
    _: NoBody,
) -> Result<Response, ApiError> {
    let active = api.services.plugins.rollback(owner, &name).await?;
    Ok(Json(resource(&active)?).into_response())
}

pub(super) async fn diff(
    State(api): Api,
    Owner(owner): Owner,
    Path(name): Path<String>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (from, to) = diff_query(&mut params);
    params.finish()?;
    let plugins = &api.services.plugins;
    let diff = plugins
        .diff(owner, &name, from.as_deref(), to.as_deref())
        .await?;
    Ok(Json(diff.to_json()).into_response())
}

pub(super) fn diff_query(params: &mut Params) -> (Option<String>, Option<String>) {
    (
        params.bounded("from_digest", 1, 80),
        params.bounded("to_digest", 1, 80),
    )
}

pub(super) async fn remove(
    State(api): Api,
    Owner(owner): Owner,
    Path(name): Path<String>,
    mut params: Params,
    _: NoBody,
) -> Result<Response, ApiError> {
    let cancel_waiting = remove_query(&mut params);
    params.finish()?;
    let plugins = &api.services.plugins;
    let cancelled = plugins.remove(owner, &name, cancel_waiting).await?;
    Ok(Json(json!({ "task_type": name, "cancelled": cancelled })).into_response())
}

pub(super) fn remove_query(params: &mut Params) -> bool {
    params.boolean("cancel_waiting").unwrap_or(false)
}

pub(super) fn read_disabled(fields: &mut Fields<'_>) -> bool {
    fields.boolean("disabled").unwrap_or(true)
}

pub(super) async fn disable(
    State(api): Api,
    Owner(owner): Owner,
    Path(name): Path<String>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let disabled = Fields::read(&body, "", read_disabled)?;
    let changed = api
        .services
        .plugins
        .set_disabled(owner, &name, disabled)
        .await?;
    Ok(Json(resource(&changed)?).into_response())
}

pub(super) async fn update(
    State(api): Api,
    Owner(owner): Owner,
    Path(name): Path<String>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let changed = api.services.plugins.update(owner, &name, &body).await?;
    Ok(Json(resource(&changed)?).into_response())
}

pub(super) async fn reset_breaker(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(name): Path<String>,
    _: NoParams,
    _: NoBody,
) -> Result<Response, ApiError> {
    let changed = api.services.plugins.reset_breaker(tenant, &name).await?;
    Ok(Json(resource(&changed)?).into_response())
}

pub(super) async fn grants(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(name): Path<String>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let grants = api.services.plugins.grants(tenant, &name).await?;
    Ok(Json(json!({ "grants": grants })).into_response())
}

pub(super) async fn set_grants(
    State(api): Api,
    Owner(owner): Owner,
    Path(name): Path<String>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let grants = api.services.plugins.set_grants(owner, &name, &body).await?;
    Ok(Json(json!({ "grants": grants })).into_response())
}

pub(super) async fn change_grants(
    State(api): Api,
    Owner(owner): Owner,
    Path(name): Path<String>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let plugins = &api.services.plugins;
    let grants = plugins.change_grants(owner, &name, &body).await?;
    Ok(Json(json!({ "grants": grants })).into_response())
}

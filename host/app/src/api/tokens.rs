//! `/v1/tokens`, `/v1/tenants`, `/v1/audit` and `/v1/me`.

use super::auth::{Asking, Tenant};
use super::body::{NoBody, PlainJson};
use super::error::ApiError;
use super::query::{NoParams, Params};
use super::{ApiState, list_body};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use horarium_core::service::FreshToken;
use horarium_core::store::{self, AuditFilter, AuditRow, Page, Token, TokenId};
use horarium_model::access::Permission;
use horarium_model::schedule::wire;
use horarium_model::text::one_line;
use horarium_model::{TenantId, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

type Api = State<Arc<ApiState>>;

/// Who asks, and what they may.
pub(super) async fn me(Asking(caller): Asking, _: NoParams) -> Json<Value> {
    let token = caller.token.map(
        |id| json!({"id": id, "name": caller.name, "expires_at": caller.expires_at.map(wire)}),
    );
    Json(json!({
        "role": caller.role,
        "tenant": caller.tenant.as_ref().map(|(_, name)| name),
        "scope": caller.scope,
        "permissions": caller.permissions(),
        "token": token,
    }))
}

fn token_json(token: &Token, now: Timestamp) -> Value {
    let expired = token.expires_at.is_some_and(|end| end <= now);
    let previous = token.previous_until.filter(|until| *until > now);
    json!({
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "scope": token.scope,
        "tenant": token.tenant,
        "state": if expired { "expired" } else { "active" },
        "created_at": wire(token.created_at),
        "created_by": token.created_by,
        "expires_at": token.expires_at.map(wire),
        "last_used_at": token.last_used_at.map(wire),
        "rotated_at": token.rotated_at.map(wire),
        "previous_until": previous.map(wire),
    })
}

/// A token with its text, which no cache on the way may keep.
fn fresh(status: StatusCode, fresh: &FreshToken, now: Timestamp) -> Response {
    let mut body = token_json(&fresh.token, now);
    body["token"] = fresh.text.clone().into();
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// An id in a path; what is none cannot be one's.
fn token_id(text: &str) -> Result<TokenId, ApiError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let id = text.parse().ok().filter(|_| digits);
    id.ok_or_else(|| ApiError::not_found(format!("there is no token {}", one_line(text, 40))))
}

pub(super) async fn create(
    State(api): Api,
    Tenant(tenant): Tenant,
    Asking(caller): Asking,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let created = api.services.tokens.create(&caller, tenant, &body).await?;
    let mut response = fresh(StatusCode::CREATED, &created, api.services.now());
    if let Ok(value) = format!("/v1/tokens/{}", created.token.id).parse() {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

pub(super) async fn list(
    State(api): Api,
    Tenant(tenant): Tenant,
    Asking(caller): Asking,
    mut params: Params,
) -> Result<Response, ApiError> {
    let page = params.page();
    params.finish()?;
    let listing = api.services.tokens.list(&caller, tenant, &page).await?;
    let now = api.services.now();
    Ok(list_body(listing, |token| token_json(&token, now)))
}

pub(super) async fn show(
    State(api): Api,
    Tenant(tenant): Tenant,
    Asking(caller): Asking,
    Path(id): Path<String>,
    _: NoParams,
) -> Result<Json<Value>, ApiError> {
    let id = token_id(&id)?;
    let token = api.services.tokens.show(&caller, tenant, id).await?;
    Ok(Json(token_json(&token, api.services.now())))
}

pub(super) async fn rotate(
    State(api): Api,
    Tenant(tenant): Tenant,
    Asking(caller): Asking,
    Path(id): Path<String>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let id = token_id(&id)?;
    let tokens = &api.services.tokens;
    let rotated = tokens.rotate(&caller, tenant, id, &body).await?;
    Ok(fresh(StatusCode::OK, &rotated, api.services.now()))
}

pub(super) async fn revoke(
    State(api): Api,
    Tenant(tenant): Tenant,
    Asking(caller): Asking,
    Path(id): Path<String>,
    _: NoParams,
    _: NoBody,
) -> Result<StatusCode, ApiError> {
    let id = token_id(&id)?;
    api.services.tokens.revoke(&caller, tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn tenant_json(tenant: &store::Tenant) -> Value {
    json!({
        "id": tenant.id,
        "name": tenant.name,
        "weight": tenant.bounds.weight,
        "created_at": tenant.created_at.map(wire),
    })
}

pub(super) async fn create_tenant(
    State(api): Api,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let tenant = api.services.tenants.create(&body).await?;
    let mut response = (StatusCode::CREATED, Json(tenant_json(&tenant))).into_response();
    if let Ok(value) = format!("/v1/tenants/{}", tenant.name).parse() {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

pub(super) async fn list_tenants(
    State(api): Api,
    Asking(caller): Asking,
    mut params: Params,
) -> Result<Response, ApiError> {
    let page = params.page();
    params.finish()?;
    let listing = api.services.tenants.list(&caller, &page).await?;
    Ok(list_body(listing, |tenant| tenant_json(&tenant)))
}

pub(super) async fn show_tenant(
    State(api): Api,
    Asking(caller): Asking,
    Path(name): Path<String>,
    _: NoParams,
) -> Result<Json<Value>, ApiError> {
    let tenant = api.services.tenants.show(&caller, &name).await?;
    Ok(Json(tenant_json(&tenant)))
}

pub(super) async fn update_tenant(
    State(api): Api,
    Asking(caller): Asking,
    Path(name): Path<String>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Json<Value>, ApiError> {
    let tenant = api.services.tenants.update(&caller, &name, &body).await?;
    Ok(Json(tenant_json(&tenant)))
}

pub(super) async fn delete_tenant(
    State(api): Api,
    Asking(caller): Asking,
    Path(name): Path<String>,
    _: NoParams,
    _: NoBody,
) -> Result<StatusCode, ApiError> {
    api.services.tenants.delete(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn audit_json(row: &AuditRow) -> Value {
    let entry = &row.entry;
    json!({
        "id": row.id,
        "at": wire(entry.at),
        "tenant_id": entry.tenant_id,
        "token_id": entry.token_id,
        "actor": entry.actor,
        "role": entry.role,
        "action": entry.action,
        "method": entry.method,
        "target": entry.target,
        "status": entry.status,
        "request_id": entry.request_id,
        "address": entry.address,
        "host": entry.host,
    })
}

pub(super) async fn audit(
    State(api): Api,
    Tenant(tenant): Tenant,
    Asking(caller): Asking,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (page, filter) = audit_query(&mut params);
    params.finish()?;
    let filter = AuditFilter {
        tenant_id: tenant,
        with_host: caller.tenant.is_none(),
        ..filter
    };
    let listing = api.services.audit.list(&filter, &page).await?;
    Ok(list_body(listing, |row| audit_json(&row)))
}

/// Which entries of the audit log; whose, the caller says.
pub(super) fn audit_query(params: &mut Params) -> (Page, AuditFilter) {
    let page = params.page();
    let filter = AuditFilter {
        tenant_id: TenantId::default(),
        with_host: false,
        action: params.word("action", Permission::ALL.iter().map(|word| word.as_str())),
        token_id: params.id("token"),
        since: params.instant("since"),
        until: params.instant("until"),
    };
    (page, filter)
}

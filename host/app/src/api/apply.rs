//! `/v1/apply`.

use super::ApiState;
use super::auth::{Asking, Tenant, changed_nothing, forbidden};
use super::body::PlainJson;
use super::error::ApiError;
use super::query::NoParams;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use horarium_core::service::ApplyRequest;
use horarium_model::access::Permission;
use std::sync::Arc;

pub(super) async fn apply(
    State(api): State<Arc<ApiState>>,
    Tenant(tenant): Tenant,
    Asking(caller): Asking,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Response, ApiError> {
    let request = ApplyRequest::from_json(&body)?;
    if !request.plugins.is_empty() {
        // The route asks for leave to write tasks.
        for needed in [Permission::PluginsWrite, Permission::PluginsGrant] {
            if !caller.may(needed) {
                return Err(forbidden(&caller, needed));
            }
        }
    }
    let outcome = api.services.apply.apply(tenant, &request).await?;
    let response = Json(outcome.to_json()).into_response();
    Ok(match outcome.dry_run {
        true => changed_nothing(response),
        false => response,
    })
}

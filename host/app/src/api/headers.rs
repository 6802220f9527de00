//! Headers with a meaning of their own: the tenant, and versions.

use super::ApiState;
use super::error::ApiError;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use horarium_model::text::one_line;
use horarium_model::{DEFAULT_TENANT, TenantId};
use std::sync::Arc;

/// The tenant of a request, by the header `Horarium-Tenant`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenant(pub(super) TenantId);

impl FromRequestParts<Arc<ApiState>> for Tenant {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ApiState>,
    ) -> Result<Self, ApiError> {
        let name = match parts.headers.get("horarium-tenant") {
            None => DEFAULT_TENANT.to_owned(),
            Some(value) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        match state.store.tenant(&name).await? {
            Some(id) => Ok(Self(id)),
            None => Err(ApiError::not_found(format!(
                "there is no tenant `{}`",
                one_line(&name, 64)
            ))),
        }
    }
}

/// `If-Match`: the version a change was made from; none when absent or `*`.
#[derive(Debug, Clone, Copy)]
pub(super) struct IfMatch(pub(super) Option<i64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            return Ok(Self(None));
        };
        let text = String::from_utf8_lossy(value.as_bytes());
        let text = text.trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        match bare.and_then(|digits| digits.parse().ok()) {
            Some(version) => Ok(Self(Some(version))),
            None => Err(ApiError::bad_request(format!(
                "If-Match is `{}`; send the ETag as it came, like \"3\"",
                one_line(text, 40)
            ))),
        }
    }
}

/// The ETag of a version.
pub(super) fn etag(version: i64) -> [(header::HeaderName, HeaderValue); 1] {
    let text = format!("\"{version}\"");
    let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""));
    [(header::ETAG, value)]
}

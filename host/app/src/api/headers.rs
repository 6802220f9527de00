//! Headers with a meaning of their own: versions, and keys of requests.

use super::auth::changed_nothing;
use super::error::ApiError;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use horarium_core::service::RequestKey;
use horarium_core::store::Answer;
use horarium_model::text::one_line;
use serde_json::Value;

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
        let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        // Some clients lose the quotes.
        let digits = Some(quoted.unwrap_or(text)).filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(version) => Ok(Self(Some(version))),
            None => Err(ApiError::bad_request(format!(
                "If-Match is `{}`; send the ETag as it came, like \"3\"",
                one_line(text, 40)
            ))),
        }
    }
}

/// `Idempotency-Key`, with what was asked of what; see [`RequestKey`].
#[derive(Debug, Clone)]
pub(super) struct IdempotencyKey {
    key: Option<String>,
    asked: String,
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let mut keys = parts.headers.get_all("idempotency-key").iter();
        let key = keys.next();
        if keys.next().is_some() {
            return Err(ApiError::bad_request(
                "Idempotency-Key is given more than once",
            ));
        }
        let key = key.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
        Ok(Self {
            key,
            asked: format!("{} {}", parts.method, parts.uri.path()),
        })
    }
}

impl IdempotencyKey {
    /// The key of a request with this body, if it has one.
    pub(super) fn of(&self, body: &Value) -> Result<Option<RequestKey>, ApiError> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        RequestKey::new(key, &[&self.asked, &body.to_string()])
            .map(Some)
            .map_err(|invalid| ApiError::bad_request(invalid.to_string()))
    }
}

/// An answer that was given before to the same request.
pub(super) fn repeated(answer: &Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (
            HeaderName::from_static("idempotency-replayed"),
            HeaderValue::from_static("true"),
        ),
    ];
    changed_nothing((status, headers, answer.body.to_string()).into_response())
}

/// The ETag of a version.
pub(super) fn etag(version: i64) -> [(header::HeaderName, HeaderValue); 1] {
    let text = format!("\"{version}\"");
    let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""));
    [(header::ETAG, value)]
}

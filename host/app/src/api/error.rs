//! Every error as problem+json (RFC 9457), whoever made it: a handler, axum, or a panic.

use super::Full;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use horarium_core::service::ServiceError;
use horarium_core::store::StoreError;
use horarium_model::quota::QuotaHit;
use horarium_model::schedule::wire;
use horarium_model::text::one_line;
use horarium_model::trace::TraceContext;
use horarium_model::{Invalid, Problem};
use serde_json::json;

/// Media type of every error body.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Most of a foreign error's text that is shown.
const MAX_FOREIGN_TEXT: usize = 4096;

/// The id of a request, as its answer has it.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// A refusal or failure on its way to the client.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    errors: Vec<Problem>,
    /// Seconds after which the same request may be taken.
    retry_after: Option<u32>,
    /// The quota that was used up.
    quota: Option<Box<QuotaHit>>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            quota: None,
        }
    }

    /// 429: a quota of the tenant is used up.
    fn quota(hit: QuotaHit) -> Self {
        // Where time alone gives nothing back, somebody has to: look again in a while.
        const LOOK_AGAIN: u32 = 60;
        let detail = hit.to_string();
        Self {
            retry_after: Some(LOOK_AGAIN),
            quota: Some(Box::new(hit)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "quota", detail)
        }
    }

    /// 429: the same request may be taken later.
    fn too_many(detail: impl Into<String>, retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "backlog_full", detail)
        }
    }

    /// 429: an address sent too many wrong tokens.
    pub(super) fn too_many_attempts(detail: impl Into<String>, retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", detail)
        }
    }

    /// 429: as many streams are open as may.
    pub(super) fn too_many_streams(detail: impl Into<String>, retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", detail)
        }
    }

    /// 400: the request cannot be understood.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// 400 with what exactly.
    pub(super) fn bad_input(problems: Vec<Problem>) -> Self {
        Self {
            errors: problems,
            ..Self::bad_request("the request is refused")
        }
        .with_summary()
    }

    /// The same, naming the place it is about.
    pub(super) fn at(mut self, pointer: &str) -> Self {
        self.errors = vec![Problem::at(pointer, self.detail.clone())];
        self
    }

    /// 401.
    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 403.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 413.
    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 415.
    pub(super) fn media_type(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            detail,
        )
    }

    /// 503: it may work in a moment.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        // By then the heartbeat has asked the database again.
        const LOOK_AGAIN: u32 = 5;
        Self {
            retry_after: Some(LOOK_AGAIN),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        }
    }

    /// 503: as many connections are open as may.
    pub(super) fn too_many_connections() -> Self {
        Self {
            retry_after: Some(2),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_connections",
                "as many connections are open as may (api.max_connections); close those you do not need, or try again later",
            )
        }
    }

    /// 500.
    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The detail says the first problem, so that a reader of one line knows too.
    fn with_summary(mut self) -> Self {
        if let Some(first) = self.errors.first() {
            self.detail = match self.errors.len() {
                1 => first.to_string(),
                n => format!("{first} (and {} more)", n - 1),
            };
        }
        self
    }

    fn body(&self, request_id: &str) -> String {
        let mut body = json!({
            "type": format!("urn:horarium:problem:{}", self.kind),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "errors": self.errors,
            "request_id": request_id,
        });
        if let Some(hit) = &self.quota {
            body["quota"] = hit.quota.into();
            body["used"] = hit.used.into();
            body["limit"] = hit.limit.into();
            body["resets_at"] = hit.resets_at.map(wire).into();
        }
        body.to_string()
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::NotFound(detail) => Self::not_found(detail),
            ServiceError::Forbidden(detail) => Self::forbidden(detail),
            ServiceError::Conflict(detail) => Self::new(StatusCode::CONFLICT, "conflict", detail),
            ServiceError::VersionMismatch(detail) => {
                Self::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", detail)
            }
            ServiceError::Invalid(invalid) => invalid.into(),
            ServiceError::Backlog {
                detail,
                retry_after,
            } => Self::too_many(detail, retry_after),
            ServiceError::Quota(hit) => Self::quota(hit),
            ServiceError::Unavailable(detail) => Self::unavailable(detail),
            ServiceError::Internal(detail) => Self::internal(detail),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        ServiceError::from(error).into()
    }
}

impl From<Invalid> for ApiError {
    fn from(Invalid(errors): Invalid) -> Self {
        Self {
            errors,
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "the input is refused",
            )
        }
        .with_summary()
    }
}

impl IntoResponse for ApiError {
    /// The body is written by [`envelope`], which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The outermost layer. The handler runs in a task of its own: a client that goes away does not stop it
/// half-way, and a panic ends that request only. Every error leaves as problem+json.
pub(super) async fn envelope(mut request: Request, next: Next) -> Response {
    let id = uuid::Uuid::now_v7().simple().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let is_full = request.extensions().get::<Full>().is_some();
    let line = format!("{} {}", request.method(), request.uri().path());
    let traced = horarium_core::trace::within(trace_of(request.headers()), next.run(request));
    let response = match tokio::spawn(traced).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(request_id = id, request = line, %error, "a request handler panicked");
            ApiError::internal("a bug of the server ended this request; its log has more")
                .into_response()
        }
    };
    let mut response = as_problem(response, &id).await;
    // That there is no place is told once for all.
    if response.status().is_server_error() && !is_full {
        tracing::warn!(request_id = id, request = one_line(&line, 200), status = %response.status(), "request failed");
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// The trace that a request belongs to: what it enqueues belongs to it too.
fn trace_of(headers: &HeaderMap) -> Option<TraceContext> {
    let text = |name| headers.get(name)?.to_str().ok();
    // Of several the standard takes none.
    let parents = headers.get_all("traceparent").iter().count();
    let parent = text("traceparent").filter(|_| parents == 1)?;
    TraceContext::parse(parent, text("tracestate"))
}

async fn as_problem(response: Response, id: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let error = match parts.extensions.remove::<ApiError>() {
        Some(error) => error,
        None => foreign(status, body).await,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    if let Some(seconds) = error.retry_after {
        parts
            .headers
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        parts.headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"horarium\""),
        );
    }
    Response::from_parts(parts, Body::from(error.body(id)))
}

/// An error that axum made.
async fn foreign(status: StatusCode, body: Body) -> ApiError {
    let text = to_bytes(body, MAX_FOREIGN_TEXT).await.unwrap_or_default();
    let text = one_line(&String::from_utf8_lossy(&text), 500);
    let (kind, fallback) = match status {
        StatusCode::METHOD_NOT_ALLOWED => (
            "method_not_allowed",
            "this path does not take this method; see the Allow header",
        ),
        StatusCode::NOT_FOUND => ("not_found", "there is nothing here"),
        status if status.is_client_error() => ("bad_request", "the request is refused"),
        _ => ("internal", "the server failed"),
    };
    let detail = if text.is_empty() {
        fallback.to_owned()
    } else {
        text
    };
    ApiError::new(status, kind, detail)
}

//! Request bodies: bounded, of a media type that is expected, and JSON only through the one door.

use super::error::ApiError;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use horarium_model::text::one_line;
use serde_json::{Map, Value};

/// Largest JSON body: parameters of 16 MiB and what surrounds them.
pub(super) const MAX_JSON_BYTES: usize = 17 << 20;
/// How much of a body that is too large is still read, so that a client that sends before it listens
/// gets to see the refusal.
pub(super) const MAX_DRAINED_BYTES: usize = 256 << 20;
/// The same of one that nobody wanted.
pub(super) const MAX_DISCARDED_BYTES: usize = 1 << 20;

/// The media types JSON may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JsonKind {
    /// `application/json`, or none said.
    Plain,
    /// `application/merge-patch+json` (RFC 7396).
    MergePatch,
    /// `application/json-patch+json` (RFC 6902).
    Patch,
}

/// A JSON body; an empty one is an empty object.
#[derive(Debug)]
pub(super) struct JsonBody {
    /// The document.
    pub(super) value: Value,
    /// Its media type.
    pub(super) kind: JsonKind,
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let kind = json_kind(request.headers())?;
        let (parts, body) = request.into_parts();
        let bytes = read(body, &parts.headers, MAX_JSON_BYTES).await?;
        let value = if bytes.is_empty() {
            Value::Object(Map::new())
        } else {
            document(&bytes)?
        };
        Ok(Self { value, kind })
    }
}

/// A plain JSON body: a patch type is refused.
#[derive(Debug)]
pub(super) struct PlainJson(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for PlainJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = JsonBody::from_request(request, state).await?;
        match body.kind {
            JsonKind::Plain => Ok(Self(body.value)),
            _ => Err(ApiError::media_type("send application/json here")),
        }
    }
}

/// A body that nothing is done with: it must be empty or `{}`.
#[derive(Debug)]
pub(super) struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = JsonBody::from_request(request, state).await?;
        horarium_model::input::Fields::read(&body.value, "", |_| ())?;
        Ok(Self)
    }
}

/// Parses a document through the JSON door.
pub(super) fn document(bytes: &[u8]) -> Result<Value, ApiError> {
    horarium_model::json::parse(bytes).map_err(|problem| ApiError::bad_input(vec![problem]))
}

/// The essence of the content type, lower-case, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let essence = text.split(';').next().unwrap_or_default().trim();
    Some(essence.to_ascii_lowercase())
}

fn json_kind(headers: &HeaderMap) -> Result<JsonKind, ApiError> {
    match media_type(headers).as_deref() {
        None | Some("application/json") => Ok(JsonKind::Plain),
        Some("application/merge-patch+json") => Ok(JsonKind::MergePatch),
        Some("application/json-patch+json") => Ok(JsonKind::Patch),
        Some(other) => Err(ApiError::media_type(format!(
            "the body is `{}`; send application/json, or for a change application/merge-patch+json or application/json-patch+json",
            one_line(other, 60)
        ))),
    }
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(body: Body, headers: &HeaderMap, limit: usize) -> Result<Bytes, ApiError> {
    let told: Option<usize> = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    let mut too_large = told.is_some_and(|length| length > limit);
    // A client that waits for 100 Continue has sent nothing yet and hears the refusal at once.
    if too_large && headers.contains_key(header::EXPECT) {
        return Err(larger_than(limit));
    }
    let mut kept = Vec::with_capacity(told.unwrap_or(0).min(limit));
    let mut seen = 0;
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk
            .map_err(|e| ApiError::bad_request(format!("the body did not arrive whole: {e}")))?;
        seen += chunk.len();
        too_large |= seen > limit;
        if !too_large {
            kept.extend_from_slice(&chunk);
        } else if seen > MAX_DRAINED_BYTES {
            break;
        }
    }
    if too_large {
        return Err(larger_than(limit));
    }
    Ok(kept.into())
}

/// Lets the start of a body go by unread, so that who sends before it listens hears the answer.
pub(super) async fn discard(request: Request, most: usize) {
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    let mut stream = request.into_body().into_data_stream();
    let mut seen = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        seen += chunk.len();
        if seen > most {
            break;
        }
    }
}

fn larger_than(limit: usize) -> ApiError {
    ApiError::too_large(format!(
        "the body is larger than the {limit} bytes allowed here"
    ))
}

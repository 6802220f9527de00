//! Examples of bodies and answers, kept as JSON beside this file; a test holds each to its schema.

use super::PROBLEMS;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// An id of an execution.
pub(super) const TASK_ID: &str = "0199c2f0-7a31-7c55-9d1e-0f6a5f1f2b3c";
/// A digest.
pub(super) const DIGEST: &str =
    "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

/// `requests` by operation, `answers` by schema.
static EXAMPLES: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("examples.json")).unwrap_or_default());

/// The example of a request's body.
pub(super) fn request(operation: &str) -> Option<Value> {
    EXAMPLES.get("requests")?.get(operation).cloned()
}

/// The example of an answer.
pub(super) fn answer(schema: &str) -> Option<Value> {
    EXAMPLES.get("answers")?.get(schema).cloned()
}

/// A list with the one example.
pub(super) fn list(schema: &str) -> Option<Value> {
    answer(schema).map(|item| json!({ "items": [item], "next_cursor": null }))
}

/// The example of a problem.
pub(super) fn problem(status: u16) -> Value {
    let found = PROBLEMS.iter().find(|(known, ..)| *known == status);
    let kind = found.and_then(|(_, kinds, _)| kinds.first()).copied();
    let (detail, errors) = match status {
        422 => {
            let detail = "is 0; it must be a whole number from 1 to 86400";
            let errors = json!([{ "pointer": "/timeout_seconds", "detail": detail }]);
            (format!("/timeout_seconds: {detail}"), errors)
        }
        404 => ("there is no task `nightly`".to_owned(), json!([])),
        _ => (
            found.map_or_else(String::new, |(_, _, text)| (*text).to_owned()),
            json!([]),
        ),
    };
    let title = axum::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    json!({
        "type": format!("urn:horarium:problem:{}", kind.unwrap_or_default()),
        "title": title,
        "status": status,
        "detail": detail,
        "errors": errors,
        "request_id": "0199c2f07a317c559d1e0f6a5f1f2b3c",
    })
}

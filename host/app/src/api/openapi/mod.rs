//! `/openapi.json`: an OpenAPI 3.1 document made of what does the work. Paths, permissions, headers and statuses come from
//! the table of routes, bodies and queries from the readers that check them, answers from the types that are sent. What those
//! cannot say (prose, examples, answers put together by hand) is beside this file, and the tests of the API hold every
//! answer and every request that was taken to the document.

mod about;
mod by_hand;
mod examples;
mod operations;
mod pieces;
mod schemas;
mod words;

use super::query::NoParams;
use super::routes::{Route, all_routes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Statuses of problems, with the ends of their `type`.
pub(super) const PROBLEMS: &[(u16, &[&str], &str)] = &[
    (
        400,
        &["bad_request"],
        "The request cannot be understood: not JSON, or JSON nested deeper than 100 levels, with a key twice, with `\\u0000` or an integer beyond 64 bits; a bad query, a bad header.",
    ),
    (401, &["unauthorized"], "No token, or a wrong one."),
    (
        403,
        &["forbidden"],
        "The token's role or scope does not have the permission.",
    ),
    (
        404,
        &["not_found"],
        "No such thing or tenant, or another tenant's.",
    ),
    (
        405,
        &["method_not_allowed"],
        "The path does not take this method; see `Allow`.",
    ),
    (
        409,
        &["conflict"],
        "It stands in a state that forbids this.",
    ),
    (
        412,
        &["version_mismatch"],
        "`If-Match` names another version.",
    ),
    (413, &["too_large"], "The body is too large."),
    (
        415,
        &["unsupported_media_type"],
        "The body is not of a type expected here.",
    ),
    (
        422,
        &["invalid"],
        "The input is understood and refused; nothing was written.",
    ),
    (
        429,
        &[
            "backlog_full",
            "quota",
            "too_many_attempts",
            "too_many_streams",
        ],
        "As many executions wait as may, a quota of the tenant is used up, too many wrong tokens came from this address, or as many streams of events are open as may.",
    ),
    (500, &["internal"], "A bug of the server."),
    (
        503,
        &["unavailable"],
        "The database or the server is not available now.",
    ),
];

static DOCUMENT: LazyLock<Value> = LazyLock::new(made);
static TEXT: LazyLock<String> = LazyLock::new(|| DOCUMENT.to_string());

/// The document.
pub(super) async fn show(_: NoParams) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (headers, TEXT.as_str()).into_response()
}

/// The document, made once.
#[cfg(test)]
pub(super) fn document() -> &'static Value {
    &DOCUMENT
}

fn made() -> Value {
    let mut schemas = schemas::answers();
    let mut paths = Map::new();
    for route in all_routes() {
        let operation = operations::operation(route, &mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation;
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Horarium",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A WebAssembly plugin task host: schedules, sandbox, durable history.",
            "description": words::INTRODUCTION,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": words::TAGS.iter().map(|(name, text)| json!({"name": name, "description": text})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token, the first being the text of `admin-token` in the host's data directory.",
            }},
            "schemas": schemas,
            "headers": operations::headers(),
            "responses": operations::problems(),
            "parameters": operations::parameters(),
        },
    });
    words::explain(&mut document);
    document
}

/// The first part of a route's path below `/v1`, which groups it.
fn tag(route: &Route) -> &'static str {
    let below = route.path.strip_prefix("/v1/").unwrap_or("host");
    match below.split('/').next().unwrap_or_default() {
        "hosts" | "metrics" | "me" => "host",
        other => other,
    }
}

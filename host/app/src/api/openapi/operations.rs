//! Operations: what each route takes, and all it may answer.

use super::super::query::MAX_ID;
use super::super::routes::{Answer, Body, Needs, Route, Shape};
use super::{PROBLEMS, examples, tag};
use horarium_core::service::events::EVENT_KINDS;
use horarium_model::access::MAX_TENANT_NAME;
use horarium_model::task_type::{DIGEST, NAME};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// A reference to a schema of the document.
pub(super) fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The operation of a route; schemas of bodies go to `schemas`.
pub(super) fn operation(route: &Route, schemas: &mut Map<String, Value>) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "tags": [tag(route)],
        "parameters": taken(route),
        "responses": responses(route),
        "security": match route.needs {
            Needs::Nothing => json!([]),
            Needs::Token | Needs::Leave(_) => json!([{ "bearer": [] }]),
        },
    });
    if !route.description.is_empty() {
        operation["description"] = route.description.into();
    }
    if let Some(permission) = route.needs.permission() {
        operation["x-permission"] = permission.as_str().into();
        operation["x-least-role"] = permission.least_role().as_str().into();
    }
    if route.resumed {
        operation["x-events"] = events();
    }
    if let Some(body) = body(route, schemas) {
        operation["requestBody"] = body;
    }
    operation
}

/// What the data of each kind of event is.
fn events() -> Value {
    let kinds = EVENT_KINDS.iter().map(|kind| {
        let data = match kind.split('.').next() {
            Some("execution") => "ExecutionEvent",
            Some("task") => "TaskEvent",
            _ => "TaskType",
        };
        ((*kind).to_owned(), schema(data))
    });
    kinds.collect::<Map<_, _>>().into()
}

/// Parameters in the path, the query and headers.
fn taken(route: &Route) -> Vec<Value> {
    let reference = |name: &str| json!({ "$ref": format!("#/components/parameters/{name}") });
    let in_path = route.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(reference(&format!("path.{name}")))
    });
    let mut all: Vec<Value> = in_path.collect();
    all.extend((route.query)());
    let headers = [
        ("Horarium-Tenant", !route.of_host),
        ("If-Match", route.if_match),
        ("Idempotency-Key", route.keyed),
        ("Last-Event-ID", route.resumed),
        ("traceparent", route.traced),
        ("tracestate", route.traced),
    ];
    all.extend(
        headers
            .iter()
            .filter(|(_, taken)| *taken)
            .map(|(name, _)| reference(name)),
    );
    all
}

/// The parameters that several routes share.
pub(super) fn parameters() -> Value {
    let path = |name: &str, description: &str, schema: Value, example: Value| {
        json!({ "name": name, "in": "path", "required": true, "description": description,
            "schema": schema, "example": example })
    };
    let header = |name: &str, description: &str, schema: Value, example: &str| json!({ "name": name, "in": "header", "description": description, "schema": schema, "example": example });
    let text = json!({ "type": "string", "minLength": 1 });
    json!({
        "path.task": path("task", "A task's id or its key.",
            json!({ "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^([1-9][0-9]{0,14}|[a-z][a-z0-9._-]*)$" }), "nightly".into()),
        "path.task_id": path("task_id", "The id of an execution.",
            json!({ "type": "string", "format": "uuid" }), examples::TASK_ID.into()),
        "path.type": path("type", "A task type.",
            json!({ "type": "string", "maxLength": 64, "pattern": NAME }), "hello".into()),
        "path.digest": path("digest", "The digest of a version.",
            json!({ "type": "string", "pattern": DIGEST }), examples::DIGEST.into()),
        "path.key": path("key", "A key: of a state 1 to 512 bytes, of a type's settings 1 to 256, without control characters.",
            text, "cursor".into()),
        "path.token": path("token", "The id of a token.",
            json!({ "type": "integer", "minimum": 1, "maximum": MAX_ID }), 7.into()),
        "path.name": path("name", "The name of a secret.",
            json!({ "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9._-]+$" }), "api_key".into()),
        "path.tenant": path("tenant", "The name of a tenant.",
            tenant(), "acme".into()),
        "Horarium-Tenant": header("Horarium-Tenant", "The tenant that is meant: for a host-admin any, `default` when absent; \
            other tokens have their own.", tenant(), "default"),
        "If-Match": header("If-Match", "The version a change is made from, as the `ETag` came; `*` is any.",
            json!({ "type": "string", "minLength": 1, "maxLength": 17, "pattern": "^(\\*|[0-9]{1,15}|\"[0-9]{1,15}\")$" }), "\"3\""),
        "Last-Event-ID": header("Last-Event-ID", "Where a stream was left: the id of its last event; empty is none.",
            json!({ "type": "string", "pattern": "^([0-9a-f]{1,13}-[0-9a-f]{1,13})?$" }), "1267-6471f8a9b0c00"),
        // What is no trace is as if it were not there (W3C): nothing is refused.
        "traceparent": header("traceparent", "The trace that what is enqueued belongs to, as W3C Trace Context writes it; what is not valid counts as \
            absent.", json!({ "type": "string" }), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        "tracestate": header("tracestate", "What vendors add to `traceparent`, up to 512 bytes.",
            json!({ "type": "string" }), "vendor=7"),
        "Idempotency-Key": header("Idempotency-Key", "Makes the request one that may be repeated: it is carried out once in 24 hours.",
            json!({ "type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$" }), "order-4711"),
    })
}

fn tenant() -> Value {
    json!({ "type": "string", "maxLength": MAX_TENANT_NAME, "pattern": "^[a-z0-9][a-z0-9_-]*$" })
}

/// The body of a request, its schema named after the operation.
fn body(route: &Route, schemas: &mut Map<String, Value>) -> Option<Value> {
    let mut initials = route.id.chars();
    let name: String = initials
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(initials)
        .chain("Request".chars())
        .collect();
    let mut named = |mut schema: Value| {
        bound(&mut schema);
        schemas.insert(name.clone(), schema);
        self::schema(&name)
    };
    let example = examples::request(route.id);
    let json_of = |schema: &Value, example: &Option<Value>| {
        let mut media = json!({ "schema": schema });
        if let Some(example) = example {
            media["example"] = example.clone();
        }
        media
    };
    let (required, content) = match route.body {
        Body::None => return None,
        // A body of a DELETE has no meaning; an empty object is let pass.
        Body::Empty if route.method == "DELETE" => return None,
        Body::Empty => {
            let nothing = json!({ "type": "object", "maxProperties": 0 });
            (false, json!({ "application/json": { "schema": nothing } }))
        }
        Body::Json(describe) => {
            let described = describe();
            let required = described.get("required").is_some();
            let media = json_of(&named(described), &example);
            (required, json!({ "application/json": media }))
        }
        Body::Merge(describe) => {
            let media = json_of(&named(patch_of(describe())), &example);
            let content =
                json!({ "application/merge-patch+json": media, "application/json": media });
            (false, content)
        }
        Body::Patch => {
            let media = json_of(&schema("JsonObject"), &example);
            let patch = json_of(
                &named(super::by_hand::json_patch()),
                &examples::request("jsonPatch"),
            );
            let content = json!({
                "application/merge-patch+json": media,
                "application/json": media,
                "application/json-patch+json": patch,
            });
            (false, content)
        }
        Body::Upload(describe) => {
            let mut options = describe();
            options["examples"] = example.into_iter().collect::<Vec<_>>().into();
            let bytes = json!({ "type": "string", "contentMediaType": "application/wasm" });
            let form = json!({
                "type": "object",
                "properties": { "component": bytes, "options": named(options) },
                "required": ["component"],
                "additionalProperties": false,
            });
            let content = json!({
                "multipart/form-data": { "schema": form, "encoding": {
                    "component": { "contentType": "application/wasm" },
                    "options": { "contentType": "application/json" },
                } },
                "application/wasm": { "schema": bytes },
                "application/octet-stream": { "schema": bytes },
            });
            (true, content)
        }
    };
    Some(json!({ "required": required, "content": content }))
}

/// Where a body may hold anything, it is what the JSON door lets in.
fn bound(at: &mut Value) {
    let Some(map) = at.as_object_mut() else {
        return;
    };
    if map.keys().all(|key| key.starts_with("x-")) {
        map.insert("$ref".into(), schema("Json")["$ref"].take());
        return;
    }
    let object = |kind: &Value| kind == "object" || kind == &json!(["object", "null"]);
    let keys = ["properties", "additionalProperties", "maxProperties"];
    if map.get("type").is_some_and(object) && !keys.iter().any(|key| map.contains_key(*key)) {
        map.insert("additionalProperties".into(), schema("Json"));
    }
    for (key, below) in map.iter_mut() {
        match (key.as_str(), below) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(bound);
            }
            ("anyOf", Value::Array(schemas)) => schemas.iter_mut().for_each(bound),
            ("items", below) => bound(below),
            _ => {}
        }
    }
}

/// What a merge patch of something may say: each key alone, null to take it away.
fn patch_of(mut schema: Value) -> Value {
    loosen(&mut schema);
    schema
}

fn loosen(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    map.remove("required");
    for (_, property) in map
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        loosen(property);
        horarium_model::input::allow_null(property);
    }
    for schema in map
        .get_mut("anyOf")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        loosen(schema);
    }
}

/// Every status with what comes with it.
fn responses(route: &Route) -> Value {
    let mut all = Map::new();
    for answer in route.answers {
        all.insert(answer.status.to_string(), answered(answer));
    }
    for status in refusals(route) {
        let reference = json!({ "$ref": format!("#/components/responses/{status}") });
        all.insert(status.to_string(), reference);
    }
    all.into()
}

/// Statuses of problems: those that follow from what the route takes, and its own.
fn refusals(route: &Route) -> BTreeSet<u16> {
    let mut all: BTreeSet<u16> = route.refusals.iter().copied().collect();
    all.extend([400, 500, 503]);
    if route.needs != Needs::Nothing {
        all.extend([401, 404, 429]);
    }
    if route.needs.permission().is_some() {
        all.insert(403);
    }
    match route.body {
        Body::None => {}
        Body::Empty | Body::Json(_) | Body::Merge(_) | Body::Patch | Body::Upload(_) => {
            all.extend([413, 415, 422]);
        }
    }
    if route.if_match {
        all.insert(412);
    }
    if route.keyed {
        all.extend([409, 422]);
    }
    all
}

fn answered(answer: &Answer) -> Value {
    let (description, content) = match answer.shape {
        Shape::Nothing => ("Done; there is nothing to say.", None),
        Shape::One(name) => (
            "As it is.",
            Some(media(schema(name), examples::answer(name))),
        ),
        Shape::Page(name) => (
            "A page; `next_cursor` leads to the next.",
            Some(media(
                list(name, json!({ "type": ["string", "null"] })),
                examples::list(name),
            )),
        ),
        Shape::All(name) => (
            "All there are.",
            Some(media(
                list(name, json!({ "type": "null" })),
                examples::list(name),
            )),
        ),
        // What JSON Schema has no word for; `x-events` tells of the data.
        Shape::Events => ("A stream.", Some(json!({ "text/event-stream": {} }))),
        Shape::Text(kind) => (
            "A text.",
            Some(json!({ kind: { "schema": { "type": "string" } } })),
        ),
    };
    let mut headers = Map::new();
    for name in [&["x-request-id"], answer.headers].concat() {
        headers.insert(
            name.to_owned(),
            json!({ "$ref": format!("#/components/headers/{name}") }),
        );
    }
    let mut response = json!({ "description": description, "headers": headers });
    if let Some(content) = content {
        response["content"] = content;
    }
    response
}

fn media(schema: Value, example: Option<Value>) -> Value {
    let mut media = json!({ "schema": schema });
    if let Some(example) = example {
        media["example"] = example;
    }
    json!({ "application/json": media })
}

fn list(name: &str, cursor: Value) -> Value {
    json!({
        "type": "object",
        "properties": {
            "items": { "type": "array", "items": schema(name) },
            "next_cursor": cursor,
        },
        "required": ["items", "next_cursor"],
    })
}

/// Headers of answers.
pub(super) fn headers() -> Value {
    let header = |required: bool, description: &str, schema: Value| json!({ "required": required, "description": description, "schema": schema });
    let text = || json!({ "type": "string" });
    json!({
        "x-request-id": header(true, "The id of the request, as the host's log has it.",
            json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })),
        "ETag": header(true, "The version, for `If-Match`.", json!({ "type": "string", "pattern": "^\"[0-9]+\"$" })),
        "Location": header(true, "Where the new thing is.", text()),
        "Cache-Control": header(true, "No cache on the way may keep the token.", json!({ "const": "no-store" })),
        "Idempotency-Replayed": header(false, "`true` when the answer was given before.", json!({ "const": "true" })),
        "Retry-After": header(true, "Seconds after which it is worth trying again.",
            json!({ "type": "integer", "minimum": 1 })),
        "WWW-Authenticate": header(true, "How to come in.", json!({ "const": "Bearer realm=\"horarium\"" })),
        "Allow": header(true, "The methods that the path takes.", text()),
    })
}

/// One response a status of problems.
pub(super) fn problems() -> Value {
    let mut all = Map::new();
    for (status, kinds, description) in PROBLEMS {
        let kinds = kinds
            .iter()
            .map(|kind| format!("urn:horarium:problem:{kind}"));
        let body = json!({ "allOf": [schema("ProblemDetails"), {
            "properties": {
                "status": { "const": status },
                "type": { "enum": kinds.collect::<Vec<_>>() },
            },
        }] });
        let mut headers = vec!["x-request-id"];
        match status {
            401 => headers.push("WWW-Authenticate"),
            405 => headers.push("Allow"),
            429 | 503 => headers.push("Retry-After"),
            _ => {}
        }
        let headers = headers.into_iter().map(|name| {
            let reference = json!({ "$ref": format!("#/components/headers/{name}") });
            (name.to_owned(), reference)
        });
        let response = json!({
            "description": description,
            "headers": headers.collect::<Map<_, _>>(),
            "content": { "application/problem+json": {
                "schema": body,
                "example": examples::problem(*status),
            } },
        });
        all.insert(status.to_string(), response);
    }
    all.into()
}

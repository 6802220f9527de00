//! Schemas of answers that are put together by hand, for which no type stands.

use super::PROBLEMS;
use super::operations::schema;
use super::pieces::{
    Field, boolean, cursor, field, id, instant, list, number, object, or_null, text, uuid, words,
};
use horarium_model::quota::Quotas;
use serde_json::{Value, json};

/// What no type stands for.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    [system(), access(), care(), things(), outcomes()].concat()
}

fn system() -> Vec<(&'static str, Value)> {
    let kinds: Vec<String> = PROBLEMS
        .iter()
        .flat_map(|(_, kinds, _)| *kinds)
        .map(|kind| format!("urn:horarium:problem:{kind}"))
        .collect();
    let run = object(vec![
        field("id", id()),
        field("task_id", uuid()),
        field("tenant_id", id()),
        field("config_id", or_null(id())),
        field("task_type", text()),
        field("attempt", number()),
        field("started_at", or_null(instant())),
    ]);
    vec![
        (
            "ProblemDetails",
            object(vec![
                field("type", json!({ "type": "string", "enum": kinds })),
                field("title", text()),
                field(
                    "status",
                    json!({ "type": "integer", "minimum": 400, "maximum": 599 }),
                ),
                field("detail", json!({ "type": "string", "minLength": 1 })),
                field("errors", list(schema("Problem"))),
                field("request_id", text()),
            ]),
        ),
        (
            "Status",
            object(vec![field("status", words(&["ok", "ready"]))]),
        ),
        (
            "OpenApi",
            json!({ "type": "object", "required": ["openapi", "info", "paths"] }),
        ),
        ("HostRun", run),
        (
            "Host",
            object(vec![
                field("name", text()),
                field("incarnation", id()),
                field("is_answering", boolean()),
                field("version", text()),
                field("slots", number()),
                field("memory_bytes", number()),
                field("running", number()),
                field("executions", list(schema("HostRun"))),
                field("loaded", list(text())),
                field("started_at", instant()),
                field("seen_at", instant()),
            ]),
        ),
    ]
}

fn access() -> Vec<(&'static str, Value)> {
    let scope = || or_null(list(schema("Permission")));
    let of_token = object(vec![
        field("id", id()),
        field("name", text()),
        field("expires_at", or_null(instant())),
    ]);
    vec![
        (
            "Me",
            object(vec![
                field("role", schema("Role")),
                field("tenant", or_null(text())),
                field("scope", scope()),
                field("permissions", list(schema("Permission"))),
                field("token", or_null(of_token)),
            ]),
        ),
        (
            "Token",
            object(vec![
                field("id", id()),
                field("name", text()),
                field("role", schema("Role")),
                field("scope", scope()),
                field("tenant", or_null(text())),
                field("state", words(&["active", "expired"])),
                field("created_at", instant()),
                field("created_by", text()),
                field("expires_at", or_null(instant())),
                field("last_used_at", or_null(instant())),
                field("rotated_at", or_null(instant())),
                field("previous_until", or_null(instant())),
            ]),
        ),
        (
            "Tenant",
            object(vec![
                field("id", id()),
                field("name", text()),
                field("weight", json!({ "type": "integer", "minimum": 1 })),
                field("created_at", or_null(instant())),
            ]),
        ),
        (
            "AuditEntry",
            object(vec![
                field("id", id()),
                field("at", instant()),
                field("tenant_id", or_null(id())),
                field("token_id", or_null(id())),
                field("actor", text()),
                field("role", schema("Role")),
                field("action", schema("Permission")),
                field("method", words(&["POST", "PUT", "PATCH", "DELETE"])),
                field("target", text()),
                field(
                    "status",
                    json!({ "type": "integer", "minimum": 100, "maximum": 599 }),
                ),
                field("request_id", text()),
                field("address", or_null(text())),
                field("host", text()),
            ]),
        ),
    ]
}

fn care() -> Vec<(&'static str, Value)> {
    let seconds = || json!({ "type": "number", "minimum": 0 });
    let tally = || {
        vec![
            field("runs", number()),
            field("succeeded", number()),
            field("failed", number()),
            field("cancelled", number()),
            field("fuel", number()),
            field("cpu_seconds", seconds()),
            field("wall_seconds", seconds()),
            field("http_calls", number()),
            field("http_request_bytes", number()),
            field("http_response_bytes", number()),
            field("log_bytes", number()),
            field("result_bytes", number()),
        ]
    };
    let day = || json!({ "type": "string", "format": "date" });
    let mut item = vec![
        field("tenant", or_null(text())),
        field("day", day()),
        field("task_type", text()),
    ];
    item.extend(tally());
    vec![
        (
            "Quota",
            object(vec![
                field("quota", words(Quotas::NAMES)),
                field("limit", or_null(number())),
                field("used", number()),
                field("resets_at", or_null(instant())),
            ]),
        ),
        (
            "Retention",
            object(vec![
                field("succeeded_seconds", or_null(number())),
                field("failed_seconds", or_null(number())),
                field("cancelled_seconds", or_null(number())),
                field("skipped_seconds", or_null(number())),
                field("keep", or_null(number())),
            ]),
        ),
        ("UsageItem", object(item)),
        ("UsageTotal", object(tally())),
        (
            "UsageReport",
            object(vec![
                field("from", day()),
                field("to", day()),
                field("items", list(schema("UsageItem"))),
                field("next_cursor", cursor()),
                field("total", schema("UsageTotal")),
            ]),
        ),
    ]
}

fn things() -> Vec<(&'static str, Value)> {
    let base64 =
        json!({ "type": "object", "properties": { "base64": text() }, "required": ["base64"] });
    vec![
        // Integers beyond 64 bits are refused.
        (
            "Json",
            json!({ "anyOf": [
            { "type": ["null", "boolean", "string"] },
            { "type": "number", "minimum": i64::MIN, "maximum": u64::MAX },
            { "type": "array", "items": schema("Json") },
            schema("JsonObject"),
        ] }),
        ),
        (
            "JsonObject",
            json!({ "type": "object", "additionalProperties": schema("Json") }),
        ),
        ("Parameters", json!({ "type": "object" })),
        ("AnyValue", json!({})),
        ("Grants", object(vec![field("grants", list(text()))])),
        (
            "TypeConfigItem",
            object(vec![field("key", text()), field("value", text())]),
        ),
        (
            "StateItem",
            object(vec![
                field("key", text()),
                field("size_bytes", number()),
                field("version", number()),
                field("value", json!({ "anyOf": [text(), base64] })),
            ]),
        ),
        ("StateDeleted", object(vec![field("deleted", number())])),
        (
            "TypeRemoved",
            object(vec![
                field("task_type", text()),
                field("cancelled", number()),
            ]),
        ),
        (
            "Deleted",
            object(vec![
                field("cancelled", number()),
                field("running", number()),
            ]),
        ),
    ]
}

/// Objects of one of these forms.
fn one_of(forms: Vec<Value>) -> Value {
    json!({ "anyOf": forms })
}

fn outcomes() -> Vec<(&'static str, Value)> {
    let enqueued = object(vec![
        field("index", number()),
        field("task_id", uuid()),
        field("id", id()),
        field("config_id", or_null(id())),
        field("state", schema("State")),
        field("due_at", or_null(instant())),
    ]);
    let refused = object(vec![
        field("index", number()),
        field("errors", list(schema("Problem"))),
    ]);
    let fits = || {
        object(vec![
            field("task_id", uuid()),
            field("state", schema("State")),
        ])
    };
    let counted = |mut counts: Vec<Field>, item: Value| {
        counts.extend(vec![
            field("dry_run", boolean()),
            field("matched", number()),
            field("refused", number()),
            field("items", list(item)),
            field("next_cursor", cursor()),
        ]);
        counts
    };
    // A dry run counts what it would have done as nothing.
    let retried = counted(
        vec![field("retried", number())],
        one_of(vec![
            fits(),
            object(vec![field("task_id", uuid()), field("retry_of", uuid())]),
            object(vec![field("retry_of", uuid()), field("error", text())]),
        ]),
    );
    let cancelled = counted(
        vec![
            field("cancelled", number()),
            field("requested", number()),
            field("ended", number()),
        ],
        one_of(vec![
            fits(),
            object(vec![field("task_id", uuid()), field("error", text())]),
        ]),
    );
    vec![
        (
            "BatchOutcome",
            object(vec![
                field("items", list(one_of(vec![enqueued, refused]))),
                field("enqueued", number()),
                field("refused", number()),
            ]),
        ),
        ("RetryOutcome", object(retried)),
        ("ApplyOutcome", apply_outcome()),
        (
            "VersionDiff",
            object(vec![
                field("task_type", text()),
                field("from_digest", text()),
                field("to_digest", text()),
                field("changes", list(change())),
                field("obstacle", or_null(text())),
            ]),
        ),
        (
            "ImportOutcome",
            object(vec![field("imported", number()), field("known", number())]),
        ),
        ("CancelOutcome", object(cancelled)),
    ]
}

/// A field that differs.
fn change() -> Value {
    object(vec![
        field("pointer", text()),
        field("old", json!({})),
        field("new", json!({})),
    ])
}

/// What a declaration changes.
fn apply_outcome() -> Value {
    let item = |kind: &str, mut of_kind: Vec<Field>| {
        let actions = ["create", "update", "unchanged", "delete", "undeclared"];
        of_kind.extend(vec![
            field("kind", words(&[kind])),
            field("action", words(&actions)),
            field("changes", list(change())),
            field("note", or_null(text())),
        ]);
        object(of_kind)
    };
    let plugin = item(
        "plugin",
        vec![
            field("task_type", text()),
            field("digest", text()),
            field("registered", boolean()),
        ],
    );
    let task = item(
        "task",
        vec![
            field("key", or_null(text())),
            field("id", or_null(id())),
            field("version", or_null(id())),
        ],
    );
    object(vec![
        field("set", text()),
        field("dry_run", boolean()),
        field("plan", text()),
        field("created", number()),
        field("updated", number()),
        field("unchanged", number()),
        field("deleted", number()),
        field("undeclared", number()),
        field("cancelled", number()),
        field("items", list(one_of(vec![plugin, task]))),
    ])
}

/// A JSON Patch (RFC 6902).
pub(super) fn json_patch() -> Value {
    let pointer = || json!({ "type": "string", "pattern": "^(/.*)?$" });
    let mut source = pointer();
    source["description"] = "JSON pointer to what is moved or copied.".into();
    let operation = |ops: &[&str], more: &[(&str, Value)]| {
        let mut schema = json!({
            "type": "object",
            "properties": { "op": { "enum": ops }, "path": pointer() },
            "required": ["op", "path"],
            // Other members are ignored (RFC 6902, 4), but they have come through the JSON door.
            "additionalProperties": schema("Json"),
        });
        for (name, property) in more {
            schema["properties"][*name] = property.clone();
            if let Some(required) = schema["required"].as_array_mut() {
                required.push((*name).into());
            }
        }
        schema
    };
    list(one_of(vec![
        operation(&["add", "replace", "test"], &[("value", json!({}))]),
        operation(&["remove"], &[]),
        operation(&["move", "copy"], &[("from", source)]),
    ]))
}

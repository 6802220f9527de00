//! Prose of the document: what neither types nor readers say.

use super::about::ABOUT;
use serde_json::Value;

/// What every reader should know.
pub(super) const INTRODUCTION: &str = "\
Bodies are JSON: UTF-8, 17 MiB at most, at most 100 levels deep, without duplicate keys and `\\u0000`, integers within 64 \
bits. An empty body counts as `{}`, null as absent. Unknown keys and query parameters are refused with the nearest name. \
Words are taken in any case. Instants are RFC 3339 with an offset; answers are in UTC.\n\n\
A list is `{\"items\": […], \"next_cursor\": text or null}`; `limit` and `cursor` turn its pages. Every error is \
problem+json (RFC 9457). `x-permission` is what a route needs, `x-least-role` the least role that has it.";

/// Groups of routes.
pub(super) const TAGS: &[(&str, &str)] = &[
    ("host", "The host, and who asks."),
    ("tenants", "Who shares the host."),
    ("tokens", "Who may ask."),
    ("audit", "Who did what."),
    ("quotas", "What a tenant may use, and uses."),
    ("usage", "What was used, fit for a bill."),
    ("retention", "How long history is kept."),
    ("task-types", "Plugins: names, versions, grants, settings."),
    ("secrets", "Values that plugins use and never see."),
    ("apply", "Plugins and tasks as a document declares them."),
    ("tasks", "What runs when, with which parameters and state."),
    ("executions", "What runs, ran and waits."),
    ("events", "What happens, as it happens."),
];

fn about(place: &str, name: &str) -> Option<&'static str> {
    let exact = format!("{place}.{name}");
    let find = |wanted: &str| {
        let found = ABOUT.iter().find(|(known, _)| *known == wanted);
        found.map(|(_, text)| *text)
    };
    find(&exact).or_else(|| find(name))
}

/// Gives every property and parameter of a document that says nothing of itself its description.
pub(super) fn explain(document: &mut Value) {
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        for (name, schema) in schemas {
            walk(name, schema);
        }
    }
    if let Some(paths) = document["paths"].as_object_mut() {
        for path in paths.values_mut() {
            walk("", path);
        }
    }
}

/// `place` is the schema, or the property, that what is below belongs to.
fn walk(place: &str, at: &mut Value) {
    match at {
        Value::Object(map) => {
            if let Some(text) = map.get("description").and_then(Value::as_str) {
                let text = text
                    .replace("[`", "`")
                    .replace("`]", "`")
                    .replace('\n', " ");
                map.insert("description".into(), text.into());
            }
            if map.get("in").is_some_and(|place| place == "query")
                && let Some(text) = map["name"].as_str().and_then(|name| about("", name))
            {
                map.insert("description".into(), text.into());
            }
            for (key, below) in map.iter_mut() {
                match (key.as_str(), below) {
                    ("example" | "examples" | "enum" | "const", _) => {}
                    ("properties", Value::Object(properties)) => {
                        for (name, property) in properties {
                            explained(place, name, property);
                        }
                    }
                    (_, below) => walk(place, below),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(place, item)),
        _ => {}
    }
}

fn explained(place: &str, name: &str, property: &mut Value) {
    // A schema that takes anything is `true` or an empty object.
    if property == &Value::Bool(true) {
        *property = Value::Object(serde_json::Map::new());
    }
    if property.get("description").is_none()
        && let Some(text) = about(place, name)
        && let Some(map) = property.as_object_mut()
    {
        map.insert("description".into(), text.into());
    }
    walk(name, property);
}

//! The OpenAPI document itself; what it says is held to what is done by [`super::contract`].

use super::contract::errors;
use super::*;
use crate::api::openapi::document;
use crate::api::routes::all_routes;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

#[tokio::test]
async fn it_is_served_without_a_token() {
    let server = Harness::new();
    let bare = Request::get("/openapi.json").body(Body::empty());
    let answer = server.send(bare.expect("a request")).await.expect(200);
    assert_eq!(answer.body, *document());
    assert_eq!(answer.body["openapi"], "3.1.0");
    server.get("/openapi.json?x=1").await.problem(400);
    server.post("/openapi.json", &json!({})).await.problem(405);
}

#[test]
fn every_route_is_there_and_nothing_else() {
    let mut told = Vec::new();
    let mut names = BTreeSet::new();
    for (path, methods) in document()["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            told.push((path.clone(), method.to_ascii_uppercase()));
            let name = operation["operationId"].as_str().expect("a name");
            assert!(
                !name.is_empty() && names.insert(name.to_owned()),
                "{path} {name}"
            );
            assert_ne!(operation["summary"], "", "{path} {method}");
            let tag = operation["tags"][0].as_str().expect("a tag");
            let tags = document()["tags"].as_array().expect("tags");
            assert!(tags.iter().any(|known| known["name"] == tag), "{tag}");
            for part in path.split('/').filter(|part| part.starts_with('{')) {
                let name = part.trim_matches(['{', '}']);
                let reference = json!({ "$ref": format!("#/components/parameters/path.{name}") });
                let parameters = operation["parameters"].as_array().expect("a list");
                assert!(parameters.contains(&reference), "{path} {name}");
            }
        }
    }
    let mut routes: Vec<_> = all_routes()
        .map(|route| (route.path.to_owned(), route.method.to_owned()))
        .collect();
    told.sort();
    routes.sort();
    assert_eq!(told, routes);
}

/// What lies in the document, with where.
fn walk(at: &Value, place: &str, see: &mut impl FnMut(&str, &Map<String, Value>)) {
    match at {
        Value::Object(map) => {
            see(place, map);
            for (key, below) in map {
                if key != "example" {
                    walk(below, &format!("{place}/{key}"), see);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{place}/{index}"), see);
            }
        }
        _ => {}
    }
}

#[test]
fn everything_is_explained_and_references_lead_somewhere() {
    let mut silent = Vec::new();
    let mut nowhere = Vec::new();
    walk(document(), "", &mut |place, map| {
        if let Some(reference) = map.get("$ref").and_then(Value::as_str)
            && document()
                .pointer(reference.trim_start_matches('#'))
                .is_none()
        {
            nowhere.push(format!("{place}: {reference}"));
        }
        if map.contains_key("in") && map.get("description").is_none() {
            silent.push(format!("{place}: {}", map["name"]));
        }
        if let Some(Value::Object(properties)) = map.get("properties") {
            // What narrows a property that is told of elsewhere.
            if place.starts_with("/components/responses") {
                return;
            }
            for (name, property) in properties {
                if property.get("description").is_none() {
                    silent.push(format!("{place}: {name}"));
                }
            }
        }
    });
    assert!(nowhere.is_empty(), "{nowhere:#?}");
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn every_body_and_answer_has_an_example_that_fits() {
    let mut without = Vec::new();
    walk(document(), "", &mut |place, map| {
        let Some(Value::Object(content)) = map.get("content") else {
            return;
        };
        for (kind, media) in content {
            // Of bytes and texts there is none, nor of this document and of nothing.
            let nothing = media["schema"]["maxProperties"] == 0;
            let whole = media["schema"]["$ref"] == "#/components/schemas/OpenApi";
            if !kind.ends_with("json") || nothing || whole {
                continue;
            }
            match media.get("example") {
                Some(example) => {
                    let errors = errors(&media["schema"], example);
                    assert!(errors.is_empty(), "{place} {kind}: {errors:#?}");
                }
                None => without.push(format!("{place} {kind}")),
            }
        }
    });
    assert!(without.is_empty(), "{without:#?}");
}

#[tokio::test]
async fn what_it_says_of_bounds_is_what_is_checked() {
    let server = Harness::with_plugin().await;
    server.task(&json!({"key": "nightly"})).await;
    let mut tried = 0;
    for (path, methods) in document()["paths"].as_object().expect("paths") {
        let parameters = methods["get"]["parameters"].as_array();
        for parameter in parameters.into_iter().flatten() {
            if parameter["in"] != "query" || parameter["schema"]["type"] != "integer" {
                continue;
            }
            let path = path
                .replace("{task}", "nightly")
                .replace("{task_id}", "01980000-0000-7000-8000-00000000ffff");
            let name = parameter["name"].as_str().expect("a name");
            let (min, max) = (
                &parameter["schema"]["minimum"],
                &parameter["schema"]["maximum"],
            );
            let (min, max) = (
                min.as_i64().expect("a number"),
                max.as_i64().expect("a number"),
            );
            for (value, taken) in [(min, true), (max, true), (min - 1, false), (max + 1, false)] {
                let answer = server.get(&format!("{path}?{name}={value}")).await;
                assert_eq!(
                    answer.status != 400,
                    taken,
                    "{path} {name}={value}: {}",
                    answer.text
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 40, "{tried}");
    // And of one body each property, at its ends and beyond them.
    let schema = &document()["components"]["schemas"]["CreateTaskRequest"]["properties"];
    let limits = schema["limits"]["properties"].as_object().expect("limits");
    let flat = schema.as_object().expect("properties").iter();
    let flat = flat.map(|(name, property)| (json!({ name: null }), name, property));
    let nested = limits
        .iter()
        .map(|(name, property)| (json!({ "limits": {} }), name, property));
    for (at, name, property) in flat.chain(nested) {
        let Some(max) = property["maximum"].as_i64() else {
            continue;
        };
        let of = |value: i64| {
            let mut at = at.clone();
            match at.get_mut("limits") {
                Some(limits) => limits[name] = value.into(),
                None => at[name] = value.into(),
            }
            at
        };
        let pointer = format!("/{name}: ");
        let problems = async |value: i64| {
            let body = harness::task(&of(value));
            let answer = server.post("/v1/tasks", &body).await;
            let problems = match answer.status {
                201 => Vec::new(),
                _ => answer.problem(422),
            };
            problems
                .into_iter()
                .filter(|p| p.contains(&pointer) && p.contains("whole number"))
                .count()
        };
        assert_eq!(problems(max).await, 0, "{name}");
        assert_eq!(problems(max + 1).await, 1, "{name}");
        let min = property["minimum"].as_i64().expect("a number");
        assert_eq!(problems(min).await, 0, "{name}");
        assert_eq!(problems(min - 1).await, 1, "{name}");
    }
}

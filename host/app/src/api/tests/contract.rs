//! Holds every request and answer of these tests to the OpenAPI document: an answer must be one that the document tells of,
//! with its headers and its shape, and what was taken must be what the document says is taken.

use super::harness::Answer;
use crate::api::openapi::document;
use crate::api::routes::{Route, all_routes};
use axum::body::Bytes;
use axum::http::request::Parts;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

/// What was asked.
pub(super) struct Asked {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    kind: String,
    body: Bytes,
}

impl Asked {
    pub(super) fn of(parts: &Parts, body: &Bytes) -> Self {
        let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let kind = parts.headers.get("content-type");
        let kind = kind.map_or("application/json", |kind| kind.to_str().unwrap_or("?"));
        Self {
            method: parts.method.as_str().to_owned(),
            path: parts.uri.path().to_owned(),
            query: query.map(|query| query.0).unwrap_or_default(),
            kind: essence(kind).to_owned(),
            body: body.clone(),
        }
    }

    /// Panics unless the answer is one that the document tells of.
    #[track_caller]
    pub(super) fn holds(&self, answer: &Answer) {
        let case = format!(
            "{} {}: {} {}",
            self.method, self.path, answer.status, answer.text
        );
        let Some((route, values)) = self.route() else {
            // No such path, not this method, or a router of the test's own that panics.
            let told = [401, 404, 405, 429, 500].contains(&answer.status);
            assert!(told, "{case}");
            let pointer = format!("/components/responses/{}", answer.status);
            return fits(&pointer, answer, &case);
        };
        let method = route.method.to_ascii_lowercase();
        let operation = format!("/paths/{}/{method}", route.path.replace('/', "~1"));
        let pointer = format!("{operation}/responses/{}", answer.status);
        let told = document().pointer(&pointer);
        let told = told.unwrap_or_else(|| panic!("not told of: {case}"));
        match told["$ref"].as_str() {
            Some(reference) => fits(reference.trim_start_matches('#'), answer, &case),
            None if self.method == "HEAD" => {}
            None => fits(&pointer, answer, &case),
        }
        if answer.status < 300 {
            self.was_told(&operation, &values, &case);
        }
    }

    /// The route, and the values of its parameters.
    fn route(&self) -> Option<(&'static Route, Vec<(&'static str, String)>)> {
        let method = if self.method == "HEAD" {
            "GET"
        } else {
            &self.method
        };
        let given: Vec<&str> = self.path.split('/').collect();
        let matches = |route: &'static Route| {
            let known: Vec<&str> = route.path.split('/').collect();
            let mut values = Vec::new();
            let same = known.len() == given.len()
                && known.iter().zip(&given).all(|(known, given)| {
                    let name = known.strip_prefix('{').and_then(|n| n.strip_suffix('}'));
                    match name {
                        Some(name) => {
                            values.push((name, (*given).to_owned()));
                            !given.is_empty()
                        }
                        None => known == given,
                    }
                });
            same.then_some((route, values))
        };
        // The router prefers the path that says most itself, whatever the method.
        let mut found: Vec<_> = all_routes().filter_map(matches).collect();
        let least = found.iter().map(|(_, values)| values.len()).min()?;
        found.retain(|(route, values)| values.len() == least && route.method == method);
        found.pop()
    }

    /// What was taken is what the document says is taken.
    fn was_told(&self, operation: &str, values: &[(&str, String)], case: &str) {
        let operation = document().pointer(operation).expect("an operation");
        let parameters: Vec<Value> = operation["parameters"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|parameter| match parameter["$ref"].as_str() {
                Some(reference) => {
                    let pointer = reference.trim_start_matches('#');
                    document().pointer(pointer).expect(pointer).clone()
                }
                None => parameter.clone(),
            })
            .collect();
        let told = |place: &str, name: &str, text: &str| {
            let found = parameters
                .iter()
                .find(|parameter| parameter["in"] == place && parameter["name"] == name);
            let found = found.unwrap_or_else(|| panic!("{place} {name} is not told of: {case}"));
            if found.get("content").is_some() {
                return;
            }
            let value = value_of(&found["schema"], text);
            let validator = validator(&found["schema"]);
            assert!(
                validator.is_valid(&value),
                "{place} {name} = {value}: {case}"
            );
        };
        for (name, text) in values {
            told("path", name, text);
        }
        for (name, text) in &self.query {
            told("query", name, text);
        }
        let body = &operation["requestBody"];
        if self.body.is_empty() {
            assert_ne!(body["required"], true, "{case}");
            return;
        }
        if self.method == "DELETE" || self.method == "GET" || self.method == "HEAD" {
            return;
        }
        let media = &body["content"][&self.kind];
        assert!(media.is_object(), "{} is not told of: {case}", self.kind);
        if let Ok(mut sent) = serde_json::from_slice::<Value>(&self.body) {
            lower_words(&mut sent);
            let errors = errors(&media["schema"], &sent);
            assert!(errors.is_empty(), "{errors:#?} in {sent}: {case}");
        }
    }
}

/// Words are taken in any case, which a schema has no word for.
fn lower_words(sent: &mut Value) {
    const WORDS: &[&str] = &[
        "scheduler_type",
        "overlap",
        "catch_up",
        "jitter",
        "role",
        "trigger",
        "if_running",
    ];
    match sent {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(word) if WORDS.contains(&key.as_str()) => {
                        word.make_ascii_lowercase()
                    }
                    below => lower_words(below),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(lower_words),
        _ => {}
    }
}

fn essence(kind: &str) -> &str {
    kind.split(';').next().unwrap_or_default().trim()
}

/// The value that a text in a path or a query stands for.
fn value_of(schema: &Value, text: &str) -> Value {
    match schema["type"].as_str() {
        Some("integer" | "boolean") => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        Some("array") => {
            let items = text.split(',').map(|item| Value::from(item.trim()));
            items.collect::<Vec<_>>().into()
        }
        _ => text.into(),
    }
}

/// The answer has the headers and the body that the response at `pointer` tells of.
#[track_caller]
fn fits(pointer: &str, answer: &Answer, case: &str) {
    let response = document().pointer(pointer);
    let response = response.unwrap_or_else(|| panic!("{pointer} is not told of: {case}"));
    for name in response["headers"].as_object().expect("headers").keys() {
        let header = &document()["components"]["headers"][name];
        match answer.headers.get(name.as_str()) {
            Some(value) => {
                let value = value_of(&header["schema"], value.to_str().expect("text"));
                let errors = errors(&header["schema"], &value);
                assert!(errors.is_empty(), "{name}: {errors:#?}: {case}");
            }
            None => assert_ne!(header["required"], true, "{name} is missing: {case}"),
        }
    }
    let Some(content) = response.get("content") else {
        assert_eq!(answer.text, "", "{case}");
        return;
    };
    let kind = answer.headers["content-type"].to_str().expect("text");
    let media = content.get(kind);
    let media = media.unwrap_or_else(|| panic!("{kind} is not told of: {case}"));
    if essence(kind).ends_with("json") {
        let errors = errors(&media["schema"], &answer.body);
        assert!(errors.is_empty(), "{errors:#?}: {case}");
    }
}

/// What is wrong with a value.
pub(super) fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let validator = validator(schema);
    let shown = |error: jsonschema::ValidationError<'_>| {
        format!("{} (at {})", error, error.instance_path())
    };
    validator.iter_errors(value).map(shown).collect()
}

/// A validator of a schema of the document, which here lets no key pass that it does not tell of.
fn validator(schema: &Value) -> Arc<Validator> {
    static COMPONENTS: LazyLock<Value> = LazyLock::new(|| {
        let mut components = document()["components"].clone();
        close(&mut components);
        components
    });
    static MADE: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let text = schema.to_string();
    let mut made = MADE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let make = || {
        let mut closed = schema.clone();
        close(&mut closed);
        let root = json!({ "allOf": [closed], "components": *COMPONENTS });
        let options = jsonschema::options().should_validate_formats(true);
        Arc::new(options.build(&root).expect("a schema"))
    };
    made.entry(text).or_insert_with(make).clone()
}

/// Objects whose keys are told of have no others.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") && map.contains_key("required") {
                let closed = map.entry("additionalProperties");
                closed.or_insert(Value::Bool(false));
            }
            for (key, below) in map.iter_mut() {
                if !["example", "enum", "const"].contains(&key.as_str()) {
                    close(below);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

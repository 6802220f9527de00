//! What a plugin says about itself: the object of docs/descriptor.schema.json.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::task::Task;

/// Limits a plugin suggests. An operator's own figures and the host's maxima win.
///
/// ```
/// # use horarium_task::Limits;
/// const LIMITS: Limits = Limits { memory_bytes: Some(256 << 20), ..Limits::NONE };
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Fuel, about one unit an instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// All memories and tables together, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Parameters as JSON, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_bytes: Option<u64>,
    /// The result as JSON, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<u64>,
    /// Log, stdout and stderr kept of a run, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// HTTP requests of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_calls: Option<u64>,
    /// Bytes sent in HTTP bodies by a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_request_bytes: Option<u64>,
    /// Bytes received in HTTP bodies by a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_response_bytes: Option<u64>,
    /// HTTP requests open at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_concurrent: Option<u64>,
    /// Keys and values of the config's state, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<u64>,
    /// Handles to host resources open at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handles: Option<u64>,
    /// Core instances in the component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u64>,
    /// Tables in the component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<u64>,
    /// Memories in the component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memories: Option<u64>,
    /// The most random bytes asked for in one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_bytes: Option<u64>,
    /// Bytes copied to the host by one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostcall_bytes: Option<u64>,
}

impl Limits {
    /// Suggests nothing: the host's defaults fit.
    pub const NONE: Limits = Limits {
        fuel: None,
        memory_bytes: None,
        parameters_bytes: None,
        result_bytes: None,
        log_bytes: None,
        http_calls: None,
        http_request_bytes: None,
        http_response_bytes: None,
        http_concurrent: None,
        state_bytes: None,
        handles: None,
        instances: None,
        tables: None,
        memories: None,
        random_bytes: None,
        hostcall_bytes: None,
    };
}

/// Parameters that work, with what comes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Example(Map<String, Value>);

impl Example {
    /// An example of these parameters, a JSON object.
    pub fn new(parameters: Value) -> Self {
        Self(Map::from_iter([("parameters".to_owned(), parameters)]))
    }

    /// What the example shows, in one line.
    #[must_use]
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.0
            .insert("summary".to_owned(), Value::String(summary.into()));
        self
    }

    /// What the task returns for it.
    #[must_use]
    pub fn result(mut self, result: Value) -> Self {
        self.0.insert("result".to_owned(), result);
        self
    }
}

pub(crate) fn describe<T: Task>(version: &str) -> Value {
    let mut descriptor = json!({
        "version": version,
        "summary": T::SUMMARY,
        "parameters_schema": generator(false).into_root_schema_for::<T::Parameters>(),
        "result_schema": generator(true).into_root_schema_for::<T::Output>(),
        "capabilities": T::CAPABILITIES,
    });
    if T::LIMITS != Limits::NONE {
        descriptor["limits"] = json!(T::LIMITS);
    }
    let examples: Vec<Value> = T::examples()
        .into_iter()
        .map(|example| Value::Object(example.0))
        .collect();
    if !examples.is_empty() {
        descriptor["examples"] = Value::Array(examples);
    }
    descriptor
}

/// Inlined, since hosts check flat schemas in process and others at a cost.
fn generator(for_result: bool) -> SchemaGenerator {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    if for_result {
        settings.for_serialize().into_generator()
    } else {
        settings.for_deserialize().into_generator()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_published_schema() {
        let schema: Value =
            serde_json::from_str(include_str!("../../../docs/descriptor.schema.json")).unwrap();
        let published = schema["properties"]["limits"]["properties"]
            .as_object()
            .unwrap();
        let filled = json!(Limits {
            fuel: Some(1),
            memory_bytes: Some(1),
            parameters_bytes: Some(1),
            result_bytes: Some(1),
            log_bytes: Some(1),
            http_calls: Some(1),
            http_request_bytes: Some(1),
            http_response_bytes: Some(1),
            http_concurrent: Some(1),
            state_bytes: Some(1),
            handles: Some(1),
            instances: Some(1),
            tables: Some(1),
            memories: Some(1),
            random_bytes: Some(1),
            hostcall_bytes: Some(1),
        });
        let names = |object: &Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
        let mut own = names(filled.as_object().unwrap());
        let mut theirs = names(published);
        own.sort();
        theirs.sort();
        assert_eq!(own, theirs);
    }
}

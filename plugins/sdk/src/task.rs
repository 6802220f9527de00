//! The trait a plugin implements, and the JSON on both sides of it.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::descriptor::{self, Example, Limits};
use crate::error::TaskError;

/// One kind of task.
pub trait Task {
    /// What an operator writes as the config's `parameters`: a struct, since they are a JSON object.
    type Parameters: DeserializeOwned + JsonSchema;
    /// What a successful attempt returns and the history keeps.
    type Output: Serialize + JsonSchema;

    /// What the plugin does, in one line.
    const SUMMARY: &'static str;
    /// The grants the plugin needs, as an operator writes them: `"http GET https://example.com"`,
    /// `"state"`. Asking grants nothing; the operator decides.
    const CAPABILITIES: &'static [&'static str] = &[];
    /// Limits the plugin suggests where the defaults do not fit.
    const LIMITS: Limits = Limits::NONE;

    /// Does the work of one attempt.
    ///
    /// # Errors
    /// Says why the attempt failed and whether to try again; see [`TaskError`].
    fn run(parameters: Self::Parameters) -> Result<Self::Output, TaskError>;

    /// Parameters that work, shown to operators.
    fn examples() -> Vec<Example> {
        Vec::new()
    }
}

/// Decodes the parameters, runs the task, encodes the result. Called by [`export!`](crate::export).
///
/// # Errors
/// The task's own error, or a permanent one naming the place where the parameters do not fit.
#[doc(hidden)]
pub fn run_json<T: Task>(parameters: &str) -> Result<String, TaskError> {
    // The path is worked out only when there is something to say: it would slow every run.
    let decoded = match serde_json::from_str::<T::Parameters>(parameters) {
        Ok(decoded) => decoded,
        Err(_) => decode_with_path(parameters)?,
    };
    let output = T::run(decoded)?;
    serde_json::to_string(&output).map_err(|error| {
        TaskError::permanent(format!("the result cannot be written as JSON: {error}"))
            .code("invalid-result")
    })
}

fn decode_with_path<P: DeserializeOwned>(parameters: &str) -> Result<P, TaskError> {
    let mut deserializer = serde_json::Deserializer::from_str(parameters);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = json_pointer(error.path());
        let place = if pointer.is_empty() {
            "the whole"
        } else {
            &pointer
        };
        // The decoder's line and column mean nothing to whoever wrote the config.
        let text = error.inner().to_string();
        let text = text.split(" at line ").next().unwrap_or(&text);
        TaskError::permanent(format!("invalid parameters: {place}: {text}"))
            .code("invalid-parameters")
            .details(serde_json::json!({ "pointer": pointer }))
    })
}

/// RFC 6901; empty for the whole document.
fn json_pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

/// The descriptor of docs/descriptor.schema.json. Called by [`export!`](crate::export).
#[doc(hidden)]
pub fn describe_json<T: Task>(version: &str) -> String {
    descriptor::describe::<T>(version).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Parameters {
        /// The feeds to read.
        feeds: Vec<Feed>,
        #[serde(default)]
        fail: bool,
    }

    #[derive(Deserialize, Serialize, JsonSchema)]
    struct Feed {
        #[serde(rename = "a/b~c")]
        odd: u8,
    }

    struct Sum;

    impl Task for Sum {
        type Parameters = Parameters;
        type Output = u32;
        const SUMMARY: &'static str = "Adds";
        const CAPABILITIES: &'static [&'static str] = &["state"];
        const LIMITS: Limits = Limits {
            fuel: Some(5),
            ..Limits::NONE
        };

        fn run(parameters: Parameters) -> Result<u32, TaskError> {
            if parameters.fail {
                return Err(TaskError::retryable("busy"));
            }
            Ok(parameters
                .feeds
                .iter()
                .map(|feed| u32::from(feed.odd))
                .sum())
        }

        fn examples() -> Vec<Example> {
            vec![
                Example::new(json!({"feeds": [{"a/b~c": 1}]}))
                    .summary("one")
                    .result(json!(1)),
            ]
        }
    }

    #[test]
    fn runs_typed() {
        let result = run_json::<Sum>(r#"{"feeds":[{"a/b~c":2},{"a/b~c":3}]}"#);
        assert_eq!(result.unwrap(), "5");
        let error = run_json::<Sum>(r#"{"feeds":[],"fail":true}"#).unwrap_err();
        assert_eq!(error.message(), "busy");
    }

    #[test]
    fn a_wrong_parameter_is_named_by_its_pointer() {
        let error = run_json::<Sum>(r#"{"feeds":[{"a/b~c":2},{"a/b~c":300}]}"#).unwrap_err();
        assert!(error.is_permanent());
        assert_eq!(
            error.message(),
            "invalid parameters: /feeds/1/a~1b~0c: invalid value: integer `300`, expected u8"
        );
        let error = run_json::<Sum>("{}").unwrap_err();
        assert_eq!(
            error.message(),
            "invalid parameters: the whole: missing field `feeds`"
        );
        let error = run_json::<Sum>(r#"{"feeds":[],"fial":1}"#).unwrap_err();
        assert!(
            error.message().contains("unknown field `fial`"),
            "{}",
            error.message()
        );
    }

    #[test]
    fn describes_itself() {
        let descriptor: Value = serde_json::from_str(&describe_json::<Sum>("1.2.3")).unwrap();
        assert_eq!(descriptor["version"], "1.2.3");
        assert_eq!(descriptor["summary"], "Adds");
        assert_eq!(descriptor["capabilities"], json!(["state"]));
        assert_eq!(descriptor["limits"], json!({"fuel": 5}));
        assert_eq!(descriptor["examples"][0]["summary"], "one");
        let schema = &descriptor["parameters_schema"];
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(
            schema["properties"]["feeds"]["description"],
            "The feeds to read."
        );
        assert_eq!(
            schema["properties"]["feeds"]["items"]["required"],
            json!(["a/b~c"])
        );
        assert_eq!(descriptor["result_schema"]["type"], "integer");
    }
}

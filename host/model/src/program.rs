//! Where a WASI program's arguments, environment and standard input come from in the parameters.

use crate::input::Fields;
use crate::problem::{Invalid, Problem};
use crate::text::one_line;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Prefix of the variables that the host sets itself.
pub const OWN_VARIABLES: &str = "HORARIUM_";

/// JSON pointers into the parameters, chosen at registration. Without any, a program has no arguments,
/// the host's variables alone, and the parameters as JSON text on its standard input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProgramInput {
    /// A list of strings: the arguments after the program's name.
    pub args_from: Option<String>,
    /// An object of strings: environment variables.
    pub env_from: Option<String>,
    /// A text, or `{"base64": …}`: what the program reads; any other value is given as JSON text.
    pub stdin_from: Option<String>,
}

/// What a program is started with, taken from its parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started<'v> {
    /// The arguments after the program's name.
    pub args: Vec<String>,
    /// Variables beside the host's.
    pub env: Vec<(String, String)>,
    /// The value to be read; none when it is absent or null.
    pub stdin: Option<&'v Value>,
}

impl ProgramInput {
    /// Whether nothing was chosen.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the keys `args_from`, `env_from`, `stdin_from`; none when none of them is there.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let input = Self {
            args_from: pointer(fields, "args_from"),
            env_from: pointer(fields, "env_from"),
            stdin_from: pointer(fields, "stdin_from"),
        };
        if input.args_from.as_deref() == Some("") {
            fields.problem(
                "args_from",
                "the parameters as a whole are an object, arguments a list: point at one, like /args",
            );
        }
        (!input.is_default()).then_some(input)
    }

    /// What the parameters say.
    ///
    /// # Errors
    /// Each value of the wrong kind, with the pointer into the parameters.
    pub fn of<'v>(&self, parameters: &'v Value) -> Result<Started<'v>, Invalid> {
        let mut problems = Vec::new();
        let mut started = Started {
            stdin: found(parameters, self.stdin_from.as_deref().unwrap_or_default()),
            ..Started::default()
        };
        if let Some(pointer) = &self.args_from
            && let Some(value) = found(parameters, pointer)
        {
            started.args = args(pointer, value, &mut problems);
        }
        if let Some(pointer) = &self.env_from
            && let Some(value) = found(parameters, pointer)
        {
            started.env = env(pointer, value, &mut problems);
        }
        if problems.is_empty() {
            Ok(started)
        } else {
            Err(Invalid(problems))
        }
    }
}

/// What is there; null is nothing.
fn found<'v>(parameters: &'v Value, pointer: &str) -> Option<&'v Value> {
    parameters.pointer(pointer).filter(|value| !value.is_null())
}

fn pointer(fields: &mut Fields<'_>, key: &'static str) -> Option<String> {
    let text = fields.text(key, 0, 200);
    fields.shape(key, || serde_json::json!({ "pattern": "^(/.*)?$" }));
    let text = text?;
    let mut escapes = text.split('~').skip(1);
    let escaped = escapes.all(|rest| rest.starts_with(['0', '1']));
    if escaped && (text.is_empty() || text.starts_with('/')) {
        return Some(text);
    }
    fields.problem(
        key,
        format!(
            "`{}` is not a JSON pointer (RFC 6901); write it like /text",
            one_line(&text, 60)
        ),
    );
    None
}

fn args(pointer: &str, value: &Value, problems: &mut Vec<Problem>) -> Vec<String> {
    let Value::Array(items) = value else {
        let detail = "the program's arguments are taken from here: a list of strings is expected";
        problems.push(Problem::at(pointer, detail));
        return Vec::new();
    };
    let items = items.iter().enumerate();
    items
        .filter_map(|(index, item)| scalar(&format!("{pointer}/{index}"), item, problems))
        .collect()
}

fn env(pointer: &str, value: &Value, problems: &mut Vec<Problem>) -> Vec<(String, String)> {
    let Value::Object(map) = value else {
        let detail =
            "the program's environment is taken from here: an object of strings is expected";
        problems.push(Problem::at(pointer, detail));
        return Vec::new();
    };
    let mut env = Vec::new();
    for (name, value) in map {
        let at = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        if name.is_empty() || name.contains('=') {
            let detail = "the name of a variable is not empty and holds no `=`";
            problems.push(Problem::at(at, detail));
        } else if name.starts_with(OWN_VARIABLES) {
            let detail = format!("variables that begin with {OWN_VARIABLES} are the host's");
            problems.push(Problem::at(at, detail));
        } else if !value.is_null()
            && let Some(value) = scalar(&at, value, problems)
        {
            env.push((name.clone(), value));
        }
    }
    env
}

/// Text as it is; numbers and booleans as JSON writes them.
fn scalar(pointer: &str, value: &Value, problems: &mut Vec<Problem>) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        other => {
            let found = crate::input::type_name(other);
            problems.push(Problem::at(
                pointer,
                format!("a string is expected, not {found}"),
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<Option<ProgramInput>, Invalid> {
        Fields::read(&body, "", ProgramInput::read)
    }

    #[test]
    fn pointers_are_read_or_refused_by_name() {
        assert_eq!(read(json!({})).expect("nothing"), None);
        let input = read(json!({"args_from": "/a~1b/0", "stdin_from": ""})).expect("pointers");
        let input = input.expect("chosen");
        assert_eq!(input.args_from.as_deref(), Some("/a~1b/0"));
        assert_eq!(input.stdin_from.as_deref(), Some(""));
        for (key, wrong) in [
            ("args_from", "args"),
            ("env_from", "/a~2"),
            ("stdin_from", "/a~"),
            ("args_from", ""),
        ] {
            let Err(Invalid(problems)) = read(json!({key: wrong})) else {
                panic!("{key} = {wrong} was taken");
            };
            assert_eq!(problems[0].pointer, format!("/{key}"), "{problems:?}");
        }
    }

    #[test]
    fn parameters_start_a_program() {
        let input = ProgramInput {
            args_from: Some("/args".into()),
            env_from: Some("/env".into()),
            stdin_from: Some("/text".into()),
        };
        let parameters =
            json!({"args": ["-n", 5, true], "env": {"LANG": "C", "GONE": null}, "text": "hi"});
        let started = input.of(&parameters).expect("fits");
        assert_eq!(started.args, ["-n", "5", "true"]);
        assert_eq!(started.env, [("LANG".to_owned(), "C".to_owned())]);
        assert_eq!(started.stdin, Some(&json!("hi")));
        let nothing = json!({"text": null});
        assert_eq!(input.of(&nothing).expect("fits"), Started::default());
        let whole = ProgramInput::default();
        assert_eq!(
            whole.of(&parameters).expect("fits").stdin,
            Some(&parameters)
        );
    }

    #[test]
    fn wrong_values_are_named_by_pointer() {
        let input = ProgramInput {
            args_from: Some("/args".into()),
            env_from: Some("/env".into()),
            stdin_from: None,
        };
        for (parameters, pointer) in [
            (json!({"args": "-n"}), "/args"),
            (json!({"args": ["a", []]}), "/args/1"),
            (json!({"env": []}), "/env"),
            (json!({"env": {"A=B": "x"}}), "/env/A=B"),
            (json!({"env": {"": "x"}}), "/env/"),
            (json!({"env": {"a/b": {}}}), "/env/a~1b"),
            (
                json!({"env": {"HORARIUM_TASK_ID": "x"}}),
                "/env/HORARIUM_TASK_ID",
            ),
        ] {
            let Err(Invalid(problems)) = input.of(&parameters) else {
                panic!("{parameters} was taken");
            };
            assert_eq!(problems[0].pointer, pointer, "{problems:?}");
        }
    }
}

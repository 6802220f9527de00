//! Changes of a task's parameters: RFC 7396 and RFC 6902.

use crate::input::type_name;
use crate::problem::Invalid;
use serde_json::{Map, Value};

/// How parameters are changed.
#[derive(Debug, Clone, PartialEq)]
pub enum ParameterChange {
    /// RFC 7396 merge patch.
    Merge(Map<String, Value>),
    /// RFC 6902 patch.
    Patch(json_patch::Patch),
    /// Replace them all.
    Replace(Map<String, Value>),
}

impl ParameterChange {
    /// Reads an RFC 7396 document.
    ///
    /// # Errors
    /// When it is no object, which would leave no parameters.
    pub fn merge(value: Value) -> Result<Self, Invalid> {
        object(value, "", "a merge patch of parameters must be an object").map(Self::Merge)
    }

    /// Reads parameters that replace all.
    ///
    /// # Errors
    /// When they are no object.
    pub fn replace(value: Value) -> Result<Self, Invalid> {
        object(value, "/parameters", "must be an object").map(Self::Replace)
    }

    /// Reads an RFC 6902 document.
    ///
    /// # Errors
    /// When it is not one.
    pub fn patch(value: &Value) -> Result<Self, Invalid> {
        serde_json::from_value(value.clone())
            .map(Self::Patch)
            .map_err(|e| Invalid::one("", format!("not a JSON Patch (RFC 6902): {e}")))
    }

    /// The parameters after the change; `old` is untouched.
    ///
    /// # Errors
    /// When an operation does not apply, or the outcome is no object.
    pub fn apply(&self, old: &Map<String, Value>) -> Result<Map<String, Value>, Invalid> {
        let mut document = Value::Object(old.clone());
        match self {
            Self::Merge(patch) => json_patch::merge(&mut document, &Value::Object(patch.clone())),
            Self::Patch(patch) => json_patch::patch(&mut document, patch)
                .map_err(|e| Invalid::one("", format!("the patch does not apply: {e}")))?,
            Self::Replace(map) => return Ok(map.clone()),
        }
        object(document, "/parameters", "must be an object")
    }
}

fn object(value: Value, pointer: &str, must: &str) -> Result<Map<String, Value>, Invalid> {
    match value {
        Value::Object(map) => Ok(map),
        other => Err(Invalid::one(
            pointer,
            format!("{must}, not {}", type_name(&other)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameter_changes_follow_their_rfcs() {
        let old = json!({"a": 1, "b": {"c": [1, 2]}})
            .as_object()
            .unwrap()
            .clone();
        let merged = ParameterChange::merge(json!({"a": null, "b": {"d": 2}}))
            .unwrap()
            .apply(&old)
            .unwrap();
        assert_eq!(Value::Object(merged), json!({"b": {"c": [1, 2], "d": 2}}));
        let patch =
            ParameterChange::patch(&json!([{"op": "replace", "path": "/b/c/0", "value": 9}]))
                .unwrap();
        assert_eq!(patch.apply(&old).unwrap()["b"]["c"][0], 9);
        let failing =
            ParameterChange::patch(&json!([{"op": "test", "path": "/a", "value": 2}])).unwrap();
        assert!(failing.apply(&old).is_err());
        assert!(ParameterChange::merge(json!([])).is_err());
        assert!(ParameterChange::replace(json!(1)).is_err());
        let emptied =
            ParameterChange::patch(&json!([{"op": "replace", "path": "", "value": 1}])).unwrap();
        assert!(emptied.apply(&old).is_err());
    }
}

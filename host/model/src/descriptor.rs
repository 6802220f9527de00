//! What a plugin says of itself through `describe` (docs/descriptor.schema.json), or an operator for it.

use crate::input::{Fields, type_name};
use crate::limits::LimitOverrides;
use crate::problem::Invalid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Largest schema accepted, in bytes of JSON (design section 3).
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;

/// A plugin's description; every part is optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Descriptor {
    /// A semver label; the digest is the identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// One line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// JSON Schema of the parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_schema: Option<Value>,
    /// JSON Schema of the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_schema: Option<Value>,
    /// What it asks for, as an operator would grant it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Limits it suggests.
    #[serde(skip_serializing_if = "LimitOverrides::is_empty")]
    pub limits: LimitOverrides,
    /// Example parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Value>,
}

impl Descriptor {
    /// Reads a descriptor. `examples` and schemas are only measured here; whether the schemas are fit
    /// to be used is the sandbox's question.
    ///
    /// # Errors
    /// Every problem found.
    pub fn from_json(value: &Value) -> Result<Self, Invalid> {
        Fields::read(value, "", Self::read)
    }

    /// Reads a descriptor; problems are collected in `fields`.
    pub fn read(fields: &mut Fields<'_>) -> Self {
        let described = Self {
            version: fields
                .text("version", 0, 64)
                .map(|v| crate::text::sanitize(&v, false)),
            summary: fields
                .text("summary", 0, 500)
                .map(|s| crate::text::one_line(&s, 500)),
            parameters_schema: read_schema(fields, "parameters_schema"),
            result_schema: read_schema(fields, "result_schema"),
            capabilities: fields
                .list("capabilities", 100, |item| match item.as_str() {
                    Some(text) => text
                        .parse::<crate::grant::Grant>()
                        .map(|grant| grant.to_string()),
                    None => Err(format!(
                        "a capability is a string as --grant takes it, not {}",
                        type_name(item)
                    )),
                })
                .unwrap_or_default(),
            limits: fields
                .object("limits", LimitOverrides::read)
                .unwrap_or_default(),
            examples: fields
                .list("examples", 20, |item| Ok(item.clone()))
                .unwrap_or_default(),
        };
        fields.shape("capabilities", || json!({ "items": { "type": "string" } }));
        described
    }

    /// This descriptor with the operator's file winning field by field.
    #[must_use]
    pub fn overridden_by(self, operator: Self) -> Self {
        let pick_list =
            |operator: Vec<_>, own: Vec<_>| if operator.is_empty() { own } else { operator };
        Self {
            version: operator.version.or(self.version),
            summary: operator.summary.or(self.summary),
            parameters_schema: operator.parameters_schema.or(self.parameters_schema),
            result_schema: operator.result_schema.or(self.result_schema),
            capabilities: if operator.capabilities.is_empty() {
                self.capabilities
            } else {
                operator.capabilities
            },
            limits: if operator.limits.is_empty() {
                self.limits
            } else {
                operator.limits
            },
            examples: pick_list(operator.examples, self.examples),
        }
    }
}

fn read_schema(fields: &mut Fields<'_>, key: &'static str) -> Option<Value> {
    let value = fields.value(key);
    fields.shape(key, || json!({ "type": ["object", "boolean"] }));
    let value = value?;
    if !value.is_object() && !value.is_boolean() {
        fields.problem(
            key,
            format!("a JSON Schema is an object, not {}", type_name(value)),
        );
        return None;
    }
    let size = value.to_string().len();
    if size > MAX_SCHEMA_BYTES {
        fields.problem(
            key,
            format!("has {size} bytes; a schema has at most {MAX_SCHEMA_BYTES}"),
        );
        return None;
    }
    Some(value.clone())
}

//! What an operator says with a registration.

use horarium_model::Invalid;
use horarium_model::descriptor::Descriptor;
use horarium_model::grant::Grant;
use horarium_model::input::{Fields, type_name};
use horarium_model::limits::LimitOverrides;
use horarium_model::program::ProgramInput;
use serde_json::{Value, json};

/// What an operator says with a registration.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// What it may do; none = what the active version may.
    pub grants: Option<Vec<Grant>>,
    /// Grant whatever it asks for.
    pub grant_asked: bool,
    /// Make it the one that runs once it is ready.
    pub activate: bool,
    /// The operator's own description, which wins field by field.
    pub descriptor: Descriptor,
    /// Limits of this plugin; none = those these bytes have already, if they are known.
    pub limits: Option<LimitOverrides>,
    /// What of the parameters a WASI program is started with; none = as the active version is.
    pub input: Option<ProgramInput>,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            grants: None,
            grant_asked: false,
            activate: true,
            descriptor: Descriptor::default(),
            limits: None,
            input: None,
        }
    }
}

impl Registration {
    /// Reads `{"grants", "grant_asked", "activate", "descriptor", "limits", "args_from", "env_from",
    /// "stdin_from"}`.
    ///
    /// # Errors
    /// Every problem found.
    pub fn from_json(body: &Value) -> Result<Self, Invalid> {
        Fields::read(body, "", Self::read)
    }

    /// What [`Self::from_json`] takes, as a JSON Schema.
    pub fn describe() -> Value {
        Fields::describe(Self::read)
    }

    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            grants: read_grants(fields, "grants"),
            grant_asked: fields.boolean("grant_asked").unwrap_or(false),
            activate: fields.boolean("activate").unwrap_or(true),
            descriptor: fields
                .object("descriptor", Descriptor::read)
                .unwrap_or_default(),
            limits: fields.object("limits", LimitOverrides::read),
            input: ProgramInput::read(fields),
        }
    }
}

/// Most grants of a version.
const MAX_GRANTS: usize = 200;

/// Reads a list of grants as `--grant` takes them.
pub(super) fn read_grants(fields: &mut Fields<'_>, key: &'static str) -> Option<Vec<Grant>> {
    let grants = fields.list(key, MAX_GRANTS, |item| match item {
        Value::String(text) => text.parse(),
        other => Err(format!(
            "a grant is a string as --grant takes it, not {}",
            type_name(other)
        )),
    });
    fields.shape(key, || json!({ "items": { "type": "string" } }));
    grants
}

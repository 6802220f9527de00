//! Checks of untrusted bytes, before anything is compiled: size, header, validity, world, imports.

mod exit_code;
mod header;
mod module;
mod world;

pub(crate) use world::exports_describe;

use horarium_core::runner::Inspection;
use horarium_model::limits::MAX_COMPONENT_BYTES;
use horarium_model::{task_type, text};
use std::borrow::Cow;
use wasmparser::{Validator, WasmFeatures};

/// What passed the checks.
pub(crate) struct Accepted<'b> {
    /// What was found.
    pub(crate) inspection: Inspection,
    /// The component: the bytes as they came, or made from a core module.
    pub(crate) component: Cow<'b, [u8]>,
}

/// Checks everything that can be known without compiling.
///
/// # Errors
/// A sentence saying what the bytes are and what would be right.
pub(crate) fn check(bytes: &[u8]) -> Result<Accepted<'_>, String> {
    check_size(bytes.len() as u64)?;
    let (component, made) = match header::kind(bytes)? {
        header::Kind::Component => (Cow::Borrowed(bytes), None),
        header::Kind::CoreModule => {
            let made = module::make_component(bytes)?;
            (Cow::Owned(made.component), Some(made.remark))
        }
    };
    // Before validation, so that a component of a newer WASI is named as such.
    let world = world::read(&component)?;
    world::refuse_newer_wasi(&world)?;
    validate(&component)?;
    let kind = world::check(&world)?;
    let warnings = world::remarks(&world, bytes.len() as u64, made);
    let inspection = Inspection {
        digest: task_type::digest(bytes),
        size_bytes: bytes.len() as u64,
        kind: kind.to_owned(),
        imports: world.imports,
        exports: world.exports,
        warnings,
    };
    Ok(Accepted {
        inspection,
        component,
    })
}

/// Whether the number of bytes is one a component may have.
pub(crate) fn check_size(bytes: u64) -> Result<(), String> {
    match bytes {
        0 => Err("the file is empty; a component was expected".to_owned()),
        n if n > MAX_COMPONENT_BYTES => Err(format!(
            "{n} bytes are more than the {MAX_COMPONENT_BYTES} (64 MiB) a component may have"
        )),
        _ => Ok(()),
    }
}

fn validate(component: &[u8]) -> Result<(), String> {
    // What the engine is built without: better refused here than by the compiler.
    let features = WasmFeatures::default()
        - WasmFeatures::CM_ASYNC
        - WasmFeatures::GC
        - WasmFeatures::GC_TYPES;
    Validator::new_with_features(features)
        .validate_all(component)
        .map(|_| ())
        .map_err(|error| parse_error(&error))
}

fn parse_error(error: &wasmparser::BinaryReaderError) -> String {
    let message = text::one_line(error.message(), 300);
    if message.contains("unexpected end") {
        format!(
            "the file is truncated: it ends inside a section (at byte {})",
            error.offset()
        )
    } else {
        format!(
            "not a valid component: {message} (at byte {})",
            error.offset()
        )
    }
}

#[cfg(test)]
mod tests;

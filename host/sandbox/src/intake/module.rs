//! Core modules that can be made components: those that say which world they were made for, and WASI
//! programs of preview 1. An adapter translates what a preview 1 module imports.

use super::{exit_code, parse_error, validate};
use horarium_model::text::one_line;
use std::borrow::Cow;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1,
    WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as PROGRAM_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as LIBRARY_ADAPTER,
};
use wasmparser::{Encoding, ExternalKind, Parser, Payload};
use wit_component::ComponentEncoder;

/// Worlds and targets that would be right.
const WANTED: &str = "build a component of world horarium:task/minimal-task (targets wasm32-wasip2, or wasm32-unknown-unknown with wit-bindgen) or a WASI program (world wasi:cli/command; targets wasm32-wasip2, wasm32-wasip1)";

/// A component made here, and what the operator should know of it.
pub(super) struct Made {
    pub(super) component: Vec<u8>,
    pub(super) remark: &'static str,
}

/// What decides whether and how a core module becomes a component.
#[derive(Default)]
struct Facts {
    component_type: bool,
    preview1: bool,
    /// Exports `_start`, as programs do.
    start: bool,
    /// Where the module's name stands in each import of `proc_exit`; there may be several.
    exits: Vec<usize>,
    /// The first import that is not of preview 1.
    foreign: Option<(String, String)>,
}

/// Makes a component of a core module.
///
/// # Errors
/// A sentence on what the module lacks, or imports beyond what there is.
pub(super) fn make_component(bytes: &[u8]) -> Result<Made, String> {
    let facts = facts(bytes).map_err(|error| parse_error(&error))?;
    if !facts.component_type {
        refuse_unless_program(&facts)?;
    }
    validate(bytes)?;
    let adapter = if facts.start {
        PROGRAM_ADAPTER
    } else {
        LIBRARY_ADAPTER
    };
    let encode = || -> anyhow::Result<Vec<u8>> {
        let mut module = Cow::Borrowed(bytes);
        for at in &facts.exits {
            let name = *at..at + PREVIEW1.len();
            module.to_mut()[name].copy_from_slice(exit_code::NAME.as_bytes());
        }
        let mut encoder = ComponentEncoder::default()
            .validate(false)
            .module(&module)?;
        if !facts.exits.is_empty() {
            encoder = encoder.adapter(exit_code::NAME, &exit_code::adapter()?)?;
        }
        if facts.preview1 || !facts.component_type {
            encoder = encoder.adapter(PREVIEW1, adapter)?;
        }
        encoder.encode()
    };
    let component = encode().map_err(|error| {
        let error = one_line(&format!("{error:#}"), 300);
        format!("the core module cannot be made a component: {error}")
    })?;
    let remark = if facts.component_type {
        "a core module with component-type metadata; it was made a component"
    } else {
        "a program for WASI preview 1; it was made a component (built for wasm32-wasip2 it would start faster)"
    };
    Ok(Made { component, remark })
}

fn refuse_unless_program(facts: &Facts) -> Result<(), String> {
    if let Some((module, name)) = &facts.foreign {
        let what = match module.as_str() {
            "wasi_unstable" => "WASI preview 0, which is too old: ",
            "wbg" | "__wbindgen_placeholder__" => "wasm-bindgen, for JavaScript hosts: ",
            _ => "",
        };
        return Err(format!(
            "a core module that imports `{}.{}` ({what}without component-type metadata it may import {PREVIEW1} alone); {WANTED}",
            one_line(module, 100),
            one_line(name, 100)
        ));
    }
    if facts.start {
        return Ok(());
    }
    let kind = if facts.preview1 {
        format!("a core module that imports {PREVIEW1} and is no program: it exports no `_start`")
    } else {
        "a core module of no world: it exports no `_start`".to_owned()
    };
    Err(format!(
        "{kind}, and it comes without component-type metadata; {WANTED}"
    ))
}

fn facts(bytes: &[u8]) -> Result<Facts, wasmparser::BinaryReaderError> {
    let mut facts = Facts::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } => break,
            Payload::CustomSection(section) => {
                facts.component_type |= section.name().starts_with("component-type");
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    if import.module == PREVIEW1 {
                        facts.preview1 = true;
                        if import.name == "proc_exit" {
                            // The parser borrows names from the bytes.
                            let at = import.module.as_ptr().addr() - bytes.as_ptr().addr();
                            facts.exits.push(at);
                        }
                    } else if facts.foreign.is_none() {
                        facts.foreign = Some((import.module.to_owned(), import.name.to_owned()));
                    }
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    facts.start |= export.name == "_start" && export.kind == ExternalKind::Func;
                }
            }
            _ => {}
        }
    }
    Ok(facts)
}

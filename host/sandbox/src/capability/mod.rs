//! What a guest can do beyond computing. One file a capability, each with the same phases: the interfaces
//! it links (`link`), what registration accepts as imports (`INTERFACE`), what it prepares for a run, and what
//! it reports at the run's end (`report`).

pub(crate) mod config;
pub(crate) mod denial;
pub(crate) mod execution;
pub(crate) mod http;
mod http_body;
pub(crate) mod http_held;
mod http_secrets;
pub(crate) mod log;
pub(crate) mod program;
pub(crate) mod progress;
pub(crate) mod secrets;
pub(crate) mod state;
pub(crate) mod stdio;
pub(crate) mod wasi;

use crate::bindings::plugin::horarium::task::types::Refusal;
use crate::data::RunData;
use wasmtime::Engine;
use wasmtime::component::Linker;

/// The version of package `horarium:task` this host speaks.
pub(crate) const TASK_PACKAGE: &str = "horarium:task";
/// Names of `horarium:task` interfaces a component may import.
pub(crate) const TASK_IMPORTS: &[&str] = &[
    "types",
    execution::INTERFACE,
    log::INTERFACE,
    progress::INTERFACE,
    state::INTERFACE,
    config::INTERFACE,
    secrets::INTERFACE,
];

/// Everything a component may import, linked once per engine.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<RunData>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    http::link(&mut linker)?;
    execution::link(&mut linker)?;
    log::link(&mut linker)?;
    progress::link(&mut linker)?;
    state::link(&mut linker)?;
    config::link(&mut linker)?;
    secrets::link(&mut linker)?;
    Ok(linker)
}

/// A refused call: `code` from the vocabulary in docs/capabilities.md.
pub(crate) fn refusal(code: &str, message: impl Into<String>) -> Refusal {
    Refusal {
        code: code.to_owned(),
        message: message.into(),
    }
}

//! A component ready to run: compiled code with its imports resolved.

use crate::artifact::Artifact;
use crate::bindings::plugin::PluginPre;
use crate::data::RunData;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;

/// A component ready to run.
pub(crate) struct Loaded {
    pub(crate) entry: Entry,
    initial_memory: u64,
}

/// What is called.
pub(crate) enum Entry {
    /// Exports `horarium:task/run`.
    Task(PluginPre<RunData>),
    /// Exports `wasi:cli/run`.
    Command(CommandPre<RunData>),
}

impl Loaded {
    /// Loads what this host's compiler made.
    ///
    /// # Safety
    /// `artifact` must be the unchanged output of `Engine::precompile_component`: anything else is
    /// machine code of somebody else's choosing.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn from_artifact(
        engine: &Engine,
        linker: &Linker<RunData>,
        artifact: &Artifact,
    ) -> wasmtime::Result<Self> {
        // SAFETY: the caller's promise; a sealed file stays as it is for as long as it is mapped.
        let component = unsafe {
            match artifact {
                Artifact::Bytes(bytes) => Component::deserialize(engine, bytes.as_slice()),
                #[cfg(target_os = "linux")]
                Artifact::Sealed(sealed) => Component::deserialize_file(engine, sealed.path())
                    // A policy may forbid to run what is mapped from such a file.
                    .or_else(|_| Component::deserialize(engine, sealed.bytes()?)),
            }
        }?;
        Self::new(linker, &component)
    }

    /// Resolves the imports, checking their types.
    pub(crate) fn new(linker: &Linker<RunData>, component: &Component) -> wasmtime::Result<Self> {
        let run = component.get_export_index(None, "horarium:task/run@1.0.0");
        let pre = linker.instantiate_pre(component)?;
        let entry = if run.is_some() {
            Entry::Task(PluginPre::new(pre)?)
        } else {
            Entry::Command(CommandPre::new(pre)?)
        };
        let needs = component.resources_required();
        let initial_memory = needs.and_then(|needs| needs.max_initial_memory_size);
        Ok(Self {
            entry,
            initial_memory: initial_memory.unwrap_or(0),
        })
    }

    /// Bytes of its largest memory at the start.
    pub(crate) fn initial_memory(&self) -> u64 {
        self.initial_memory
    }
}

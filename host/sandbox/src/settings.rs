//! What the host decides about its sandbox.

use horarium_core::observe::{Observer, Silent};
use ipnet::IpNet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Settings of a [`crate::Sandbox`].
#[derive(Debug, Clone)]
pub struct SandboxSettings {
    /// Most runs in progress at once; the pool is sized from it.
    pub slots: usize,
    /// Bytes all guests together may hold (`engine.memory`).
    pub memory_bytes: u64,
    /// Private networks that grants with `via` may reach (`network.allow_private`).
    pub allow_private: Vec<IpNet>,
    /// Where compiled components are kept; none keeps them in memory only.
    pub aot_dir: Option<PathBuf>,
    /// Most bytes kept there; the longest unused go first.
    pub aot_max_bytes: u64,
    /// Whether instances come from a pool.
    pub pooling: Pooling,
    /// How to start the child that parses and compiles; none does it in this process, which is for
    /// trusted components and tests only.
    pub worker: Option<WorkerCommand>,
    /// Children that may compile at the same time.
    pub compile_concurrency: usize,
    /// Longest time one of them may take to compile and describe.
    pub compile_timeout: Duration,
    /// Version of Horarium, recorded with each attempt.
    pub host_version: String,
    /// DER certificates trusted beside the web's roots.
    pub extra_root_certificates: Vec<Vec<u8>>,
    /// How names become addresses; none asks the operating system.
    pub resolver: Option<Arc<dyn crate::connector::Resolver>>,
    /// Who is told of compiles and instances.
    pub observer: ObserverRef,
}

/// An observer that can be printed.
#[derive(Clone)]
pub struct ObserverRef(pub Arc<dyn Observer>);

impl std::fmt::Debug for ObserverRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObserverRef")
    }
}

impl SandboxSettings {
    /// Settings for `slots` runs at once, everything else at its default.
    pub fn new(slots: usize, host_version: impl Into<String>) -> Self {
        Self {
            slots: slots.max(1),
            memory_bytes: 4 << 30,
            allow_private: Vec::new(),
            aot_dir: None,
            aot_max_bytes: 4 << 30,
            pooling: Pooling::Auto,
            worker: None,
            compile_concurrency: 1,
            compile_timeout: Duration::from_secs(900),
            host_version: host_version.into(),
            extra_root_certificates: Vec::new(),
            resolver: None,
            observer: ObserverRef(Arc::new(Silent)),
        }
    }
}

/// Whether instances come from a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// Where the address space allows it.
    #[default]
    Auto,
    /// Always; the sandbox does not start without.
    On,
    /// Never.
    Off,
}

/// How to start the compile worker: a program that calls [`crate::worker::worker_main`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The program.
    pub exe: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Why a sandbox cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine refused its settings.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// The directory for compiled components cannot be used.
    #[error("the directory for compiled components {path}: {reason}")]
    AotStore {
        /// The directory.
        path: String,
        /// What failed.
        reason: String,
    },
    /// A root certificate is not one.
    #[error("extra root certificate {index} is not a DER certificate: {reason}")]
    RootCertificate {
        /// Its place in the list.
        index: usize,
        /// What is wrong.
        reason: String,
    },
}

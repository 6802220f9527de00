//! The sandbox as the host sees it: [`Runner`] and [`Intake`] over one engine.

use crate::aot::{AotStore, Stored};
use crate::artifact::Artifact;
use crate::capability;
use crate::capability::program::Program;
use crate::capability::state::StateSession;
use crate::classify::{self, Classified};
use crate::connector::Connector;
use crate::engine::{self, ENGINE_VERSION, HostEngine};
use crate::epoch::EpochThread;
use crate::loaded::{Entry, Loaded};
use crate::run::{Ended, Env};
use crate::schemas::{Schemas, Which};
use crate::settings::{SandboxError, SandboxSettings};
use crate::stats::Stats;
use crate::versions::{Slot, Versions};
use crate::worker::{Compiled, Pending, Workers};
use futures_util::FutureExt;
use horarium_core::clock::Clock;
use horarium_core::control::RunControl;
use horarium_core::memory::MemoryBudget;
use horarium_core::observe::Observer;
use horarium_core::runner::{
    Attempt, AttemptEnd, ComponentSource, Failure, Inspection, Intake, Outcome, PendingCompile,
    Runner,
};
use horarium_model::descriptor::Descriptor;
use horarium_model::task_type::{self, PluginVersion};
use horarium_model::{ErrorKind, Invalid, Problem, Usage, json, text};
use serde_json::Value;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// How long a run that found no memory keeps its slot.
const AFTER_NO_MEMORY: Duration = Duration::from_millis(100);

/// Runs plugins. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    host_engine: HostEngine,
    aot: AotStore,
    versions: Versions,
    schemas: Schemas,
    workers: Workers,
    observer: Arc<dyn Observer>,
}

impl Sandbox {
    /// Starts the engine, its epoch thread, and opens the store of compiled components.
    ///
    /// # Errors
    /// See [`SandboxError`].
    pub fn new(settings: SandboxSettings, clock: Arc<dyn Clock>) -> Result<Self, SandboxError> {
        let host_engine = HostEngine::for_runs(settings.pooling, settings.slots)?;
        let engine = host_engine.engine.clone();
        let failed = |error: wasmtime::Error| SandboxError::Engine(format!("{error:#}"));
        let compatibility = engine::compatibility(&engine);
        let aot = match &settings.aot_dir {
            Some(path) => {
                AotStore::open(path, settings.aot_max_bytes, compatibility, clock.clone())?
            }
            None => AotStore::in_memory(compatibility, clock.clone()),
        };
        let connector = Connector::new(
            settings.resolver,
            settings.allow_private,
            &settings.extra_root_certificates,
        )?;
        let epoch = EpochThread::start(&engine, clock.clone())
            .map_err(|error| SandboxError::Engine(format!("epoch thread: {error}")))?;
        let env = Env {
            linker: capability::linker(&engine).map_err(failed)?,
            epoch,
            engine,
            clock,
            connector: Arc::new(connector),
            budget: MemoryBudget::new(settings.memory_bytes),
            host_version: Arc::from(settings.host_version),
        };
        let profile = host_engine.profile;
        let workers = Workers::new(
            settings.worker,
            profile,
            settings.compile_concurrency,
            settings.compile_timeout,
        );
        if let Some(reason) = &host_engine.fallback {
            tracing::warn!(reason, "instances are allocated on demand, not from a pool");
        }
        let inner = Inner {
            env,
            host_engine,
            aot,
            versions: Versions::default(),
            schemas: Schemas::new(workers.clone()),
            workers,
            observer: settings.observer.0,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The connector, for what else the host does on a tenant's behalf.
    pub fn connector(&self) -> Arc<Connector> {
        self.inner.env.connector.clone()
    }

    /// What all guests may hold together; whoever starts runs reserves from it.
    pub fn memory(&self) -> Arc<MemoryBudget> {
        self.inner.env.budget.clone()
    }

    /// Figures for `/metrics` and `doctor`.
    pub fn stats(&self) -> Stats {
        let Inner {
            env,
            host_engine,
            versions,
            ..
        } = &*self.inner;
        Stats {
            engine_version: ENGINE_VERSION,
            pooling: host_engine.pooling,
            fallback: host_engine.fallback.clone(),
            running: env.epoch.count(),
            epoch_lag: env.epoch.lag(),
            memory_used_bytes: env.budget.held(),
            memory_total_bytes: env.budget.total(),
            loaded_versions: versions.loaded(),
            pool: crate::stats::pool(&env.engine),
        }
    }

    /// Tries whether the store of compiled components can be written.
    ///
    /// # Errors
    /// Why not, naming its directory.
    pub fn check_aot_store(&self) -> Result<(), String> {
        self.inner.aot.check().map_err(|error| error.to_string())
    }

    /// Loads the code of a version now rather than at its first use: from the store of compiled components, or compiled
    /// if it is not there.
    ///
    /// # Errors
    /// A sentence on what failed.
    pub async fn load(&self, digest: &str) -> Result<(), String> {
        let slot = self.inner.versions.slot(digest);
        self.inner.loaded(digest, &slot).await.map(|_| ())
    }

    /// Forgets a version that no config uses any more; runs in progress keep it until they end.
    pub fn forget(&self, digest: &str) {
        self.inner.versions.forget(digest);
    }
}

impl Inner {
    /// The version's code, loaded at its first use.
    async fn loaded(self: &Arc<Self>, digest: &str, slot: &Slot) -> Result<Arc<Loaded>, String> {
        if let Some(loaded) = slot.loaded.get() {
            return Ok(loaded.clone());
        }
        let load = || self.load(digest, slot);
        slot.loaded.get_or_try_init(load).await.cloned()
    }

    async fn load(self: &Arc<Self>, digest: &str, slot: &Slot) -> Result<Arc<Loaded>, String> {
        let begun = self.env.clock.monotonic();
        let artifact = match self.stored(digest).await? {
            Stored::Artifact(artifact) => artifact,
            Stored::Missing => self.compile(digest, slot).await?,
            Stored::Damaged(reason) => {
                tracing::warn!(
                    digest,
                    reason,
                    "compiled code is damaged; compiling it again"
                );
                self.compile(digest, slot).await?
            }
        };
        // Mapping and relocating tens of megabytes of code is no work for a runtime's thread.
        let inner = self.clone();
        let bytes = artifact.len();
        let loaded = blocking(move || inner.link(&artifact)).await??;
        slot.memory.starts_with(loaded.initial_memory());
        let milliseconds = (self.env.clock.monotonic() - begun).as_millis();
        tracing::info!(digest, bytes, milliseconds, "compiled code is loaded");
        Ok(loaded)
    }

    #[allow(unsafe_code)]
    fn link(&self, artifact: &Artifact) -> Result<Arc<Loaded>, String> {
        // SAFETY: artifacts come from our own worker through the store, which checks that they are
        // what was written, or from memory they never left.
        unsafe { Loaded::from_artifact(&self.env.engine, &self.env.linker, artifact) }
            .map(Arc::new)
            .map_err(|error| text::one_line(&format!("{error:#}"), 500))
    }

    async fn stored(self: &Arc<Self>, digest: &str) -> Result<Stored, String> {
        let (inner, digest) = (self.clone(), digest.to_owned());
        blocking(move || inner.aot.get(&digest)).await
    }

    /// Compiles a version from where its bytes come from, and keeps the result.
    async fn compile(self: &Arc<Self>, digest: &str, slot: &Slot) -> Result<Artifact, String> {
        let _once = slot.compiling.lock().await;
        if let Stored::Artifact(artifact) = self.stored(digest).await? {
            return Ok(artifact);
        }
        let source = slot.source().ok_or_else(|| {
            format!("the compiled form of {digest} is missing and its bytes are not at hand")
        })?;
        let bytes = source().await?;
        let found = task_type::digest(&bytes);
        if found != digest {
            return Err(format!(
                "the stored bytes of {digest} are damaged: they have digest {found}"
            ));
        }
        let (_, pending) = self.workers.check(bytes, false).await?;
        let artifact = Arc::new(self.finish(pending).await?.artifact);
        self.keep(digest, artifact.clone()).await?;
        Ok(Artifact::Bytes(artifact))
    }

    /// Compiles what was checked, and tells how long that took, waiting for its turn included.
    async fn finish(&self, pending: Pending) -> Result<Compiled, String> {
        let begun = self.env.clock.monotonic();
        let compiled = pending.finish().await;
        let took = self.env.clock.monotonic().saturating_sub(begun);
        self.observer.compiled(took, compiled.is_ok());
        compiled
    }

    async fn keep(self: &Arc<Self>, digest: &str, artifact: Arc<Vec<u8>>) -> Result<(), String> {
        let (inner, digest) = (self.clone(), digest.to_owned());
        blocking(move || inner.aot.put(&digest, &artifact))
            .await?
            .map_err(|error| format!("compiled code cannot be kept: {error}"))
    }

    async fn run(self: &Arc<Self>, attempt: Attempt, control: Arc<RunControl>) -> Outcome {
        let size = attempt.parameters.len() as u64;
        let allowed = attempt.limits.parameters_bytes;
        if size > allowed {
            let message =
                format!("the parameters have {size} bytes; parameters_bytes allows {allowed}");
            return self.unrun(Failure::new(ErrorKind::InvalidParameters, message));
        }
        let slot = self.versions.slot(&attempt.version.digest);
        let loaded = match self.loaded(&attempt.version.digest, &slot).await {
            Ok(loaded) => loaded,
            Err(reason) => {
                let message = format!("load_failed: {reason}");
                return self.unrun(Failure::new(ErrorKind::LoadFailed, message));
            }
        };
        let program = match &loaded.entry {
            Entry::Task(_) => None,
            Entry::Command(_) => match Program::of(&attempt) {
                Ok(program) => Some(program),
                Err(invalid) => {
                    let message = format!("invalid_parameters: {invalid}");
                    let message = text::one_line(&message, 1000);
                    return self.unrun(Failure::new(ErrorKind::InvalidParameters, message));
                }
            },
        };
        let (version, limits) = (attempt.version.clone(), attempt.limits);
        let redactor = capability::secrets::redact(&attempt, &control);
        let call = self
            .env
            .call(&loaded, program, attempt, control.clone(), redactor.clone());
        let mut ended = call.await;
        if let Some(begun) = ended.begun {
            self.observer.instantiated(begun.took);
        }
        let initial = ended.begun.map(|begun| begun.memory);
        slot.memory.seen(initial, ended.data.limiter.wanted());
        let classified = classify::classify(&mut ended);
        // The store's data is gone before anything waits again: only figures and state are kept.
        let (usage, state) = self.report(ended);
        let end = match classified {
            Classified::End(end) => end,
            Classified::Json(text) => self.accept(&version, limits.result_bytes, text).await,
            Classified::Printed(bytes) => {
                self.check_result(&version, classify::printed_value(bytes))
                    .await
            }
        };
        if matches!(end, AttemptEnd::NoMemory(_)) {
            // It keeps its slot a moment: claimed again at once it would find no more than before.
            tokio::select! {
                _ = control.stopped() => {}
                () = self.env.clock.sleep(AFTER_NO_MEMORY) => {}
            }
        }
        let state = match end {
            AttemptEnd::Succeeded(_) => state.and_then(StateSession::into_commit),
            _ => None,
        };
        let mut outcome = Outcome { end, usage, state };
        if let Some(redactor) = redactor {
            redactor.outcome(&mut outcome);
        }
        outcome
    }

    /// A result passes its size, the JSON door and its schema.
    async fn accept(&self, version: &PluginVersion, allowed: u64, text: String) -> AttemptEnd {
        let size = text.len() as u64;
        if size > allowed {
            let message =
                format!("output_limit: the result has {size} bytes; result_bytes allows {allowed}");
            return failed(ErrorKind::OutputLimit, message);
        }
        match json::parse(text.as_bytes()) {
            Ok(value) => self.check_result(version, value).await,
            Err(problem) => failed(
                ErrorKind::InvalidResult,
                format!("invalid_result: {problem}"),
            ),
        }
    }

    async fn check_result(&self, version: &PluginVersion, value: Value) -> AttemptEnd {
        match self.schemas.check(version, Which::Result, value).await {
            Ok(value) => AttemptEnd::Succeeded(Arc::from(value.to_string())),
            Err(invalid) => {
                let message =
                    format!("invalid_result: the result does not fit result_schema: {invalid}");
                failed(ErrorKind::InvalidResult, text::one_line(&message, 2000))
            }
        }
    }

    /// What each capability reports of a run.
    fn report(&self, ended: Ended) -> (Usage, Option<StateSession>) {
        let mut usage = self.usage();
        usage.fuel = ended.fuel;
        usage.memory_peak_bytes = ended.data.limiter.peak();
        usage.cpu_seconds = ended.cpu.as_secs_f64();
        capability::log::report(&ended.data, &mut usage);
        capability::http::report(&ended.data, &mut usage);
        capability::state::report(&ended.data, &mut usage);
        (usage, ended.data.state)
    }

    fn unrun(&self, failure: Failure) -> Outcome {
        Outcome {
            end: AttemptEnd::Failed(failure),
            usage: self.usage(),
            state: None,
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            host_version: self.env.host_version.to_string(),
            engine_version: ENGINE_VERSION.to_owned(),
            ..Usage::default()
        }
    }
}

fn failed(kind: ErrorKind, message: String) -> AttemptEnd {
    AttemptEnd::Failed(Failure::new(kind, message))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| format!("the host failed: {error}"))
}

#[async_trait::async_trait]
impl Runner for Sandbox {
    async fn prepare(&self, version: &PluginVersion, bytes: ComponentSource) -> Result<(), String> {
        let digest = version.digest.as_str();
        let slot = self.inner.versions.slot(digest);
        slot.remember(bytes);
        if slot.loaded.initialized() || self.inner.aot.contains(digest) {
            return Ok(());
        }
        self.inner.compile(digest, &slot).await.map(|_| ())
    }

    fn expected_memory(&self, version: &PluginVersion) -> u64 {
        self.inner.versions.slot(&version.digest).memory.expected()
    }

    async fn check_parameters(
        &self,
        version: &PluginVersion,
        parameters: Value,
    ) -> Result<Value, Invalid> {
        let checked = self
            .inner
            .schemas
            .check(version, Which::Parameters, parameters)
            .await?;
        // What a program is started with must be there and of its kind, schema or not.
        version.input.of(&checked)?;
        Ok(checked)
    }

    async fn run(&self, attempt: Attempt, control: Arc<RunControl>) -> Outcome {
        let task_id = attempt.task_id;
        let run = self.inner.run(attempt, control);
        // A panic in a host call ends this run; the store it happened in is gone with it.
        AssertUnwindSafe(run)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| {
                let said = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                let said = text::one_line(said, 300);
                tracing::error!(%task_id, panic = said, "a host call panicked");
                let message = format!("host_error: a call into the host failed: {said}");
                self.inner
                    .unrun(Failure::new(ErrorKind::HostError, message))
            })
    }
}

#[async_trait::async_trait]
impl Intake for Sandbox {
    async fn inspect(&self, bytes: Vec<u8>) -> Result<(Inspection, PendingCompile), Invalid> {
        let refused = |sentence: String| Invalid(vec![Problem::at("", sentence)]);
        let (inspection, pending) = self
            .inner
            .workers
            .check(bytes, true)
            .await
            .map_err(refused)?;
        let (inner, digest) = (self.inner.clone(), inspection.digest.clone());
        let finish = async move {
            let compiled = inner.finish(pending).await?;
            inner.keep(&digest, Arc::new(compiled.artifact)).await?;
            // What compiles but cannot be loaded here (more tables than a pool has, …) is no version: its
            // executions would wait for ever.
            let slot = inner.versions.slot(&digest);
            if let Err(reason) = inner.loaded(&digest, &slot).await {
                inner.versions.forget(&digest);
                return Err(format!("it cannot be loaded: {reason}"));
            }
            Ok(compiled.described)
        };
        Ok((inspection, Box::pin(finish)))
    }

    async fn check_descriptor(&self, descriptor: &Descriptor) -> Result<(), Invalid> {
        self.inner.schemas.check_descriptor(descriptor).await
    }
}

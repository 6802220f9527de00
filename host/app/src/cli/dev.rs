//! `dev`: for plugin authors, without a server. Components are taken in as the server does: checked,
//! compiled and described in a child process.

use super::failure::{Failure, Outcome};
use super::plugin_register::read_component;
use super::{Global, dev_build, dev_inspect, dev_new, dev_run, dev_test, dev_wit};
use clap::Subcommand;
use horarium::app::WORKER_ARGUMENT;
use horarium_core::clock::SystemClock;
use horarium_core::runner::{Inspection, Intake};
use horarium_model::descriptor::Descriptor;
use horarium_sandbox::{Pooling, Sandbox, SandboxSettings, WorkerCommand};
use ipnet::IpNet;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Begin a plugin: write a directory that builds
    New(dev_new::Arguments),
    /// Build a plugin that `dev new` began
    Build(dev_build::Arguments),
    /// Run a component once in the sandbox
    Run(Box<dev_run::Arguments>),
    /// Run a component's test cases, with fixed clocks and randomness
    Test(dev_test::Arguments),
    /// Show what a component is, needs and asks for
    Inspect(dev_inspect::Arguments),
    /// Write the contract with plugins as WIT
    Wit(dev_wit::Arguments),
}

pub(crate) fn run(global: &Global, verb: Verb) -> Outcome {
    match verb {
        Verb::New(arguments) => dev_new::run(global, &arguments),
        Verb::Build(arguments) => dev_build::run(global, &arguments),
        Verb::Wit(arguments) => dev_wit::run(global, &arguments),
        Verb::Run(arguments) => dev_run::run(global, &arguments),
        Verb::Test(arguments) => dev_test::run(global, &arguments),
        Verb::Inspect(arguments) => dev_inspect::run(global, &arguments),
    }
}

/// How to start that child: this program again.
pub(crate) fn worker() -> Result<WorkerCommand, Failure> {
    let exe = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("this program cannot find itself: {error}")))?;
    Ok(WorkerCommand {
        exe,
        args: vec![WORKER_ARGUMENT.to_owned()],
    })
}

/// A component that was taken in, and the sandbox that has its code.
pub(crate) struct Taken {
    pub(crate) runtime: Runtime,
    pub(crate) sandbox: Sandbox,
    pub(crate) bytes: Vec<u8>,
    pub(crate) inspection: Inspection,
    pub(crate) descriptor: Descriptor,
}

/// Checks a component as a server does before it answers; nothing is compiled.
pub(crate) fn inspect(file: &Path) -> Result<Inspection, Failure> {
    let bytes = read_component(file)?;
    let runtime = Runtime::new().map_err(|error| Failure::failed(format!("tokio: {error}")))?;
    runtime.block_on(async {
        let (inspection, _) = sandbox(Vec::new())?.inspect(bytes).await?;
        Ok(inspection)
    })
}

/// A sandbox for one run at a time.
fn sandbox(allow_private: Vec<IpNet>) -> Result<Sandbox, Failure> {
    let mut settings = SandboxSettings::new(1, env!("CARGO_PKG_VERSION"));
    // One run: reserving a pool costs more than it saves.
    settings.pooling = Pooling::Off;
    settings.allow_private = allow_private;
    settings.worker = Some(worker()?);
    Sandbox::new(settings, Arc::new(SystemClock::new())).map_err(Failure::failed)
}

/// Takes in a component for one run at a time. `allow_private` are the networks its grants may reach.
pub(crate) fn take_in(file: &Path, allow_private: Vec<IpNet>) -> Result<Taken, Failure> {
    let bytes = read_component(file)?;
    let runtime = Runtime::new().map_err(|error| Failure::failed(format!("tokio: {error}")))?;
    let (sandbox, inspection, descriptor) = runtime.block_on(async {
        let sandbox = sandbox(allow_private)?;
        let (inspection, pending) = sandbox.inspect(bytes.clone()).await?;
        let described = pending.await.map_err(Failure::refused)?;
        let descriptor = match &described {
            Some(value) => Descriptor::from_json(value)?,
            None => Descriptor::default(),
        };
        sandbox.check_descriptor(&descriptor).await?;
        Ok::<_, Failure>((sandbox, inspection, descriptor))
    })?;
    Ok(Taken {
        runtime,
        sandbox,
        bytes,
        inspection,
        descriptor,
    })
}

//! What the sandbox is measured against: the engine as anybody would set it up, with the pooling
//! allocator's defaults and a fresh store a run, and none of our limits; and the same with fuel and epochs, so that the
//! price of these alone can be told.

use crate::bindings::plugin::PluginPre;
use crate::epoch::EpochThread;
use crate::settings::SandboxError;
use horarium_core::clock::SystemClock;
use std::sync::Arc;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceTable, ResourceType};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// The yardstick: a component that exports `horarium:task/run` and imports calls nothing but WASI.
pub struct Plain {
    engine: Engine,
    pre: PluginPre<PlainData>,
    /// Moves the epoch on; none where nothing is metered.
    epoch: Option<EpochThread>,
}

struct PlainData {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for PlainData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Plain {
    /// Compiles a trusted component, in this process.
    ///
    /// # Errors
    /// When it does not compile or does not export `run`.
    pub fn new(component: &[u8]) -> Result<Self, SandboxError> {
        Self::build(component, false).map_err(shown)
    }

    /// The same with fuel counted and with the epoch moving on, as in our sandbox: each run has all the fuel there can
    /// be, and gives way at each tick.
    ///
    /// # Errors
    /// As [`Plain::new`].
    pub fn metered(component: &[u8]) -> Result<Self, SandboxError> {
        Self::build(component, true).map_err(shown)
    }

    fn build(component: &[u8], metered: bool) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        let pool = PoolingAllocationConfig::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        if metered {
            config.consume_fuel(true).epoch_interruption(true);
        }
        let engine = Engine::new(&config)?;
        let clock = || Arc::new(SystemClock::new());
        let epoch = metered
            .then(|| EpochThread::start(&engine, clock()))
            .transpose()?;
        let component = Component::from_binary(&engine, component)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        stub_ours(&engine, &component, &mut linker)?;
        let pre = PluginPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { engine, pre, epoch })
    }

    /// One run in a fresh store.
    ///
    /// # Errors
    /// When the guest traps or fails.
    pub async fn run_once(&self, parameters: &str) -> Result<String, String> {
        let data = PlainData {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, data);
        let show = |error: wasmtime::Error| format!("{error:#}");
        let _running = self.epoch.as_ref().map(EpochThread::running);
        if self.epoch.is_some() {
            store.set_fuel(u64::MAX).map_err(show)?;
            store.epoch_deadline_async_yield_and_update(1);
        }
        let plugin = self.pre.instantiate_async(&mut store).await.map_err(show)?;
        let run = plugin.horarium_task_run();
        let returned = run
            .call_run(&mut store, &parameters.to_owned())
            .await
            .map_err(show)?;
        returned.map_err(|error| error.message)
    }
}

fn shown(error: wasmtime::Error) -> SandboxError {
    SandboxError::Engine(format!("{error:#}"))
}

/// Stands for the resources of what is not part of the yardstick; there is never one.
enum Stub {}

/// What a plugin imports of ours, or of HTTP, may be there, but is not part of the yardstick: a call to it traps.
fn stub_ours(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<PlainData>,
) -> wasmtime::Result<()> {
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            continue;
        };
        let stubbed = ["horarium:task/", "wasi:http/"];
        if !stubbed.iter().any(|package| name.starts_with(package)) {
            continue;
        }
        let mut instance = linker.instance(name)?;
        for (export, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => instance.func_new(export, |_, _, _, _| {
                    Err(wasmtime::Error::msg("not part of the yardstick"))
                })?,
                ComponentItem::Resource(_) => {
                    instance.resource(export, ResourceType::host::<Stub>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

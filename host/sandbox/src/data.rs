//! What a store holds: one run.

use crate::capability::denial::Denials;
use crate::capability::http::HttpSession;
use crate::capability::program::Program;
use crate::capability::secrets::Placeholders;
use crate::capability::state::StateSession;
use crate::capability::stdio::Stdio;
use crate::connector::Connector;
use crate::limiter::Limiter;
use horarium_core::clock::Clock;
use horarium_core::control::RunControl;
use horarium_core::runner::Attempt;
use horarium_core::secrets::Redactor;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;

/// One run. What only some guests need is made when they first use it.
pub(crate) struct RunData {
    pub(crate) attempt: Attempt,
    pub(crate) control: Arc<RunControl>,
    pub(crate) clock: Arc<dyn Clock>,
    /// When the run must have ended, on the clock's monotonic reading.
    pub(crate) deadline: Duration,
    pub(crate) limiter: Limiter,
    pub(crate) connector: Arc<Connector>,
    pub(crate) host_version: Arc<str>,
    pub(crate) denials: Arc<Denials>,
    pub(crate) placeholders: Arc<Placeholders>,
    /// Knows the values of its secrets; none when it has no secrets.
    pub(crate) redactor: Option<Arc<Redactor>>,
    /// What a WASI program is started with; none of a task.
    pub(crate) program: Option<Program>,
    /// None when it was not granted.
    pub(crate) state: Option<StateSession>,
    pub(crate) table: ResourceTable,
    pub(crate) wasi: Option<WasiCtx>,
    pub(crate) stdio: Option<Stdio>,
    pub(crate) http: Option<HttpSession>,
}

impl RunData {
    /// Time left before the run is stopped.
    pub(crate) fn remaining_time(&self) -> Duration {
        self.deadline.saturating_sub(self.clock.monotonic())
    }
}

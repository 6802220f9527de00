//! `bench`: how much of the engine's speed is left when everything is kept (design section 8). All
//! figures of a run come from one process on one machine, one after another.

mod bytes;
mod drain;
mod ends;
mod growth;
mod guest;
mod host;
mod lab;
mod lab_host;
mod latency;
mod process;
mod rates;
mod rest;
mod schedule;
mod statistics;
mod waiting;

pub(crate) use drain::{DrainOptions, drain};
pub(crate) use growth::{COSTS, GrowthOptions, growth, picture};
pub(crate) use guest::{GuestOptions, guest};
pub(crate) use host::{HostOptions, host};
pub(crate) use latency::{LatencyOptions, latency};
pub(crate) use schedule::{ScheduleOptions, schedule};
pub(crate) use waiting::{WaitingOptions, waiting};

use horarium_core::clock::{Clock, SystemClock};
use std::path::PathBuf;
use std::time::Duration;

/// The guest that is measured unless another is named; made by `cargo xtask plugins --embed`, as the others are.
pub(crate) const HELLO: &[u8] = include_bytes!("../../assets/hello.wasm");
/// Computes, `iterations` times round a loop.
const BURN: &[u8] = include_bytes!("../../assets/burn.wasm");
/// Waits for an HTTP server, that of `url`.
const HTTP_REQUEST: &[u8] = include_bytes!("../../assets/http_request.wasm");

/// Why a measurement did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Refused(String),
    /// Something on the way failed.
    #[error("{0}")]
    Failed(String),
}

impl BenchError {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What all measurements share.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The component; the embedded hello when none.
    pub(crate) plugin: Option<PathBuf>,
    /// Where the database is; a temporary file when none.
    pub(crate) database_url: Option<String>,
    /// Executions at once.
    pub(crate) slots: u32,
}

impl Options {
    fn component(&self) -> Result<Vec<u8>, BenchError> {
        self.component_or(HELLO)
    }

    /// The component that was named, else this one.
    fn component_or(&self, embedded: &[u8]) -> Result<Vec<u8>, BenchError> {
        match &self.plugin {
            None => Ok(embedded.to_vec()),
            Some(path) => std::fs::read(path)
                .map_err(|error| BenchError::Refused(format!("{}: {error}", path.display()))),
        }
    }
}

/// Cores this process may use.
pub(crate) fn cores() -> u32 {
    let cores = std::thread::available_parallelism();
    cores.map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// Reads spans of monotonic time.
struct Stopwatch {
    clock: SystemClock,
}

impl Stopwatch {
    fn start() -> Self {
        Self {
            clock: SystemClock::new(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.clock.monotonic()
    }

    /// How many a second, of `count` since the start.
    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.elapsed().as_secs_f64().max(1e-9)
    }
}

//! WASI 0.2 with nothing behind it: no files, no sockets, no names; clocks, randomness and stdio only.

use super::stdio::Stdio;
use crate::data::RunData;
use horarium_model::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::component::Linker;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

impl WasiView for RunData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // Many guests never ask, and making one seeds random generators.
        if self.wasi.is_none() {
            let ctx = context(self);
            self.wasi = Some(ctx);
        }
        // Always there by now; the borrow checker cannot see it.
        let ctx = self.wasi.get_or_insert_with(WasiCtx::default);
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}

fn context(data: &mut RunData) -> WasiCtx {
    let stdio = Stdio::get(data).clone();
    let mut builder = WasiCtx::builder();
    builder
        .max_random_size(data.attempt.limits.random_bytes)
        .stdout(stdio.stdout())
        .stderr(stdio.stderr());
    let fixed = data.attempt.given.fixed;
    if let Some(at) = fixed.at {
        let clock = FixedClock::new(at);
        builder.wall_clock(clock.clone()).monotonic_clock(clock);
    }
    if let Some(seed) = fixed.seed {
        builder
            .secure_random(StdRng::seed_from_u64(seed))
            .insecure_random(StdRng::seed_from_u64(seed ^ u64::MAX))
            .insecure_random_seed(u128::from(seed));
    }
    if let Some(program) = &data.program {
        program.start(&data.attempt, &mut builder);
    }
    builder.build()
}

/// The clocks of a run that is to be repeated: the wall clock begins at an instant, the monotonic one at zero,
/// and each reading moves both on. A guest that sleeps waits in truth, and finds no time passed.
#[derive(Clone)]
struct FixedClock {
    begins: Duration,
    readings: Arc<AtomicU64>,
}

impl FixedClock {
    /// By how much a reading moves the clocks on.
    const STEP: Duration = Duration::from_micros(1);

    fn new(at: Timestamp) -> Self {
        let micros = u64::try_from(at.timestamp_micros()).unwrap_or(0);
        Self {
            begins: Duration::from_micros(micros),
            readings: Arc::default(),
        }
    }

    fn passed(&self) -> Duration {
        let readings = self.readings.fetch_add(1, Ordering::Relaxed);
        Duration::from_micros(readings)
    }
}

impl HostWallClock for FixedClock {
    fn resolution(&self) -> Duration {
        Self::STEP
    }

    fn now(&self) -> Duration {
        self.begins + self.passed()
    }
}

impl HostMonotonicClock for FixedClock {
    fn resolution(&self) -> u64 {
        u64::try_from(Self::STEP.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.passed().as_nanos()).unwrap_or(u64::MAX)
    }
}

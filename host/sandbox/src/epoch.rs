//! The thread that moves the engine's epoch on, so that guests that only compute are interrupted.

use horarium_core::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use wasmtime::Engine;

/// Time between two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Ticks without a run before the thread parks: short runs in a row must not wake it each time.
const IDLE_TICKS: u32 = 20;

/// Ticks while anything runs; ends when dropped.
pub(crate) struct EpochThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    running: AtomicUsize,
    parked: AtomicBool,
    stop: AtomicBool,
    /// How much later than planned the last tick came, in microseconds.
    lag_micros: AtomicU64,
}

impl EpochThread {
    /// Starts the thread, parked.
    pub(crate) fn start(engine: &Engine, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            lag_micros: AtomicU64::new(0),
        });
        let (weak, inner) = (engine.weak(), shared.clone());
        let thread = thread::Builder::new()
            .name("epoch".to_owned())
            .spawn(move || tick(&weak, &inner, &*clock))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Keeps the epoch moving until the answer is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(&self.shared.running)
    }

    /// Runs in progress.
    pub(crate) fn count(&self) -> usize {
        self.shared.running.load(Ordering::Relaxed)
    }

    /// How much later than planned the last tick came.
    pub(crate) fn lag(&self) -> Duration {
        Duration::from_micros(self.shared.lag_micros.load(Ordering::Relaxed))
    }
}

impl Drop for EpochThread {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// One run in progress.
pub(crate) struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &wasmtime::EngineWeak, shared: &Shared, clock: &dyn Clock) {
    let mut idle = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > IDLE_TICKS {
            shared.parked.store(true, Ordering::SeqCst);
            // A run that began before it could see `parked` is seen here; a later one unparks.
            if shared.running.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.parked.store(false, Ordering::SeqCst);
            idle = 0;
            continue;
        }
        let planned = clock.monotonic() + TICK;
        // Not a test's wait: this is the tick itself, and `park_timeout` also ends on drop.
        thread::park_timeout(TICK);
        let late = clock.monotonic().saturating_sub(planned);
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        shared.lag_micros.store(micros, Ordering::Relaxed);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}

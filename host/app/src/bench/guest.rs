//! `bench guest`: what a component costs before it runs, what a run of it costs, and what metering adds.

use super::lab::Lab;
use super::lab_host::LabHost;
use super::statistics::{median, percentile, rounded};
use super::{BURN, BenchError, Options, Stopwatch, rates};
use horarium_core::clock::SystemClock;
use horarium_core::observe::Observer;
use horarium_core::runner::Runner;
use horarium_core::service::Registration;
use horarium_model::Usage;
use horarium_sandbox::yardstick::Plain;
use horarium_sandbox::{ObserverRef, Sandbox, SandboxSettings};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct GuestOptions {
    pub(crate) common: Options,
    /// Its parameters, an object.
    pub(crate) parameters: Value,
    /// Runs, one after another.
    pub(crate) runs: usize,
    /// How often its code is loaded from disk.
    pub(crate) loads: usize,
    /// Rounds of the loop that metering is measured on.
    pub(crate) iterations: u64,
}

/// How often the loop runs with metering, and without.
const LOOPS: usize = 11;
/// Runs before the first that counts.
const WARM_UP: usize = 3;

/// Notes how long the compiler took.
#[derive(Default)]
struct Compiled(AtomicU64);

impl Observer for Compiled {
    fn compiled(&self, took: Duration, _succeeded: bool) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.store(us, Ordering::Relaxed);
    }
}

/// Measures and returns the document; `progress` hears what is being done.
pub(crate) fn guest(
    options: &GuestOptions,
    progress: &dyn Fn(String),
) -> Result<Value, BenchError> {
    let aot = tempfile::Builder::new().prefix("horarium-bench-").tempdir();
    let aot = aot.map_err(BenchError::failed)?;
    let compiled = Arc::new(Compiled::default());
    let component = options.common.component()?;
    let lab = Lab::with(&options.common, component, |settings| {
        settings.aot_dir = Some(aot.path().to_owned());
        settings.observer = ObserverRef(compiled.clone());
    })?;
    let mut document = lab.measured(measure(&lab, options, aot.path(), progress))?;
    document["compile_ms"] = rounded(compiled.0.load(Ordering::Relaxed) as f64 / 1e3).into();
    let say = |what: &str| progress(format!("compiling with metering, and without: {what}"));
    say("the plugin");
    let of_guest = Pair::new(&lab.component).and_then(|pair| {
        progress("running with metering, and without".to_owned());
        let parameters = options.parameters.to_string();
        lab.measured(pair.compare(&parameters, options.runs))
    });
    say("a loop");
    let parameters = json!({"iterations": options.iterations}).to_string();
    let pair = Pair::new(BURN)?;
    let of_loop = lab.measured(pair.compare(&parameters, LOOPS))?;
    document["metering"] = json!({
        // One that calls us or the network is no matter for the plain engine, which has neither.
        "guest": of_guest.unwrap_or_else(|error| json!({"skipped": error.to_string()})),
        "loop": of_loop,
        "iterations": options.iterations,
    });
    Ok(document)
}

async fn measure(
    lab: &Lab,
    options: &GuestOptions,
    aot: &Path,
    progress: &dyn Fn(String),
) -> Result<Value, BenchError> {
    progress("compiling the plugin".to_owned());
    let wish = Registration {
        grant_asked: true,
        ..Registration::default()
    };
    let parameters = &options.parameters;
    let host = LabHost::open_with(lab, 1, wish, json!({ "parameters": parameters })).await?;
    let checked = lab
        .sandbox
        .check_parameters(&host.version, parameters.clone())
        .await
        .map_err(|invalid| BenchError::Refused(invalid.to_string()))?;
    let checked: Arc<str> = Arc::from(checked.to_string());
    let (mut loads, mut firsts) = (Vec::new(), Vec::new());
    for number in 1..=options.loads {
        progress(format!("loading it, {number} of {}", options.loads));
        let mut settings = SandboxSettings::new(lab.slots as usize, env!("CARGO_PKG_VERSION"));
        settings.aot_dir = Some(aot.to_owned());
        let sandbox = Sandbox::new(settings, Arc::new(SystemClock::new()));
        let sandbox = sandbox.map_err(BenchError::failed)?;
        let watch = Stopwatch::start();
        let loaded = sandbox.load(&host.version.digest).await;
        loads.push(milliseconds(&watch));
        loaded.map_err(BenchError::Failed)?;
        let attempt = rates::attempt(&host.version, &checked);
        let watch = Stopwatch::start();
        rates::run_once(&sandbox, attempt).await.map_err(failed)?;
        firsts.push(milliseconds(&watch));
    }
    progress(format!("running it, {} times", options.runs));
    let (times, usage) = runs(lab, &host, &checked, options.runs).await?;
    let spread = |values: &[f64]| json!({"p50": rounded(percentile(values, 0.50)), "p99": rounded(percentile(values, 0.99))});
    let document = json!({
        "size_bytes": host.version.size_bytes,
        "compiled_bytes": compiled_bytes(aot)?,
        "load_ms": rounded(median(&loads)),
        "first_run_ms": rounded(median(&firsts)),
        "run_ms": spread(&times),
        "fuel": usage.fuel,
        "memory_peak_bytes": usage.memory_peak_bytes,
        "cpu_ms": rounded(usage.cpu_seconds * 1e3),
        "runs": times.len(),
        "loads": options.loads,
        "pooling": lab.sandbox.stats().pooling,
        "optimised": !cfg!(debug_assertions),
    });
    host.close().await?;
    Ok(document)
}

/// Milliseconds of each run, one after another, and what the last one used.
async fn runs(
    lab: &Lab,
    host: &LabHost,
    parameters: &Arc<str>,
    count: usize,
) -> Result<(Vec<f64>, Usage), BenchError> {
    let (sandbox, version) = (lab.sandbox.clone(), host.version.clone());
    let parameters = parameters.clone();
    let running = lab.guests.spawn(async move {
        let mut times = Vec::with_capacity(count);
        let mut usage = Usage::default();
        for number in 0..WARM_UP + count {
            let attempt = rates::attempt(&version, &parameters);
            let watch = Stopwatch::start();
            usage = rates::run_once(&sandbox, attempt).await?;
            if number >= WARM_UP {
                times.push(milliseconds(&watch));
            }
        }
        Ok::<_, String>((times, usage))
    });
    running.await.map_err(BenchError::failed)?.map_err(failed)
}

/// A component in the plain engine, without metering and with it.
struct Pair {
    off: Plain,
    on: Plain,
}

impl Pair {
    fn new(component: &[u8]) -> Result<Self, BenchError> {
        Ok(Self {
            off: Plain::new(component).map_err(BenchError::failed)?,
            on: Plain::metered(component).map_err(BenchError::failed)?,
        })
    }

    /// Runs both, turn about.
    async fn compare(&self, parameters: &str, runs: usize) -> Result<Value, BenchError> {
        let (mut off, mut on) = (Vec::new(), Vec::new());
        for number in 0..WARM_UP + runs {
            for (engine, times) in [(&self.off, &mut off), (&self.on, &mut on)] {
                let watch = Stopwatch::start();
                engine.run_once(parameters).await.map_err(failed)?;
                if number >= WARM_UP {
                    times.push(milliseconds(&watch));
                }
            }
        }
        let (off, on) = (median(&off), median(&on));
        Ok(json!({
            "off_ms": rounded(off),
            "on_ms": rounded(on),
            "on_over_off": rounded(on / off.max(1e-9)),
            "runs": runs,
        }))
    }
}

fn failed(reason: String) -> BenchError {
    BenchError::Refused(format!("the plugin failed: {reason}"))
}

fn milliseconds(watch: &Stopwatch) -> f64 {
    watch.elapsed().as_secs_f64() * 1e3
}

/// The size of its compiled form: nothing else is in the directory but a key.
fn compiled_bytes(aot: &Path) -> Result<u64, BenchError> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(aot).map_err(BenchError::failed)? {
        let entry = entry.map_err(BenchError::failed)?;
        bytes = entry
            .metadata()
            .map_err(BenchError::failed)?
            .len()
            .max(bytes);
    }
    Ok(bytes)
}

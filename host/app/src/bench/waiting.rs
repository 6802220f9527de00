//! `bench waiting`: as many runs as there are slots, all waiting in an HTTP call: what they hold in memory, and what one
//! that computes beside them loses.

use super::ends::Ends;
use super::lab::Lab;
use super::lab_host::LabHost;
use super::statistics::{median, rounded};
use super::{BURN, BenchError, HTTP_REQUEST, Options, Stopwatch, drain, process, rates};
use horarium_core::runner::Intake;
use horarium_core::service::Registration;
use horarium_model::task_type::PluginVersion;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct WaitingOptions {
    /// As many wait as there are slots.
    pub(crate) common: Options,
    /// Parameters of the guest, an object; where they have no `url` they get that of the server.
    pub(crate) parameters: Value,
    /// Runs that compute, one after another.
    pub(crate) loops: usize,
    /// Rounds of a loop each of them goes.
    pub(crate) iterations: u64,
}

/// Files that are open beside the two ends of each connection.
const OTHER_FILES: u64 = 256;
/// Longest time in which not one more comes to wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// What a guest may do here.
const GRANT: &str = "http * http://127.0.0.1";
const NETWORK: &str = "127.0.0.0/8";

/// Measures and returns the document; `progress` hears what is being done.
pub(crate) fn waiting(
    options: &WaitingOptions,
    progress: &dyn Fn(String),
) -> Result<Value, BenchError> {
    let slots = options.common.slots;
    process::open_files(u64::from(slots) * 2 + OTHER_FILES)?;
    let network = NETWORK.parse().map_err(BenchError::failed)?;
    let component = options.common.component_or(HTTP_REQUEST)?;
    let lab = Lab::with(&options.common, component, |settings| {
        settings.allow_private = vec![network];
        // What they hold is measured, so it must not be what keeps them from running.
        settings.memory_bytes = settings.memory_bytes.max(u64::from(slots) * (16 << 20));
    })?;
    progress("compiling the plugins".to_owned());
    lab.measured(measure(&lab, options, progress))
}

async fn measure(
    lab: &Lab,
    options: &WaitingOptions,
    progress: &dyn Fn(String),
) -> Result<Value, BenchError> {
    let server = Server::start().await?;
    let host = open(lab, options, &server).await?;
    let burn = burn(lab, &host).await?;
    let parameters = json!({"iterations": options.iterations}).to_string();
    let compute = async || compute(lab, &burn, &parameters, options.loops).await;
    let count = lab.slots as usize;
    let ends = Arc::new(Ends::wanted(count));
    let executing = host.execute(lab, ends.clone()).await?;
    let loaded = lab.sandbox.load(&host.version.digest).await;
    loaded.map_err(BenchError::Failed)?;
    progress("computing alone".to_owned());
    let (mut alone, fuel) = compute().await?;
    process::forget_peak();
    let before = process::Memory::own()?;
    drain::fill(&host, count).await?;
    server.all(count, &ends, progress).await?;
    let held = process::Memory::own()?;
    progress(format!("computing beside {count} that wait"));
    let (beside, _) = compute().await?;
    server.answer();
    progress("answering".to_owned());
    ends.all().await?;
    let after = process::Memory::own()?;
    progress("computing alone".to_owned());
    // Before and after, so that a machine that changes its pace is not taken for those that wait.
    alone.extend(compute().await?.0);
    executing.stop().await?;
    host.close().await?;
    let (alone, beside) = (median(&alone), median(&beside));
    let mib = |bytes: u64| rounded(bytes as f64 / process::MIB);
    let more = held.resident.saturating_sub(before.resident);
    Ok(json!({
        "waiting": count,
        "resident_before_mib": mib(before.resident),
        "resident_waiting_mib": mib(held.resident),
        "resident_peak_mib": mib(after.peak.max(held.peak)),
        "resident_each_kib": rounded(more as f64 / 1024.0 / count as f64),
        "alone_ms": rounded(alone),
        "beside_ms": rounded(beside),
        "beside_over_alone": rounded(beside / alone.max(1e-9)),
        "fuel": fuel,
        "iterations": options.iterations,
        "loops": options.loops,
        "slots": lab.slots,
        "store": lab.store_name(),
        "pooling": lab.sandbox.stats().pooling,
        "optimised": !cfg!(debug_assertions),
    }))
}

/// A host whose task waits for the server.
async fn open(lab: &Lab, options: &WaitingOptions, server: &Server) -> Result<LabHost, BenchError> {
    let grant = format!("{GRANT}:{} via {NETWORK}", server.port);
    let wish = Registration {
        grants: Some(vec![grant.parse().map_err(BenchError::Failed)?]),
        ..Registration::default()
    };
    let mut parameters = json!({"url": format!("http://127.0.0.1:{}/", server.port)});
    if options.common.plugin.is_none() {
        parameters["wait_seconds"] = 3600.into();
    }
    json_patch::merge(&mut parameters, &options.parameters);
    let more = json!({"parameters": parameters, "timeout_seconds": 3600});
    LabHost::open_with(lab, 1, wish, more).await
}

/// The guest that computes.
async fn burn(lab: &Lab, host: &LabHost) -> Result<Arc<PluginVersion>, BenchError> {
    let inspected = lab.sandbox.inspect(BURN.to_vec()).await;
    let (inspection, pending) = inspected.map_err(|error| BenchError::Failed(error.to_string()))?;
    pending.await.map_err(BenchError::Failed)?;
    Ok(Arc::new(PluginVersion {
        digest: inspection.digest,
        descriptor: Default::default(),
        grants: Vec::new(),
        ..(*host.version).clone()
    }))
}

/// Milliseconds of each run that computes, and the fuel it needs, which is the same each time.
async fn compute(
    lab: &Lab,
    burn: &Arc<PluginVersion>,
    parameters: &str,
    runs: usize,
) -> Result<(Vec<f64>, u64), BenchError> {
    let (sandbox, burn) = (lab.sandbox.clone(), burn.clone());
    let parameters: Arc<str> = Arc::from(parameters);
    let running = lab.guests.spawn(async move {
        let (mut times, mut fuel) = (Vec::with_capacity(runs), 0);
        for _ in 0..runs {
            let attempt = rates::attempt(&burn, &parameters);
            let watch = Stopwatch::start();
            fuel = rates::run_once(&sandbox, attempt).await?.fuel;
            times.push(watch.elapsed().as_secs_f64() * 1e3);
        }
        Ok::<_, String>((times, fuel))
    });
    let ran = running.await.map_err(BenchError::failed)?;
    ran.map_err(BenchError::Failed)
}

/// A server that answers nobody until it answers all.
struct Server {
    port: u16,
    held: Arc<AtomicUsize>,
    go: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    async fn start() -> Result<Self, BenchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(BenchError::failed)?;
        let port = listener.local_addr().map_err(BenchError::failed)?.port();
        let held = Arc::new(AtomicUsize::new(0));
        let (go, going) = watch::channel(false);
        let counter = held.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One that goes away is missed by who counts.
                let one = hold(stream, counter.clone(), going.clone());
                tokio::spawn(async move { one.await.ok() });
            }
        });
        Ok(Self {
            port,
            held,
            go,
            accepting,
        })
    }

    /// Waits until so many wait.
    async fn all(
        &self,
        count: usize,
        ends: &Ends,
        progress: &dyn Fn(String),
    ) -> Result<(), BenchError> {
        let (mut seen, mut since) = (0, Stopwatch::start());
        loop {
            let held = self.held.load(Ordering::Acquire);
            if held >= count {
                return Ok(());
            }
            if held > seen {
                (seen, since) = (held, Stopwatch::start());
            }
            if ends.any() {
                return Err(BenchError::Refused(
                    "a run ended instead of waiting; measure a plugin that requests the `url` of its parameters"
                        .to_owned(),
                ));
            }
            if since.elapsed() > PATIENCE {
                return Err(BenchError::Failed(format!(
                    "only {held} of {count} came to wait"
                )));
            }
            progress(format!("{held} of {count} wait"));
            tokio::time::sleep(LOOK).await;
        }
    }

    fn answer(&self) {
        self.go.send_replace(true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Reads a request, and answers when all are answered.
async fn hold(
    mut stream: TcpStream,
    held: Arc<AtomicUsize>,
    mut go: watch::Receiver<bool>,
) -> std::io::Result<()> {
    // As little as can be is held for each: it counts as the host's.
    let mut last = [0_u8; 4];
    while &last != b"\r\n\r\n" {
        last.rotate_left(1);
        last[3] = stream.read_u8().await?;
    }
    held.fetch_add(1, Ordering::AcqRel);
    let _ = go.wait_for(|go| *go).await;
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    stream.write_all(answer.as_bytes()).await
}

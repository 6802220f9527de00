//! Traces and logs for an OpenTelemetry collector: OTLP over HTTP, in its JSON encoding.
//!
//! What is to be sent waits in a bounded queue; one task a signal sends it in batches. What a collector that is away
//! cannot take, and what finds the queue full, is dropped and counted: running never waits for it.

use super::logs::LogLayer;
use super::spans;
use crate::settings::Settings;
use horarium_core::observe::RecordedRun;
use horarium_model::State;
use horarium_sandbox::connector::{Connector, OwnRequest};
use http::{Method, Uri};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Spans or log lines that may wait.
const QUEUE: usize = 8192;
/// Most of them in one request.
const BATCH: usize = 512;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_secs(2);
/// How long a collector may take to take a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the second and last try.
const AGAIN: Duration = Duration::from_secs(1);
/// How long what is left may take when the host stops.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// A kind of telemetry, and what this process did with it.
#[derive(Debug)]
pub(super) struct Signal {
    path: &'static str,
    /// The members of a request that lead to its items.
    keys: [&'static str; 3],
    /// Requests that the collector took, and that it did not.
    pub(super) sent: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Spans or lines that were lost.
    pub(super) dropped: AtomicU64,
    /// The last request failed: the next that does is not told.
    away: AtomicBool,
}

pub(super) static TRACES: Signal =
    Signal::new("/v1/traces", ["resourceSpans", "scopeSpans", "spans"]);
pub(super) static LOGS: Signal =
    Signal::new("/v1/logs", ["resourceLogs", "scopeLogs", "logRecords"]);

impl Signal {
    const fn new(path: &'static str, keys: [&'static str; 3]) -> Self {
        Self {
            path,
            keys,
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            away: AtomicBool::new(false),
        }
    }

    /// A request with these items.
    fn request(&self, resource: &Value, items: Vec<Value>) -> Value {
        let scope = json!({"name": "horarium", "version": env!("CARGO_PKG_VERSION")});
        let [outer, middle, inner] = self.keys;
        json!({outer: [{"resource": resource, middle: [{"scope": scope, inner: items}]}]})
    }

    fn note(&self, endpoint: &Uri, items: usize, failed: Option<String>) {
        let Some(reason) = failed else {
            self.sent.fetch_add(1, Ordering::Relaxed);
            if self.away.swap(false, Ordering::Relaxed) {
                tracing::info!(%endpoint, "the collector takes telemetry again");
            }
            return;
        };
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.dropped.fetch_add(items as u64, Ordering::Relaxed);
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%endpoint, reason, "the collector does not take telemetry; it is dropped");
        }
    }
}

/// The way into a queue.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    signal: &'static Signal,
    sender: mpsc::Sender<Value>,
}

impl Queue {
    fn new(signal: &'static Signal) -> (Self, mpsc::Receiver<Value>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { signal, sender }, receiver)
    }

    /// Adds an item, or drops it.
    pub(super) fn put(&self, item: Value) {
        if self.sender.try_send(item).is_err() {
            self.signal.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An attribute as OTLP writes it.
pub(super) fn attribute(key: &str, value: Value) -> Value {
    json!({"key": key, "value": value})
}

/// A text as OTLP writes it.
pub(super) fn text(value: impl Into<String>) -> Value {
    json!({"stringValue": value.into()})
}

/// A whole number as OTLP writes it: as a text, since JSON has no 64 bits. It has no larger ones: a collector refuses
/// the whole batch for one.
pub(super) fn whole(value: impl Into<i128>) -> Value {
    let fits = value.into().clamp(i64::MIN.into(), i64::MAX.into());
    json!({"intValue": fits.to_string()})
}

fn resource(settings: &Settings) -> Value {
    json!({"attributes": [
        attribute("service.name", text("horarium")),
        attribute("service.version", text(env!("CARGO_PKG_VERSION"))),
        attribute("service.instance.id", text(&*settings.host_name)),
        attribute("host.name", text(&*settings.host_name)),
    ]})
}

/// What sends the items of one queue.
struct Exporter {
    signal: &'static Signal,
    items: mpsc::Receiver<Value>,
    endpoint: Uri,
    headers: Vec<(String, String)>,
    resource: Value,
    connector: Connector,
}

impl Exporter {
    fn new(
        signal: &'static Signal,
        items: mpsc::Receiver<Value>,
        settings: &Settings,
    ) -> Result<Option<Self>, String> {
        let Some(base) = &settings.otlp.endpoint else {
            return Ok(None);
        };
        let endpoint = format!("{base}{}", signal.path).parse();
        // The collector is the operator's own, like the database: wherever it is, it may be reached.
        let everywhere = [
            IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        ];
        let everywhere = everywhere.into_iter().flatten().collect();
        Ok(Some(Self {
            signal,
            items,
            endpoint: endpoint.map_err(|error| format!("otlp.endpoint: {error}"))?,
            headers: settings.otlp.headers.clone(),
            resource: resource(settings),
            connector: Connector::for_operator(everywhere).map_err(|error| error.to_string())?,
        }))
    }

    /// Sends until nobody puts anything in, or `stop` and nothing is left.
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                _ = self.items.recv_many(&mut batch, BATCH) => {}
                () = stop.cancelled() => {
                    self.items.close();
                    self.items.recv_many(&mut batch, BATCH).await;
                }
            }
            if batch.is_empty() {
                return;
            }
            self.gather(&mut batch, &stop).await;
            self.send(batch).await;
        }
    }

    /// Waits a moment for more.
    async fn gather(&mut self, batch: &mut Vec<Value>, stop: &CancellationToken) {
        let more = async {
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                if self.items.recv_many(batch, room).await == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            () = more => {}
            () = stop.cancelled() => {}
            () = tokio::time::sleep(GATHER) => {}
        }
    }

    async fn send(&self, batch: Vec<Value>) {
        let items = batch.len();
        let body = self.signal.request(&self.resource, batch).to_string();
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        headers.extend(self.headers.clone());
        let request = OwnRequest {
            method: Method::POST,
            url: self.endpoint.clone(),
            headers,
            body: body.into(),
        };
        let mut failed = self.try_once(&request).await;
        if failed.is_some() {
            tokio::time::sleep(AGAIN).await;
            failed = self.try_once(&request).await;
        }
        self.signal.note(&self.endpoint, items, failed);
    }

    async fn try_once(&self, request: &OwnRequest) -> Option<String> {
        match self.connector.send(request.clone(), PATIENCE).await {
            Ok(status) if (200..300).contains(&status) => None,
            Ok(status) => Some(format!("it answered {status}")),
            Err(sentence) => Some(sentence),
        }
    }
}

/// Tells of what attempts come to.
#[derive(Debug)]
pub(crate) struct Tracer(Queue);

impl Tracer {
    /// Tells of a recorded attempt, if its trace is recorded.
    pub(super) fn recorded(&self, run: &RecordedRun<'_>, state: State) {
        let Some(trace) = run.trace.as_ref().filter(|trace| trace.sampled) else {
            return;
        };
        for span in spans::of(run, trace, state) {
            self.0.put(span);
        }
    }
}

/// Log lines that were written since the process began to log, until somebody sends them.
static LINES: Mutex<Option<mpsc::Receiver<Value>>> = Mutex::new(None);

/// What puts log lines into the queue; none when the settings do not want that. They wait for [`Export::start`].
pub(super) fn log_layer(settings: &Settings) -> Option<LogLayer> {
    if settings.otlp.endpoint.is_none() || !settings.otlp.logs {
        return None;
    }
    let (queue, lines) = Queue::new(&LOGS);
    *LINES.lock().unwrap_or_else(PoisonError::into_inner) = Some(lines);
    Some(LogLayer::new(queue))
}

/// The exporters of a host.
#[derive(Debug)]
pub(crate) struct Export {
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Export {
    /// Starts to send what the settings want sent. The tracer is none when they want no traces.
    ///
    /// # Errors
    /// Why nothing can be sent to the collector they name.
    pub(crate) fn start(settings: &Settings) -> Result<(Self, Option<Tracer>), String> {
        let (stop, mut tasks) = (CancellationToken::new(), Vec::new());
        let mut begin = |exporter: Option<Exporter>| {
            let begun = exporter.map(|exporter| tokio::spawn(exporter.run(stop.clone())));
            tasks.extend(begun);
        };
        let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(lines) = lines {
            begin(Exporter::new(&LOGS, lines, settings)?);
        }
        let mut tracer = None;
        if settings.otlp.endpoint.is_some() && settings.otlp.traces {
            let (queue, spans) = Queue::new(&TRACES);
            begin(Exporter::new(&TRACES, spans, settings)?);
            tracer = Some(Tracer(queue));
        }
        Ok((Self { tasks, stop }, tracer))
    }

    /// Sends what is left, for a moment.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        let all = futures_util::future::join_all(self.tasks);
        if tokio::time::timeout(LAST_MOMENT, all).await.is_err() {
            tracing::warn!("the collector did not take the last telemetry in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_shape_of_otlp() {
        let items = vec![json!({"name": "a"}), json!({"name": "b"})];
        let request = TRACES.request(&json!({"attributes": []}), items);
        let scope = &request["resourceSpans"][0]["scopeSpans"][0];
        assert_eq!(scope["scope"]["name"], "horarium");
        assert_eq!(scope["spans"][1]["name"], "b");
        let request = LOGS.request(&json!({}), vec![json!(1)]);
        assert_eq!(
            request["resourceLogs"][0]["scopeLogs"][0]["logRecords"],
            json!([1])
        );
        assert_eq!(whole(-7_i64), json!({"intValue": "-7"}));
        assert_eq!(whole(u64::MAX), json!({"intValue": "9223372036854775807"}));
    }

    #[tokio::test]
    async fn what_finds_the_queue_full_is_dropped_and_counted() {
        static SMALL: Signal = Signal::new("/", ["a", "b", "c"]);
        let (queue, mut items) = Queue::new(&SMALL);
        for n in 0..QUEUE + 3 {
            queue.put(json!(n));
        }
        assert_eq!(SMALL.dropped.load(Ordering::Relaxed), 3);
        assert_eq!(items.recv().await, Some(json!(0)));
    }
}

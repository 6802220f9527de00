//! Enqueueing as clients do it: over REST on this machine, by single calls of several clients and by the largest
//! batch that one call takes. Nothing is executed meanwhile; clients and server share the cores.

use super::lab_host::LabHost;
use super::{BenchError, Stopwatch, rates};
use crate::client::{Address, Client};
use horarium::api::{AdminToken, ApiState, ServerSettings, router, serve};
use horarium_core::clock::SystemClock;
use horarium_core::service::Services;
use horarium_core::store::Store;
use horarium_core::wake::Wakes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Clients that trigger at the same time, each on a connection of its own.
pub(super) const CLIENTS: u32 = 16;
/// Executions of one batch, as many as a call takes.
pub(super) const BATCH: usize = 10_000;
/// Batches, one after another.
const BATCHES: u64 = 3;

/// Executions a second.
pub(super) struct Enqueued {
    /// One call each, from [`CLIENTS`] clients.
    pub(super) single: f64,
    /// [`BATCH`] a call, one call after another.
    pub(super) batch: f64,
}

/// A host's REST, on a port of this machine.
pub(super) struct Rest {
    address: Address,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Rest {
    /// Serves it.
    pub(super) async fn serve(
        services: &Services,
        store: &Arc<dyn Store>,
        wakes: &Arc<Wakes>,
        clock: &Arc<SystemClock>,
    ) -> Result<Self, BenchError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(BenchError::failed)?;
        let address = listener.local_addr().map_err(BenchError::failed)?;
        let token = "bench";
        let state = ApiState::answering(
            services.clone(),
            store.clone(),
            wakes.clone(),
            AdminToken::new(token),
            clock.clone(),
        );
        let settings = ServerSettings {
            max_connections: 1024,
            header_timeout: Duration::from_secs(10),
            tls: None,
        };
        let shutdown = CancellationToken::new();
        let app = router(Arc::new(state));
        let serving = tokio::spawn(serve(listener, app, settings, shutdown.clone()));
        let address = Address {
            url: format!("http://{address}"),
            token: Some(token.to_owned()),
            source: "bench".to_owned(),
            tls: Default::default(),
        };
        Ok(Self {
            address,
            shutdown,
            serving,
        })
    }

    /// A client with connections of its own.
    pub(super) fn client(&self) -> Client {
        Client::new(self.address.clone(), None)
    }

    /// Ends it.
    pub(super) async fn close(self) -> Result<(), BenchError> {
        self.shutdown.cancel();
        self.serving.await.map_err(BenchError::failed)
    }
}

/// Serves REST over the host's store and enqueues through it.
pub(super) async fn enqueue(host: &LabHost) -> Result<Enqueued, BenchError> {
    let rest = Rest::serve(&host.services, &host.store, &host.wakes, &host.clock).await?;
    let measured = measure(&rest, host.task()).await;
    rest.close().await?;
    measured
}

async fn measure(rest: &Rest, task: i64) -> Result<Enqueued, BenchError> {
    let single = singles(rest, task).await?;
    let client = rest.client();
    let batch = tokio::task::spawn_blocking(move || batches(&client, task));
    Ok(Enqueued {
        single,
        batch: batch.await.map_err(BenchError::failed)??,
    })
}

async fn singles(rest: &Rest, task: i64) -> Result<f64, BenchError> {
    let done = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = rest.client();
            let (done, stop) = (done.clone(), stop.clone());
            tokio::task::spawn_blocking(move || {
                while !stop.load(Ordering::Relaxed) {
                    trigger(&client, task)?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), BenchError>(())
            })
        })
        .collect();
    let rate = rates::steady(&done).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.map_err(BenchError::failed)??;
    }
    Ok(rate)
}

/// Triggers the task.
pub(super) fn trigger(client: &Client, task: i64) -> Result<Value, BenchError> {
    post(client, &format!("/v1/tasks/{task}/trigger"), &json!({}))
}

/// What a client needs to know of the answer to a batch. The executions in it are text that it passes over.
#[derive(Deserialize)]
struct Taken {
    enqueued: usize,
}

fn batches(client: &Client, task: i64) -> Result<f64, BenchError> {
    let items: Vec<Value> = (0..BATCH).map(|_| json!({ "task": task })).collect();
    let body = json!({ "items": items });
    let watch = Stopwatch::start();
    for _ in 0..BATCHES {
        let Taken { enqueued } = post(client, "/v1/executions/batch", &body)?;
        if enqueued != BATCH {
            let text = format!("a batch was not taken whole: {enqueued} of {BATCH}");
            return Err(BenchError::Failed(text));
        }
    }
    Ok(watch.rate(BATCHES * BATCH as u64))
}

pub(super) fn post<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    body: &Value,
) -> Result<T, BenchError> {
    let answer = client.post(path, body);
    let answer = answer.map_err(|failure| BenchError::Failed(failure.render(false)))?;
    serde_json::from_str(&answer.text).map_err(BenchError::failed)
}

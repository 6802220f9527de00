//! Enqueueing as clients do it: over REST on this machine, by single calls of several clients and by the largest
//! batch that one call takes. Nothing is executed meanwhile; clients and server share the cores.

use super::lab_host::LabHost;
use super::{BenchError, Stopwatch, rates};
use crate::client::{Address, Client};
use horarium::api::{AdminToken, ApiState, ServerSettings, router, serve};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
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

/// Serves REST over the host's store and enqueues through it.
pub(super) async fn enqueue(host: &LabHost) -> Result<Enqueued, BenchError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.map_err(BenchError::failed)?;
    let address = listener.local_addr().map_err(BenchError::failed)?;
    let token = "bench";
    let state = ApiState::answering(
        host.services.clone(),
        host.store.clone(),
        AdminToken::new(token),
        host.clock.clone(),
    );
    let settings = ServerSettings {
        max_connections: 1024,
        header_timeout: Duration::from_secs(10),
        tls: None,
    };
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(
        listener,
        router(Arc::new(state)),
        settings,
        shutdown.clone(),
    ));
    let address = Address {
        url: format!("http://{address}"),
        token: Some(token.to_owned()),
        source: "bench".to_owned(),
        tls: Default::default(),
    };
    let measured = measure(&address, host.task()).await;
    shutdown.cancel();
    serving.await.map_err(BenchError::failed)?;
    measured
}

async fn measure(address: &Address, task: i64) -> Result<Enqueued, BenchError> {
    let single = singles(address, task).await?;
    let client = Client::new(address.clone(), None);
    let batch = tokio::task::spawn_blocking(move || batches(&client, task));
    Ok(Enqueued {
        single,
        batch: batch.await.map_err(BenchError::failed)??,
    })
}

async fn singles(address: &Address, task: i64) -> Result<f64, BenchError> {
    let done = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = Client::new(address.clone(), None);
            let (done, stop) = (done.clone(), stop.clone());
            tokio::task::spawn_blocking(move || {
                while !stop.load(Ordering::Relaxed) {
                    post(&client, &format!("/v1/tasks/{task}/trigger"), &json!({}))?;
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

fn batches(client: &Client, task: i64) -> Result<f64, BenchError> {
    let items: Vec<Value> = (0..BATCH).map(|_| json!({ "task": task })).collect();
    let body = json!({ "items": items });
    let watch = Stopwatch::start();
    for _ in 0..BATCHES {
        let answer = post(client, "/v1/executions/batch", &body)?;
        if answer["enqueued"] != BATCH {
            let text = format!("a batch was not taken whole: {}", answer["enqueued"]);
            return Err(BenchError::Failed(text));
        }
    }
    Ok(watch.rate(BATCHES * BATCH as u64))
}

pub(super) fn post(client: &Client, path: &str, body: &Value) -> Result<Value, BenchError> {
    let answer = client.post(path, body).and_then(|answer| answer.json());
    answer.map_err(|failure| BenchError::Failed(failure.render(false)))
}

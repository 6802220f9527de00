//! The accept loop: our own over hyper-util, because `axum::serve` has no timeout for a request's head.

use super::preface::Awaited;
use super::{Full, Peer, Tls};
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How requests in progress may finish once a shutdown began.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// Pause after `accept` failed, as when file descriptors ran out.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);
/// Most requests at once on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 64;
/// Connections beyond those that are served which are told so at once; more wait in the kernel for one of them. What each
/// may hold of memory and time is little.
pub const TURNED_AWAY_AT_ONCE: usize = 64;
/// How long one of them may take to shake hands, ask and listen.
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(2);
/// What is read of a head from it.
const TURNED_AWAY_HEAD: usize = 8 << 10;

/// Bounds of the server.
#[derive(Clone)]
pub struct ServerSettings {
    /// Connections served at once; more are answered 503.
    pub max_connections: usize,
    /// How long a client may take to shake hands, to say anything, and to send a request's head.
    pub header_timeout: Duration,
    /// The certificate; none = plain HTTP.
    pub tls: Option<Arc<Tls>>,
}

/// Serves until `shutdown`, then lets requests in progress finish.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: ServerSettings,
    shutdown: CancellationToken,
) {
    let mut doors = Doors::new(settings.max_connections.max(1));
    let graceful = GracefulShutdown::new();
    let builder = builder(settings.header_timeout);
    let turning_away = turning_away();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
                continue;
            }
        };
        let (place, permit) = tokio::select! {
            () = shutdown.cancelled() => break,
            entered = doors.enter() => entered,
        };
        // Small answers leave at once; a refused option only costs latency.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            builder: match place {
                Place::Served => builder.clone(),
                Place::TurnedAway => turning_away.clone(),
            },
            router: router.clone(),
            peer: Peer(peer.ip()),
            watcher: graceful.watcher(),
            place,
        };
        let (tls, patience) = (settings.tls.clone(), settings.header_timeout);
        let stopping = shutdown.clone();
        tokio::spawn(async move {
            let whole = connection.shake_hands_and_serve(stream, tls, patience, stopping);
            match place {
                Place::Served => whole.await,
                Place::TurnedAway => {
                    // Who asks nothing in time is not told.
                    let _ = tokio::time::timeout(TURNED_AWAY_WITHIN, whole).await;
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(LAST_REQUESTS, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not finish in time and were dropped");
    }
}

fn builder(header_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    builder
}

/// The same for who is told that there is no place: one answer, and little memory.
fn turning_away() -> Builder<TokioExecutor> {
    let mut builder = builder(TURNED_AWAY_WITHIN);
    builder
        .http1()
        .keep_alive(false)
        .max_buf_size(TURNED_AWAY_HEAD);
    builder.http2().max_concurrent_streams(1);
    builder
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Served,
    TurnedAway,
}

/// How many come in.
struct Doors {
    served: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    most: usize,
    /// It was told that there is no place.
    told: bool,
}

impl Doors {
    fn new(most: usize) -> Self {
        Self {
            served: Arc::new(Semaphore::new(most)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE)),
            most,
            told: false,
        }
    }

    /// A place, if need be the next that is free of either kind: it takes no longer than who is turned away may. The
    /// semaphores are never closed; without a permit a connection would merely not be counted.
    async fn enter(&mut self) -> (Place, Option<OwnedSemaphorePermit>) {
        let (place, permit) = tokio::select! {
            biased;
            permit = self.served.clone().acquire_owned() => (Place::Served, permit.ok()),
            permit = self.turned_away.clone().acquire_owned() => (Place::TurnedAway, permit.ok()),
        };
        match place {
            Place::TurnedAway if !self.told => {
                self.told = true;
                tracing::warn!(
                    max_connections = self.most,
                    "as many connections are open as may; more are answered 503"
                );
            }
            // Not each time that one place is free for a moment.
            Place::Served if self.served.available_permits() > self.most / 10 => self.told = false,
            Place::Served | Place::TurnedAway => {}
        }
        (place, permit)
    }
}

/// What serves one connection.
struct Connection {
    builder: Builder<TokioExecutor>,
    router: Router,
    peer: Peer,
    watcher: Watcher,
    place: Place,
}

impl Connection {
    async fn shake_hands_and_serve(
        self,
        stream: TcpStream,
        tls: Option<Arc<Tls>>,
        patience: Duration,
        stopping: CancellationToken,
    ) {
        let Some(tls) = tls else {
            return self.serve(Awaited::new(stream, patience)).await;
        };
        let shaken = tokio::select! {
            () = stopping.cancelled() => return,
            shaken = tokio::time::timeout(patience, tls.acceptor().accept(stream)) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => self.serve(Awaited::new(stream, patience)).await,
            Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
            Err(_) => tracing::debug!("a handshake took too long"),
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (peer, place) = (self.peer, self.place);
        let service = self
            .router
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer);
                if place == Place::TurnedAway {
                    request.extensions_mut().insert(Full);
                }
                request
            });
        let service = TowerToHyperService::new(service);
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = self.watcher.watch(connection.into_owned()).await {
            tracing::debug!(error, "a connection ended early");
        }
    }
}

//! REST `/v1`: thin handlers over [`horarium_core::service`]. The order of the layers, from outside:
//! [`error::envelope`] (request id, problem+json, panics), counting, [`auth`], the [`routes`].

mod apply;
mod attempts;
mod auth;
mod body;
mod care;
mod error;
mod events;
mod executions;
mod headers;
mod openapi;
mod parameters;
mod plugin_config;
mod plugins;
mod preface;
mod query;
mod routes;
mod secrets;
mod server;
mod state;
mod system;
mod tasks;
mod tls;
mod tokens;

pub use attempts::Attempts;
pub use auth::AdminToken;
pub use events::Streams;
pub use server::{ServerSettings, TURNED_AWAY_AT_ONCE, serve};
pub use tls::Tls;

use crate::settings::MAX_TASK_TYPES;
use crate::telemetry::{DatabaseFigures, EngineFigures, Label, Metrics};
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::Uri;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use error::ApiError;
use horarium_core::access::Gate;
use horarium_core::clock::Clock;
use horarium_core::executor::Executor;
use horarium_core::service::Services;
use horarium_core::store::{Listing, Store};
use horarium_core::wake::Wakes;
use horarium_model::Timestamp;
use horarium_model::text::one_line;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Semaphore;

/// Registrations read and checked at the same time: each holds its component in memory.
const UPLOADS_AT_ONCE: usize = 4;

/// What the handlers work with.
pub struct ApiState {
    /// The operations.
    pub services: Services,
    /// For tenants and health.
    pub store: Arc<dyn Store>,
    /// The token in the data directory.
    pub token: AdminToken,
    /// All other tokens.
    pub gate: Gate,
    /// Bounds wrong ones.
    pub attempts: Attempts,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether `/metrics` needs no token.
    pub metrics_open: bool,
    /// This host.
    pub host: HostFacts,
    /// What runs here; none on a host that only answers.
    pub executor: Option<Arc<Executor>>,
    /// Asked at each scrape for the sandbox's figures.
    pub engine: Option<EngineProbe>,
    /// Asked at each scrape for the connections to the database.
    pub database: Option<DatabaseProbe>,
    /// Whether the store of compiled plugins can be written, and why not.
    pub compiled: Option<CompiledProbe>,
    /// False before everything is started and once a shutdown began.
    pub ready: Arc<AtomicBool>,
    /// Bounds registrations.
    pub uploads: Uploads,
    /// Bounds streams of events.
    pub streams: Streams,
}

impl ApiState {
    /// A host that answers and neither compiles nor runs anything, ready at once. `wakes` keep what it remembers of tokens
    /// and tenants fresh.
    pub fn answering(
        services: Services,
        store: Arc<dyn Store>,
        wakes: Arc<Wakes>,
        token: AdminToken,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            services,
            gate: Gate::new(store.clone(), clock.clone(), wakes),
            store,
            token,
            attempts: Attempts::new(60),
            metrics: Arc::new(Metrics::new(MAX_TASK_TYPES)),
            metrics_open: false,
            host: HostFacts {
                name: "answering".to_owned(),
                version: env!("CARGO_PKG_VERSION"),
                memory_bytes: 0,
                started_at: clock.now(),
            },
            clock,
            executor: None,
            engine: None,
            database: None,
            compiled: None,
            ready: Arc::new(AtomicBool::new(true)),
            uploads: Uploads::default(),
            streams: Streams::default(),
        }
    }
}

/// Marks requests of a connection for which there is no place.
#[derive(Debug, Clone, Copy)]
struct Full;

/// The address a request came from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub std::net::IpAddr);

/// Counts connections to the database.
pub type DatabaseProbe = Box<dyn Fn() -> DatabaseFigures + Send + Sync>;
/// Reads the sandbox's figures.
pub type EngineProbe = Box<dyn Fn() -> EngineFigures + Send + Sync>;
/// Tries whether compiled plugins can be kept; else why not.
pub type CompiledProbe = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Bounds how many components are held in memory for registration.
#[derive(Debug, Clone)]
pub struct Uploads(Arc<Semaphore>);

impl Default for Uploads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UPLOADS_AT_ONCE)))
    }
}

/// What `/v1/hosts` says of this host.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// Its name.
    pub name: String,
    /// Version of Horarium.
    pub version: &'static str,
    /// `engine.memory`.
    pub memory_bytes: u64,
    /// When it started.
    pub started_at: Timestamp,
}

/// All routes behind all layers.
pub fn router(state: Arc<ApiState>) -> Router {
    routes::router()
        .fallback(no_such_path)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(state.clone(), auth::check))
        .layer(from_fn(turn_away))
        .layer(from_fn_with_state(state.clone(), count))
        .layer(from_fn(error::envelope))
        .with_state(state)
}

/// Who came when there was no place is told so, whatever is asked, before anything is looked up.
async fn turn_away(request: Request, next: Next) -> Response {
    match request.extensions().get::<Full>() {
        Some(Full) => {
            body::discard(request, body::MAX_DISCARDED_BYTES).await;
            ApiError::too_many_connections().into_response()
        }
        None => next.run(request).await,
    }
}

async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!(
        "there is no path {}; the API begins with /v1",
        one_line(uri.path(), 200)
    ))
}

/// Counts requests by route, so that labels stay few.
async fn count(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or(Label::Word("none"), |path| {
        Label::Name(path.as_str().into())
    });
    let method = request.method().clone();
    let id = request.extensions().get::<error::RequestId>().cloned();
    let begun = state.clock.monotonic();
    let response = next.run(request).await;
    let took = state.clock.monotonic().saturating_sub(begun);
    let status = response.status().as_u16();
    tracing::debug!(
        target: "horarium::access",
        request_id = id.map(|id| id.0),
        %method,
        route = %route,
        status,
        duration_seconds = took.as_secs_f64(),
        "answered"
    );
    state.metrics.http(method.as_str(), route, status, took);
    response
}

/// A list as every surface shows it.
fn list_body<T>(listing: Listing<T>, show: impl FnMut(T) -> Value) -> Response {
    let items: Vec<Value> = listing.items.into_iter().map(show).collect();
    let next = listing.next.map(query::cursor_text);
    Json(json!({ "items": items, "next_cursor": next })).into_response()
}

/// A resource as JSON; what cannot be serialised would be a bug, not the client's fault.
fn resource(value: &impl serde::Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(|e| ApiError::internal(e.to_string()))
}

#[cfg(test)]
mod tests;

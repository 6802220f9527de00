//! The server, put together: load settings, build the parts, spawn their loops, shut them down in order.
//!
//! Two runtimes: the control plane (REST, store, scheduler, heartbeat) has two threads of its own, so
//! that guests, which run on the other with a thread a core and give way to it, never starve it.

mod build;
mod database;
mod files;
mod keys;
mod reload;
mod start_code;
mod stop;
pub mod threads;

pub use database::{postgres_options, relay};

use crate::settings::{Settings, SettingsError};
use crate::telemetry::Export;
use horarium_core::caretaker::Kept;
use horarium_core::executor::Executor;
use horarium_core::service::Services;
use horarium_core::store::StoreError;
use horarium_sandbox::SandboxError;
use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use stop::{Signals, Wish};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The first argument that makes this binary a compile worker instead of a server.
pub const WORKER_ARGUMENT: &str = "__compile-worker";
/// Version of this binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long the runtimes may take to let go of what still blocks them.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(2);

/// Why the server does not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file or directory cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why, and what would be right.
        reason: String,
    },
    /// The database cannot be used.
    #[error("{0}")]
    Store(String),
    /// The engine cannot be used.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The operating system refused something basic.
    #[error("{0}")]
    System(String),
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        Self::Store(format!("the database: {error}"))
    }
}

/// Builds servers.
#[derive(Debug)]
pub struct App;

/// A server at work. Dropping it without [`Running::stop`] is like a crash: safe, but what ran is run
/// again.
pub struct Running {
    // Fields are dropped in this order: nothing of the control plane outlives its runtime.
    parts: Built,
    control: Runtime,
    guests: Runtime,
}

/// What is spawned on the control runtime.
struct Built {
    address: SocketAddr,
    token: String,
    settings: Settings,
    database: database::Database,
    executor: Arc<Executor>,
    services: Services,
    export: Export,
    ready: Arc<AtomicBool>,
    kept: watch::Sender<Kept>,
    work: CancellationToken,
    api: CancellationToken,
    working: Vec<JoinHandle<()>>,
    serving: JoinHandle<()>,
}

impl App {
    /// Opens everything, takes over what a dead predecessor left, and starts serving.
    ///
    /// # Errors
    /// The first part that cannot be used; nothing keeps running then.
    pub fn build(settings: Settings) -> Result<Running, AppError> {
        let no_threads = |e| AppError::System(format!("cannot start threads: {e}"));
        let control = threads::control().map_err(no_threads)?;
        let guests = threads::guests().map_err(no_threads)?;
        let parts = control.block_on(build::build(settings, guests.handle().clone()))?;
        Ok(Running {
            parts,
            control,
            guests,
        })
    }

    /// Whether what the settings name beside the database can be used: certificate and key, the keys of secrets, the
    /// data directory.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(settings: &Settings) -> Result<(), AppError> {
        build::tls(settings)?;
        keys::keyring(settings)?;
        files::check_data_dir(&settings.data_dir)
    }

    /// Serves until SIGTERM or SIGINT: then nothing new starts, what runs may finish within the grace
    /// period, and the rest is handed back. A second signal hands back at once. On SIGHUP the settings are read
    /// `again`, and what can be is brought into force. A service manager is told of all three.
    ///
    /// # Errors
    /// As [`App::build`].
    pub fn serve(
        settings: Settings,
        again: impl Fn() -> Result<Settings, SettingsError>,
    ) -> Result<(), AppError> {
        let mut running = Self::build(settings)?;
        let mut signals = {
            let _entered = running.control.enter();
            Signals::listen()?
        };
        running.control.spawn(start_code::release_once_settled());
        reload::tell(&[NotifyState::Ready]);
        let Running { control, parts, .. } = &mut running;
        control.block_on(async {
            while signals.next().await == Wish::Reload {
                reload::reload(parts, again());
            }
        });
        reload::tell(&[NotifyState::Stopping]);
        tracing::info!("stopping: running executions may finish; a second signal stops at once");
        running.stop_with(Some(signals))
    }
}

impl Running {
    /// Where it serves: `http://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        files::url_of(
            self.parts.address,
            self.parts.settings.tls_certificate.is_some(),
        )
    }

    /// The admin token.
    pub fn token(&self) -> &str {
        &self.parts.token
    }

    /// The operations, for callers in this process.
    pub fn services(&self) -> &Services {
        &self.parts.services
    }

    /// The control plane's runtime.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        self.control.handle()
    }

    /// Drains and stops.
    ///
    /// # Errors
    /// When the database could not be closed in order.
    pub fn stop(self) -> Result<(), AppError> {
        self.stop_with(None)
    }

    fn stop_with(self, signals: Option<Signals>) -> Result<(), AppError> {
        let Self {
            parts,
            control,
            guests,
        } = self;
        let outcome = control.block_on(parts.stop(signals));
        guests.shutdown_timeout(RUNTIME_PATIENCE);
        control.shutdown_timeout(RUNTIME_PATIENCE);
        outcome
    }
}

#[cfg(test)]
mod tests;

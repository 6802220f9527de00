//! The end of a server: drain, hand back, close, in this order.

use super::{AppError, Built, files};
use horarium_core::control::StopReason;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a second signal leaves for handing back what runs.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// SIGTERM, SIGINT and SIGHUP.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The end.
    Stop,
    /// To read the settings again.
    Reload,
}

impl Signals {
    /// Begins to listen; needs a runtime.
    pub(super) fn listen() -> Result<Self, AppError> {
        let listen = |kind| {
            signal(kind).map_err(|e| AppError::System(format!("cannot listen for signals: {e}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }
}

impl Built {
    /// Nothing new starts; what runs may finish within the grace period, then it is handed back; a
    /// signal meanwhile hands back at once. The API answers until that is done.
    pub(super) async fn stop(self, signals: Option<Signals>) -> Result<(), AppError> {
        self.ready.store(false, Ordering::Release);
        self.work.cancel();
        let executor = self.executor.clone();
        let drained = async {
            for task in self.working {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a part of the server broke off");
                }
            }
        };
        let impatient = async {
            match signals {
                Some(mut signals) => while signals.next().await == Wish::Reload {},
                None => std::future::pending().await,
            }
            tracing::warn!("stopping at once: what runs is handed back");
            executor.stop_all(StopReason::Shutdown);
            tokio::time::sleep(LAST_MOMENT).await;
        };
        tokio::select! {
            () = drained => {}
            () = impatient => tracing::error!("some executions could not be handed back; the next start takes them over"),
        }
        self.api.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the API broke off");
        }
        self.services.audit.settle().await;
        files::remove_server_file(&self.settings.data_dir);
        let closed = self.database.close().await;
        if closed.is_ok() {
            tracing::info!("stopped");
        }
        self.export.finish().await;
        Ok(closed?)
    }
}

//! What keeps one host process from going on: it is stopped (SIGSTOP, a paused machine), or cut off from the
//! database.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// The gate of one host process.
#[derive(Debug)]
pub struct Gate {
    frozen: watch::Sender<bool>,
    cut: AtomicBool,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            frozen: watch::channel(false).0,
            cut: AtomicBool::new(false),
        }
    }
}

impl Gate {
    /// Stops the process between two instructions, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Cuts the process off from the database, or mends that.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Release);
    }

    /// Whether the database cannot be reached.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Waits as long as the process is stopped.
    pub async fn pass(&self) {
        // The sender lives as long as this gate.
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
    }
}

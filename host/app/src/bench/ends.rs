//! Waiting until everything that was enqueued has ended.

use super::BenchError;
use horarium_core::observe::{Observer, Recorded};
use horarium_model::State;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest time without a single recorded end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts recorded ends.
pub(super) struct Ends {
    wanted: u64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    done: Notify,
}

impl Observer for Ends {
    fn recorded(&self, event: &Recorded<'_>) {
        let counter = match event.state {
            State::Succeeded => &self.succeeded,
            _ => &self.failed,
        };
        counter.fetch_add(1, Ordering::AcqRel);
        if self.ended() >= self.wanted {
            self.done.notify_one();
        }
    }
}

impl Ends {
    /// Waits for so many.
    pub(super) fn wanted(count: usize) -> Self {
        Self {
            wanted: count as u64,
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            done: Notify::new(),
        }
    }

    fn ended(&self) -> u64 {
        self.succeeded.load(Ordering::Acquire) + self.failed.load(Ordering::Acquire)
    }

    /// Whether anything ended.
    pub(super) fn any(&self) -> bool {
        self.ended() > 0
    }

    /// Waits for the last end, as long as there is any progress.
    pub(super) async fn all(&self) -> Result<(), BenchError> {
        loop {
            let before = self.ended();
            match tokio::time::timeout(PATIENCE, self.done.notified()).await {
                Ok(()) => break,
                Err(_) if self.ended() > before => {}
                Err(_) => {
                    let text = format!("the queue stands still at {before} of {}", self.wanted);
                    return Err(BenchError::Failed(text));
                }
            }
        }
        match self.failed.load(Ordering::Acquire) {
            0 => Ok(()),
            failed => Err(BenchError::Refused(format!(
                "{failed} executions did not succeed; measure a plugin that succeeds with these parameters"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_model::Trigger;

    #[tokio::test]
    async fn all_ends_are_waited_for_and_failures_told() {
        let ends = Ends::wanted(2);
        for state in [State::Succeeded, State::Failed] {
            ends.recorded(&Recorded {
                task_type: "t",
                trigger: Trigger::Batch,
                state,
                error_kind: None,
                usage: &horarium_model::Usage::default(),
                run: None,
            });
        }
        let told = ends.all().await.map_err(|error| error.to_string());
        assert!(told.is_err_and(|text| text.starts_with("1 executions")));
    }
}

//! The circuit breaker of a type that keeps failing: what the end of an attempt does to it, decided alike by
//! every store. A type that works has no row, so that a success costs nothing.

use super::{Completion, End};
use horarium_model::task_type::Breaker;
use horarium_model::{ErrorKind, ExecutionId, Timestamp};

/// What is kept of a type whose last attempts failed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BreakerRow {
    /// Failed attempts in a row.
    pub failures: u32,
    /// When it opened; none while it only counts.
    pub opened_at: Option<Timestamp>,
    /// When one is let through.
    pub probe_at: Option<Timestamp>,
    /// How long it waited before that.
    pub pause_seconds: u32,
    /// The execution that was let through last.
    pub probe_id: Option<ExecutionId>,
    /// Class of the last failure.
    pub error_kind: Option<ErrorKind>,
    /// Message of the last failure.
    pub error_message: Option<String>,
}

/// What the end of an attempt says of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It works: it succeeded, or reported its failure itself.
    Works,
    /// It broke, as seen from the host.
    Broke(ErrorKind),
    /// Nothing: it was stopped, or never came to run.
    Unknown,
}

impl Health {
    /// What a completion says.
    pub fn of(item: &Completion) -> Self {
        match &item.end {
            End::Succeeded(_) => Self::Works,
            End::Cancelled => Self::Unknown,
            End::Failed | End::Retry(_) => match item.record.error_kind {
                Some(ErrorKind::Retryable | ErrorKind::Permanent) => Self::Works,
                Some(kind) if kind.breaks() => Self::Broke(kind),
                _ => Self::Unknown,
            },
        }
    }
}

impl BreakerRow {
    /// The row after the end of one attempt; none when the type works.
    #[must_use]
    pub fn after(row: Option<Self>, now: Timestamp, item: &Completion) -> Option<Self> {
        let kind = match Health::of(item) {
            Health::Works => return None,
            Health::Unknown => return row,
            Health::Broke(kind) => kind,
        };
        let mut row = row.unwrap_or_default();
        row.failures = row.failures.saturating_add(1);
        row.error_kind = Some(kind);
        row.error_message.clone_from(&item.record.error_message);
        if row.opened_at.is_none() && row.failures >= Breaker::OPENS_AFTER {
            row.opened_at = Some(now);
            row.wait(now, Breaker::FIRST_PAUSE_SECONDS);
        } else if row.opened_at.is_some() && row.probe_id == Some(item.id) {
            row.wait(now, Breaker::next_pause(row.pause_seconds));
        }
        Some(row)
    }

    fn wait(&mut self, now: Timestamp, pause_seconds: u32) {
        self.pause_seconds = pause_seconds;
        self.probe_at = Some(now + chrono::Duration::seconds(pause_seconds.into()));
        self.probe_id = None;
    }

    /// As every surface shows it, once it is open.
    pub fn shown(&self) -> Option<Breaker> {
        Some(Breaker {
            failures: self.failures,
            opened_at: self.opened_at?,
            probe_at: self.probe_at?,
            pause_seconds: self.pause_seconds,
            error_kind: self.error_kind,
            error_message: self.error_message.clone(),
        })
    }
}

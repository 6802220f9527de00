//! Logs of an execution: what is stored of ended attempts, then what the attempt in progress wrote so
//! far. A cursor survives the moment at which live lines become stored ones.

use super::{Executions, ServiceResult};
use crate::store::Page;
use horarium_model::execution::LogLine;
use horarium_model::{TaskId, TenantId};

/// How far a reader got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCursor {
    /// Stored lines seen.
    pub stored: i64,
    /// The claim whose live lines were seen last; 0 = none.
    pub live_claim: u32,
    /// Its next line.
    pub live_line: u64,
}

impl LogCursor {
    /// The opaque text form.
    pub fn to_text(self) -> String {
        format!("{}.{}.{}", self.stored, self.live_claim, self.live_line)
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let cursor = Self {
            stored: parts.next()?.parse().ok().filter(|n| *n >= 0)?,
            live_claim: parts.next()?.parse().ok()?,
            live_line: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(cursor)
    }

    fn has_seen(&self, line: &LogLine) -> bool {
        line.attempt == self.live_claim && line.line < self.live_line
    }
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogPage {
    /// Lines in order.
    pub items: Vec<LogLine>,
    /// Where to go on; none when the execution has ended and all was read.
    pub next: Option<LogCursor>,
}

impl Executions {
    /// The next `limit` lines after `cursor`, of one attempt (as the lines name it) or of all. While the execution lives there is always a cursor to ask
    /// again with.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn logs(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        attempt: Option<u32>,
        cursor: LogCursor,
        limit: u32,
    ) -> ServiceResult<LogPage> {
        let wanted = |line: &LogLine| attempt.is_none_or(|attempt| line.attempt == attempt);
        // Taken in this order an attempt that ends meanwhile is seen as stored or as live, never as neither.
        let execution = self.find(tenant, task_id).await?;
        let live = self.0.live.control_of(task_id);
        let mut at = cursor;
        let mut items = Vec::new();
        let mut newest_stored_claim = 0;
        loop {
            let page = Page {
                limit,
                after: (at.stored > 0).then_some(at.stored),
            };
            let stored = self.0.store.logs(tenant, task_id, &page).await?;
            let more = stored.next.is_some();
            for line in stored.items {
                if items.len() >= limit as usize {
                    return Ok(LogPage {
                        items,
                        next: Some(at),
                    });
                }
                at.stored += 1;
                newest_stored_claim = line.attempt.max(newest_stored_claim);
                if wanted(&line) && !at.has_seen(&line) {
                    items.push(line);
                }
            }
            if !more {
                break;
            }
        }
        if let Some(control) = &live {
            let from = |line: &LogLine| !at.has_seen(line) && line.attempt > newest_stored_claim;
            let fresh: Vec<LogLine> = control
                .log
                .lines_from(0)
                .into_iter()
                .filter(|line| from(line) && wanted(line))
                .take((limit as usize).saturating_sub(items.len()))
                .collect();
            if let Some(last) = fresh.last() {
                (at.live_claim, at.live_line) = (last.attempt, last.line + 1);
            }
            items.extend(fresh);
        }
        let finished = execution.state.is_end() && live.is_none();
        Ok(LogPage {
            items,
            next: (!finished).then_some(at),
        })
    }
}

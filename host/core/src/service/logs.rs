//! Logs and outgoing requests of an execution: what is stored of ended attempts, then what the attempt in
//! progress told so far. A cursor survives the moment at which live pieces become stored ones.

use super::{Executions, ServiceResult};
use crate::control::RunControl;
use crate::store::{Listing, Page, Store, StoreResult};
use horarium_model::execution::{HttpCall, LogLine};
use horarium_model::{TaskId, TenantId};

/// What an attempt leaves one after the other: a line, a request.
#[async_trait::async_trait]
trait Piece: Sized + Send {
    /// The claim it belongs to, and its number there.
    fn place(&self) -> (u32, u64);

    async fn stored(
        store: &dyn Store,
        tenant: TenantId,
        task_id: TaskId,
        page: &Page,
    ) -> StoreResult<Listing<Self>>;

    fn live(control: &RunControl) -> Vec<Self>;
}

#[async_trait::async_trait]
impl Piece for LogLine {
    fn place(&self) -> (u32, u64) {
        (self.attempt, self.line)
    }

    async fn stored(
        store: &dyn Store,
        tenant: TenantId,
        task_id: TaskId,
        page: &Page,
    ) -> StoreResult<Listing<Self>> {
        store.logs(tenant, task_id, page).await
    }

    fn live(control: &RunControl) -> Vec<Self> {
        control.log.lines_from(0)
    }
}

#[async_trait::async_trait]
impl Piece for HttpCall {
    fn place(&self) -> (u32, u64) {
        (self.attempt, self.call)
    }

    async fn stored(
        store: &dyn Store,
        tenant: TenantId,
        task_id: TaskId,
        page: &Page,
    ) -> StoreResult<Listing<Self>> {
        store.http_calls(tenant, task_id, page).await
    }

    fn live(control: &RunControl) -> Vec<Self> {
        control.calls()
    }
}

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

    fn has_seen(&self, piece: &impl Piece) -> bool {
        let (claim, number) = piece.place();
        claim == self.live_claim && number < self.live_line
    }
}

/// A page of a log, or of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct LogPage<T = LogLine> {
    /// Lines, or requests, in order.
    pub items: Vec<T>,
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
        self.pieces(tenant, task_id, attempt, cursor, limit).await
    }

    /// The next `limit` outgoing requests after `cursor`, as [`Executions::logs`] does.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn http_calls(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        cursor: LogCursor,
        limit: u32,
    ) -> ServiceResult<LogPage<HttpCall>> {
        self.pieces(tenant, task_id, None, cursor, limit).await
    }

    async fn pieces<T: Piece>(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        attempt: Option<u32>,
        cursor: LogCursor,
        limit: u32,
    ) -> ServiceResult<LogPage<T>> {
        let wanted = |piece: &T| attempt.is_none_or(|attempt| piece.place().0 == attempt);
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
            let stored = T::stored(&*self.0.store, tenant, task_id, &page).await?;
            let more = stored.next.is_some();
            for line in stored.items {
                if items.len() >= limit as usize {
                    return Ok(LogPage {
                        items,
                        next: Some(at),
                    });
                }
                at.stored += 1;
                newest_stored_claim = line.place().0.max(newest_stored_claim);
                if wanted(&line) && !at.has_seen(&line) {
                    items.push(line);
                }
            }
            if !more {
                break;
            }
        }
        if let Some(control) = &live {
            let from = |piece: &T| !at.has_seen(piece) && piece.place().0 > newest_stored_claim;
            let fresh: Vec<T> = T::live(control)
                .into_iter()
                .filter(|line| from(line) && wanted(line))
                .take((limit as usize).saturating_sub(items.len()))
                .collect();
            if let Some(last) = fresh.last() {
                let (claim, number) = last.place();
                (at.live_claim, at.live_line) = (claim, number + 1);
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

//! What happens to a tenant's tasks, executions and plugins, told as it happens, from every host of the database. Nothing
//! is written for it: a stream asks what the rows say anyway, once a second, while somebody listens. It can be taken up
//! again where it was left, by any host: a place is an id of executions and an instant, before which all was told.
//!
//! Everything is told at least once. What commits late (ids are given before the commit, instants are those of several
//! clocks) is found because each look begins a little before the end of the one before.

mod event;
mod stream;
mod told;

pub use event::{EVENT_KINDS, Event, ExecutionEvent, TaskEvent};
pub use stream::EventStream;

use super::{Context, ServiceResult};
use crate::store::{ExecutionFilter, Listing, NewsMark, Page};
use horarium_model::{ExecutionId, TenantId, Timestamp};

/// A place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPlace {
    id: ExecutionId,
    at: Timestamp,
}

impl EventPlace {
    /// The opaque text form.
    pub fn to_text(self) -> String {
        format!("{:x}-{:x}", self.id, self.at.timestamp_micros())
    }

    /// Where the reading of executions begins.
    fn mark(self) -> NewsMark {
        NewsMark {
            id: self.id,
            ended_at: self.at,
            ended_id: 0,
        }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |part: &str| {
            let plain = !part.starts_with(['+', '-']);
            i64::from_str_radix(part, 16).ok().filter(|_| plain)
        };
        let (id, at) = text.split_once('-')?;
        Some(Self {
            id: number(id)?,
            at: Timestamp::from_timestamp_micros(number(at)?)?,
        })
    }
}

/// Streams of events.
#[derive(Clone)]
pub struct Events(pub(super) Context);

impl Events {
    /// A stream of a tenant's events: from `after` on, else from now. With a filter only of executions that fit it as
    /// they stand when they are told of.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn follow(
        &self,
        tenant: TenantId,
        after: Option<EventPlace>,
        filter: Option<ExecutionFilter>,
    ) -> ServiceResult<EventStream> {
        let now = self.0.clock.now();
        let place = match after {
            Some(place) => place,
            None => {
                let newest = Page::first(1);
                let filter = ExecutionFilter::default();
                let Listing { items, .. } =
                    self.0.store.executions(tenant, &filter, &newest).await?;
                EventPlace {
                    id: items.first().map_or(0, |newest| newest.id),
                    at: now,
                }
            }
        };
        let mut stream = EventStream::at(self.0.clone(), tenant, place, filter);
        stream.take_stock(after.is_some()).await?;
        Ok(stream)
    }
}

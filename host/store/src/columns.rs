//! How values become columns and back, the same for every database.

use horarium_core::store::{AuditEntry, Listing, Page, StoreError, StoreResult};
use horarium_model::execution::{AttemptRecord, Execution, Progress};
use horarium_model::limits::LimitOverrides;
use horarium_model::{Limits, Timestamp, Usage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::str::FromStr;

/// Text in one statement; a batch with more goes in several.
pub(crate) const STATEMENT_BYTES: usize = 16 << 20;

/// An instant as it is stored.
pub(crate) fn micros(instant: Timestamp) -> i64 {
    instant.timestamp_micros()
}

/// An optional instant as it is stored.
pub(crate) fn opt_micros(instant: Option<Timestamp>) -> Option<i64> {
    instant.map(micros)
}

/// Where a value was read from, for the message when it makes no sense.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) table: &'static str,
    pub(crate) id: i64,
}

impl Place {
    /// The error of a row that holds what was never written.
    pub(crate) fn corrupt(self, column: &str, what: impl std::fmt::Display) -> StoreError {
        StoreError::Internal(format!(
            "row {} of {} is damaged: {column}: {what}",
            self.id, self.table
        ))
    }

    pub(crate) fn instant(self, column: &str, micros: i64) -> StoreResult<Timestamp> {
        Timestamp::from_timestamp_micros(micros)
            .ok_or_else(|| self.corrupt(column, format_args!("{micros} is no instant")))
    }

    pub(crate) fn opt_instant(
        self,
        column: &str,
        micros: Option<i64>,
    ) -> StoreResult<Option<Timestamp>> {
        micros.map(|m| self.instant(column, m)).transpose()
    }

    pub(crate) fn word<T: FromStr<Err: std::fmt::Display>>(
        self,
        column: &str,
        text: &str,
    ) -> StoreResult<T> {
        text.parse().map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn opt_word<T: FromStr<Err: std::fmt::Display>>(
        self,
        column: &str,
        text: Option<&str>,
    ) -> StoreResult<Option<T>> {
        text.map(|t| self.word(column, t)).transpose()
    }

    pub(crate) fn json<T: DeserializeOwned>(self, column: &str, text: &str) -> StoreResult<T> {
        serde_json::from_str(text).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn opt_json<T: DeserializeOwned>(
        self,
        column: &str,
        text: Option<&str>,
    ) -> StoreResult<Option<T>> {
        text.map(|t| self.json(column, t)).transpose()
    }

    pub(crate) fn small<T: TryFrom<i64>>(self, column: &str, number: i64) -> StoreResult<T> {
        T::try_from(number)
            .map_err(|_| self.corrupt(column, format_args!("{number} is out of range")))
    }
}

/// JSON text of a value that always has one.
pub(crate) fn text<T: Serialize>(value: &T) -> StoreResult<String> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Internal(format!("cannot be written as JSON: {error}")))
}

/// Borrows JSON text as a part of a larger document, checked.
pub(crate) fn raw(text: &str) -> StoreResult<&RawValue> {
    serde_json::from_str(text).map_err(|error| {
        StoreError::Internal(format!("parameters or result are not JSON: {error}"))
    })
}

/// What an attempt used and what it was allowed, one document in the column `usage`. Limits are kept where
/// they differ from the default.
#[derive(Serialize)]
pub(crate) struct Measured<'a> {
    #[serde(flatten)]
    usage: &'a Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<LimitOverrides>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u32>,
}

impl<'a> Measured<'a> {
    /// Of an attempt that ran.
    pub(crate) fn of(record: &'a AttemptRecord) -> Option<Self> {
        record.usage.as_ref().map(|usage| Self {
            usage,
            limits: record.limits.map(|limits| limits.stated()),
            timeout_seconds: record.timeout_seconds,
        })
    }
}

/// [`Measured`] as it is read.
#[derive(Deserialize)]
pub(crate) struct MeasuredRow {
    #[serde(flatten)]
    pub(crate) usage: Usage,
    limits: Option<LimitOverrides>,
    pub(crate) timeout_seconds: Option<u32>,
}

impl MeasuredRow {
    pub(crate) fn limits(&self) -> Option<Limits> {
        self.limits.map(|stated| stated.complete())
    }
}

/// What an ended attempt writes, in the order of [`ATTEMPT_FIELDS`].
#[derive(Serialize)]
pub(crate) struct AttemptRow<'a>(
    pub(crate) i64,
    u32,
    u32,
    &'static str,
    i64,
    i64,
    f64,
    Option<&'static str>,
    Option<&'a str>,
    Option<&'a str>,
    Option<&'a str>,
    Option<&'a serde_json::Value>,
    Option<Measured<'a>>,
    Option<&'a str>,
    Option<&'a str>,
);

impl<'a> AttemptRow<'a> {
    pub(crate) fn new(execution_id: i64, record: &'a AttemptRecord) -> Self {
        Self(
            execution_id,
            record.claim,
            record.attempt,
            record.outcome.as_str(),
            micros(record.started_at),
            micros(record.completed_at),
            horarium_core::store::rules::duration_seconds(record),
            record.error_kind.map(|kind| kind.as_str()),
            record.error_message.as_deref(),
            record.error_traceback.as_deref(),
            record.error_code.as_deref(),
            record.error_details.as_ref(),
            Measured::of(record),
            record.plugin_digest.as_deref(),
            record.host.as_deref(),
        )
    }
}

/// A progress report as JSON text.
pub(crate) fn progress_text(progress: &Progress) -> StoreResult<String> {
    text(progress)
}

/// A page out of the items of one more than it may have.
pub(crate) fn cut<T>(mut items: Vec<T>, page: &Page, id: impl Fn(&T) -> i64) -> Listing<T> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().map(id).filter(|_| more);
    Listing { items, next }
}

/// The halves of a list, both in the order of their ids, as one of at most `limit`.
pub(crate) fn by_id(live: Vec<Execution>, ended: Vec<Execution>, limit: u32) -> Vec<Execution> {
    let mut all = live;
    all.extend(ended);
    all.sort_by_key(|execution| execution.id);
    // Its end may have come between the reads of the two halves.
    all.dedup_by_key(|execution| execution.id);
    all.truncate(limit as usize);
    all
}

/// A page of what is counted rather than keyed, out of one more than it may have.
pub(crate) fn cut_counted<T>(mut items: Vec<T>, page: &Page) -> Listing<T> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let shown = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let next = more.then(|| seen(page).saturating_add(shown));
    Listing { items, next }
}

/// Items that the pages before showed.
pub(crate) fn seen(page: &Page) -> i64 {
    page.after.unwrap_or(0).max(0)
}

/// Entries of the audit log as one JSON array of arrays, and the least id of the first.
pub(crate) fn audit_rows(entries: &[AuditEntry]) -> StoreResult<(String, i64)> {
    let rows: Vec<_> = entries
        .iter()
        .map(|e| {
            serde_json::json!([
                micros(e.at),
                e.tenant_id,
                e.token_id,
                e.actor,
                e.role,
                e.action,
                e.method,
                e.target,
                e.status,
                e.request_id,
                e.address,
                e.host
            ])
        })
        .collect();
    Ok((text(&rows)?, entries.first().map_or(0, |e| micros(e.at))))
}

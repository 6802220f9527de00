//! Recording successes that nothing stands against in one statement, which is its own transaction.

use super::complete::{Arrays, Documents, pieces_text, record};
use super::sql;
use super::tx::{PgResult, Tidings};
use crate::care::Usages;
use crate::columns::{STATEMENT_BYTES, progress_text};
use crate::settle::Ended;
use horarium_core::store::rules::Settled;
use horarium_core::store::{Completion, CompletionReceipt, End, Tally};
use horarium_model::Timestamp;
use horarium_model::execution::State;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use std::collections::HashSet;

/// Whether [`complete_plain`] is worth a try.
pub(super) fn may_be_plain(items: &[Completion]) -> bool {
    let Some(first) = items.first() else {
        return false;
    };
    let distinct: HashSet<i64> = items.iter().map(|item| item.id).collect();
    distinct.len() == items.len()
        && items.iter().all(|item| {
            matches!(item.end, End::Succeeded(_))
                && item.incarnation == first.incarnation
                && item.state.is_none()
                && item.calls.is_empty()
                && !item.chained
        })
}

/// Records what [`may_be_plain`] in one statement; none when something stands against it, and nothing was done.
pub(super) async fn complete_plain(
    connection: &mut PgConnection,
    now: Timestamp,
    items: &[Completion],
) -> PgResult<Option<(Vec<CompletionReceipt>, Tidings)>> {
    let Some(first) = items.first() else {
        return Ok(None);
    };
    let mut ends = Vec::with_capacity(items.len());
    let (mut usages, mut logs) = (Usages::default(), Arrays::default());
    for item in items {
        debug_assert!(State::may_become(Some(State::Running), State::Succeeded));
        let settled = Settled::decide(item, false, false);
        let tally = Tally::of_end(item, settled.state);
        usages.add(item.tenant_id, &item.task_type, item.incarnation, &tally);
        if !item.logs.is_empty() {
            let attempt = (item.tenant_id, item.id, item.claim);
            logs.push(attempt, pieces_text(&item.logs)?);
        }
        ends.push(Ended {
            item,
            settled,
            progress: item.progress.as_ref().map(progress_text).transpose()?,
        });
    }
    let results = ends.iter().filter_map(Ended::result);
    if logs.bytes() + results.map(|text| text.len()).sum::<usize>() > STATEMENT_BYTES {
        return Ok(None);
    }
    let documents = Documents::of(&ends)?;
    let tasks: Vec<String> = items.iter().map(|item| item.task_id.to_string()).collect();
    let recording = record(sql::RECORD_PLAIN, &ends, &documents)
        .bind(tasks)
        .bind(first.incarnation)
        .bind(usages.rows(now)?.unwrap_or_else(|| "[]".to_owned()));
    let (is_done,): (bool,) =
        FromRow::from_row(&logs.bind(recording).fetch_one(connection).await?)?;
    if !is_done {
        return Ok(None);
    }
    let receipts = ends.iter();
    let receipts = receipts.map(|ended| CompletionReceipt::Recorded(ended.settled.state));
    Ok(Some((receipts.collect(), Tidings::default())))
}

//! Answers to requests that may be repeated (rule E8).

use super::rows::Reader;
use super::tx::Tx;
use super::{db, sql};
use crate::columns::micros;
use horarium_core::store::{KeptAnswer, KeyedRequest, StoreResult, rules};
use horarium_model::{TenantId, Timestamp};
use sqlx::sqlite::SqliteConnection;

/// The answer kept under a key that was used within the day before `now`.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    now: Timestamp,
    tenant: TenantId,
    key: &str,
) -> StoreResult<Option<KeptAnswer>> {
    let row = sqlx::query(sql::ANSWER)
        .bind(tenant)
        .bind(key)
        .bind(micros(rules::answers_from(now)))
        .fetch_optional(connection)
        .await
        .map_err(db)?;
    let read = |row| crate::rows::kept_answer(&mut Reader::plain(row, "request_answers"));
    row.as_ref().map(read).transpose()
}

/// Keeps the answer of a request, unless it was refused.
pub(super) async fn keep<T>(
    tx: &mut Tx,
    now: Timestamp,
    request: Option<&KeyedRequest<T>>,
    done: &T,
) -> StoreResult<()> {
    let Some(request) = request else {
        return Ok(());
    };
    if let Some(answer) = (request.answer)(done) {
        sqlx::query(sql::KEEP_ANSWER)
            .bind(request.tenant_id)
            .bind(&request.key)
            .bind(&request.hash)
            .bind(i64::from(answer.status))
            .bind(&*answer.body)
            .bind(micros(now))
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}

/// `Queue::purge_answers`.
pub(super) async fn purge(tx: &mut Tx, now: Timestamp, limit: u32) -> StoreResult<u64> {
    let done = sqlx::query(sql::PURGE_ANSWERS)
        .bind(micros(rules::answers_from(now)))
        .bind(limit)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(done.rows_affected())
}

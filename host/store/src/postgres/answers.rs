//! Answers to requests that may be repeated (rule E8).

use super::rows::Reader;
use super::sql;
use super::tx::{Fault, PgResult, Tx, query};
use crate::columns::micros;
use horarium_core::store::{KeptAnswer, KeyedRequest, rules};
use horarium_model::{TenantId, Timestamp};
use sqlx::postgres::PgConnection;

/// The answer kept under a key that was used within the day before `now`.
pub(super) async fn find(
    connection: &mut PgConnection,
    now: Timestamp,
    tenant: TenantId,
    key: &str,
) -> PgResult<Option<KeptAnswer>> {
    let row = query(sql::ANSWER)
        .bind(tenant)
        .bind(key)
        .bind(micros(rules::answers_from(now)))
        .fetch_optional(connection)
        .await?;
    let read = |row| crate::rows::kept_answer(&mut Reader::plain(row, "request_answers"));
    Ok(row.as_ref().map(read).transpose()?)
}

/// Keeps the answer of a request, unless it was refused. If another host answered the same request meanwhile
/// the transaction is run anew and finds its answer.
pub(super) async fn keep<T>(
    tx: &mut Tx,
    now: Timestamp,
    request: Option<&KeyedRequest<T>>,
    done: &T,
) -> PgResult<()> {
    let Some(request) = request else {
        return Ok(());
    };
    let Some(answer) = (request.answer)(done) else {
        return Ok(());
    };
    let kept = query(sql::KEEP_ANSWER)
        .bind(request.tenant_id)
        .bind(&request.key)
        .bind(&request.hash)
        .bind(i32::from(answer.status))
        .bind(&*answer.body)
        .bind(micros(now))
        .bind(micros(rules::answers_from(now)))
        .execute(tx.connection())
        .await?;
    match kept.rows_affected() {
        0 => Err(Fault::Again),
        _ => Ok(()),
    }
}

/// `Queue::purge_answers`.
pub(super) async fn purge(tx: &mut Tx, now: Timestamp, limit: u32) -> PgResult<u64> {
    let done = query(sql::PURGE_ANSWERS)
        .bind(micros(rules::answers_from(now)))
        .bind(i64::from(limit))
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected())
}

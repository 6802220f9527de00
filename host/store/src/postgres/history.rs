//! What ran.

use super::enqueue::floor;
use super::rows::Cells as _;
use super::tx::{PgResult, kept, query, query_scalar};
use super::{PostgresStore, import, rows, sql};
use crate::columns::{by_id, cut, cut_counted, micros, seen};
use horarium_core::store::{
    EndedElsewhere, ExecutionFilter, History, Listing, News, NewsMark, Page, StoreResult,
};
use horarium_model::execution::{AttemptRecord, Execution, HttpCall, LogLine, State};
use horarium_model::{ExecutionId, TaskId, TenantId};
use serde::de::DeserializeOwned;
use sqlx::QueryBuilder;
use sqlx::postgres::{PgConnection, Postgres};
use std::sync::Arc;

#[async_trait::async_trait]
impl History for PostgresStore {
    async fn execution(&self, tenant: TenantId, task_id: TaskId) -> StoreResult<Option<Execution>> {
        self.read(move |connection| Box::pin(execution(connection, tenant, task_id)))
            .await
    }

    async fn executions(
        &self,
        tenant: TenantId,
        filter: &ExecutionFilter,
        page: &Page,
    ) -> StoreResult<Listing<Execution>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read(move |connection| {
            let (filter, page) = (filter.clone(), page.clone());
            Box::pin(async move { executions(connection, tenant, &filter, &page).await })
        })
        .await
    }

    async fn news(
        &self,
        tenant: TenantId,
        after: NewsMark,
        limit: u32,
        running: u32,
    ) -> StoreResult<News> {
        self.read(move |connection| {
            Box::pin(async move { news(connection, tenant, after, limit, running).await })
        })
        .await
    }

    async fn attempts(&self, tenant: TenantId, task_id: TaskId) -> StoreResult<Vec<AttemptRecord>> {
        self.read(move |connection| Box::pin(attempts(connection, tenant, task_id)))
            .await
    }

    async fn logs(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        page: &Page,
    ) -> StoreResult<Listing<LogLine>> {
        let page = page.clone();
        self.read(move |connection| {
            let page = page.clone();
            Box::pin(async move { pieces(connection, sql::LOGS, tenant, task_id, &page).await })
        })
        .await
    }

    async fn http_calls(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        page: &Page,
    ) -> StoreResult<Listing<HttpCall>> {
        let page = page.clone();
        self.read(move |connection| {
            let page = page.clone();
            Box::pin(async move { pieces(connection, sql::HTTP, tenant, task_id, &page).await })
        })
        .await
    }

    async fn take_in(
        &self,
        tenant: TenantId,
        items: Vec<EndedElsewhere>,
    ) -> StoreResult<Vec<bool>> {
        import::make_room(self, &items).await?;
        let items = Arc::new(items);
        self.write(move |tx| {
            let items = items.clone();
            Box::pin(async move { import::take_in(tx, tenant, &items).await })
        })
        .await
    }
}

async fn execution(
    connection: &mut PgConnection,
    tenant: TenantId,
    task_id: TaskId,
) -> PgResult<Option<Execution>> {
    let task = task_id.to_string();
    for oldest in [floor([task_id].iter()), i64::MIN] {
        let row = query(sql::EXECUTION)
            .bind(tenant)
            .bind(&task)
            .bind(oldest)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(row) = row {
            return Ok(Some(rows::execution(&row)?));
        }
    }
    Ok(None)
}

/// What happened; what runs is read first.
async fn news(
    connection: &mut PgConnection,
    tenant: TenantId,
    after: NewsMark,
    limit: u32,
    running: u32,
) -> PgResult<News> {
    let (since, limit, most) = (micros(after.ended_at), i64::from(limit), i64::from(running));
    let runs = query(sql::NEWS_RUNNING)
        .bind(tenant)
        .bind(most)
        .fetch_all(&mut *connection)
        .await?;
    let live = query(sql::NEWS_LIVE)
        .bind(tenant)
        .bind(after.id)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
    let fresh = query(sql::NEWS_CREATED)
        .bind(tenant)
        .bind(after.id)
        .bind(since)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
    let ended = query(sql::NEWS_ENDED)
        .bind(tenant)
        .bind(since)
        .bind(after.ended_id)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
    let read = |found: Vec<sqlx::postgres::PgRow>| {
        let all = found.iter().map(rows::execution);
        all.collect::<StoreResult<Vec<Execution>>>()
    };
    Ok(News {
        created: by_id(read(live)?, read(fresh)?, limit as u32),
        running: read(runs)?,
        ended: read(ended)?,
    })
}

/// The half of a list: what has not ended, or what has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Live,
    Ended,
}

impl Half {
    /// Whether it can hold any execution in these states; none = every state.
    fn holds(self, states: &[State]) -> bool {
        states.is_empty()
            || states
                .iter()
                .any(|state| state.is_end() == (self == Self::Ended))
    }
}

async fn executions(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &ExecutionFilter,
    page: &Page,
) -> PgResult<Listing<Execution>> {
    let limit = i64::from(page.limit) + 1;
    let before = page.after.unwrap_or(ExecutionId::MAX);
    let mut listing = QueryBuilder::<Postgres>::new("");
    for half in [Half::Live, Half::Ended] {
        if !half.holds(&filter.states) {
            continue;
        }
        if !listing.sql().as_str().is_empty() {
            listing.push(" UNION ALL ");
        }
        // Each half stops by itself, so that a page costs no more than its rows.
        listing.push("SELECT * FROM (");
        push_half(&mut listing, half, tenant, filter, before);
        listing.push(" ORDER BY l.id DESC LIMIT ").push_bind(limit);
        listing.push(") half");
    }
    listing.push(" ORDER BY 1 DESC LIMIT ").push_bind(limit);
    let found = listing
        .build()
        .persistent(kept())
        .fetch_all(connection)
        .await?;
    let items = found
        .iter()
        .map(rows::execution)
        .collect::<StoreResult<Vec<_>>>()?;
    Ok(cut(items, page, |execution| execution.id))
}

/// Writes one half of a list with its filter.
fn push_half(
    query: &mut QueryBuilder<Postgres>,
    half: Half,
    tenant: TenantId,
    filter: &ExecutionFilter,
    before: ExecutionId,
) {
    query.push(match half {
        Half::Live => sql::LIST_LIVE,
        Half::Ended => sql::LIST_ENDED,
    });
    query.push(" WHERE l.tenant_id = ").push_bind(tenant);
    query.push(" AND l.id < ").push_bind(before);
    if half == Half::Ended {
        query.push(" AND c.delete_history IS NOT TRUE");
    }
    if let Some(config) = filter.config_id {
        query.push(" AND l.config_id = ").push_bind(config);
        query.push(" AND c.id IS NOT NULL AND c.deleted_at IS NULL");
    }
    if let Some(task_type) = &filter.task_type {
        query
            .push(" AND l.task_type = ")
            .push_bind(task_type.clone());
    }
    push_states(query, &filter.states);
    if let Some(trigger) = filter.trigger {
        query.push(" AND l.trigger = ").push_bind(trigger.as_str());
    }
    if let Some(kind) = filter.error_kind {
        query.push(match half {
            Half::Live => " AND a.error_kind = ",
            Half::Ended => " AND l.error_kind = ",
        });
        query.push_bind(kind.as_str());
    }
    if let Some(text) = &filter.text {
        query.push(match half {
            Half::Live => " AND strpos(lower(a.error_message COLLATE \"C\"), ",
            Half::Ended => " AND strpos(lower(l.error_message COLLATE \"C\"), ",
        });
        query.push_bind(text.to_ascii_lowercase()).push(") > 0");
    }
    if half == Half::Ended && filter.is_of_trouble() {
        // Said in the words of the partial index of what went wrong, so that it is used.
        query.push(" AND l.state <> 'succeeded'");
    }
    if let Some(from) = filter.created_from {
        query.push(" AND l.created_at >= ").push_bind(micros(from));
    }
    if let Some(until) = filter.created_until {
        query.push(" AND l.created_at < ").push_bind(micros(until));
    }
}

fn push_states(query: &mut QueryBuilder<Postgres>, states: &[State]) {
    if states.is_empty() {
        return;
    }
    query.push(" AND l.state IN (");
    let mut list = query.separated(", ");
    for state in states {
        list.push_bind(state.as_str());
    }
    query.push(")");
}

/// The id of an execution that reads may show.
async fn visible(
    connection: &mut PgConnection,
    tenant: TenantId,
    task_id: TaskId,
) -> PgResult<Option<ExecutionId>> {
    let task = task_id.to_string();
    for oldest in [floor([task_id].iter()), i64::MIN] {
        let id = query_scalar(sql::VISIBLE)
            .bind(tenant)
            .bind(&task)
            .bind(oldest)
            .fetch_optional(&mut *connection)
            .await?;
        if id.is_some() {
            return Ok(id);
        }
    }
    Ok(None)
}

async fn attempts(
    connection: &mut PgConnection,
    tenant: TenantId,
    task_id: TaskId,
) -> PgResult<Vec<AttemptRecord>> {
    let Some(id) = visible(connection, tenant, task_id).await? else {
        return Ok(Vec::new());
    };
    let found = query(sql::ATTEMPTS)
        .bind(tenant)
        .bind(id)
        .fetch_all(connection)
        .await?;
    Ok(found
        .iter()
        .map(rows::attempt)
        .collect::<StoreResult<_>>()?)
}

/// What attempts left one after the other: lines of logs, requests.
async fn pieces<T: DeserializeOwned>(
    connection: &mut PgConnection,
    statement: &'static str,
    tenant: TenantId,
    task_id: TaskId,
    page: &Page,
) -> PgResult<Listing<T>> {
    let Some(id) = visible(connection, tenant, task_id).await? else {
        return Ok(cut_counted(Vec::new(), page));
    };
    let found = query(statement)
        .bind(tenant)
        .bind(id)
        .bind(i64::from(page.limit) + 1)
        .bind(seen(page))
        .fetch_all(connection)
        .await?;
    let piece = |row| rows::Reader::plain(row, "execution_logs, execution_http").json("lines");
    let items = found.iter().map(piece).collect::<StoreResult<_>>()?;
    Ok(cut_counted(items, page))
}

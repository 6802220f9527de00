//! What ran.

use super::rows::Cells as _;
use super::{SqliteStore, db, import, rows, sql};
use crate::columns::{by_id, cut, cut_counted, micros, seen};
use horarium_core::store::{
    EndedElsewhere, ExecutionFilter, History, Listing, News, NewsMark, Page, StoreResult,
};
use horarium_model::execution::{AttemptRecord, Execution, HttpCall, LogLine, State};
use horarium_model::{ExecutionId, TaskId, TenantId};
use serde::de::DeserializeOwned;
use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{QueryBuilder, Row};
use std::sync::Arc;

#[async_trait::async_trait]
impl History for SqliteStore {
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
            Box::pin(async move { pieces(connection, sql::HTTP, tenant, task_id, &page).await })
        })
        .await
    }

    async fn take_in(
        &self,
        tenant: TenantId,
        items: Vec<EndedElsewhere>,
    ) -> StoreResult<Vec<bool>> {
        let items = Arc::new(items);
        self.write(move |tx| {
            let items = items.clone();
            Box::pin(async move { import::take_in(tx, tenant, &items).await })
        })
        .await
    }
}

async fn execution(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    task_id: TaskId,
) -> StoreResult<Option<Execution>> {
    let row = sqlx::query(sql::EXECUTION)
        .bind(tenant)
        .bind(task_id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(db)?;
    row.as_ref().map(rows::execution).transpose()
}

/// What happened; what runs is read first.
async fn news(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    after: NewsMark,
    limit: u32,
    running: u32,
) -> StoreResult<News> {
    let since = micros(after.ended_at);
    let of = |statement: &'static str| sqlx::query(statement).bind(tenant);
    let runs = of(sql::NEWS_RUNNING).bind(running);
    let running = found(&mut *connection, runs).await?;
    let live = of(sql::NEWS_LIVE).bind(after.id).bind(limit);
    let live = found(&mut *connection, live).await?;
    let fresh = of(sql::NEWS_CREATED).bind(after.id).bind(since).bind(limit);
    let fresh = found(&mut *connection, fresh).await?;
    let ended = of(sql::NEWS_ENDED)
        .bind(since)
        .bind(after.ended_id)
        .bind(limit);
    let ended = found(&mut *connection, ended).await?;
    Ok(News {
        created: by_id(live, fresh, limit),
        running,
        ended,
    })
}

async fn found(
    connection: &mut SqliteConnection,
    query: sqlx::query::Query<'_, Sqlite, sqlx::sqlite::SqliteArguments>,
) -> StoreResult<Vec<Execution>> {
    let rows = query.fetch_all(connection).await.map_err(db)?;
    rows.iter().map(rows::execution).collect()
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
    connection: &mut SqliteConnection,
    tenant: TenantId,
    filter: &ExecutionFilter,
    page: &Page,
) -> StoreResult<Listing<Execution>> {
    let limit = i64::from(page.limit) + 1;
    let before = page.after.unwrap_or(ExecutionId::MAX);
    let mut query = QueryBuilder::<Sqlite>::new("");
    for half in [Half::Live, Half::Ended] {
        if !half.holds(&filter.states) {
            continue;
        }
        if !query.sql().as_str().is_empty() {
            query.push(" UNION ALL ");
        }
        // Each half stops by itself, so that a page costs no more than its rows.
        query.push("SELECT * FROM (");
        push_half(&mut query, half, tenant, filter, before);
        query.push(" ORDER BY l.id DESC LIMIT +").push_bind(limit);
        query.push(")");
    }
    query.push(" ORDER BY 1 DESC LIMIT +").push_bind(limit);
    let found = query.build().fetch_all(connection).await.map_err(db)?;
    let items = found
        .iter()
        .map(rows::execution)
        .collect::<StoreResult<Vec<_>>>()?;
    Ok(cut(items, page, |execution| execution.id))
}

/// Writes one half of a list with its filter.
fn push_half(
    query: &mut QueryBuilder<Sqlite>,
    half: Half,
    tenant: TenantId,
    filter: &ExecutionFilter,
    before: ExecutionId,
) {
    query.push(match half {
        Half::Live => sql::LIST_LIVE,
        Half::Ended => sql::LIST_ENDED,
    });
    let is_trouble = half == Half::Ended && filter.is_of_trouble();
    // History is read from the newest id down. Without statistics an index that begins with the tenant looks better, and
    // all of its rows would be sorted for a page; only that of what went wrong is in the order of ids.
    query.push(match half {
        Half::Ended if !is_trouble => " WHERE +l.tenant_id = ",
        _ => " WHERE l.tenant_id = ",
    });
    query.push_bind(tenant);
    query.push(" AND l.id < ").push_bind(before);
    if half == Half::Ended {
        query.push(" AND c.delete_history IS NOT 1");
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
            Half::Live => " AND instr(lower(a.error_message), ",
            Half::Ended => " AND instr(lower(l.error_message), ",
        });
        query.push_bind(text.to_ascii_lowercase()).push(") > 0");
    }
    if is_trouble {
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

fn push_states(query: &mut QueryBuilder<Sqlite>, states: &[State]) {
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
    connection: &mut SqliteConnection,
    tenant: TenantId,
    task_id: TaskId,
) -> StoreResult<Option<ExecutionId>> {
    let row = sqlx::query(sql::VISIBLE)
        .bind(tenant)
        .bind(task_id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(db)?;
    row.map(|row| row.try_get(0)).transpose().map_err(db)
}

async fn attempts(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    task_id: TaskId,
) -> StoreResult<Vec<AttemptRecord>> {
    let Some(id) = visible(connection, tenant, task_id).await? else {
        return Ok(Vec::new());
    };
    let found = sqlx::query(sql::ATTEMPTS)
        .bind(id)
        .fetch_all(connection)
        .await
        .map_err(db)?;
    found.iter().map(rows::attempt).collect()
}

/// What attempts left one after the other: lines of logs, requests.
async fn pieces<T: DeserializeOwned>(
    connection: &mut SqliteConnection,
    statement: &'static str,
    tenant: TenantId,
    task_id: TaskId,
    page: &Page,
) -> StoreResult<Listing<T>> {
    let Some(id) = visible(connection, tenant, task_id).await? else {
        return Ok(cut_counted(Vec::new(), page));
    };
    let found = sqlx::query(statement)
        .bind(id)
        .bind(i64::from(page.limit) + 1)
        .bind(seen(page))
        .fetch_all(connection)
        .await
        .map_err(db)?;
    let mut items = Vec::with_capacity(found.len());
    for row in &found {
        let mut reader = rows::Reader::plain(row, "execution_logs, execution_http");
        reader.place.id = id;
        let _claim: i64 = reader.get("claim")?;
        items.push(reader.json("lines")?);
    }
    Ok(cut_counted(items, page))
}

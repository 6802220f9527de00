//! What ran.

use super::{Inner, MemoryStore};
use crate::store::{
    EndedElsewhere, ExecutionFilter, History, Listing, News, NewsMark, Page, StoreResult,
};
use horarium_model::execution::{AttemptRecord, Execution, HttpCall, LogLine, State};
use horarium_model::{ExecutionId, TaskId, TenantId};

#[async_trait::async_trait]
impl History for MemoryStore {
    async fn execution(&self, tenant: TenantId, task_id: TaskId) -> StoreResult<Option<Execution>> {
        let inner = self.lock();
        Ok(inner
            .visible(tenant, task_id)
            .map(|id| inner.shown(id))
            .unwrap_or_default())
    }

    async fn executions(
        &self,
        tenant: TenantId,
        filter: &ExecutionFilter,
        page: &Page,
    ) -> StoreResult<Listing<Execution>> {
        let inner = self.lock();
        let before = page.after.unwrap_or(ExecutionId::MAX);
        let mut ids: Vec<ExecutionId> = inner.live.range(..before).map(|(id, _)| *id).collect();
        ids.extend(inner.history.range(..before).map(|(id, _)| *id));
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let limit = page.limit as usize;
        let mut items: Vec<Execution> = ids
            .into_iter()
            .filter_map(|id| inner.shown(id))
            .filter(|e| e.tenant_id == tenant && filter.fits(e))
            .take(limit + 1)
            .collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let items: Vec<Execution> = items.into_iter().map(as_listed).collect();
        let next = items.last().map(|e| e.id).filter(|_| more);
        Ok(Listing { items, next })
    }

    async fn news(
        &self,
        tenant: TenantId,
        after: NewsMark,
        limit: u32,
        running: u32,
    ) -> StoreResult<News> {
        let inner = self.lock();
        let of_tenant = |id: &ExecutionId| {
            let shown = inner.shown(*id).filter(|e| e.tenant_id == tenant)?;
            Some(as_listed(shown))
        };
        let (live, ended) = (inner.live.keys(), inner.history.keys());
        let live: Vec<Execution> = live.filter_map(of_tenant).collect();
        let mut ended: Vec<Execution> = ended.filter_map(of_tenant).collect();
        // As the databases: what is new and has ended counts from the mark's instant on.
        ended.retain(|e| e.completed_at.is_some_and(|at| at >= after.ended_at));
        let all = live.iter().chain(&ended);
        let mut created: Vec<Execution> = all.filter(|e| e.id > after.id).cloned().collect();
        created.sort_by_key(|e| e.id);
        created.truncate(limit as usize);
        let mark = (Some(after.ended_at), after.ended_id);
        ended.retain(|e| (e.completed_at, e.id) > mark);
        ended.sort_by_key(|e| (e.completed_at, e.id));
        ended.truncate(limit as usize);
        let runs = live.into_iter().filter(|e| e.state == State::Running);
        Ok(News {
            created,
            running: runs.take(running as usize).collect(),
            ended,
        })
    }

    async fn attempts(&self, tenant: TenantId, task_id: TaskId) -> StoreResult<Vec<AttemptRecord>> {
        let inner = self.lock();
        Ok(inner
            .visible(tenant, task_id)
            .and_then(|id| inner.attempts.get(&id).cloned())
            .unwrap_or_default())
    }

    async fn logs(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        page: &Page,
    ) -> StoreResult<Listing<LogLine>> {
        let inner = self.lock();
        let lines = inner
            .visible(tenant, task_id)
            .and_then(|id| inner.logs.get(&id))
            .map_or(&[][..], Vec::as_slice);
        Ok(counted(lines.iter().cloned(), page))
    }

    async fn http_calls(
        &self,
        tenant: TenantId,
        task_id: TaskId,
        page: &Page,
    ) -> StoreResult<Listing<HttpCall>> {
        let inner = self.lock();
        let calls = inner
            .visible(tenant, task_id)
            .and_then(|id| inner.calls.get(&id))
            .map_or(&[][..], Vec::as_slice);
        Ok(counted(calls.iter().cloned(), page))
    }

    async fn take_in(
        &self,
        tenant: TenantId,
        items: Vec<EndedElsewhere>,
    ) -> StoreResult<Vec<bool>> {
        let mut inner = self.lock();
        inner.refuse_deleted(tenant)?;
        Ok(items
            .iter()
            .map(|item| inner.take_in(tenant, item))
            .collect())
    }
}

/// Without what can be large.
fn as_listed(execution: Execution) -> Execution {
    Execution {
        parameters: None,
        result: None,
        error_traceback: None,
        ..execution
    }
}

/// A page of what is counted rather than keyed.
pub(super) fn counted<T>(all: impl Iterator<Item = T>, page: &Page) -> Listing<T> {
    let seen = usize::try_from(page.after.unwrap_or(0)).unwrap_or(0);
    let limit = page.limit as usize;
    let mut items: Vec<T> = all.skip(seen).take(limit + 1).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let end = seen + items.len();
    let next = more.then(|| i64::try_from(end).unwrap_or(i64::MAX));
    Listing { items, next }
}

impl Inner {
    fn take_in(&mut self, tenant: TenantId, item: &EndedElsewhere) -> bool {
        let key = (tenant, item.task_id);
        if self.by_task.contains_key(&key) {
            return false;
        }
        self.last_execution += 1;
        let id = self.last_execution;
        self.by_task.insert(key, id);
        self.history.insert(id, item.execution(id, tenant));
        let log = item.log();
        if !log.is_empty() {
            self.logs.insert(id, log);
        }
        true
    }

    /// The id of an execution that reads may show.
    fn visible(&self, tenant: TenantId, task_id: TaskId) -> Option<ExecutionId> {
        let id = *self.by_task.get(&(tenant, task_id))?;
        self.shown(id).map(|e| e.id)
    }

    /// An execution as reads show it: without a deleted config, and not at all when the history goes
    /// with it.
    fn shown(&self, id: ExecutionId) -> Option<Execution> {
        let mut shown = match self.live.get(&id) {
            Some(row) => row.shown.clone(),
            None => self
                .history
                .get(&id)
                .filter(|ended| !self.deletes_history(ended.config_id))?
                .clone(),
        };
        if self.is_orphan(shown.config_id) {
            shown.config_id = None;
        }
        Some(shown)
    }
}

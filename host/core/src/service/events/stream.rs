//! A stream: what each look finds, and what of it is news.

use super::event::{Event, ExecutionEvent, TaskEvent};
use super::told::{Told, What};
use super::{Context, EventPlace, ServiceResult};
use crate::store::{ExecutionFilter, News, NewsMark, Page};
use horarium_model::execution::State;
use horarium_model::task_type::TaskType;
use horarium_model::{Execution, ExecutionId, TaskConfig, TaskId, TenantId, Timestamp};
use serde::Serialize;
use serde_json::Value;
use std::collections::{HashMap, HashSet, VecDeque};

/// How far each look reaches back before the end of the one before.
const OVERLAP: chrono::Duration = chrono::Duration::seconds(3);
/// Rows of a kind that one look reads.
const LIMIT: u32 = 500;
/// Running executions that are followed; when a tenant has more, what vanishes among them is told by its end alone.
const FOLLOWED: u32 = 10_000;
/// Executions that stopped running without an end, looked up in one look.
const LOOKED_UP: usize = 200;

/// An attempt that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    task_id: TaskId,
    attempt: u32,
    lost: u32,
    /// In microseconds.
    started: i64,
}

impl From<&Execution> for Run {
    fn from(execution: &Execution) -> Self {
        Self {
            task_id: execution.task_id,
            attempt: execution.attempt,
            lost: execution.lost,
            started: execution.started_at.map_or(0, |at| at.timestamp_micros()),
        }
    }
}

/// A tenant's events, look by look.
pub struct EventStream {
    cx: Context,
    tenant: TenantId,
    /// Only executions, and of them only those that fit.
    filter: Option<ExecutionFilter>,
    /// Before this all was told.
    place: EventPlace,
    /// How far this pass has read of executions, look by look, on its way to what is newest.
    reached: NewsMark,
    /// And of tasks.
    changed_at: Timestamp,
    /// When this pass began; none before its first look.
    pass: Option<Timestamp>,
    /// What is older is no news.
    begins: EventPlace,
    /// When each late look was, and the highest id it saw.
    looks: VecDeque<(Timestamp, ExecutionId)>,
    /// What ran at the look before.
    running: HashMap<ExecutionId, Run>,
    /// The active version of each type.
    types: HashMap<String, Option<String>>,
    /// The catalog they were last looked at in; none before the first look.
    types_of: Option<i64>,
    told: Told,
    /// More is known already than the last look told.
    behind: bool,
}

impl EventStream {
    pub(super) fn at(
        cx: Context,
        tenant: TenantId,
        place: EventPlace,
        filter: Option<ExecutionFilter>,
    ) -> Self {
        Self {
            cx,
            tenant,
            filter,
            place,
            reached: place.mark(),
            changed_at: place.at,
            pass: None,
            begins: place,
            looks: VecDeque::new(),
            running: HashMap::new(),
            types: HashMap::new(),
            types_of: None,
            told: Told::default(),
            behind: false,
        }
    }

    /// What stands already is no news; for a stream that was left, only what is older than the place it was left at.
    pub(super) async fn take_stock(&mut self, resumed: bool) -> ServiceResult<()> {
        let since = self.begins.at;
        for of_type in self.types().await? {
            if !resumed || of_type.updated_at < since {
                self.types.insert(of_type.task_type, of_type.active_digest);
            }
        }
        let news = self.look().await?;
        for execution in &news.running {
            let run = Run::from(execution);
            if !resumed || run.started < since.timestamp_micros() {
                self.running.insert(execution.id, run);
            }
        }
        Ok(())
    }

    /// Whether more waits to be told at once.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Where a stream that ends now would go on.
    pub fn place(&self) -> EventPlace {
        self.place
    }

    /// Looks once, and returns what happened since the look before, in order.
    ///
    /// # Errors
    /// When the store cannot be read; the same look may be tried again.
    pub async fn next(&mut self) -> ServiceResult<Vec<Event>> {
        let now = self.cx.clock.now();
        let news = self.look().await?;
        let (vanished, unsettled) = self.vanished(&news).await?;
        let configs = self
            .cx
            .store
            .changed_configs(self.tenant, self.changed_at, LIMIT)
            .await?;
        let types = self.changed_types().await?;
        let mut happened: Vec<(&'static str, Value)> = Vec::new();
        let mut tell = |kind, data: Option<Value>| happened.extend(data.map(|data| (kind, data)));
        for execution in &news.created {
            self.created(now, execution, &mut tell);
        }
        for execution in news.running.iter().chain(&vanished) {
            self.stands(now, execution, &mut tell);
        }
        for execution in news.ended.iter().filter(|e| e.state.is_end()) {
            self.ended(now, execution, &mut tell);
        }
        let running = news.running.iter();
        self.running = running
            .map(|execution| (execution.id, Run::from(execution)))
            .chain(unsettled)
            .collect();
        let begins = self.begins.at;
        for config in configs.iter().filter(|c| c.updated_at >= begins) {
            self.changed(now, config, &mut tell);
        }
        for of_type in types {
            self.plugin(now, of_type, &mut tell);
        }
        self.advance(now, &news, &configs);
        let place = self.place;
        let event = |(kind, data)| Event { kind, place, data };
        Ok(happened.into_iter().map(event).collect())
    }

    async fn look(&self) -> ServiceResult<News> {
        let store = &self.cx.store;
        Ok(store
            .news(self.tenant, self.reached, LIMIT, FOLLOWED)
            .await?)
    }

    async fn types(&self) -> ServiceResult<Vec<TaskType>> {
        let mut page = Page::first(Page::MAX);
        let mut all = Vec::new();
        loop {
            let part = self.cx.store.task_types(self.tenant, &page).await?;
            all.extend(part.items);
            page.after = part.next;
            if page.after.is_none() {
                return Ok(all);
            }
        }
    }

    /// All types when the catalog changed since they were looked at, else none. The last thing a look reads, so that
    /// none that fails has looked.
    async fn changed_types(&mut self) -> ServiceResult<Vec<TaskType>> {
        let catalog = self.cx.store.catalog_epoch().await?;
        if self.types_of == Some(catalog) {
            return Ok(Vec::new());
        }
        let types = self.types().await?;
        self.types_of = Some(catalog);
        Ok(types)
    }

    /// What ran at the look before, runs no more, and is not among what ended: as it stands, and what a later look is
    /// to settle. Of what has ended more may be to come, and little is looked up at once.
    async fn vanished(
        &self,
        news: &News,
    ) -> ServiceResult<(Vec<Execution>, Vec<(ExecutionId, Run)>)> {
        if news.running.len() >= FOLLOWED as usize {
            return Ok(Default::default());
        }
        let known: HashSet<ExecutionId> = news
            .running
            .iter()
            .chain(&news.ended)
            .map(|execution| execution.id)
            .collect();
        let gone = self.running.iter().filter(|(id, _)| !known.contains(id));
        let mut gone: Vec<_> = gone.map(|(id, run)| (*id, *run)).collect();
        let at_once = match is_full(news.ended.len()) {
            true => 0,
            false => gone.len().min(LOOKED_UP),
        };
        let mut found = Vec::with_capacity(at_once);
        for (_, run) in gone.drain(..at_once) {
            found.extend(self.cx.store.execution(self.tenant, run.task_id).await?);
        }
        gone.truncate(FOLLOWED as usize);
        Ok((found, gone))
    }

    fn created(
        &mut self,
        now: Timestamp,
        execution: &Execution,
        tell: &mut impl FnMut(&'static str, Option<Value>),
    ) {
        // Lower ids were told when they came, and may have been forgotten since.
        let news = execution.id > self.place.id && execution.state != State::Skipped;
        if news && self.told.first(now, What::Created(execution.id)) {
            tell("execution.created", self.written(execution));
        }
    }

    /// Of one that has not ended, or whose end came after what was read of it.
    fn stands(
        &mut self,
        now: Timestamp,
        execution: &Execution,
        tell: &mut impl FnMut(&'static str, Option<Value>),
    ) {
        if execution.state.is_end() {
            return self.ended(now, execution, tell);
        }
        self.created(now, execution, tell);
        let (runs, run) = (execution.state == State::Running, Run::from(execution));
        let before = self.running.get(&execution.id).copied();
        if let Some(before) = before.filter(|before| !runs || *before != run) {
            let failed = execution.state == State::Retryable || run.attempt > before.attempt;
            let kind = match failed {
                true => "execution.retry",
                // Its host gave it back, or was lost.
                false => "execution.requeued",
            };
            tell(kind, self.written(execution));
            self.running.remove(&execution.id);
            self.told
                .take_back(&What::Started(execution.id, run.attempt, run.lost));
        }
        if runs {
            self.started(now, execution, tell);
        }
    }

    fn started(
        &mut self,
        now: Timestamp,
        execution: &Execution,
        tell: &mut impl FnMut(&'static str, Option<Value>),
    ) {
        let run = Run::from(execution);
        let same = |known: &Run| (known.attempt, known.lost) == (run.attempt, run.lost);
        let known = self.running.get(&execution.id).is_some_and(same);
        let news = !known && run.started >= self.begins.at.timestamp_micros();
        let what = What::Started(execution.id, run.attempt, run.lost);
        if news && self.told.first(now, what) {
            tell("execution.started", self.written(execution));
        }
    }

    fn ended(
        &mut self,
        now: Timestamp,
        execution: &Execution,
        tell: &mut impl FnMut(&'static str, Option<Value>),
    ) {
        let since = self.begins.at;
        if execution.completed_at.is_none_or(|at| at < since) {
            return;
        }
        self.created(now, execution, tell);
        if execution.started_at.is_some() {
            self.started(now, execution, tell);
        }
        if self.told.first(now, What::Ended(execution.id)) {
            let kind = match execution.state {
                State::Cancelled => "execution.cancelled",
                State::Skipped => "execution.skipped",
                _ => "execution.finished",
            };
            tell(kind, self.written(execution));
        }
    }

    fn changed(
        &mut self,
        now: Timestamp,
        config: &TaskConfig,
        tell: &mut impl FnMut(&'static str, Option<Value>),
    ) {
        if self.told.first(now, What::Task(config.id, config.version)) {
            let kind = match (config.version, config.spec.paused) {
                (1, _) => "task.created",
                (_, true) => "task.paused",
                (_, false) => "task.changed",
            };
            tell(kind, self.other(&TaskEvent::from(config)));
        }
    }

    fn plugin(
        &mut self,
        now: Timestamp,
        of_type: TaskType,
        tell: &mut impl FnMut(&'static str, Option<Value>),
    ) {
        let active = of_type.active_digest.clone();
        let before = self.types.insert(of_type.task_type.clone(), active.clone());
        // A stream that was left does not know what was active where it goes on; of a type that was there, a change
        // is all that can be told.
        let is_new = of_type.created_at >= self.begins.at;
        let activated = active.is_some() && before.map_or(is_new, |before| before != active);
        let at = of_type.updated_at.timestamp_micros();
        let news = of_type.updated_at >= self.place.at;
        if news
            && self
                .told
                .first(now, What::Type(of_type.task_type.clone(), at))
        {
            let kind = if activated {
                "plugin.activated"
            } else {
                "plugin.changed"
            };
            tell(kind, self.other(&of_type));
        }
    }

    /// What is told of an execution, if that is asked for.
    fn written(&self, execution: &Execution) -> Option<Value> {
        let fits = |filter: &ExecutionFilter| filter.fits(execution);
        let wanted = self.filter.as_ref().is_none_or(fits);
        let event = wanted.then(|| serde_json::to_value(ExecutionEvent::from(execution)));
        event?.ok()
    }

    /// What is told of anything else, which no filter of executions lets through.
    fn other(&self, event: &impl Serialize) -> Option<Value> {
        let wanted = self.filter.is_none();
        wanted.then(|| serde_json::to_value(event))?.ok()
    }

    /// Moves on: within the pass where there is more to read, else to the next pass, which begins a little before this one
    /// did.
    fn advance(&mut self, now: Timestamp, news: &News, configs: &[TaskConfig]) {
        let began = *self.pass.get_or_insert(now);
        let highest = news.created.last().map_or(0, |last| last.id);
        self.reached.id = self.reached.id.max(highest);
        self.behind =
            is_full(news.created.len()) || is_full(news.ended.len()) || is_full(configs.len());
        if self.behind {
            self.told.forget(Timestamp::MIN_UTC);
            if let Some(last) = news.ended.last() {
                self.reached.ended_at = last.completed_at.unwrap_or(self.reached.ended_at);
                self.reached.ended_id = last.id;
            }
            if let Some(last) = configs.last().filter(|_| is_full(configs.len())) {
                // Of more at one instant than a look reads, the rest is left out.
                let stuck = i64::from(last.updated_at <= self.changed_at);
                self.changed_at =
                    self.changed_at.max(last.updated_at) + chrono::Duration::microseconds(stuck);
            }
            return;
        }
        self.looks.push_back((began, self.reached.id));
        let late = began - OVERLAP;
        while let Some((at, id)) = self.looks.front()
            && *at <= late
        {
            self.place.id = self.place.id.max(*id);
            self.looks.pop_front();
        }
        self.place.at = self.place.at.max(late);
        if self.told.is_too_much() {
            self.place = EventPlace {
                id: self.reached.id,
                at: began,
            };
        }
        self.told.forget(late - OVERLAP);
        (self.reached, self.changed_at) = (self.place.mark(), self.place.at);
        self.pass = None;
    }
}

/// Whether a look read as much as it may, so that there may be more.
fn is_full(len: usize) -> bool {
    len >= LIMIT as usize
}

//! What happens to a tenant's tasks, executions and plugins, told as it happens, from every host of the database. Nothing
//! is written for it: a stream asks what the rows say anyway, once a second, while somebody listens. It can be taken up
//! again where it was left, by any host: a place is an id of executions and an instant, before which all was told.
//!
//! Everything is told at least once. What commits late (ids are given before the commit, instants are those of several
//! clocks) is found because each look begins a little before the end of the one before.

use super::{Context, ServiceResult};
use crate::store::{Listing, News, NewsMark, Page};
use horarium_model::execution::{Progress, SkipReason, State, Trigger};
use horarium_model::schedule::wire_time;
use horarium_model::task_type::TaskType;
use horarium_model::{
    ConfigId, ErrorKind, Execution, ExecutionId, TaskConfig, TaskId, TenantId, Timestamp,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::{HashMap, HashSet, VecDeque};

/// How far each look reaches back before the end of the one before.
const OVERLAP: chrono::Duration = chrono::Duration::seconds(3);
/// Rows of a kind that one look reads.
const LIMIT: u32 = 500;
/// What was told lately and is remembered so that it is not told again; beyond that, looks reach back no further than to
/// what was told last.
const REMEMBERED: usize = 50_000;
/// Running executions that are followed; when a tenant has more, what vanishes among them is told by its end alone.
const FOLLOWED: u32 = 10_000;
/// Executions that stopped running without an end, looked up in one look.
const LOOKED_UP: usize = 200;

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

/// What happened to what.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What: `execution.created`, `execution.started`, `execution.retry`, `execution.requeued`, `execution.finished`,
    /// `execution.cancelled`, `execution.skipped`, `task.created`, `task.changed`, `task.paused`, `plugin.changed` or
    /// `plugin.activated`.
    pub kind: &'static str,
    /// Where the stream goes on after this.
    pub place: EventPlace,
    /// The execution, task or type as it stands.
    pub data: Value,
}

/// Every kind of event.
pub const EVENT_KINDS: &[&str] = &[
    "execution.created",
    "execution.started",
    "execution.retry",
    "execution.requeued",
    "execution.finished",
    "execution.cancelled",
    "execution.skipped",
    "task.created",
    "task.changed",
    "task.paused",
    "plugin.changed",
    "plugin.activated",
];

/// An execution, as events tell of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ExecutionEvent {
    /// Public id.
    pub task_id: TaskId,
    /// Row id.
    pub id: ExecutionId,
    /// The task; null when it is gone.
    pub config_id: Option<ConfigId>,
    /// Registered name of the plugin.
    pub task_type: String,
    /// Where it stands.
    pub state: State,
    /// What brought it about.
    pub trigger: Trigger,
    /// Attempts used so far.
    pub attempt: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// True for `succeeded`, false for `failed` and `cancelled`, null otherwise.
    pub is_success: Option<bool>,
    /// Class of the last failure.
    pub error_kind: Option<ErrorKind>,
    /// One line about it.
    pub error_message: Option<String>,
    /// Why it was skipped.
    pub skip_reason: Option<SkipReason>,
    /// The instant the schedule meant.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub slot: Option<Timestamp>,
    /// When it may start.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub due_at: Option<Timestamp>,
    /// When it was enqueued.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub created_at: Timestamp,
    /// Start of the last attempt.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub started_at: Option<Timestamp>,
    /// End of the last attempt.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub completed_at: Option<Timestamp>,
    /// Duration of the last attempt.
    pub duration_seconds: Option<f64>,
    /// Latest progress report.
    pub progress: Option<Progress>,
}

impl From<&Execution> for ExecutionEvent {
    fn from(execution: &Execution) -> Self {
        let e = execution.clone();
        Self {
            task_id: e.task_id,
            id: e.id,
            config_id: e.config_id,
            task_type: e.task_type,
            state: e.state,
            trigger: e.trigger,
            attempt: e.attempt,
            max_attempts: e.max_attempts,
            is_success: e.is_success,
            error_kind: e.error_kind,
            error_message: e.error_message,
            skip_reason: e.skip_reason,
            slot: e.slot,
            due_at: e.due_at,
            created_at: e.created_at,
            started_at: e.started_at,
            completed_at: e.completed_at,
            duration_seconds: e.duration_seconds,
            progress: e.progress,
        }
    }
}

/// A task, as events tell of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskEvent {
    /// Row id.
    pub id: ConfigId,
    /// Its slug.
    pub key: Option<String>,
    /// For people.
    pub name: String,
    /// The plugin's registered name.
    pub task_type: String,
    /// Rises by one with every change.
    pub version: i64,
    /// No new slots while true.
    pub paused: bool,
    /// Why.
    pub pause_reason: Option<String>,
    /// When the next slot fires.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub next_fire_at: Option<Timestamp>,
    /// When it was last changed.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub updated_at: Timestamp,
}

impl From<&TaskConfig> for TaskEvent {
    fn from(config: &TaskConfig) -> Self {
        Self {
            id: config.id,
            key: config.spec.key.clone(),
            name: config.spec.name.clone(),
            task_type: config.spec.task_type.clone(),
            version: config.version,
            paused: config.spec.paused,
            pause_reason: config.spec.pause_reason.clone(),
            next_fire_at: config.schedule_state.next_fire_at,
            updated_at: config.updated_at,
        }
    }
}

/// Streams of events.
#[derive(Clone)]
pub struct Events(pub(super) Context);

impl Events {
    /// A stream of a tenant's events: from `after` on, else from now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn follow(
        &self,
        tenant: TenantId,
        after: Option<EventPlace>,
    ) -> ServiceResult<EventStream> {
        let now = self.0.clock.now();
        let place = match after {
            Some(place) => place,
            None => {
                let newest = Page::first(1);
                let filter = crate::store::ExecutionFilter::default();
                let Listing { items, .. } =
                    self.0.store.executions(tenant, &filter, &newest).await?;
                EventPlace {
                    id: items.first().map_or(0, |newest| newest.id),
                    at: now,
                }
            }
        };
        let mut stream = EventStream {
            cx: self.0.clone(),
            tenant,
            place,
            reached: place.mark(),
            changed_at: place.at,
            pass: None,
            begins: place,
            looks: VecDeque::new(),
            running: HashMap::new(),
            types: HashMap::new(),
            told: Told::default(),
            behind: false,
        };
        stream.take_stock(after.is_some()).await?;
        Ok(stream)
    }
}

/// What was told, so that it is not told again.
#[derive(Debug, Default)]
struct Told {
    what: HashSet<What>,
    when: VecDeque<(Timestamp, What)>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    Created(ExecutionId),
    /// With its attempt, and how often it was lost.
    Started(ExecutionId, u32, u32),
    Ended(ExecutionId),
    Task(ConfigId, i64),
    Type(String, i64),
}

impl Told {
    /// True the first time.
    fn first(&mut self, now: Timestamp, what: What) -> bool {
        let first = self.what.insert(what.clone());
        if first {
            self.when.push_back((now, what));
        }
        first
    }

    /// It may happen once more.
    fn take_back(&mut self, what: &What) {
        self.what.remove(what);
    }

    fn forget(&mut self, before: Timestamp) {
        while let Some((at, _)) = self.when.front()
            && (*at < before || self.when.len() > REMEMBERED)
            && let Some((_, what)) = self.when.pop_front()
        {
            self.what.remove(&what);
        }
    }
}

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
    told: Told,
    /// More is known already than the last look told.
    behind: bool,
}

impl EventStream {
    /// What stands already is no news; for a stream that was left, only what is older than the place it was left at.
    async fn take_stock(&mut self, resumed: bool) -> ServiceResult<()> {
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
        let types = self.types().await?;
        let mut happened: Vec<(&'static str, Value)> = Vec::new();
        let mut tell = |kind, data: Result<Value, _>| {
            if let Ok(data) = data {
                happened.push((kind, data));
            }
        };
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
        let all = Page::first(Page::MAX);
        Ok(self.cx.store.task_types(self.tenant, &all).await?.items)
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
        tell: &mut impl FnMut(&'static str, Result<Value, serde_json::Error>),
    ) {
        // Lower ids were told when they came, and may have been forgotten since.
        let news = execution.id > self.place.id && execution.state != State::Skipped;
        if news && self.told.first(now, What::Created(execution.id)) {
            tell("execution.created", told(execution));
        }
    }

    /// Of one that has not ended, or whose end came after what was read of it.
    fn stands(
        &mut self,
        now: Timestamp,
        execution: &Execution,
        tell: &mut impl FnMut(&'static str, Result<Value, serde_json::Error>),
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
            tell(kind, told(execution));
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
        tell: &mut impl FnMut(&'static str, Result<Value, serde_json::Error>),
    ) {
        let run = Run::from(execution);
        let same = |known: &Run| (known.attempt, known.lost) == (run.attempt, run.lost);
        let known = self.running.get(&execution.id).is_some_and(same);
        let news = !known && run.started >= self.begins.at.timestamp_micros();
        let what = What::Started(execution.id, run.attempt, run.lost);
        if news && self.told.first(now, what) {
            tell("execution.started", told(execution));
        }
    }

    fn ended(
        &mut self,
        now: Timestamp,
        execution: &Execution,
        tell: &mut impl FnMut(&'static str, Result<Value, serde_json::Error>),
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
            tell(kind, told(execution));
        }
    }

    fn changed(
        &mut self,
        now: Timestamp,
        config: &TaskConfig,
        tell: &mut impl FnMut(&'static str, Result<Value, serde_json::Error>),
    ) {
        if self.told.first(now, What::Task(config.id, config.version)) {
            let kind = match (config.version, config.spec.paused) {
                (1, _) => "task.created",
                (_, true) => "task.paused",
                (_, false) => "task.changed",
            };
            tell(kind, serde_json::to_value(TaskEvent::from(config)));
        }
    }

    fn plugin(
        &mut self,
        now: Timestamp,
        of_type: TaskType,
        tell: &mut impl FnMut(&'static str, Result<Value, serde_json::Error>),
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
            tell(kind, serde_json::to_value(&of_type));
        }
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
        if self.told.when.len() > REMEMBERED {
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

fn told(execution: &Execution) -> Result<Value, serde_json::Error> {
    serde_json::to_value(ExecutionEvent::from(execution))
}

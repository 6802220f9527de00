//! What the rules share: a store with one host, and short ways to put things into it.

use crate::store::{
    CancelReceipt, ClaimRequest, Claimed, Completion, CompletionReceipt, DueSchedule, End,
    EnqueueReceipt, FireOrder, FireReceipt, NewExecution, Release, Store, Swept,
};
use horarium_model::execution::{
    AttemptOutcome, AttemptRecord, Execution, HttpCall, LogLevel, LogLine, LogSource, State,
    Trigger,
};
use horarium_model::firing::{Fire, Plan};
use horarium_model::schedule::Overlap;
use horarium_model::{
    ConfigId, DEFAULT_TENANT_ID, ErrorKind, ExecutionId, Limits, TaskConfig, TaskId, TaskSpec,
    TenantId, Timestamp, Usage,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The instant this many seconds after the start of every test.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp_micros(1_767_225_600_000_000 + seconds * 1_000_000)
        .unwrap_or_default()
}

/// A store, one living host on it, and fresh task ids.
pub struct Lab {
    /// The store under test.
    pub store: Arc<dyn Store>,
    /// Incarnation of the host.
    pub host: i64,
    ids: AtomicU64,
}

/// The plugin of every test that does not care.
pub(super) const TYPE: &str = "echo";
/// The tenant of every test that does not care.
pub(super) const TENANT: TenantId = DEFAULT_TENANT_ID;

impl Lab {
    /// Starts a host on an empty store.
    pub async fn new(store: Arc<dyn Store>) -> Self {
        let host = store.start_host(at(0), "lab").await.expect("a host starts");
        Self {
            store,
            host,
            ids: AtomicU64::new(1),
        }
    }

    /// A task id not used before.
    pub fn task_id(&self) -> TaskId {
        let n = self.ids.fetch_add(1, Ordering::Relaxed);
        TaskId::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0000 | u128::from(n))
    }

    /// Stores a config: `changes` over a manual one.
    pub(super) async fn config(&self, changes: Value) -> TaskConfig {
        self.store
            .create_config(at(0), TENANT, spec(changes))
            .await
            .expect("the config is stored")
    }

    /// A config that fires every ten minutes.
    pub(super) async fn cron(&self) -> TaskConfig {
        self.config(json!({"scheduler_type": "cron",
            "schedule_config": {"cron_expression": "*/10 * * * *"}}))
            .await
    }

    /// Stores configs that fire every ten minutes.
    pub async fn crons(&self, count: usize) -> Vec<ConfigId> {
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            ids.push(self.cron().await.id);
        }
        ids
    }

    /// An order to fire this slot (seconds) of a config as it stands now, whatever else of it lives.
    pub async fn fire_order(&self, id: ConfigId, slot: i64) -> FireOrder {
        self.order(id, &[slot], Overlap::Allow).await
    }

    /// An execution to enqueue, due at `due`.
    pub fn new_execution(&self, config: Option<ConfigId>, due: Timestamp) -> NewExecution {
        NewExecution {
            config_id: config,
            max_attempts: 3,
            parameters: Arc::from(r#"{"a":1}"#),
            ..NewExecution::plain(self.task_id(), TENANT, TYPE, due)
        }
    }

    /// Enqueues one execution that must be taken.
    pub(super) async fn put(&self, now: Timestamp, item: NewExecution) -> (ExecutionId, TaskId) {
        let task_id = item.task_id;
        match &self.enqueue(now, vec![item]).await[..] {
            [EnqueueReceipt::Enqueued { id, .. }] => (*id, task_id),
            other => panic!("not enqueued: {other:?}"),
        }
    }

    /// Enqueues an execution due now.
    pub(super) async fn put_due(&self, config: Option<ConfigId>, now: Timestamp) -> TaskId {
        self.put(now, self.new_execution(config, now)).await.1
    }

    pub(super) async fn enqueue(
        &self,
        now: Timestamp,
        items: Vec<NewExecution>,
    ) -> Vec<EnqueueReceipt> {
        self.store
            .enqueue_many(now, items)
            .await
            .expect("enqueue_many answers")
    }

    /// Claims for the lab's host.
    pub(super) async fn claim(&self, now: Timestamp, limit: u32) -> Vec<Claimed> {
        self.claim_types(now, limit, &[TYPE]).await
    }

    pub(super) async fn claim_types(
        &self,
        now: Timestamp,
        limit: u32,
        types: &[&str],
    ) -> Vec<Claimed> {
        self.claim_for(self.host, now, limit, types).await
    }

    pub(super) async fn claim_for(
        &self,
        host: i64,
        now: Timestamp,
        limit: u32,
        types: &[&str],
    ) -> Vec<Claimed> {
        let request = ClaimRequest {
            now,
            incarnation: host,
            types: types.iter().map(|t| (TENANT, (*t).to_owned())).collect(),
            limit,
        };
        let claims = self.store.claim(request).await;
        claims.expect("claim answers").claimed
    }

    pub(super) async fn sweep(&self, now: Timestamp) -> Swept {
        let swept = self.store.sweep_due(now, 100).await;
        swept.expect("sweep_due answers")
    }

    /// Claims one execution that must be there.
    pub(super) async fn claim_one(&self, now: Timestamp) -> Claimed {
        self.claim(now, 1).await.pop().expect("one is available")
    }

    /// Enqueues and claims one.
    pub(super) async fn running(&self, config: Option<ConfigId>, now: Timestamp) -> Claimed {
        self.put_due(config, now).await;
        self.claim_one(now).await
    }

    pub(super) fn completion(&self, now: Timestamp, claimed: &Claimed, end: End) -> Completion {
        completion(self.host, now, claimed, end)
    }

    /// Takes `count` executions all the way from enqueue to history in three calls, for benches.
    pub async fn pass_through(&self, count: u32) {
        let items = (0..count)
            .map(|_| self.new_execution(None, at(0)))
            .collect();
        self.store
            .enqueue_many(at(0), items)
            .await
            .expect("enqueue_many answers");
        let claimed = self.claim(at(0), count).await;
        let ends = claimed
            .iter()
            .map(|c| self.completion(at(0), c, End::Succeeded("1".into())))
            .collect();
        let receipts = self
            .store
            .complete_many(at(0), ends)
            .await
            .expect("complete_many answers");
        assert_eq!(receipts.len(), count as usize, "everything went through");
    }

    pub(super) async fn complete(&self, now: Timestamp, item: Completion) -> CompletionReceipt {
        let mut receipts = self
            .store
            .complete_many(now, vec![item].into())
            .await
            .expect("complete_many answers");
        assert_eq!(receipts.len(), 1);
        receipts.remove(0)
    }

    /// Ends a claimed execution, which must be recorded.
    pub(super) async fn finish(&self, now: Timestamp, claimed: &Claimed, end: End) -> State {
        match self.complete(now, self.completion(now, claimed, end)).await {
            CompletionReceipt::Recorded(state) => state,
            other => panic!("not recorded: {other:?}"),
        }
    }

    pub(super) async fn release(
        &self,
        now: Timestamp,
        claimed: &Claimed,
        record: Option<AttemptRecord>,
        due_at: Option<Timestamp>,
    ) -> u64 {
        let item = Release {
            id: claimed.id,
            claim: claimed.claim,
            incarnation: self.host,
            record,
            due_at,
        };
        self.store
            .release(now, vec![item])
            .await
            .expect("release answers")
    }

    pub(super) async fn cancel(&self, now: Timestamp, task_id: TaskId) -> CancelReceipt {
        self.store
            .cancel(now, TENANT, task_id)
            .await
            .expect("cancel answers")
    }

    /// An execution that must exist.
    pub async fn show(&self, task_id: TaskId) -> Execution {
        self.find(task_id).await.expect("the execution exists")
    }

    /// An execution, if it is there.
    pub async fn find(&self, task_id: TaskId) -> Option<Execution> {
        self.store
            .execution(TENANT, task_id)
            .await
            .expect("execution answers")
    }

    pub(super) async fn state(&self, task_id: TaskId) -> State {
        self.show(task_id).await.state
    }

    pub(super) async fn attempts(&self, task_id: TaskId) -> Vec<AttemptRecord> {
        self.store
            .attempts(TENANT, task_id)
            .await
            .expect("attempts answers")
    }

    /// A config that must exist.
    pub(super) async fn read(&self, id: ConfigId) -> TaskConfig {
        self.store
            .config(TENANT, id)
            .await
            .expect("config answers")
            .expect("the config exists")
    }

    /// Skipped rows of a config, oldest first.
    pub(super) async fn skipped(&self, config: ConfigId) -> Vec<Execution> {
        let filter = crate::store::ExecutionFilter {
            config_id: Some(config),
            states: vec![State::Skipped],
            ..Default::default()
        };
        let mut items = self
            .store
            .executions(TENANT, &filter, &crate::store::Page::first(100))
            .await
            .expect("executions answers")
            .items;
        items.reverse();
        items
    }

    /// An order to fire these slots (seconds) of a config as it stands now.
    pub(super) async fn order(&self, id: ConfigId, slots: &[i64], overlap: Overlap) -> FireOrder {
        let config = self.read(id).await;
        let fires: Vec<Fire> = slots
            .iter()
            .map(|slot| Fire {
                slot: at(*slot),
                fires_at: at(*slot),
                trigger: Trigger::Schedule,
            })
            .collect();
        let last = slots.last().copied().unwrap_or(0);
        FireOrder {
            seen: DueSchedule {
                config_id: id,
                version: config.version,
                state: config.schedule_state,
            },
            tenant_id: TENANT,
            task_ids: fires.iter().map(|_| self.task_id()).collect(),
            plan: Plan {
                fires,
                skipped: None,
                last_slot: Some(at(last)),
                next_fire_at: Some(at(last + 600)),
                made_up_all: false,
            },
            skip_all: None,
            overlap,
            template: Arc::new(self.new_execution(Some(id), at(0))),
        }
    }

    pub(super) async fn fire(&self, now: Timestamp, order: FireOrder) -> FireReceipt {
        let mut receipts = self
            .store
            .fire_due(now, vec![order])
            .await
            .expect("fire_due answers");
        assert_eq!(receipts.len(), 1);
        receipts.remove(0)
    }
}

/// A spec from JSON: `changes` over a manual config.
pub(super) fn spec(changes: Value) -> TaskSpec {
    let mut whole = json!({"name": "a task", "task_type": TYPE, "scheduler_type": "manual"});
    if let (Value::Object(whole), Value::Object(changes)) = (&mut whole, changes) {
        whole.extend(changes);
    }
    TaskSpec::from_json(&whole, at(0), None).expect("a good spec")
}

/// The end of a claimed execution, with a record that fits it.
pub fn completion(host: i64, now: Timestamp, claimed: &Claimed, end: End) -> Completion {
    let failed = matches!(end, End::Failed | End::Retry(_));
    let error_kind = match end {
        End::Failed | End::Retry(_) => Some(ErrorKind::Trap),
        End::Cancelled => Some(ErrorKind::Cancelled),
        End::Succeeded(_) => None,
    };
    let outcome = match end {
        End::Succeeded(_) => AttemptOutcome::Succeeded,
        End::Cancelled => AttemptOutcome::Cancelled,
        End::Failed | End::Retry(_) => AttemptOutcome::Failed,
    };
    let record = AttemptRecord {
        error_kind,
        error_message: error_kind.map(|kind| format!("it ended with {kind}")),
        error_traceback: failed.then(|| "at main\nat start".to_owned()),
        error_code: failed.then(|| "E42".to_owned()),
        error_details: failed.then(|| json!({"line": 7})),
        ..record(now, claimed, outcome)
    };
    Completion {
        id: claimed.id,
        task_id: claimed.task_id,
        tenant_id: claimed.tenant_id,
        task_type: claimed.task_type.clone(),
        claim: claimed.claim,
        incarnation: host,
        end,
        record,
        logs: Vec::new(),
        calls: Vec::new(),
        state: None,
        progress: None,
        pause_after_failures: None,
        chained: claimed.chained,
        trace: None,
    }
}

/// A plain record of an attempt that took a quarter of a second until `now`.
pub(super) fn record(now: Timestamp, claimed: &Claimed, outcome: AttemptOutcome) -> AttemptRecord {
    let begun = now - chrono::Duration::milliseconds(250);
    AttemptRecord {
        usage: Some(Usage {
            fuel: 12_345_678_901,
            duration_seconds: 0.25,
            host_version: "1.0".into(),
            ..Usage::default()
        }),
        limits: Some(Limits {
            fuel: 20_000_000_000,
            ..Limits::default()
        }),
        timeout_seconds: Some(90),
        plugin_digest: Some(format!("blake3:{}", "a".repeat(64))),
        host: Some("lab".into()),
        ..AttemptRecord::new(claimed.attempt, claimed.claim, outcome, begun, now)
    }
}

/// A success with an empty object.
pub(super) fn ok() -> End {
    End::Succeeded(Arc::from("{}"))
}

/// A request of a claim.
pub(super) fn call(claimed: &Claimed, call: u64, url: &str) -> HttpCall {
    HttpCall {
        call,
        attempt: claimed.claim,
        at: at(1),
        method: "GET".into(),
        url: url.into(),
        status: call.is_multiple_of(2).then_some(200),
        request_bytes: 5,
        response_bytes: 1 << 40,
        duration_seconds: Some(0.25),
        error: (!call.is_multiple_of(2)).then(|| "denied".into()),
    }
}

/// A log line.
pub(super) fn line(claimed: &Claimed, line: u64, message: &str) -> LogLine {
    LogLine {
        line,
        attempt: claimed.claim,
        at: at(1),
        level: LogLevel::Info,
        source: LogSource::Log,
        message: message.to_owned(),
        fields: Some(json!({"n": line})),
    }
}

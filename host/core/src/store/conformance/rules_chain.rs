//! What the end of an execution enqueues (rule E7).

use super::lab::{Lab, TENANT, at, completion};
use crate::config_cache::{Overrides, new_execution};
use crate::store::{
    CancelReceipt, Completion, CompletionReceipt, ConfigUpdate, End, ExecutionFilter,
    HistoryOnDelete, NewExecution, Page, Store,
};
use horarium_model::chain::MAX_DEPTH;
use horarium_model::execution::{SkipReason, State, Trigger};
use horarium_model::trace::TraceContext;
use horarium_model::{ConfigId, ErrorKind, Execution, TaskConfig, TaskId};
use serde_json::{Value, json};
use std::sync::Arc;

/// A task whose ends set off `chain`.
async fn chained(lab: &Lab, chain: Value) -> TaskConfig {
    lab.config(json!({"key": "first", "chain": chain})).await
}

/// Enqueues an execution of a config at this second, as the service would.
async fn start(lab: &Lab, config: &TaskConfig, now: i64) -> TaskId {
    let (id, by) = (lab.task_id(), Trigger::Manual);
    let new = new_execution(config, false, id, by, at(now), Overrides::default());
    lab.put(at(now), new).await.1
}

/// Starts an execution, which then ends like this.
async fn run(lab: &Lab, config: &TaskConfig, now: i64, end: End) -> TaskId {
    let task_id = start(lab, config, now).await;
    let claimed = lab.claim_one(at(now)).await;
    assert_eq!((claimed.task_id, claimed.chained), (task_id, true));
    lab.finish(at(now), &claimed, end).await;
    task_id
}

/// Executions of a config with everything, oldest first.
async fn of(lab: &Lab, config: ConfigId) -> Vec<Execution> {
    let filter = ExecutionFilter {
        config_id: Some(config),
        ..Default::default()
    };
    let page = Page::first(1000);
    let listed = lab.store.executions(TENANT, &filter, &page).await;
    let mut found = Vec::new();
    for shown in listed.expect("executions answers").items {
        found.push(lab.show(shown.task_id).await);
    }
    found.reverse();
    found
}

fn result(text: &str) -> End {
    End::Succeeded(Arc::from(text))
}

/// A success enqueues the target with what the step hands over; the child knows its parent.
pub async fn a_success_enqueues_its_chain(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let target = lab
        .config(json!({"key": "then", "parameters": {"n": 1, "keep": true}, "priority": 7, "max_retries": 2}))
        .await;
    let first = chained(
        &lab,
        json!([{"task": "then", "parameters": {"/n": "/count"}}]),
    )
    .await;
    let parent = run(&lab, &first, 5, result(r#"{"count":42}"#)).await;
    let children = of(&lab, target.id).await;
    let [child] = &children[..] else {
        panic!("one child: {children:?}");
    };
    assert_eq!(child.parameters, Some(json!({"n": 42, "keep": true})));
    assert_eq!(
        (child.state, child.trigger, child.parent_task_id),
        (State::Available, Trigger::Chain, Some(parent))
    );
    assert_eq!((child.priority, child.max_attempts), (7, 3));
    assert_eq!((child.due_at, child.created_at), (Some(at(5)), at(5)));
    let claimed = lab.claim_one(at(6)).await;
    assert_eq!((claimed.task_id, claimed.chained), (child.task_id, false));
    assert_eq!(claimed.parent_task_id, Some(parent));
}

/// What an attempt's end sets off belongs to the trace of the attempt, and what the end of one that never ran sets off to
/// the trace of its trigger.
pub async fn a_chain_goes_on_in_the_trace_of_its_parent(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    lab.config(json!({"key": "then"})).await;
    let ends = json!(["succeeded", "cancelled"]);
    let first = chained(&lab, json!([{"task": "then", "on": ends}])).await;
    let place = |span: &str| {
        let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span}-01");
        TraceContext::parse(&parent, Some("vendor=7"))
    };
    let (trigger, attempt) = (place("00f067aa0ba902b7"), place("1111111111111111"));
    assert!(trigger.is_some() && attempt.is_some());
    let start = async |now: i64| {
        let (id, by) = (lab.task_id(), Trigger::Manual);
        let new = new_execution(&first, false, id, by, at(now), Overrides::default());
        let new = NewExecution {
            trace: trigger.clone(),
            ..new
        };
        lab.put(at(now), new).await.1
    };
    start(1).await;
    let claimed = lab.claim_one(at(1)).await;
    assert_eq!(claimed.trace, trigger);
    let end = Completion {
        trace: attempt.clone(),
        ..completion(lab.host, at(2), &claimed, result("1"))
    };
    let receipts = lab.store.complete_many(at(2), vec![end].into()).await;
    let recorded = [CompletionReceipt::Recorded(State::Succeeded)];
    assert_eq!(receipts.expect("completes"), recorded);
    assert_eq!(lab.claim_one(at(3)).await.trace, attempt);
    let waits = start(4).await;
    lab.cancel(at(5), waits).await;
    assert_eq!(lab.claim_one(at(6)).await.trace, trigger);
}

/// Each step waits for its own ends; a retry is none.
pub async fn steps_follow_the_ends_they_name(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let on = |key: &str| json!({"key": key});
    let (good, bad, any) = (
        lab.config(on("good")).await,
        lab.config(on("bad")).await,
        lab.config(on("any")).await,
    );
    let chain = json!([{"task": good.id}, {"task": "bad", "on": ["failed", "cancelled"]},
        {"task": any.id, "on": ["succeeded", "failed", "cancelled"]}]);
    let first = chained(&lab, chain).await;
    let counts = async || {
        let mut counts = Vec::new();
        for config in [&good, &bad, &any] {
            counts.push(of(&lab, config.id).await.len());
        }
        counts
    };
    run(&lab, &first, 1, result("1")).await;
    assert_eq!(counts().await, [1, 0, 1]);
    // Children out of the way.
    lab.claim(at(1), 10).await;
    start(&lab, &first, 2).await;
    let claimed = lab.claim_one(at(2)).await;
    lab.finish(at(2), &claimed, End::Retry(at(3))).await;
    assert_eq!(counts().await, [1, 0, 1]);
    lab.store.sweep_due(at(3), 10).await.expect("sweeps");
    let claimed = lab.claim_one(at(3)).await;
    lab.finish(at(3), &claimed, End::Failed).await;
    assert_eq!(counts().await, [1, 1, 2]);
    let waiting = start(&lab, &first, 4).await;
    assert_eq!(lab.cancel(at(4), waiting).await, CancelReceipt::Ended);
    assert_eq!(counts().await, [1, 2, 3]);
    let mut expiring = new_execution(
        &first,
        false,
        lab.task_id(),
        Trigger::Manual,
        at(5),
        Overrides::default(),
    );
    expiring.expires_at = Some(at(6));
    lab.put(at(5), expiring).await;
    lab.store.sweep_due(at(7), 10).await.expect("sweeps");
    assert_eq!(counts().await, [1, 3, 4]);
}

/// What ends first sets off first, however long each had been there.
pub async fn what_expires_together_chains_in_the_order_it_expired(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let target = lab.config(json!({"key": "then"})).await;
    let first = chained(&lab, json!([{"task": "then", "on": ["failed"]}])).await;
    let mut parents = Vec::new();
    for expires in [9, 7, 8, 6] {
        let (id, by) = (lab.task_id(), Trigger::Manual);
        let mut new = new_execution(&first, false, id, by, at(5), Overrides::default());
        new.expires_at = Some(at(expires));
        parents.push((expires, lab.put(at(5), new).await.1));
    }
    lab.store.sweep_due(at(10), 10).await.expect("sweeps");
    parents.sort_unstable();
    let wanted: Vec<_> = parents.iter().map(|(_, id)| Some(*id)).collect();
    let children = of(&lab, target.id).await;
    let of: Vec<_> = children.iter().map(|child| child.parent_task_id).collect();
    assert_eq!(of, wanted);
}

/// Frozen at enqueue: what the config says later does not matter. What a key names is looked up at the end.
pub async fn chains_are_frozen_at_enqueue(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let target = lab.config(json!({"key": "then"})).await;
    let first = chained(&lab, json!([{"task": "then"}])).await;
    start(&lab, &first, 1).await;
    let mut spec = first.spec.clone();
    spec.chain.clear();
    let update = ConfigUpdate {
        expected_version: first.version,
        spec,
        reanchor: None,
    };
    let updated = lab
        .store
        .update_config(at(2), TENANT, first.id, update)
        .await;
    updated.expect("updated");
    let claimed = lab.claim_one(at(3)).await;
    lab.finish(at(3), &claimed, result("1")).await;
    assert_eq!(of(&lab, target.id).await.len(), 1);
    // A target that is gone, or another tenant's, is nothing.
    let first = lab
        .config(json!({"chain": [{"task": "nobody"}, {"task": 4711}]}))
        .await;
    lab.claim(at(3), 10).await;
    start(&lab, &first, 4).await;
    let claimed = lab.claim_one(at(4)).await;
    lab.finish(at(4), &claimed, result("1")).await;
    assert_eq!(lab.store.queue_counts().await.expect("counts").available, 0);
}

/// The same target through id and key is enqueued once; a stale end enqueues nothing.
pub async fn a_target_is_enqueued_once(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let target = lab.config(json!({"key": "then"})).await;
    let first = chained(&lab, json!([{"task": "then"}, {"task": target.id}])).await;
    start(&lab, &first, 1).await;
    let claimed = lab.claim_one(at(1)).await;
    let item = lab.completion(at(1), &claimed, result("1"));
    let twice = lab
        .store
        .complete_many(at(1), vec![item.clone(), item.clone()].into());
    twice.await.expect("complete_many answers");
    lab.complete(at(2), item).await;
    assert_eq!(of(&lab, target.id).await.len(), 1);
}

/// A pointer that leads nowhere: the child is there, failed, and says why. Its own chain follows.
pub async fn a_missing_pointer_fails_the_child(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let last = lab.config(json!({"key": "last"})).await;
    let target = lab
        .config(json!({"key": "then", "chain": [{"task": "last", "on": ["failed"]}]}))
        .await;
    let first = chained(
        &lab,
        json!([{"task": "then", "parameters": {"/x": "/gone"}}]),
    )
    .await;
    let parent = run(&lab, &first, 1, result(r#"{"here":1}"#)).await;
    let child = of(&lab, target.id).await.remove(0);
    assert_eq!(
        (child.state, child.error_kind, child.parent_task_id),
        (
            State::Failed,
            Some(ErrorKind::InvalidParameters),
            Some(parent)
        )
    );
    let message = child.error_message.clone().unwrap_or_default();
    assert!(message.contains("/gone"), "{message}");
    assert_eq!((child.attempt, child.is_success), (0, Some(false)));
    let grandchild = of(&lab, last.id).await.remove(0);
    assert_eq!(grandchild.parent_task_id, Some(child.task_id));
    assert_eq!(grandchild.state, State::Available);
}

/// The target's own rules hold; what they refuse is a skipped row.
pub async fn chains_obey_the_rules_of_the_target(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let skips = lab.config(json!({"key": "skips", "overlap": "skip"})).await;
    let one = lab
        .config(json!({"key": "one", "overlap": "queue_one"}))
        .await;
    let paused = lab.config(json!({"key": "paused", "paused": true})).await;
    let alone = lab
        .config(json!({"key": "alone", "overlap": "cancel_running"}))
        .await;
    let chain = json!([{"task": "skips"}, {"task": "one"}, {"task": "paused"}, {"task": "alone"}]);
    let first = chained(&lab, chain).await;
    run(&lab, &first, 1, result("1")).await;
    // All of one batch, one after the other.
    let parents = [start(&lab, &first, 2).await, start(&lab, &first, 2).await];
    let claimed = lab.claim(at(2), 10).await;
    let mut ends = Vec::new();
    for claimed in claimed.iter().filter(|c| parents.contains(&c.task_id)) {
        ends.push(lab.completion(at(3), claimed, result("1")));
    }
    assert_eq!(ends.len(), 2);
    lab.store
        .complete_many(at(3), ends.into())
        .await
        .expect("recorded");
    let states = async |config: &TaskConfig| -> Vec<(State, Option<SkipReason>)> {
        let all = of(&lab, config.id).await;
        all.iter().map(|e| (e.state, e.skip_reason)).collect()
    };
    let skipped = |reason| (State::Skipped, Some(reason));
    let running = (State::Running, None);
    assert_eq!(
        states(&skips).await,
        [
            running,
            skipped(SkipReason::Overlap),
            skipped(SkipReason::Overlap)
        ]
    );
    assert_eq!(
        states(&one).await,
        [
            running,
            (State::Available, None),
            skipped(SkipReason::Overlap)
        ]
    );
    assert_eq!(states(&paused).await, [skipped(SkipReason::Paused); 3]);
    assert_eq!(
        states(&alone).await,
        [running, (State::Cancelled, None), (State::Available, None)]
    );
    let all = of(&lab, alone.id).await;
    assert_eq!(all[0].cancel_requested_at, Some(at(3)));
    let row = of(&lab, skips.id).await.remove(1);
    assert_eq!(
        (row.trigger, row.slot, row.slot_count),
        (Trigger::Chain, None, None)
    );
    assert_eq!(
        (row.parent_task_id, row.completed_at),
        (Some(parents[0]), Some(at(3)))
    );
}

/// A step whose target has as many waiting as may is a skipped row; what it would cancel makes room first.
pub async fn chains_meet_full_backlogs(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let few = lab
        .config(json!({"key": "few", "concurrency": {"backlog": 1}}))
        .await;
    let alone = lab
        .config(json!({"key": "alone", "overlap": "cancel_running", "concurrency": {"backlog": 1}}))
        .await;
    let first = chained(&lab, json!([{"task": "few"}, {"task": "alone"}])).await;
    for _ in 0..3 {
        start(&lab, &first, 1).await;
    }
    let claimed = lab.claim(at(1), 3).await;
    let ends = claimed
        .iter()
        .map(|c| lab.completion(at(2), c, result("1")));
    let recorded = lab.store.complete_many(at(2), ends.collect()).await;
    assert_eq!(recorded.expect("recorded").len(), 3);
    let states = async |config: &TaskConfig| -> Vec<(State, Option<SkipReason>)> {
        let all = of(&lab, config.id).await;
        all.iter().map(|e| (e.state, e.skip_reason)).collect()
    };
    let skipped = (State::Skipped, Some(SkipReason::BacklogCap));
    let available = (State::Available, None);
    assert_eq!(states(&few).await, [available, skipped, skipped]);
    let cancelled = (State::Cancelled, None);
    assert_eq!(states(&alone).await, [cancelled, cancelled, available]);
}

/// A chain that comes back to itself ends after 32 links.
pub async fn chains_have_a_depth(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let first = chained(&lab, json!([{"task": "first"}])).await;
    start(&lab, &first, 0).await;
    let mut ran = 0;
    while let Some(claimed) = lab.claim(at(ran), 1).await.pop() {
        lab.finish(at(ran), &claimed, result("1")).await;
        ran += 1;
        assert!(ran < 100, "it never ends");
    }
    assert_eq!(ran, i64::from(MAX_DEPTH) + 1);
    let last = of(&lab, first.id).await.pop().expect("a row");
    assert_eq!(
        (last.state, last.skip_reason),
        (State::Skipped, Some(SkipReason::ChainDepth))
    );
}

/// What a deleted task ran sets off nothing.
pub async fn a_deleted_config_chains_no_more(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let target = lab.config(json!({"key": "then"})).await;
    let ends = json!(["succeeded", "failed", "cancelled"]);
    let first = chained(&lab, json!([{"task": "then", "on": ends}])).await;
    start(&lab, &first, 1).await;
    let claimed = lab.claim_one(at(1)).await;
    start(&lab, &first, 1).await;
    lab.store
        .delete_config(at(2), TENANT, first.id, HistoryOnDelete::Keep)
        .await
        .expect("deleted");
    lab.finish(at(3), &claimed, result("1")).await;
    assert!(of(&lab, target.id).await.is_empty());
}

/// Executions whose host was lost for good have ended too.
pub async fn chains_follow_a_host_lost_for_good(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let target = lab.config(json!({"key": "then"})).await;
    let first = chained(&lab, json!([{"task": "then", "on": ["cancelled"]}])).await;
    let task_id = start(&lab, &first, 1).await;
    let claimed = lab.claim_one(at(1)).await;
    lab.cancel(at(2), task_id).await;
    lab.release(at(3), &claimed, None, None).await;
    assert_eq!(lab.state(task_id).await, State::Cancelled);
    let child = of(&lab, target.id).await.remove(0);
    assert_eq!(child.parent_task_id, Some(task_id));
}

/// A child that the rules bound is bounded: one of a target that runs alone.
pub async fn children_share_the_bounds_of_their_task(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let target = lab
        .config(json!({"key": "then", "concurrency": {"max": 1}, "expires_after_seconds": 100}))
        .await;
    let first = chained(&lab, json!([{"task": "then"}])).await;
    for now in [1, 2] {
        run(&lab, &first, now, result("1")).await;
        lab.claim(at(now), 10).await;
    }
    let states: Vec<State> = of(&lab, target.id).await.iter().map(|e| e.state).collect();
    assert_eq!(states, [State::Running, State::Available]);
    let second = of(&lab, target.id).await.remove(1);
    assert_eq!(second.expires_at, Some(at(102)));
}

//! Enqueueing and claiming (rules E1, E2, E3, E6).

use super::lab::{Lab, TENANT, TYPE, at};
use crate::store::{EnqueueReceipt, NewExecution, Store};
use futures_util::future::{FutureExt as _, join};
use futures_util::poll;
use horarium_model::TaskId;
use horarium_model::execution::{State, Trigger};
use horarium_model::trace::TraceContext;
use serde_json::json;
use std::pin::pin;
use std::sync::Arc;

/// Ids rise with insertion, over calls and within a batch.
pub async fn ids_order_by_insertion(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let mut last = 0;
    for _ in 0..3 {
        let items = (0..4).map(|_| lab.new_execution(None, at(5))).collect();
        for receipt in lab.enqueue(at(0), items).await {
            let EnqueueReceipt::Enqueued { id, .. } = receipt else {
                panic!("{receipt:?}")
            };
            assert!(id > last, "{id} after {last}");
            last = id;
        }
        for claimed in lab.claim(at(5), 2).await {
            lab.finish(at(5), &claimed, super::lab::ok()).await;
        }
    }
    assert!(last < 1 << 53);
}

/// Due now is `available`, due later `scheduled`; to the microsecond.
pub async fn enqueue_decides_the_first_state(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let micro = chrono::Duration::microseconds(1);
    let due = [at(10) - micro, at(10), at(10) + micro];
    let items = due.map(|due| lab.new_execution(None, due)).to_vec();
    let states: Vec<State> = lab
        .enqueue(at(10), items)
        .await
        .into_iter()
        .map(|receipt| match receipt {
            EnqueueReceipt::Enqueued { state, .. } => state,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        states,
        [State::Available, State::Available, State::Scheduled]
    );
}

/// A refused item leaves the others in.
pub async fn enqueue_answers_each_item(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let known = lab.put_due(None, at(0)).await;
    let ended = lab.running(None, at(0)).await;
    lab.finish(at(1), &ended, super::lab::ok()).await;
    let twice = lab.new_execution(None, at(0));
    let remembering = |version: i64| NewExecution {
        remembered: Some(version),
        ..lab.new_execution(Some(config.id), at(0))
    };
    let items = vec![
        lab.new_execution(Some(config.id), at(0)),
        NewExecution {
            task_id: known,
            ..lab.new_execution(None, at(0))
        },
        NewExecution {
            task_id: ended.task_id,
            ..lab.new_execution(None, at(0))
        },
        lab.new_execution(Some(config.id + 1000), at(0)),
        NewExecution {
            tenant_id: TENANT + 7,
            ..lab.new_execution(Some(config.id), at(0))
        },
        twice.clone(),
        twice,
        remembering(config.version),
        remembering(config.version + 1),
    ];
    let receipts = lab.enqueue(at(0), items).await;
    let taken = |r: &EnqueueReceipt| matches!(r, EnqueueReceipt::Enqueued { .. });
    assert!(taken(&receipts[0]) && taken(&receipts[5]), "{receipts:?}");
    assert_eq!(receipts[1], EnqueueReceipt::Duplicate);
    assert_eq!(receipts[2], EnqueueReceipt::Duplicate);
    assert_eq!(receipts[3], EnqueueReceipt::NoConfig);
    assert_eq!(receipts[4], EnqueueReceipt::NoConfig);
    assert_eq!(receipts[6], EnqueueReceipt::Duplicate);
    assert!(taken(&receipts[7]), "{receipts:?}");
    assert_eq!(receipts[8], EnqueueReceipt::NoConfig);
}

/// `refuse_if_live` (rule S8) counts what the same batch inserted, and every live state.
pub async fn refuse_if_live_sees_the_same_batch(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let refuse = || NewExecution {
        refuse_if_live: true,
        ..lab.new_execution(Some(config.id), at(0))
    };
    let receipts = lab.enqueue(at(0), vec![refuse(), refuse()]).await;
    assert!(matches!(receipts[0], EnqueueReceipt::Enqueued { .. }));
    assert_eq!(receipts[1], EnqueueReceipt::Live);
    let claimed = lab.claim_one(at(0)).await;
    assert_eq!(
        lab.enqueue(at(0), vec![refuse()]).await,
        [EnqueueReceipt::Live]
    );
    lab.finish(at(1), &claimed, super::lab::ok()).await;
    let receipts = lab.enqueue(at(2), vec![refuse()]).await;
    assert!(matches!(receipts[0], EnqueueReceipt::Enqueued { .. }));
}

/// Rule E2: a step of priority is worth a minute; ties go by id.
pub async fn claims_come_in_the_order_of_due_and_priority(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let mut put = Vec::new();
    for (due, priority) in [(0, 0), (-60, -1), (60, 1), (59, 1), (-10, 0), (100, 100)] {
        let item = NewExecution {
            priority,
            ..lab.new_execution(None, at(due))
        };
        put.push(lab.put(at(1000), item).await.1);
    }
    let order: Vec<TaskId> = lab
        .claim(at(1000), 10)
        .await
        .into_iter()
        .map(|c| c.task_id)
        .collect();
    let expected: Vec<TaskId> = [5, 4, 3, 0, 1, 2].iter().map(|i| put[*i]).collect();
    assert_eq!(order, expected);
}

/// Only the types of the request, and at most its limit.
pub async fn claims_take_only_the_wanted_types(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for task_type in ["one", "two", "one", "three"] {
        let item = NewExecution {
            task_type: task_type.to_owned(),
            ..lab.new_execution(None, at(0))
        };
        lab.put(at(0), item).await;
    }
    assert!(lab.claim_types(at(0), 10, &[]).await.is_empty());
    assert!(lab.claim_types(at(0), 0, &["one"]).await.is_empty());
    let types = |claimed: Vec<crate::store::Claimed>| {
        claimed
            .into_iter()
            .map(|c| c.task_type)
            .collect::<Vec<String>>()
    };
    assert_eq!(
        types(lab.claim_types(at(0), 2, &["one", "three"]).await),
        ["one", "one"]
    );
    assert_eq!(
        types(lab.claim_types(at(0), 9, &["one", "three"]).await),
        ["three"]
    );
}

/// A stopped or unknown incarnation claims nothing.
pub async fn claims_need_a_living_host(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    lab.put_due(None, at(0)).await;
    assert!(lab.claim_for(99, at(0), 1, &[TYPE]).await.is_empty());
    lab.store.stop_host(at(0), lab.host).await.expect("stops");
    assert!(lab.claim(at(0), 1).await.is_empty());
    let host = lab.store.start_host(at(0), "new").await.expect("starts");
    assert_eq!(lab.claim_for(host, at(0), 1, &[TYPE]).await.len(), 1);
}

/// Rule E1: the claim brings what was frozen, and the config's version of now.
pub async fn a_claim_carries_what_was_frozen(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let (parent, repeated) = (lab.task_id(), lab.task_id());
    let trace = TraceContext::parse(
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        Some("a=1,b=2"),
    );
    assert!(trace.is_some());
    let item = NewExecution {
        trigger: Trigger::Retry,
        slot: Some(at(-7)),
        priority: 3,
        max_attempts: 5,
        parameters: Arc::from(r#"{"b":[1,"ü"]}"#),
        parent_task_id: Some(parent),
        retry_of: Some(repeated),
        trace: trace.clone(),
        ..lab.new_execution(Some(config.id), at(-5))
    };
    let (id, task_id) = lab.put(at(0), item).await;
    let claimed = lab.claim_one(at(2)).await;
    assert_eq!((claimed.id, claimed.task_id), (id, task_id));
    assert_eq!((claimed.claim, claimed.attempt), (1, 1));
    assert_eq!(claimed.tenant_id, TENANT);
    assert_eq!(claimed.config_id, Some(config.id));
    assert_eq!(claimed.config_version, Some(config.version));
    assert_eq!(claimed.task_type, TYPE);
    assert_eq!(claimed.trigger, Trigger::Retry);
    assert_eq!((claimed.slot, claimed.due_at), (Some(at(-7)), at(-5)));
    assert_eq!(claimed.max_attempts, 5);
    assert_eq!(&*claimed.parameters, r#"{"b":[1,"ü"]}"#);
    assert_eq!(claimed.parent_task_id, Some(parent));
    assert_eq!(claimed.retry_of, Some(repeated));
    assert_eq!(claimed.trace, trace);
    let shown = lab.show(task_id).await;
    assert_eq!(
        (shown.state, shown.started_at),
        (State::Running, Some(at(2)))
    );
    assert_eq!((shown.attempt, shown.priority), (1, 3));
    assert_eq!(shown.is_success, None);
}

/// A store that is in order may be claimed from before what is to be found has been answered: whoever rings that early
/// would wake a claim in vain, and what came would wait for the next heartbeat. Elsewhere one rings afterwards.
pub async fn a_claim_finds_what_was_begun_before_it(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for round in 0..20 {
        let item = lab.new_execution(None, at(round));
        let wanted = item.task_id;
        let mut enqueueing = pin!(lab.enqueue(at(round), vec![item]));
        let pending = poll!(enqueueing.as_mut()).is_pending();
        let claimed = match (pending, lab.store.is_in_order()) {
            (true, true) => join(enqueueing, lab.claim(at(round), 10)).await.1,
            (true, false) => enqueueing.then(|_| lab.claim(at(round), 10)).await,
            (false, _) => lab.claim(at(round), 10).await,
        };
        let found: Vec<TaskId> = claimed.iter().map(|one| one.task_id).collect();
        assert_eq!(found, [wanted], "round {round}");
    }
}

fn keyed(lab: &Lab, key: &str, max: u32) -> NewExecution {
    NewExecution {
        run_key: Some(key.to_owned()),
        run_max: max,
        ..lab.new_execution(None, at(0))
    }
}

/// Never more of a key than its bound, in one claim or over several; others pass by.
pub async fn a_run_key_is_bounded_within_a_batch_and_across(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for _ in 0..5 {
        lab.put(at(0), keyed(&lab, "k", 2)).await;
    }
    let free = lab.put_due(None, at(0)).await;
    let first = lab.claim(at(0), 10).await;
    assert_eq!(first.len(), 3);
    assert_eq!(first[2].task_id, free);
    assert!(lab.claim(at(0), 10).await.is_empty());
    lab.finish(at(1), &first[0], super::lab::ok()).await;
    assert_eq!(lab.claim(at(1), 10).await.len(), 1);
    assert!(lab.claim(at(1), 10).await.is_empty());
}

/// A suspect that must wait holds up nobody behind it, whatever their keys and its own: a store that locks keys in an
/// order does so for as many executions as it takes.
pub async fn a_waiting_suspect_holds_up_no_other_key(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for _ in 0..2 {
        lab.put(at(0), keyed(&lab, "z", 2)).await;
    }
    let host = lost_three_times(&lab, 2).await;
    // Both are suspects now, of which one runs at a time.
    let other = lab.put(at(3), keyed(&lab, "a", 1)).await.1;
    let claimed = lab.claim_for(host, at(3), 2, &[TYPE]).await;
    let states = claimed.iter().map(|one| one.task_id == other);
    assert_eq!(states.collect::<Vec<_>>(), [false, true], "{claimed:?}");
}

/// However a running or waiting one of a full key goes away, the next gets its turn.
pub async fn a_freed_run_key_lets_the_next_one_in(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let mut waiting = Vec::new();
    for _ in 0..7 {
        waiting.push(lab.put(at(0), keyed(&lab, "k", 1)).await.1);
    }
    let mut running = lab.claim_one(at(0)).await;
    assert!(lab.claim(at(0), 5).await.is_empty());
    // A success, a failure, a retry that waits, a release that waits: each frees the key.
    for step in 0..4 {
        match step {
            0 => drop(lab.finish(at(1), &running, super::lab::ok()).await),
            1 => drop(lab.finish(at(1), &running, crate::store::End::Failed).await),
            2 => drop(
                lab.finish(at(1), &running, crate::store::End::Retry(at(500)))
                    .await,
            ),
            _ => assert_eq!(lab.release(at(1), &running, None, Some(at(500))).await, 1),
        }
        running = lab.claim_one(at(1)).await;
        assert_eq!(running.task_id, waiting[step + 1]);
        assert!(lab.claim(at(1), 5).await.is_empty());
    }
    // The next in line is cancelled while it waits; the one behind it must not be forgotten.
    lab.finish(at(2), &running, super::lab::ok()).await;
    lab.cancel(at(2), waiting[5]).await;
    assert_eq!(lab.claim_one(at(2)).await.task_id, waiting[6]);
}

/// A key's full backlog does not hide what stands behind it, and the same key of another tenant is
/// another key.
pub async fn run_keys_belong_to_a_tenant_and_a_backlog_blocks_nobody(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let items = (0..300).map(|_| keyed(&lab, "k", 1)).collect();
    lab.enqueue(at(0), items).await;
    let foreign = NewExecution {
        tenant_id: TENANT + 1,
        ..keyed(&lab, "k", 1)
    };
    let foreign = lab.put(at(0), foreign).await.1;
    let free = lab.put_due(None, at(1)).await;
    let request = crate::store::ClaimRequest {
        now: at(1),
        incarnation: lab.host,
        types: Arc::from([(TENANT, TYPE.to_owned()), (TENANT + 1, TYPE.to_owned())]),
        limit: 10,
    };
    let claims = lab.store.claim(request).await;
    let claimed = claims.expect("claim answers").claimed;
    assert_eq!(claimed.len(), 3);
    assert_eq!(claimed[1].task_id, foreign);
    assert_eq!(claimed[2].task_id, free);
    // A more urgent one of the full key comes first when the key is free again.
    let urgent = NewExecution {
        priority: 50,
        ..keyed(&lab, "k", 1)
    };
    let urgent = lab.put(at(1), urgent).await.1;
    assert!(lab.claim(at(1), 10).await.is_empty());
    lab.finish(at(2), &claimed[0], super::lab::ok()).await;
    let next = lab.claim(at(2), 10).await;
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].task_id, urgent);
}

/// What cannot run itself never hides what stands behind it in the same key: another type, or more room
/// than one claim takes.
pub async fn a_freed_run_key_is_used_to_the_full(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let items = (0..6).map(|_| keyed(&lab, "k", 3)).collect();
    lab.enqueue(at(0), items).await;
    let running = lab.claim(at(0), 10).await;
    assert_eq!(running.len(), 3);
    assert!(lab.claim(at(0), 10).await.is_empty());
    for claimed in &running {
        lab.finish(at(1), claimed, super::lab::ok()).await;
    }
    // Three may run, but each claim takes one.
    for left in (0..3).rev() {
        let claimed = lab.claim(at(1), 1).await;
        assert_eq!(claimed.len(), 1, "{left} more could run");
    }

    let strange = NewExecution {
        task_type: "other".to_owned(),
        ..keyed(&lab, "m", 1)
    };
    let first = lab.put(at(0), keyed(&lab, "m", 1)).await.1;
    let strange = lab.put(at(0), strange).await.1;
    let last = lab.put(at(0), keyed(&lab, "m", 1)).await.1;
    let mut running = lab.claim_types(at(1), 5, &[TYPE, "other"]).await;
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].task_id, first);
    assert!(lab.claim_types(at(1), 5, &[TYPE, "other"]).await.is_empty());
    lab.finish(at(1), &running[0], super::lab::ok()).await;
    running = lab.claim_types(at(1), 1, &[TYPE]).await;
    assert_eq!(
        running.len(),
        1,
        "the other type's turn is not ours to wait for"
    );
    assert_eq!(running[0].task_id, last);
    lab.finish(at(1), &running[0], super::lab::ok()).await;
    running = lab.claim_types(at(1), 1, &[TYPE, "other"]).await;
    assert_eq!(running[0].task_id, strange);
}

/// Between its expiry and the sweep it is not run.
pub async fn an_expired_execution_is_never_claimed(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let item = NewExecution {
        expires_at: Some(at(10)),
        ..lab.new_execution(None, at(0))
    };
    lab.put(at(0), item).await;
    assert!(lab.claim(at(10), 1).await.is_empty());
    let micro = chrono::Duration::microseconds(1);
    assert_eq!(lab.claim(at(10) - micro, 1).await.len(), 1);
}

/// Has so many that wait claimed and lost three times, until the third second. The host that is alive then.
async fn lost_three_times(lab: &Lab, count: usize) -> i64 {
    let mut host = lab.host;
    for round in 1..=3 {
        let claimed = lab.claim_for(host, at(round), 9, &[TYPE]).await;
        assert_eq!(claimed.len(), count, "round {round}");
        host = lab
            .store
            .start_host(at(round), "next")
            .await
            .expect("starts");
        let taken = lab.store.take_over(at(round), host).await.expect("answers");
        assert_eq!(taken.requeued, count as u64, "round {round}");
    }
    host
}

/// Rule E6: lost three times, it runs as a suspect, one at a time over all hosts.
pub async fn suspects_run_one_at_a_time(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for _ in 0..2 {
        lab.put_due(None, at(0)).await;
    }
    let host = lost_three_times(&lab, 2).await;
    let free = lab.put_due(None, at(9)).await;
    let claimed = lab.claim_for(host, at(9), 9, &[TYPE]).await;
    assert_eq!(claimed.len(), 2, "one suspect and the free one");
    assert_eq!(claimed[1].task_id, free);
    assert!(lab.claim_for(host, at(9), 9, &[TYPE]).await.is_empty());
    let end = super::lab::completion(host, at(10), &claimed[0], super::lab::ok());
    lab.complete(at(10), end).await;
    assert_eq!(lab.claim_for(host, at(10), 9, &[TYPE]).await.len(), 1);
}

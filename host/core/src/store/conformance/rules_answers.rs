//! Requests that may be repeated (rule E8), and batches that are taken whole or not at all.

use super::lab::{Lab, TENANT, at, spec};
use crate::store::{
    Answer, Created, Enqueue, EnqueueReceipt, Enqueued, KeptAnswer, KeyedRequest, NewExecution,
    Store, StoreError,
};
use horarium_model::{TaskConfig, TenantId};
use serde_json::json;
use std::sync::Arc;

fn answer(text: &str) -> Answer {
    Answer {
        status: 202,
        body: text.into(),
    }
}

fn keyed(tenant: TenantId, key: &str, hash: &str) -> KeyedRequest<Vec<EnqueueReceipt>> {
    KeyedRequest {
        tenant_id: tenant,
        key: key.into(),
        hash: hash.into(),
        answer: Arc::new(|receipts: &Vec<EnqueueReceipt>| {
            let taken = receipts
                .iter()
                .filter(|receipt| matches!(receipt, EnqueueReceipt::Enqueued { .. }));
            let taken = taken.count();
            (taken > 0).then(|| answer(&format!("[{taken}]")))
        }),
    }
}

async fn enqueue(
    lab: &Lab,
    now: i64,
    items: Vec<NewExecution>,
    request: KeyedRequest<Vec<EnqueueReceipt>>,
) -> Enqueued {
    let batch = Enqueue {
        request: Some(request),
        ..Enqueue::each(items)
    };
    let done = lab.store.enqueue(at(now), batch).await;
    done.expect("enqueue answers")
}

async fn available(lab: &Lab) -> u64 {
    let counts = lab.store.queue_counts().await;
    counts.expect("queue_counts answers").available
}

/// A key is used once a day in its tenant; repeated, it brings the kept answer and nothing is inserted.
pub async fn a_request_key_is_used_once(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let item = || lab.new_execution(None, at(0));
    let kept = |hash: &str| KeptAnswer {
        hash: hash.into(),
        answer: answer("[2]"),
    };
    let first = enqueue(&lab, 10, vec![item(), item()], keyed(TENANT, "k", "a")).await;
    assert!(matches!(first, Enqueued::Done(receipts) if receipts.len() == 2));
    for hash in ["a", "b"] {
        let again = enqueue(&lab, 11, vec![item()], keyed(TENANT, "k", hash)).await;
        assert_eq!(again, Enqueued::Repeated(kept("a")));
    }
    assert_eq!(available(&lab).await, 2);
    let look = async |now: i64, tenant: TenantId, key: &str| {
        let found = lab.store.kept_answer(at(now), tenant, key).await;
        found.expect("kept_answer answers")
    };
    let day = 86_400;
    assert_eq!(look(11, TENANT, "k").await, Some(kept("a")));
    assert_eq!(look(9 + day, TENANT, "k").await, Some(kept("a")));
    assert_eq!(look(10 + day, TENANT, "k").await, None);
    assert_eq!(look(11, TENANT + 1, "k").await, None);
    assert_eq!(look(11, TENANT, "other").await, None);
    // After a day the key is free, swept or not.
    let fresh = enqueue(&lab, 10 + day, vec![item()], keyed(TENANT, "k", "c")).await;
    assert!(matches!(fresh, Enqueued::Done(_)));
    assert_eq!(available(&lab).await, 3);
    assert_eq!(look(11 + day, TENANT, "k").await.expect("kept").hash, "c");
}

/// A refusal is not kept: the same key may be tried again.
pub async fn refusals_keep_no_answer(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let nobody = lab.new_execution(Some(4711), at(0));
    let refused = enqueue(&lab, 1, vec![nobody], keyed(TENANT, "k", "a")).await;
    assert_eq!(refused, Enqueued::Done(vec![EnqueueReceipt::NoConfig]));
    let item = lab.new_execution(None, at(0));
    let taken = enqueue(&lab, 2, vec![item], keyed(TENANT, "k", "b")).await;
    assert!(matches!(taken, Enqueued::Done(_)));
}

/// Old answers go, at most so many at once.
pub async fn answers_are_swept_after_a_day(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for n in 0..3 {
        let item = lab.new_execution(None, at(0));
        enqueue(&lab, n, vec![item], keyed(TENANT, &format!("k{n}"), "a")).await;
    }
    let day = 86_400;
    let purge = async |now: i64, limit: u32| {
        let gone = lab.store.purge_answers(at(now), limit).await;
        gone.expect("purge_answers answers")
    };
    assert_eq!(purge(100, 10).await, 0);
    assert_eq!(purge(day + 1, 1).await, 1);
    assert_eq!(purge(day + 1, 10).await, 1);
    let last = lab.store.kept_answer(at(day), TENANT, "k2").await;
    assert!(last.expect("answers").is_some());
}

/// A config is created once for a key; one that is refused leaves the key free.
pub async fn configs_are_created_once_for_a_key(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let create = async |name: &str, request: &str| {
        let body = json!({"key": name});
        let request = KeyedRequest {
            tenant_id: TENANT,
            key: request.into(),
            hash: name.into(),
            answer: Arc::new(|config: &TaskConfig| Some(answer(&config.id.to_string()))),
        };
        let created = lab
            .store
            .create_config_once(at(1), TENANT, spec(body), Some(request));
        created.await
    };
    let Ok(Created::Done(config)) = create("one", "k").await else {
        panic!("created");
    };
    let again = create("two", "k").await.expect("answered");
    let kept = KeptAnswer {
        hash: "one".into(),
        answer: answer(&config.id.to_string()),
    };
    assert_eq!(again, Created::Repeated(kept));
    assert_eq!(
        lab.store
            .config_by_key(TENANT, "two")
            .await
            .expect("answers"),
        None
    );
    let taken = create("one", "free").await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))), "{taken:?}");
    assert!(matches!(create("two", "free").await, Ok(Created::Done(_))));
}

/// One refusal voids an atomic batch; the others say so.
pub async fn an_atomic_batch_is_all_or_nothing(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await.id;
    let known = lab.put_due(None, at(0)).await;
    let batch = |items: Vec<NewExecution>| Enqueue {
        atomic: true,
        ..Enqueue::each(items)
    };
    let items = vec![
        lab.new_execution(Some(config), at(0)),
        NewExecution {
            task_id: known,
            ..lab.new_execution(None, at(0))
        },
        NewExecution {
            refuse_if_live: true,
            ..lab.new_execution(Some(config), at(0))
        },
        lab.new_execution(Some(4711), at(0)),
    ];
    let done = lab.store.enqueue(at(1), batch(items)).await;
    use EnqueueReceipt::{Duplicate, Live, NoConfig, Void};
    let expected = vec![Void, Duplicate, Live, NoConfig];
    assert_eq!(done.expect("answers"), Enqueued::Done(expected));
    assert_eq!(available(&lab).await, 1);
    let items = vec![
        lab.new_execution(None, at(0)),
        lab.new_execution(None, at(0)),
    ];
    let done = lab.store.enqueue(at(1), batch(items)).await;
    assert!(matches!(done, Ok(Enqueued::Done(_))));
    assert_eq!(available(&lab).await, 3);
}

//! Quotas of tenants: what claims, ends and new things keep to.

use super::lab::{Lab, TENANT, TYPE, at, ok, spec};
use super::scene::SetClock;
use crate::caretaker::{Caretaker, PrunePlan};
use crate::runner::StateCommit;
use crate::store::{CompletionReceipt, End, Store, StoreError};
use horarium_model::execution::State;
use horarium_model::quota::{Quotas, Spent};
use horarium_model::retention::Retention;
use horarium_model::{TaskConfig, Usage};
use serde_json::json;
use std::sync::Arc;

impl Lab {
    async fn quotas(&self, body: serde_json::Value) {
        let quotas = Quotas::from_json(&body).expect("good quotas");
        let setting = self.store.set_quotas(TENANT, quotas).await;
        setting.expect("the quotas are set");
    }

    async fn spent(&self, second: i64) -> Spent {
        let used = self.store.quota_use(at(second), TENANT).await;
        used.expect("counted").spent
    }

    /// A config whose runs ask for this much fuel, memory and log.
    async fn asking(&self, fuel: u64, memory: u64) -> TaskConfig {
        self.config(json!({"limits": {"fuel": fuel, "memory_bytes": memory, "log_bytes": 10}}))
            .await
    }
}

/// What was set comes back; what a tenant has is counted.
pub async fn quotas_are_kept_and_counted(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let all = json!({"concurrency": 1, "backlog": 2, "executions_per_minute": 3, "fuel_per_day": 4,
        "memory_bytes": 5, "plugins": 6, "configs": 7, "history": 8, "state_bytes": 9, "log_bytes_per_day": 10});
    lab.quotas(all.clone()).await;
    let known = lab
        .store
        .quotas(TENANT)
        .await
        .expect("read")
        .expect("known");
    assert_eq!(known.tenant, "default");
    assert_eq!(serde_json::to_value(known.quotas).expect("JSON"), all);
    lab.quotas(json!({})).await;
    let known = lab
        .store
        .quotas(TENANT)
        .await
        .expect("read")
        .expect("known");
    assert_eq!(known.quotas, Quotas::default());
    assert!(lab.store.quotas(TENANT + 99).await.expect("read").is_none());
    let refused = lab.store.set_quotas(TENANT + 99, Quotas::default()).await;
    assert!(
        matches!(refused, Err(StoreError::NotFound(_))),
        "{refused:?}"
    );
    let config = lab.asking(1, 1).await;
    let claimed = lab.running(Some(config.id), at(0)).await;
    lab.finish(at(0), &claimed, ok()).await;
    lab.running(Some(config.id), at(0)).await;
    lab.put_due(Some(config.id), at(0)).await;
    let setting = lab
        .store
        .set_task_state(at(0), TENANT, config.id, "key", Some(vec![0; 7]));
    setting.await.expect("set");
    let used = lab.store.quota_use(at(0), TENANT).await.expect("counted");
    assert_eq!((used.running, used.waiting, used.history), (1, 1, 1));
    assert_eq!((used.configs, used.plugins, used.state_bytes), (1, 0, 10));
}

/// So many start in a calendar minute, and as many in the next.
pub async fn starts_are_counted_by_the_minute(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    lab.quotas(json!({"executions_per_minute": 3})).await;
    for _ in 0..8 {
        lab.put_due(None, at(0)).await;
    }
    assert_eq!(lab.claim(at(1), 2).await.len(), 2);
    assert_eq!(lab.claim(at(2), 5).await.len(), 1);
    assert_eq!(lab.claim(at(59), 5).await.len(), 0);
    assert_eq!(lab.spent(59).await.starts, 3);
    assert_eq!(lab.spent(60).await.starts, 0);
    assert_eq!(lab.claim(at(60), 5).await.len(), 3);
    lab.quotas(json!({})).await;
    assert_eq!(lab.claim(at(61), 5).await.len(), 2);
}

/// Fuel is reserved with the claim, and what was not burnt is given back with the end: what is burnt and reserved
/// together is never more than the day's.
pub async fn fuel_of_the_day_is_reserved_and_given_back(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    lab.quotas(json!({"fuel_per_day": 250})).await;
    let config = lab.asking(100, 1).await;
    for _ in 0..6 {
        lab.put_due(Some(config.id), at(0)).await;
    }
    let claimed = lab.claim(at(1), 6).await;
    let given: Vec<_> = claimed.iter().map(|one| one.allowance.fuel).collect();
    assert_eq!(given, [Some(100), Some(100), Some(50)]);
    assert!(
        claimed
            .iter()
            .all(|one| one.allowance.memory_bytes.is_none())
    );
    assert_eq!(lab.spent(1).await.fuel_reserved, 250);
    assert!(lab.claim(at(2), 6).await.is_empty());
    let burn = |one: &crate::store::Claimed, fuel| {
        let mut item = lab.completion(at(3), one, ok());
        item.record.usage = Some(Usage {
            fuel,
            ..Usage::default()
        });
        item
    };
    lab.complete(at(3), burn(&claimed[0], 30)).await;
    let spent = lab.spent(3).await;
    assert_eq!((spent.fuel, spent.fuel_reserved), (30, 150));
    let next = lab.claim(at(4), 6).await;
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].allowance.fuel, Some(70));
    // Handed back, it holds nothing any more.
    assert_eq!(lab.release(at(4), &next[0], None, None).await, 1);
    assert_eq!(lab.spent(4).await.fuel_reserved, 150);
    lab.complete(at(5), burn(&claimed[1], 100)).await;
    lab.complete(at(5), burn(&claimed[2], 50)).await;
    assert_eq!(lab.spent(5).await.fuel, 180);
    // Another day, another budget; what runs over midnight is reserved on both.
    let over = lab.claim(at(6), 1).await;
    assert_eq!(over[0].allowance.fuel, Some(70));
    let tomorrow = 86_400 + 1;
    assert_eq!(lab.spent(tomorrow).await.fuel, 0);
    let given: Vec<_> = lab
        .claim(at(tomorrow), 6)
        .await
        .iter()
        .map(|one| one.allowance.fuel)
        .collect();
    assert_eq!(given, [Some(100), Some(80)]);
}

/// The limits of what runs never add up to more memory; one that does not fit is waited for, not passed by.
pub async fn memory_is_shared_out_in_turn(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    lab.quotas(json!({"memory_bytes": 100, "log_bytes_per_day": 15}))
        .await;
    let (large, small) = (lab.asking(1, 60).await, lab.asking(1, 10).await);
    let mut put = Vec::new();
    for config in [&large, &large, &small] {
        put.push(lab.put_due(Some(config.id), at(0)).await);
    }
    let first = lab.claim(at(1), 5).await;
    assert_eq!(first.len(), 1, "the second is waited for");
    let allowance = first[0].allowance;
    assert_eq!(
        (allowance.memory_bytes, allowance.log_bytes),
        (Some(60), Some(10))
    );
    assert!(lab.claim(at(2), 5).await.is_empty());
    lab.finish(at(3), &first[0], ok()).await;
    let next = lab.claim(at(4), 5).await;
    let ids: Vec<_> = next.iter().map(|one| one.task_id).collect();
    assert_eq!(ids, put[1..]);
    assert_eq!(lab.spent(4).await.memory_reserved, 70);
    // Of the log's budget the first kept nothing; these have 10 and the rest of 15.
    assert_eq!(
        (next[0].allowance.log_bytes, next[1].allowance.log_bytes),
        (Some(10), Some(5))
    );
    // One that asks for more than there may ever be gets all of it.
    for one in &next {
        lab.finish(at(5), one, ok()).await;
    }
    let huge = lab.asking(1, 1000).await;
    lab.put_due(Some(huge.id), at(6)).await;
    assert_eq!(lab.claim_one(at(6)).await.allowance.memory_bytes, Some(100));
}

/// One task or plugin too many is refused, and says so.
pub async fn tasks_and_plugins_are_counted(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    lab.quotas(json!({"configs": 2, "plugins": 1})).await;
    let (first, _) = (lab.cron().await, lab.cron().await);
    let create = async || {
        let spec = spec(json!({}));
        lab.store.create_config(at(0), TENANT, spec).await
    };
    let Err(StoreError::Quota(hit)) = create().await else {
        panic!("refused");
    };
    assert_eq!((hit.quota, hit.used, hit.limit), ("configs", 2, 2));
    let deleted = lab
        .store
        .delete_config(at(1), TENANT, first.id, Default::default());
    deleted.await.expect("deleted");
    create().await.expect("there is room again");
    let add = async |name: &str, byte: u8| {
        let version = super::rules_catalog::version(name, &[byte]);
        lab.store.add_version(at(0), version, vec![byte]).await
    };
    add(TYPE, 1).await.expect("the first");
    let Err(StoreError::Quota(hit)) = add("another", 1).await else {
        panic!("refused");
    };
    assert_eq!((hit.quota, hit.used, hit.limit), ("plugins", 1, 1));
    add(TYPE, 2)
        .await
        .expect("another version is no other plugin");
    let types = lab.store.all_task_types().await.expect("listed");
    assert_eq!(types.len(), 1);
}

/// State that would be too much is refused with nothing written; what shrinks or stays may.
pub async fn state_is_counted_over_all_tasks(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let (one, two) = (lab.cron().await.id, lab.cron().await.id);
    lab.quotas(json!({"state_bytes": 20})).await;
    let set = async |config, key: &str, bytes: usize| {
        let value = Some(vec![0; bytes]);
        lab.store
            .set_task_state(at(0), TENANT, config, key, value)
            .await
    };
    set(one, "k", 9).await.expect("10 of 20");
    set(two, "k", 8).await.expect("19 of 20");
    let Err(StoreError::Quota(hit)) = set(two, "m", 1).await else {
        panic!("refused");
    };
    assert_eq!((hit.quota, hit.used, hit.limit), ("state_bytes", 19, 20));
    set(two, "k", 9).await.expect("20 of 20");
    let commit = async |bytes: usize| {
        let claimed = lab.running(Some(one), at(1)).await;
        let mut item = lab.completion(at(1), &claimed, ok());
        item.state = Some(StateCommit {
            expected: Default::default(),
            writes: [("k".to_owned(), Some(vec![1; bytes]))].into(),
        });
        let receipt = lab.complete(at(1), item).await;
        if receipt != CompletionReceipt::Recorded(State::Succeeded) {
            lab.finish(at(1), &claimed, End::Failed).await;
        }
        receipt
    };
    let refused = commit(10).await;
    assert!(
        matches!(&refused, CompletionReceipt::StateQuota(hit) if hit.used == 20),
        "{refused:?}"
    );
    assert_eq!(
        commit(9).await,
        CompletionReceipt::Recorded(State::Succeeded)
    );
    assert_eq!(
        commit(2).await,
        CompletionReceipt::Recorded(State::Succeeded)
    );
    let used = lab.store.quota_use(at(2), TENANT).await.expect("counted");
    assert_eq!(used.state_bytes, 13);
}

/// Of the history as much is kept as the quota says, the newest.
pub async fn the_oldest_history_goes_beyond_its_quota(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    lab.quotas(json!({"history": 2})).await;
    let mut ended = Vec::new();
    for second in 0..5 {
        let claimed = lab.running(None, at(second)).await;
        lab.finish(at(second), &claimed, ok()).await;
        ended.push(claimed.task_id);
    }
    let care = Caretaker {
        store: lab.store.clone(),
        clock: Arc::new(SetClock::at(at(10))),
    };
    let plan = |dry_run| PrunePlan {
        dry_run,
        pace: 0,
        ..PrunePlan::of_host(Retention::default())
    };
    for (dry_run, left) in [(true, 5), (false, 2)] {
        let report = care.prune(&plan(dry_run), &|_| {}).await.expect("pruned");
        assert_eq!(report.executions, 3);
        let kept = lab.store.history_count(TENANT).await.expect("counted");
        assert_eq!(kept, left);
    }
    assert!(lab.find(ended[2]).await.is_none());
    assert!(lab.find(ended[3]).await.is_some());
}

/// What goes for more than one reason is counted once.
pub async fn a_dry_run_counts_what_goes_once(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    lab.quotas(json!({"history": 3})).await;
    let config = lab.config(json!({})).await;
    for second in 0..6 {
        let claimed = lab.running(Some(config.id), at(second)).await;
        let end = if second == 1 { End::Failed } else { ok() };
        lab.finish(at(second), &claimed, end).await;
    }
    let care = Caretaker {
        store: lab.store.clone(),
        clock: Arc::new(SetClock::at(at(10))),
    };
    // By their age the successes at 0 and 2 go; by the quota one more, the failure at 1; by what is kept the success
    // at 3.
    let retention = Retention {
        succeeded_seconds: Some(7),
        keep: Some(2),
        ..Retention::default()
    };
    for dry_run in [true, false] {
        let plan = PrunePlan {
            dry_run,
            pace: 0,
            ..PrunePlan::of_host(retention)
        };
        let report = care.prune(&plan, &|_| {}).await.expect("pruned");
        assert_eq!(report.executions, 4, "dry run: {dry_run}");
    }
    let kept = lab.store.history_count(TENANT).await.expect("counted");
    assert_eq!(kept, 2);
}

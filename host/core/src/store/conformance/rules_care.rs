//! Care of what ended: what is pruned, and what was used.

use super::lab::{Lab, TENANT, TYPE, at, line, ok, record};
use super::scene::SetClock;
use crate::caretaker::{Caretaker, PrunePlan};
use crate::store::{
    Completion, CompletionReceipt, End, ExecutionFilter, HistoryOnDelete, Page, PruneScope,
    PruneStep, Pruned, Store, StoreError, Tally,
};
use horarium_model::execution::{AttemptOutcome, State};
use horarium_model::quota::day_of;
use horarium_model::retention::{PerEnd, Retention};
use horarium_model::{ConfigId, Execution, TaskId, Timestamp, Usage};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

impl Lab {
    /// An execution that ended at an instant, with a log and an attempt before its last.
    async fn ended(&self, config: Option<ConfigId>, second: i64, end: End) -> TaskId {
        self.put_due(config, at(second - 3)).await;
        let first = self.claim_one(at(second - 3)).await;
        let mut retry = self.completion(at(second - 2), &first, End::Retry(at(second - 1)));
        retry.logs = vec![line(&first, 0, "first")];
        self.complete(at(second - 2), retry).await;
        self.sweep(at(second - 1)).await;
        let claimed = self.claim_one(at(second - 1)).await;
        let mut last = self.completion(at(second), &claimed, end);
        last.logs = vec![line(&claimed, 0, "last")];
        let receipt = self.complete(at(second), last).await;
        assert!(matches!(receipt, CompletionReceipt::Recorded(_)));
        claimed.task_id
    }

    async fn prune(&self, scope: PruneScope, limit: u32, dry_run: bool) -> (u64, u32) {
        let mut step = PruneStep {
            scope,
            after: None,
            limit,
            dry_run,
        };
        let (mut removed, mut steps) = (0, 0);
        loop {
            let pruned: Pruned = self.store.prune(&step).await.expect("pruned");
            assert!(pruned.removed <= u64::from(limit));
            removed += pruned.removed;
            steps += 1;
            match pruned.next {
                Some(next) => step.after = Some(next),
                None => return (removed, steps),
            }
        }
    }

    async fn left(&self) -> Vec<Execution> {
        let filter = ExecutionFilter::default();
        let page = Page::first(1000);
        let listing = self.store.executions(TENANT, &filter, &page).await;
        listing.expect("listed").items
    }
}

fn ages(succeeded: Option<Timestamp>, failed: Option<Timestamp>) -> PruneScope {
    PruneScope::Ages {
        tenant: TENANT,
        before: PerEnd {
            succeeded,
            failed,
            ..PerEnd::default()
        },
    }
}

/// Each way to end has its own age; what goes leaves nothing behind, and what lives is not touched.
pub async fn pruning_goes_by_age_and_end(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let old = lab.ended(None, 10, ok()).await;
    let failed = lab.ended(None, 11, End::Failed).await;
    let young = lab.ended(None, 20, ok()).await;
    let waiting = lab.put_due(None, at(30)).await;
    let scope = ages(Some(at(20)), Some(at(11)));
    assert_eq!(lab.prune(scope.clone(), 10, true).await.0, 1);
    assert!(lab.find(old).await.is_some(), "it was only counted");
    assert_eq!(lab.prune(scope.clone(), 10, false).await, (1, 1));
    assert_eq!(lab.prune(scope, 10, false).await.0, 0);
    assert!(lab.find(old).await.is_none());
    assert!(lab.attempts(old).await.is_empty());
    let logs = lab.store.logs(TENANT, old, &Page::first(10)).await;
    assert!(logs.expect("answers").items.is_empty());
    for kept in [failed, young, waiting] {
        assert!(lab.find(kept).await.is_some());
    }
    assert_eq!(lab.attempts(failed).await.len(), 2);
    // Of another tenant nothing goes.
    let foreign = PruneScope::Ages {
        tenant: TENANT + 1,
        before: PerEnd::all(Some(at(1000))),
    };
    assert_eq!(lab.prune(foreign, 10, false).await.0, 0);
    // Its id may be used again: nothing of the first use is left.
    let mut again = lab.new_execution(None, at(40));
    again.task_id = old;
    lab.put(at(40), again).await;
    assert_eq!(lab.state(old).await, State::Available);
}

/// A step removes no more than it may, and the next goes on behind it, past what stays.
pub async fn pruning_goes_in_steps(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for second in 10..24 {
        let end = if second % 2 == 0 { ok() } else { End::Failed };
        lab.ended(None, second, end).await;
    }
    let (removed, steps) = lab.prune(ages(Some(at(22)), None), 2, false).await;
    assert_eq!(removed, 6);
    assert!(steps >= 3, "{steps}");
    assert_eq!(lab.left().await.len(), 8);
    let count = lab.store.history_count(TENANT).await.expect("counted");
    assert_eq!(count, 8);
    let oldest = PruneScope::Oldest {
        tenant: TENANT,
        count: 3,
        except: PerEnd::default(),
    };
    let step = PruneStep {
        scope: oldest,
        after: None,
        limit: 10,
        dry_run: false,
    };
    let pruned = lab.store.prune(&step).await.expect("pruned");
    assert_eq!(pruned.removed, 3);
    let left = lab.left().await;
    let oldest = left.last().and_then(|e| e.completed_at);
    assert_eq!(oldest, Some(at(17)), "11, 13 and 15 went");
}

/// The newest of each task stay, however many there are of others.
pub async fn pruning_keeps_the_newest_of_a_task(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let (one, two) = (lab.cron().await.id, lab.cron().await.id);
    for second in 10..15 {
        lab.ended(Some(one), second, ok()).await;
    }
    lab.ended(Some(two), 15, ok()).await;
    let boundaries = async |after, limit| {
        let found = lab.store.beyond_newest(TENANT, after, limit, 2).await;
        found.expect("found")
    };
    let found = boundaries(0, 10).await;
    let ids: Vec<ConfigId> = found.iter().map(|(config, _)| *config).collect();
    assert_eq!(ids, [one, two]);
    assert_eq!(found[1].1, None);
    assert_eq!(boundaries(one, 10).await, found[1..]);
    assert_eq!(boundaries(0, 1).await, found[..1]);
    let scope = |beyond, before| PruneScope::Config {
        tenant: TENANT,
        config: one,
        before,
        beyond,
        except: PerEnd::default(),
    };
    let beyond = found[0].1.map(|id| (id, PerEnd::all(true)));
    let none = PerEnd::default();
    assert_eq!(lab.prune(scope(beyond, none), 2, false).await.0, 3);
    assert_eq!(lab.left().await.len(), 3);
    let before = PerEnd::all(Some(at(14)));
    assert_eq!(lab.prune(scope(None, before), 2, false).await.0, 1);
    let left = lab.left().await;
    let kept: Vec<_> = left.iter().filter_map(|e| e.completed_at).collect();
    assert_eq!(kept, [at(15), at(14)]);
}

/// What tenants and tasks want kept is written, replaced, and goes with them.
pub async fn retention_is_kept_with_its_owner(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await.id;
    let wanted = Retention {
        failed_seconds: Some(86_400),
        keep: Some(5),
        ..Retention::default()
    };
    let of = async |config| {
        let found = lab.store.retention(TENANT, config).await;
        found.expect("read")
    };
    let set =
        async |tenant, config, retention| lab.store.set_retention(tenant, config, retention).await;
    assert_eq!(of(None).await, None);
    for owner in [None, Some(config)] {
        set(
            TENANT,
            owner,
            Retention {
                keep: Some(1),
                ..wanted
            },
        )
        .await
        .expect("set");
        set(TENANT, owner, wanted).await.expect("set");
        assert_eq!(of(owner).await, Some(wanted));
    }
    let listed = lab.store.config_retentions(TENANT, 0, 10).await;
    assert_eq!(listed.expect("listed"), [(config, wanted)]);
    let listed = lab.store.config_retentions(TENANT, config, 10).await;
    assert!(listed.expect("listed").is_empty());
    set(TENANT, None, Retention::default()).await.expect("set");
    assert_eq!(of(None).await, None);
    for (tenant, config) in [(TENANT, Some(config + 99)), (TENANT + 99, None)] {
        let refused = set(tenant, config, wanted).await;
        assert!(
            matches!(refused, Err(StoreError::NotFound(_))),
            "{refused:?}"
        );
    }
    let deleted = lab
        .store
        .delete_config(at(1), TENANT, config, HistoryOnDelete::Keep);
    deleted.await.expect("deleted");
    while lab.store.purge_deleted(10).await.expect("purges") {}
    assert_eq!(of(Some(config)).await, None);
}

/// One host takes a round, the others leave it alone until it is due again.
pub async fn rounds_of_care_are_taken_once(store: Arc<dyn Store>) {
    let begin = async |second| {
        let begun = store.begin_care(at(second), Duration::from_secs(60)).await;
        begun.expect("answers")
    };
    assert!(begin(100).await);
    assert!(!begin(100).await && !begin(159).await);
    assert!(begin(160).await);
    assert!(!begin(161).await);
}

/// Host, tenant and task: the tightest of them holds, and a dry run counts what a real one removes.
pub async fn the_caretaker_keeps_to_every_level(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let (plain, tight) = (lab.cron().await.id, lab.cron().await.id);
    for second in [1000, 2000, 3000] {
        for config in [plain, tight] {
            lab.ended(Some(config), second, ok()).await;
            lab.ended(Some(config), second + 10, End::Failed).await;
        }
    }
    let running = lab.running(Some(plain), at(3100)).await;
    let of_tenant = Retention {
        failed_seconds: Some(2000),
        keep: Some(5),
        ..Retention::default()
    };
    let of_task = Retention {
        succeeded_seconds: Some(500),
        keep: Some(3),
        ..Retention::default()
    };
    let setting = lab.store.set_retention(TENANT, None, of_tenant);
    setting.await.expect("set");
    let setting = lab.store.set_retention(TENANT, Some(tight), of_task);
    setting.await.expect("set");
    let clock = Arc::new(SetClock::at(at(3500)));
    let care = Caretaker {
        store: lab.store.clone(),
        clock,
    };
    let of_host = Retention {
        succeeded_seconds: Some(2400),
        ..Retention::default()
    };
    let plan = |dry_run| PrunePlan {
        dry_run,
        pace: 0,
        ..PrunePlan::of_host(of_host)
    };
    let prune = async |plan: PrunePlan| care.prune(&plan, &|_| {}).await.expect("pruned");
    // By the host's and the tenant's age the first two of each task go, and of `tight` the oldest of the other four:
    // it is too old for that task, and one too many.
    let counted = prune(plan(true)).await;
    assert_eq!(lab.left().await.len(), 13, "nothing went yet");
    let removed = prune(plan(false)).await;
    assert_eq!(counted, removed);
    assert_eq!(removed.executions, 5);
    assert_eq!(removed.tenants, BTreeMap::from([("default".to_owned(), 5)]));
    let ends = async |config: ConfigId| -> Vec<Timestamp> {
        let left = lab.left().await;
        let mine = left.into_iter().filter(|e| e.config_id == Some(config));
        let mut ends: Vec<_> = mine.filter_map(|e| e.completed_at).collect();
        ends.sort_unstable();
        ends
    };
    // 3000 is 500 seconds old: exactly as old as a success of `tight` may be.
    assert_eq!(ends(plain).await, [2000, 2010, 3000, 3010].map(at));
    assert_eq!(ends(tight).await, [2010, 3000, 3010].map(at));
    assert_eq!(lab.state(running.task_id).await, State::Running);
}

fn used(fuel: u64) -> Usage {
    Usage {
        fuel,
        duration_seconds: 0.5,
        cpu_seconds: 0.25,
        http_calls: 1,
        http_request_bytes: 10,
        http_response_bytes: 20,
        log_bytes: 30,
        log_dropped_bytes: 5,
        ..Usage::default()
    }
}

/// Every attempt is counted once, whatever becomes of its execution and its history.
pub async fn usage_counts_every_attempt_once(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let end = |claimed: &crate::store::Claimed, now, end, fuel| -> Completion {
        let mut item = lab.completion(now, claimed, end);
        item.record.usage = Some(used(fuel));
        item
    };
    lab.put_due(None, at(0)).await;
    let first = lab.claim_one(at(0)).await;
    let retry = end(&first, at(1), End::Retry(at(2)), 1);
    lab.complete(at(1), retry.clone()).await;
    let late = lab.complete(at(1), retry).await;
    assert_eq!(late, CompletionReceipt::Stale, "and not counted");
    lab.sweep(at(2)).await;
    let second = lab.claim_one(at(2)).await;
    // Handed back: what it used counts, a run it is not.
    let mut handed = record(at(3), &second, AttemptOutcome::HandedBack);
    handed.usage = Some(used(10));
    assert_eq!(lab.release(at(3), &second, Some(handed), None).await, 1);
    let third = lab.claim_one(at(4)).await;
    let result = End::Succeeded(Arc::from(r#"{"ok":true}"#));
    lab.complete(at(5), end(&third, at(5), result, 100)).await;
    let failed = lab.running(None, at(6)).await;
    lab.complete(at(7), end(&failed, at(7), End::Failed, 1000))
        .await;
    let tomorrow = 86_400;
    let cancelled = lab.running(None, at(tomorrow)).await;
    let cancel = end(&cancelled, at(tomorrow), End::Cancelled, 10_000);
    lab.complete(at(tomorrow), cancel).await;
    let day = day_of(at(0));
    let usage = async |tenant, days| lab.store.usage(tenant, days).await.expect("read");
    let rows = usage(Some(TENANT), day..day + 2).await;
    let expected = Tally {
        runs: 3,
        succeeded: 1,
        failed: 1,
        cancelled: 0,
        fuel: 1111,
        cpu_micros: 1_000_000,
        wall_micros: 2_000_000,
        http_calls: 4,
        http_request_bytes: 40,
        http_response_bytes: 80,
        log_bytes: 100,
        result_bytes: 11,
    };
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].day, rows[0].task_type.as_str()), (day, TYPE));
    assert_eq!(rows[0].tally, expected);
    assert_eq!((rows[1].tally.cancelled, rows[1].tally.fuel), (1, 10_000));
    assert_eq!(usage(None, day..day + 2).await, rows);
    assert_eq!(usage(None, day + 1..day + 2).await, rows[1..]);
    assert!(usage(Some(TENANT + 1), day..day + 2).await.is_empty());
    // It outlives the history, and adding up changes no sum.
    let everything = PerEnd::all(Some(at(10 * tomorrow)));
    let scope = PruneScope::Ages {
        tenant: TENANT,
        before: everything,
    };
    assert_eq!(lab.prune(scope, 10, false).await.0, 3);
    for _ in 0..2 {
        while lab.store.fold_usage(day + 1).await.expect("added up") {}
        assert_eq!(usage(None, day..day + 2).await, rows);
    }
    let again = lab.running(None, at(8)).await;
    lab.complete(at(9), end(&again, at(9), ok(), 5)).await;
    assert_eq!(usage(None, day..day + 1).await[0].tally.fuel, 1116);
}

//! Hosts and what they leave behind (rules E5, E6).

use super::lab::{Lab, TENANT, TYPE, at, ok};
use crate::store::{CompletionReceipt, End, HostFacts, HostRun, Store};
use horarium_model::ErrorKind;
use horarium_model::execution::{AttemptOutcome, State};
use serde_json::json;
use std::sync::Arc;

/// Each start is a new, higher incarnation.
pub async fn incarnations_rise_and_end(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let second = lab.store.start_host(at(1), "lab").await.expect("starts");
    assert!(second > lab.host);
    let alive = |id| {
        let store = lab.store.clone();
        async move { store.heartbeat(at(2), id).await.expect("answers").alive }
    };
    assert!(alive(lab.host).await && alive(second).await);
    assert!(!alive(second + 1).await);
    lab.store.stop_host(at(3), lab.host).await.expect("stops");
    assert!(!alive(lab.host).await && alive(second).await);
    lab.store.take_over(at(4), second).await.expect("answers");
    let third = lab.store.start_host(at(5), "lab").await.expect("starts");
    assert!(third > second);
    lab.store.take_over(at(6), third).await.expect("answers");
    assert!(!alive(second).await && alive(third).await);
}

/// A heartbeat names what runs here and shall stop, and the catalog's epoch.
pub async fn a_heartbeat_brings_cancels_and_the_epoch(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let beat = || async { lab.store.heartbeat(at(9), lab.host).await.expect("answers") };
    let first = lab.running(None, at(0)).await;
    let second = lab.running(None, at(0)).await;
    let other = lab.store.start_host(at(0), "other").await.expect("starts");
    lab.put_due(None, at(0)).await;
    let elsewhere = lab.claim_for(other, at(0), 1, &[TYPE]).await.remove(0);
    assert!(beat().await.cancels.is_empty());
    for task_id in [second.task_id, elsewhere.task_id] {
        lab.cancel(at(1), task_id).await;
    }
    assert_eq!(beat().await.cancels, [second.task_id]);
    lab.cancel(at(1), first.task_id).await;
    assert_eq!(beat().await.cancels, [first.task_id, second.task_id]);
    lab.finish(at(2), &second, ok()).await;
    assert_eq!(beat().await.cancels, [first.task_id]);
    let before = beat().await.catalog_epoch;
    assert_eq!(before, lab.store.catalog_epoch().await.expect("answers"));
    lab.config(json!({})).await;
    assert!(beat().await.catalog_epoch > before);
}

/// A lone host waits for nobody's lease, whatever it runs; another one's is waited for until that host stops.
pub async fn a_lone_host_waits_for_no_lease(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let wait = || async {
        let beat = lab.store.heartbeat(at(9), lab.host).await;
        beat.expect("answers").next_take_over
    };
    assert_eq!(wait().await, None);
    lab.running(None, at(0)).await;
    assert_eq!(wait().await, None);
    let other = lab.store.start_host(at(1), "other").await.expect("starts");
    assert_eq!(wait().await.is_some(), lab.store.gives_leases());
    lab.store.stop_host(at(2), other).await.expect("stops");
    assert_eq!(wait().await, None);
}

/// A heartbeat tells whether anything can be claimed and what time brings next, so that idle hosts need not ask.
pub async fn a_heartbeat_tells_what_waits(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let beat = || async {
        let beat = lab.store.heartbeat(at(9), lab.host).await.expect("answers");
        let due = lab.store.next_due().await.expect("answers");
        assert_eq!(beat.next_due, due);
        (beat.available, beat.running, beat.next_due)
    };
    assert_eq!(beat().await, (false, 0, None));
    lab.put(at(0), lab.new_execution(None, at(100))).await;
    assert_eq!(beat().await, (false, 0, Some(at(100))));
    lab.put_due(None, at(0)).await;
    assert_eq!(beat().await, (true, 0, Some(at(100))));
    lab.claim_one(at(1)).await;
    assert_eq!(beat().await, (false, 1, Some(at(100))));
}

/// A row id that a failover gave away anew does not make an end another execution's.
pub async fn an_end_names_its_execution(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let claimed = lab.running(None, at(0)).await;
    let mut other = lab.completion(at(1), &claimed, ok());
    other.task_id = lab.task_id();
    assert_eq!(lab.complete(at(1), other).await, CompletionReceipt::Stale);
    assert_eq!(lab.state(claimed.task_id).await, State::Running);
    lab.finish(at(2), &claimed, ok()).await;
}

/// Rule E5: back to the queue, no attempt used, the lost claim kept.
pub async fn take_over_gives_back_what_dead_hosts_ran(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let lost = lab.running(None, at(0)).await;
    let host = lab.store.start_host(at(5), "next").await.expect("starts");
    lab.put_due(None, at(5)).await;
    let mine = lab.claim_for(host, at(5), 1, &[TYPE]).await.remove(0);
    let taken = lab.store.take_over(at(6), host).await.expect("answers");
    assert_eq!((taken.requeued, taken.failed, taken.cancelled), (1, 0, 0));
    assert_eq!(lab.state(mine.task_id).await, State::Running);
    let shown = lab.show(lost.task_id).await;
    assert_eq!((shown.state, shown.lost), (State::Available, 1));
    assert_eq!(shown.attempt, 0);
    let attempts = lab.attempts(lost.task_id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome, AttemptOutcome::Lost);
    assert_eq!((attempts[0].attempt, attempts[0].claim), (1, 1));
    assert_eq!(attempts[0].error_kind, Some(ErrorKind::HostLost));
    assert_eq!(attempts[0].host.as_deref(), Some("lab"));
    assert_eq!(attempts[0].started_at, at(0));
    let again = lab.claim_for(host, at(7), 1, &[TYPE]).await.remove(0);
    assert_eq!((again.task_id, again.claim), (lost.task_id, 2));
    assert_eq!(again.attempt, 1);
    let taken = lab.store.take_over(at(8), host).await.expect("answers");
    assert_eq!(taken, Default::default(), "level-triggered: nothing left");
}

/// Rule E6: the fifth loss is a failure.
pub async fn a_host_lost_five_times_is_a_failure(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let task_id = lab.put_due(None, at(0)).await;
    let mut host = lab.host;
    for round in 1..=5 {
        let claimed = lab.claim_for(host, at(round), 1, &[TYPE]).await;
        assert_eq!((claimed.len(), claimed[0].attempt), (1, 1));
        host = lab
            .store
            .start_host(at(round), "next")
            .await
            .expect("starts");
        let taken = lab.store.take_over(at(round), host).await.expect("answers");
        let failed = u64::from(round == 5);
        assert_eq!((taken.requeued, taken.failed), (1 - failed, failed));
    }
    let shown = lab.show(task_id).await;
    assert_eq!(
        (shown.state, shown.is_success),
        (State::Failed, Some(false))
    );
    assert_eq!(shown.error_kind, Some(ErrorKind::HostLost));
    assert_eq!((shown.lost, shown.attempt), (5, 0));
    assert_eq!(lab.attempts(task_id).await.len(), 5);
}

/// Rule E7: who takes it over ends it, without running it.
pub async fn take_over_ends_what_was_cancelled(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let cancelled = lab.running(None, at(0)).await;
    let orphan = lab.running(Some(config.id), at(0)).await;
    lab.cancel(at(1), cancelled.task_id).await;
    lab.store
        .delete_config(at(1), TENANT, config.id, Default::default())
        .await
        .expect("deletes");
    let host = lab.store.start_host(at(2), "next").await.expect("starts");
    let taken = lab.store.take_over(at(3), host).await.expect("answers");
    assert_eq!((taken.requeued, taken.cancelled), (0, 2));
    for task_id in [cancelled.task_id, orphan.task_id] {
        assert_eq!(lab.state(task_id).await, State::Cancelled);
        let attempts = lab.attempts(task_id).await;
        assert_eq!(attempts[0].outcome, AttemptOutcome::Lost);
    }
    let late = lab.completion(at(4), &cancelled, End::Failed);
    assert_eq!(lab.complete(at(4), late).await, CompletionReceipt::Stale);
}

/// Hosts that are alive are listed with what they told of themselves last and what they run.
pub async fn living_hosts_are_listed(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let facts = |slots| HostFacts {
        version: "1.0".into(),
        slots,
        memory_bytes: 1 << 40,
        loaded: vec![TYPE.into()],
        secret_keys: vec!["k".into()],
        alerts: None,
    };
    for slots in [4, 16] {
        let told = lab.store.describe_host(lab.host, facts(slots)).await;
        told.expect("describe_host answers");
    }
    lab.store
        .heartbeat(at(7), lab.host)
        .await
        .expect("heartbeat answers");
    let running = lab.running(Some(config.id), at(3)).await;
    let gone = lab.store.start_host(at(1), "gone").await.expect("started");
    lab.store
        .stop_host(at(2), gone)
        .await
        .expect("stop_host answers");
    let hosts = lab.store.hosts().await.expect("hosts answers");
    let run = HostRun {
        id: running.id,
        task_id: running.task_id,
        tenant_id: TENANT,
        config_id: Some(config.id),
        task_type: TYPE.into(),
        attempt: 1,
        started_at: Some(at(3)),
    };
    let [host] = &hosts[..] else {
        panic!("{hosts:?}")
    };
    assert_eq!((host.incarnation, host.name.as_str()), (lab.host, "lab"));
    assert_eq!(host.facts, facts(16));
    assert_eq!(host.running, [run]);
}

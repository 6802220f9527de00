//! Alerts: what makes one, who wants them, and their way to whoever is told.

use super::lab::{Lab, TENANT, at, ok};
use crate::store::{Alert, AlertRules, End, HostFacts, NewAlert, Store};
use horarium_model::Timestamp;
use horarium_model::alert::AlertEvent;
use horarium_model::config::SkipStreak;
use horarium_model::execution::SkipReason;
use horarium_model::schedule::Overlap;
use serde_json::json;
use std::sync::Arc;

/// As far in the future as any clock of a test.
fn end_of_time() -> Timestamp {
    at(1_000_000_000)
}

async fn wants(lab: &Lab, alerts: Option<AlertRules>) {
    let facts = HostFacts {
        alerts,
        ..HostFacts::default()
    };
    let told = lab.store.describe_host(lab.host, facts).await;
    told.expect("described");
}

/// Takes what is there and is done with it.
async fn told(lab: &Lab) -> Vec<Alert> {
    let (now, later) = (end_of_time(), end_of_time() + chrono::Duration::seconds(1));
    let taken = lab
        .store
        .take_alerts(now, later, 100)
        .await
        .expect("answers");
    for alert in &taken {
        let settled = lab.store.settle_alert(&alert.alert_id, alert.tries, None);
        settled.await.expect("settled");
    }
    taken
}

/// A failure that is final makes an alert, however it came about; none when no living host wants them.
pub async fn a_failure_makes_an_alert_where_one_is_wanted(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let unwanted = lab.running(Some(config.id), at(0)).await;
    lab.finish(at(1), &unwanted, End::Failed).await;
    assert_eq!(told(&lab).await, []);
    let rules = AlertRules {
        failed: true,
        ..AlertRules::default()
    };
    wants(&lab, Some(rules)).await;
    let good = lab.running(Some(config.id), at(2)).await;
    lab.finish(at(3), &good, ok()).await;
    let again = lab.running(Some(config.id), at(4)).await;
    lab.finish(at(5), &again, End::Retry(at(900))).await;
    let failed = lab.running(Some(config.id), at(6)).await;
    lab.finish(at(7), &failed, End::Failed).await;
    let mut expiring = lab.new_execution(None, at(8));
    expiring.expires_at = Some(at(9));
    let (_, expired) = lab.put(at(8), expiring).await;
    lab.sweep(at(10)).await;
    let alerts = told(&lab).await;
    let mut of: Vec<_> = alerts.iter().map(|a| (a.config_id, a.task_id)).collect();
    of.sort();
    let mut wanted = [
        (None, Some(expired)),
        (Some(config.id), Some(failed.task_id)),
    ];
    wanted.sort();
    assert_eq!(of, wanted);
    for alert in &alerts {
        assert_eq!(alert.event, AlertEvent::ExecutionFailed);
        assert_eq!((alert.tenant_id, alert.tries), (Some(TENANT), 1));
        assert!(alert.alert_id.len() >= 32, "{alert:?}");
    }
    assert_ne!(alerts[0].alert_id, alerts[1].alert_id);
    wants(&lab, None).await;
    let quiet = lab.running(None, at(11)).await;
    lab.finish(at(12), &quiet, End::Failed).await;
    assert_eq!(told(&lab).await, []);
}

/// A heartbeat tells that there is something to deliver, so that idle hosts need not ask.
pub async fn a_heartbeat_tells_of_alerts(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let waits = || async {
        let beat = lab.store.heartbeat(at(9), lab.host).await;
        beat.expect("answers").alerts
    };
    assert!(!waits().await);
    let rules = AlertRules {
        failed: true,
        ..AlertRules::default()
    };
    wants(&lab, Some(rules)).await;
    let failed = lab.running(None, at(0)).await;
    lab.finish(at(1), &failed, End::Failed).await;
    assert!(waits().await);
    let taken = lab.store.take_alerts(at(9), end_of_time(), 9).await;
    let taken = taken.expect("answers").remove(0);
    assert!(!waits().await, "somebody has it");
    let settle = |again| lab.store.settle_alert(&taken.alert_id, 1, again);
    settle(Some(at(9))).await.expect("settled");
    assert!(waits().await);
    settle(None).await.expect("settled");
    assert!(!waits().await);
}

/// A streak is told when it reaches its length, and again after a success.
pub async fn a_streak_of_failures_makes_one_alert(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let rules = AlertRules {
        streak: Some(2),
        ..AlertRules::default()
    };
    wants(&lab, Some(rules)).await;
    let mut seen = Vec::new();
    for (second, end) in [
        End::Failed,
        End::Failed,
        End::Failed,
        ok(),
        End::Failed,
        End::Failed,
    ]
    .into_iter()
    .enumerate()
    {
        let now = at(second as i64 * 10);
        let claimed = lab.running(Some(config.id), now).await;
        lab.finish(now, &claimed, end).await;
        let alerts = told(&lab).await;
        seen.push(alerts.len());
        for alert in alerts {
            assert_eq!(alert.event, AlertEvent::FailureStreak);
            assert_eq!(alert.config_id, Some(config.id));
            assert_eq!(alert.detail, json!({"failures": 2}));
        }
    }
    assert_eq!(seen, [0, 1, 0, 0, 0, 1]);
}

/// Missed slots are told when they are found, once for each row they become.
pub async fn missed_slots_make_one_alert(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let rules = AlertRules {
        missed: true,
        ..AlertRules::default()
    };
    wants(&lab, Some(rules)).await;
    let config = lab.cron().await;
    let streak = |first, last, count| SkipStreak {
        reason: SkipReason::Missed,
        first: at(first),
        last: at(last),
        count,
    };
    let mut order = lab.order(config.id, &[], Overlap::Allow).await;
    order.plan.skipped = Some(streak(600, 1200, 2));
    order.plan.last_slot = Some(at(1200));
    assert!(lab.fire(at(1500), order).await.applied);
    let alerts = told(&lab).await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].event, AlertEvent::MissedRuns);
    assert_eq!(alerts[0].config_id, Some(config.id));
    let micros = |seconds| at(seconds).timestamp_micros();
    let detail = json!({"first": micros(600), "last": micros(1200), "count": 2});
    assert_eq!(alerts[0].detail, detail);
    // The row grows, and is written when a slot fires.
    let mut order = lab.order(config.id, &[], Overlap::Allow).await;
    order.plan.skipped = Some(streak(1800, 1800, 1));
    order.plan.last_slot = Some(at(1800));
    assert!(lab.fire(at(2000), order).await.applied);
    let order = lab.order(config.id, &[2400], Overlap::Allow).await;
    assert!(lab.fire(at(2400), order).await.applied);
    assert_eq!(told(&lab).await, []);
    // Missed and made up in one look.
    let mut order = lab.order(config.id, &[4200], Overlap::Allow).await;
    order.plan.skipped = Some(streak(3000, 3600, 2));
    assert!(lab.fire(at(4200), order).await.applied);
    assert_eq!(told(&lab).await.len(), 1);
}

/// An alert is taken by one at a time, comes again when nothing is heard of it, and is forgotten by age.
pub async fn alerts_are_kept_until_they_are_settled(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let new = |subject: &str| NewAlert {
        event: AlertEvent::QueueStuck,
        tenant_id: Some(TENANT),
        config_id: None,
        task_id: None,
        detail: json!({"task_type": "echo"}),
        subject: subject.to_owned(),
    };
    let posted = lab.store.post_alerts(at(0), vec![new("a"), new("b")]).await;
    assert_eq!(posted.expect("posted"), 2);
    let posted = lab.store.post_alerts(at(1), vec![new("a")]).await;
    assert_eq!(posted.expect("posted"), 0, "its subject is known");
    let take = |now, limit| lab.store.take_alerts(at(now), at(now + 60), limit);
    let first = take(1, 1).await.expect("taken");
    let second = take(1, 9).await.expect("taken");
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first[0].alert_id, second[0].alert_id);
    assert_eq!(first[0].detail, json!({"task_type": "echo"}));
    assert_eq!(first[0].created_at, at(0));
    assert_eq!(take(60, 9).await.expect("none is due"), []);
    // Nothing was heard of them; whoever comes late changes nothing.
    let again = take(61, 9).await.expect("taken");
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|alert| alert.tries == 2));
    let settle = |alert: &Alert, tries, due: Option<i64>| {
        let (store, id) = (lab.store.clone(), alert.alert_id.clone());
        async move {
            store
                .settle_alert(&id, tries, due.map(at))
                .await
                .expect("settled")
        }
    };
    settle(&again[0], 1, None).await;
    settle(&again[0], 2, Some(70)).await;
    settle(&again[1], 2, None).await;
    assert_eq!(take(69, 9).await.expect("none is due"), []);
    let last = take(200, 9).await.expect("taken");
    assert_eq!(last.len(), 1);
    assert_eq!((&last[0].alert_id, last[0].tries), (&again[0].alert_id, 3));
    // What was delivered is remembered by its subject until it is forgotten.
    let posted = lab
        .store
        .post_alerts(at(201), vec![new("a"), new("b")])
        .await;
    assert_eq!(posted.expect("posted"), 0);
    assert_eq!(lab.store.purge_alerts(at(0), 9).await.expect("none"), 0);
    assert_eq!(lab.store.purge_alerts(at(1), 1).await.expect("one"), 1);
    assert_eq!(lab.store.purge_alerts(at(1), 9).await.expect("one"), 1);
    assert_eq!(take(300, 9).await.expect("none is left"), []);
}

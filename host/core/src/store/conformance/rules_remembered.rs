//! What a host remembers of configs is never carried out when it is no longer so.

use super::lab::{TENANT, at};
use super::rules_schedule::disable;
use super::scene::Scene;
use crate::scheduler::Round;
use crate::service::{Due, Once, ServiceError, ServiceResult, TaskRef, TriggerRequest};
use crate::store::{HistoryOnDelete, Store};
use futures_util::future::poll_fn;
use horarium_model::{ConfigId, Execution, Trigger};
use serde_json::json;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// S1: what was read before it was due fires once, and as it is by then.
pub async fn what_was_read_ahead_fires_as_it_is_by_then(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    let every = || scene.cron(json!({}), json!({"overlap": "allow"}));
    let (same, paused, changed, moved) =
        (every().await, every().await, every().await, every().await);
    scene.clock.set(at(599));
    let scheduler = scene.scheduler();
    scheduler.look_ahead(at(600)).await.expect("reads");
    scene.pause(paused).await;
    scene.update(changed, json!({"priority": 7})).await;
    let later = json!({"schedule_config": {"cron_expression": "*/15 * * * *"}});
    scene.update(moved, later).await;
    let late = every().await;
    // Too early: what was read is not lost by that.
    while scheduler.round().await.expect("a round") == Round::More {}
    assert!(slots(&scene, same).await.is_empty());
    scene.clock.set(at(601));
    while scheduler.round().await.expect("a round") == Round::More {}
    assert_eq!(slots(&scene, same).await, [600]);
    assert!(slots(&scene, paused).await.is_empty());
    assert_eq!(slots(&scene, changed).await, [600]);
    assert_eq!(scene.rows(changed).await[0].priority, 7);
    assert!(slots(&scene, moved).await.is_empty());
    assert_eq!(slots(&scene, late).await, [600]);
    scene.look(602).await;
    assert_eq!(slots(&scene, same).await, [600], "fired once");
}

/// What was decided before it was due is decided anew when the plugins changed since, or time has gone on.
pub async fn what_was_decided_ahead_is_decided_anew_if_need_be(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    let id = scene.cron(json!({}), json!({"overlap": "allow"})).await;
    let scheduler = scene.scheduler();
    let go_on = async |seconds: i64| {
        scene.clock.set(at(seconds));
        while scheduler.round().await.expect("a round") == Round::More {}
    };
    go_on(1).await;
    scheduler.look_ahead(at(600)).await.expect("reads");
    disable(&scene, true).await;
    go_on(600).await;
    assert!(slots(&scene, id).await.is_empty());
    assert_eq!(scene.open(id).await, Some(("type_disabled", 600, 600, 1)));
    scheduler.look_ahead(at(1200)).await.expect("reads");
    disable(&scene, false).await;
    go_on(1200).await;
    assert_eq!(slots(&scene, id).await, [1200]);
    scheduler.look_ahead(at(1800)).await.expect("reads");
    // The host was put to sleep for three slots: one is made up (S4), the others were missed.
    go_on(3605).await;
    assert_eq!(slots(&scene, id).await, [1200]);
    assert_eq!(
        scene.fired(id).await.last(),
        Some(&(3600, Trigger::CatchUp))
    );
    assert_eq!(
        scene.skipped(id).await.last(),
        Some(&("missed", 1800, 3000, 3))
    );
}

async fn slots(scene: &Scene, id: ConfigId) -> Vec<i64> {
    let fired = scene.fired(id).await.into_iter();
    fired
        .filter(|(_, trigger)| *trigger == Trigger::Schedule)
        .map(|(slot, _)| slot)
        .collect()
}

async fn trigger(scene: &Scene, task: &TaskRef) -> ServiceResult<Execution> {
    let request = TriggerRequest::default();
    match scene.tasks.trigger(TENANT, task, request, None).await? {
        Once::Done(execution) => Ok(execution),
        Once::Repeated(_) => panic!("there was no key"),
    }
}

/// A trigger freezes its task as it is, whatever was read for the one before.
pub async fn a_trigger_takes_its_task_as_it_is(store: Arc<dyn Store>) {
    let scene = Scene::new(store.clone()).await;
    let first = scene.write(json!({"key": "first"})).await.expect("good").id;
    let (by_id, by_key) = (TaskRef::Id(first), TaskRef::Key("first".to_owned()));
    for priority in [0, 3, 5] {
        if priority > 0 {
            scene.update(first, json!({"priority": priority})).await;
        }
        for task in [&by_id, &by_key, &by_id, &by_key] {
            let execution = trigger(&scene, task).await.expect("enqueued");
            assert_eq!(execution.config_id, Some(first));
            assert_eq!(execution.priority, priority);
            let kept = store.execution(TENANT, execution.task_id).await;
            let kept = kept.expect("reads").expect("is there");
            assert_eq!(kept.priority, priority);
        }
    }
    // Its key goes to another task.
    scene.update(first, json!({"key": "other"})).await;
    let missing = trigger(&scene, &by_key).await.expect_err("has no task");
    assert!(missing.to_string().contains("no task `first`"), "{missing}");
    let second = scene.write(json!({"key": "first"})).await.expect("good").id;
    let execution = trigger(&scene, &by_key).await.expect("enqueued");
    assert_eq!(execution.config_id, Some(second));
    // Another tenant's is nobody's business.
    let foreign = scene
        .tasks
        .trigger(TENANT + 7, &by_id, TriggerRequest::default(), None);
    let foreign = foreign.await.expect_err("not theirs");
    assert!(matches!(foreign, ServiceError::NotFound(_)), "{foreign}");
    let deleted = store.delete_config(at(1), TENANT, second, HistoryOnDelete::Keep);
    deleted.await.expect("deleted");
    for task in [TaskRef::Id(second), by_key] {
        let gone = trigger(&scene, &task).await.expect_err("it is gone");
        assert!(matches!(gone, ServiceError::NotFound(_)), "{gone}");
        assert!(gone.to_string().starts_with("there is no task"), "{gone}");
    }
}

/// What may start at once is no business of the scheduler, which would look through all that waits for time.
pub async fn only_what_waits_for_time_wakes_the_scheduler(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    let plain = scene.write(json!({})).await.expect("good").id;
    let expiring = json!({"expires_after_seconds": 60});
    let expiring = scene.write(expiring).await.expect("good").id;
    scene.rang().await;
    for (id, due, wakes) in [
        (plain, None, false),
        (plain, Some(Due::In(60)), true),
        (expiring, None, true),
    ] {
        let request = TriggerRequest {
            due,
            ..TriggerRequest::default()
        };
        let task = TaskRef::Id(id);
        let triggered = scene.tasks.trigger(TENANT, &task, request, None);
        triggered.await.expect("enqueued");
        assert_eq!(scene.rang().await, wakes, "{due:?}");
    }
}

impl Scene {
    /// Whether the scheduler was woken since this was last asked.
    async fn rang(&self) -> bool {
        let mut bell = pin!(self.wakes.schedule.notified());
        poll_fn(|context| Poll::Ready(bell.as_mut().poll(context).is_ready())).await
    }
}

//! Rules S1 to S13 as operators see them: the scheduler and the services over each store, on a clock that is set.

use super::lab::{Lab, TENANT, TYPE, at, ok};
use super::scene::{Scene, seconds};
use crate::scheduler::Round;
use crate::service::{Once, ServiceError, TaskRef, TriggerRequest};
use crate::store::{End, Store};
use horarium_model::cron::ZONE_DATA;
use horarium_model::execution::{State, Trigger};
use horarium_model::schedule::Overlap;
use serde_json::json;
use std::sync::Arc;

const BY_SCHEDULE: Trigger = Trigger::Schedule;
const MADE_UP: Trigger = Trigger::CatchUp;

/// S1: whatever the number of schedulers that look at once, a slot fires once.
pub async fn s1_many_schedulers_fire_a_slot_once(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    let id = scene.cron(json!({}), json!({"overlap": "allow"})).await;
    for slot in [600, 1200, 1800] {
        scene.clock.set(at(slot + 1));
        let schedulers: Vec<_> = (0..6).map(|_| scene.scheduler()).collect();
        let rounds = schedulers.iter().map(|scheduler| async {
            while scheduler.round().await.expect("a round") == Round::More {}
        });
        futures_util::future::join_all(rounds).await;
    }
    let slots: Vec<i64> = scene.fired(id).await.into_iter().map(|f| f.0).collect();
    assert_eq!(slots, [600, 1200, 1800]);
}

/// S2: creating, resuming, or changing expression, zone or start begins anew from now; other changes do not.
pub async fn s2_only_a_new_schedule_moves_the_anchor(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    scene.clock.set(at(601));
    let id = scene.cron(json!({}), json!({"overlap": "allow"})).await;
    scene.look(605).await;
    assert!(
        scene.fired(id).await.is_empty(),
        "earlier than its creation"
    );
    // A slot is due, and the host was away: changes of other things leave it due.
    scene.clock.set(at(1210));
    scene
        .update(id, json!({"name": "another", "priority": 3}))
        .await;
    let change = json!({"schedule_config": {"misfire_grace_seconds": 30, "catch_up": "skip"}});
    scene.update(id, change).await;
    scene.look(1215).await;
    assert_eq!(scene.fired(id).await, [(1200, BY_SCHEDULE)]);
    // A due slot is forgotten when the expression, the zone or the start changes, and is not missed.
    for (now, change) in [
        (1805, json!({"cron_expression": "*/5 * * * *"})),
        (2105, json!({"timezone": "Asia/Kathmandu"})),
        (2405, json!({"start_at": "2026-01-01T00:00:01Z"})),
    ] {
        scene.clock.set(at(now));
        scene.update(id, json!({"schedule_config": change})).await;
        scene.look(now + 1).await;
        assert_eq!(scene.fired(id).await.len(), 1, "at {now}");
        assert_eq!(scene.why(id, Some(now - 5)).await.1, "before_anchor");
    }
    scene.look(2701).await;
    assert_eq!(scene.fired(id).await[1..], [(2700, BY_SCHEDULE)]);
    assert!(scene.skipped(id).await.is_empty());
    assert_eq!(scene.open(id).await, None);
}

/// S3: a slot fires after its jitter and not before; start is inclusive, end exclusive; a jitter that would let
/// slots overtake one another is refused.
pub async fn s3_jitter_start_and_end(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    let bounds = json!({"jitter_seconds": 300, "start_at": at(1200), "end_at": at(2400)});
    let id = scene.cron(bounds, json!({"overlap": "allow"})).await;
    assert_eq!(
        scene.why(id, Some(600)).await,
        ("not_started", "not_started")
    );
    let next = scene.tasks.next(TENANT, &TaskRef::Id(id), 9, None).await;
    let next = next.expect("answers");
    let slots: Vec<i64> = next.slots.iter().map(|slot| seconds(*slot)).collect();
    assert_eq!(slots, [1200, 1800], "start included, end excluded");
    let notes: Vec<&str> = next
        .preview
        .iter()
        .filter_map(|p| p.note.as_deref())
        .collect();
    assert!(
        notes[0].contains("start_at") && notes[0].contains("jitter"),
        "{notes:?}"
    );
    assert!(notes[1].contains("the last slot: end_at"), "{notes:?}");
    let fires_at = seconds(next.preview[0].fires_at);
    assert!((1200..1500).contains(&fires_at));
    if fires_at > 1200 {
        scene.look(fires_at - 1).await;
        assert!(scene.fired(id).await.is_empty(), "before its jitter");
    }
    scene.look(fires_at + 1).await;
    assert_eq!(scene.fired(id).await, [(1200, BY_SCHEDULE)]);
    for later in [2101, 2401, 9000] {
        scene.look(later).await;
    }
    assert_eq!(scene.fired(id).await.len(), 2);
    assert_eq!(scene.why(id, Some(2400)).await, ("ended", "ended"));
    // What lies between an end that has passed and a later one was no slot when it came.
    let later = json!({"end_at": at(12_000), "jitter_seconds": 0});
    scene.update(id, json!({"schedule_config": later})).await;
    scene.look(9001).await;
    assert_eq!(scene.fired(id).await.len(), 2);
    scene.look(9600).await;
    assert_eq!(scene.fired(id).await[2..], [(9600, BY_SCHEDULE)]);
    let refused = scene.write(json!({"scheduler_type": "cron",
        "schedule_config": {"cron_expression": "*/10 * * * *", "jitter_seconds": 600}}));
    let Err(ServiceError::Invalid(invalid)) = refused.await else {
        panic!("accepted");
    };
    assert_eq!(invalid.0[0].pointer, "/schedule_config/jitter_seconds");
}

/// S4: what a host that was away makes up.
pub async fn s4_missed_slots_follow_their_policy(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    let task = |schedule| scene.cron(schedule, json!({"overlap": "allow"}));
    let once = task(json!({"catch_up": "once"})).await;
    let all = task(json!({"catch_up": "all"})).await;
    let window = task(json!({"catch_up": "all", "catch_up_window_seconds": 1300})).await;
    let skip = task(json!({"catch_up": "skip"})).await;
    let skip_late = task(json!({"catch_up": "skip", "misfire_grace_seconds": 20})).await;
    let old = task(
        json!({"catch_up": "once", "catch_up_window_seconds": 20, "misfire_grace_seconds": 10}),
    )
    .await;
    let on_time = task(json!({"misfire_grace_seconds": 3600})).await;
    scene.look(630).await;
    assert_eq!(scene.fired(on_time).await, [(600, BY_SCHEDULE)]);
    assert_eq!(scene.fired(once).await, [(600, BY_SCHEDULE)]);
    assert_eq!(scene.skipped(skip_late).await, []);
    assert_eq!(scene.open(skip_late).await, Some(("missed", 600, 600, 1)));
    scene.look(3030).await;
    assert_eq!(scene.fired(once).await[1..], [(3000, MADE_UP)]);
    assert_eq!(scene.skipped(once).await, [("missed", 1200, 2400, 3)]);
    let made_up: Vec<_> = [1200, 1800, 2400, 3000].map(|slot| (slot, MADE_UP)).into();
    assert_eq!(scene.fired(all).await[1..], made_up);
    assert_eq!(scene.fired(window).await[1..], made_up[1..]);
    assert_eq!(scene.skipped(window).await, [("missed", 1200, 1200, 1)]);
    assert_eq!(scene.fired(skip).await[1..], [(3000, MADE_UP)]);
    assert!(scene.fired(skip_late).await.is_empty());
    assert_eq!(scene.open(skip_late).await, Some(("missed", 600, 3000, 5)));
    assert!(scene.fired(old).await.is_empty());
    assert_eq!(scene.why(skip_late, Some(1800)).await.1, "missed");
    assert_eq!(scene.why(once, Some(3000)).await, ("not_due", "fired"));
    // The next slot closes the streak.
    scene.look(3600).await;
    assert_eq!(scene.skipped(skip_late).await, [("missed", 600, 3000, 5)]);
    assert_eq!(scene.fired(skip_late).await, [(3600, BY_SCHEDULE)]);
    assert_eq!(scene.open(skip_late).await, None);
}

/// S5, S6: slots that meet a live execution are one row, shown with the task while it grows.
pub async fn s6_overlap_rules_on_a_running_execution(store: Arc<dyn Store>) {
    let scene = Scene::new(store.clone()).await;
    let lab = Lab::new(store).await;
    let task = |overlap| scene.cron(json!({}), json!({"overlap": overlap}));
    let skip = task("skip").await;
    let queue = task("queue_one").await;
    let allow = task("allow").await;
    let cancel = task("cancel_running").await;
    scene.look(600).await;
    let running = lab.claim(at(600), 10).await;
    assert_eq!(running.len(), 4);
    assert_eq!(scene.why(skip, None).await, ("overlap", "fired"));
    scene.look(1200).await;
    scene.look(1800).await;
    let slots = |id| {
        let fired = scene.fired(id);
        async move { fired.await.into_iter().map(|f| f.0).collect::<Vec<_>>() }
    };
    assert_eq!(slots(skip).await, [600]);
    assert_eq!(scene.open(skip).await, Some(("overlap", 1200, 1800, 2)));
    assert_eq!(scene.why(skip, Some(1800)).await.1, "overlap");
    assert_eq!(slots(queue).await, [600, 1200]);
    assert_eq!(scene.open(queue).await, Some(("overlap", 1800, 1800, 1)));
    assert_eq!(slots(allow).await, [600, 1200, 1800]);
    assert_eq!(slots(cancel).await, [600, 1200, 1800]);
    let states: Vec<State> = scene.rows(cancel).await.iter().map(|e| e.state).collect();
    assert_eq!(states, [State::Running, State::Cancelled, State::Available]);
    // Of all but `allow`, at most one runs.
    let more = lab.claim(at(1801), 10).await;
    let of = |id| more.iter().filter(|c| c.config_id == Some(id)).count();
    assert_eq!((of(queue), of(cancel), of(allow)), (0, 0, 2));
    for claimed in &running {
        lab.finish(at(1900), claimed, ok()).await;
    }
    let freed = lab.claim(at(1901), 10).await;
    let of = |id| freed.iter().filter(|c| c.config_id == Some(id)).count();
    assert_eq!((of(queue), of(cancel)), (1, 1));
    scene.look(2400).await;
    assert_eq!(slots(skip).await, [600, 2400]);
    assert_eq!(scene.skipped(skip).await, [("overlap", 1200, 1800, 2)]);
}

/// S7: slots made up by `all` queue one behind another; under `cancel_running` only the newest.
pub async fn s7_made_up_slots_queue_up(store: Arc<dyn Store>) {
    let scene = Scene::new(store.clone()).await;
    let lab = Lab::new(store).await;
    let task = |overlap| scene.cron(json!({"catch_up": "all"}), json!({"overlap": overlap}));
    let skip = task("skip").await;
    let queue = task("queue_one").await;
    let cancel = task("cancel_running").await;
    scene.look(2430).await;
    let all: Vec<_> = [600, 1200, 1800, 2400].map(|slot| (slot, MADE_UP)).into();
    assert_eq!(scene.fired(skip).await, all);
    assert_eq!(scene.fired(queue).await, all);
    assert_eq!(scene.fired(cancel).await, [(2400, MADE_UP)]);
    assert_eq!(scene.skipped(cancel).await, [("missed", 600, 1800, 3)]);
    let first = lab.claim(at(2431), 10).await;
    assert_eq!(first.len(), 3, "one of each runs");
    let oldest: Vec<i64> = first.iter().filter_map(|c| c.slot).map(seconds).collect();
    assert!(oldest.contains(&600), "the oldest first: {oldest:?}");
    // They still wait: the slot on time is skipped, as any other would be.
    scene.look(3000).await;
    assert_eq!(scene.open(skip).await, Some(("overlap", 3000, 3000, 1)));
}

/// S8: a trigger is queued whatever lives and while the task is paused, unless it would rather be refused.
pub async fn s8_a_trigger_is_never_skipped(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    let id = scene.cron(json!({}), json!({"overlap": "skip"})).await;
    scene.look(600).await;
    scene.pause(id).await;
    let task = TaskRef::Id(id);
    let trigger = |refuse_if_running| {
        let request = TriggerRequest {
            refuse_if_running,
            ..TriggerRequest::default()
        };
        scene.tasks.trigger(TENANT, &task, request, None)
    };
    let Ok(Once::Done(queued)) = trigger(false).await else {
        panic!("queued");
    };
    assert_eq!(
        (queued.state, queued.trigger),
        (State::Available, Trigger::Manual)
    );
    assert_eq!(queued.slot, None);
    assert!(matches!(
        trigger(true).await,
        Err(ServiceError::Conflict(_))
    ));
    assert_eq!(scene.rows(id).await.len(), 2);
}

/// S9: a pause stops new slots only; those it covers are one row and are never made up.
pub async fn s9_paused_slots_are_one_row(store: Arc<dyn Store>) {
    let scene = Scene::new(store.clone()).await;
    let lab = Lab::new(store).await;
    let schedule = json!({"catch_up": "all", "jitter_seconds": 120, "misfire_grace_seconds": 600});
    let id = scene.cron(schedule, json!({"overlap": "allow"})).await;
    scene.look(900).await;
    let running = lab.claim(at(900), 1).await.remove(0);
    scene.clock.set(at(1000));
    scene.pause(id).await;
    scene.look(2990).await;
    assert_eq!(lab.state(running.task_id).await, State::Running);
    assert_eq!(scene.why(id, Some(1800)).await, ("paused", "paused"));
    let why = scene.tasks.why(TENANT, &TaskRef::Id(id), None).await;
    assert_eq!(why.expect("answers").next_fire_at, None);
    // A slot whose jitter is not over when the pause ends does not fire either: it lies before the resume.
    scene.clock.set(at(3000));
    scene.resume(id).await;
    assert_eq!(scene.skipped(id).await, [("paused", 1200, 3000, 4)]);
    scene.look(3500).await;
    assert_eq!(scene.fired(id).await, [(600, BY_SCHEDULE)]);
    scene.look(3730).await;
    assert_eq!(scene.fired(id).await[1..], [(3600, BY_SCHEDULE)]);
    assert_eq!(scene.why(id, Some(2400)).await.1, "paused");
}

/// S10: a retry keeps its slot, and counts as live while it waits.
pub async fn s10_a_retry_keeps_its_slot(store: Arc<dyn Store>) {
    let scene = Scene::new(store.clone()).await;
    let lab = Lab::new(store).await;
    let id = scene.cron(json!({}), json!({"overlap": "skip"})).await;
    scene.look(600).await;
    let claimed = lab.claim_one(at(600)).await;
    lab.finish(at(610), &claimed, End::Retry(at(1300))).await;
    scene.look(1200).await;
    assert_eq!(scene.open(id).await, Some(("overlap", 1200, 1200, 1)));
    scene.look(1301).await;
    let again = lab.claim_one(at(1301)).await;
    assert_eq!((again.task_id, again.attempt), (claimed.task_id, 2));
    assert_eq!((again.slot, again.trigger), (Some(at(600)), BY_SCHEDULE));
}

/// S11: an instant in the past is refused; one that the host missed follows S4.
pub async fn s11_dates(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    scene.clock.set(at(100));
    let date = |seconds, more: serde_json::Value| {
        let mut config = json!({"run_at": at(seconds)});
        if let (Some(config), serde_json::Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        scene.write(json!({"scheduler_type": "date", "schedule_config": config}))
    };
    for past in [50, 100] {
        let Err(ServiceError::Invalid(invalid)) = date(past, json!({})).await else {
            panic!("{past} was accepted");
        };
        assert_eq!(invalid.0[0].pointer, "/schedule_config/run_at");
    }
    let on_time = date(200, json!({})).await.expect("good").id;
    let made_up = date(300, json!({})).await.expect("good").id;
    let missed = date(300, json!({"catch_up": "skip"}))
        .await
        .expect("good")
        .id;
    scene.look(210).await;
    assert_eq!(scene.fired(on_time).await, [(200, BY_SCHEDULE)]);
    assert_eq!(scene.why(on_time, None).await, ("ended", "fired"));
    // Other things of it may still change; the instant it has is not a new one.
    scene.update(on_time, json!({"name": "kept"})).await;
    scene.look(7300).await;
    assert_eq!(scene.fired(on_time).await.len(), 1);
    assert_eq!(scene.fired(made_up).await, [(300, MADE_UP)]);
    assert!(scene.fired(missed).await.is_empty());
    assert_eq!(scene.open(missed).await, Some(("missed", 300, 300, 1)));
    // A new instant starts it anew.
    scene
        .update(missed, json!({"schedule_config": {"run_at": at(8000)}}))
        .await;
    assert_eq!(scene.skipped(missed).await, [("missed", 300, 300, 1)]);
    scene.look(8001).await;
    assert_eq!(scene.fired(missed).await, [(8000, BY_SCHEDULE)]);
}

/// S12: with the clock set back nothing fires until it passes the last slot, and no slot fires twice.
pub async fn s12_a_clock_set_back(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    let schedule = json!({"catch_up": "all"});
    let id = scene.cron(schedule, json!({"overlap": "allow"})).await;
    scene.look(1810).await;
    let before = scene.fired(id).await;
    assert_eq!(before.len(), 3);
    for back in [0, 600, 1200, 1799] {
        scene.look(back).await;
        assert_eq!(scene.fired(id).await, before, "at {back}");
        assert_eq!(scene.why(id, None).await.0, "clock");
    }
    scene.look(2400).await;
    assert_eq!(scene.fired(id).await[3..], [(2400, BY_SCHEDULE)]);
    assert_eq!(scene.open(id).await, None);
}

/// S13: new zone data moves the instants to come, and nothing that was decided.
pub async fn s13_new_zone_data(store: Arc<dyn Store>) {
    let scene = Scene::new(store.clone()).await;
    let lab = Lab::new(store.clone()).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(scene.cron(json!({}), json!({"overlap": "allow"})).await);
    }
    let (id, other, paused) = (ids[0], ids[1], ids[2]);
    scene.look(610).await;
    scene.pause(paused).await;
    for (zone_data, after, limit, expected) in [
        (ZONE_DATA, 0, 10, vec![]),
        ("2020a", 0, 10, vec![id, other]),
        ("2020a", 0, 1, vec![id]),
        ("2020a", id, 10, vec![other]),
    ] {
        let listed = store.schedules_by_other_zone_data(zone_data, after, limit);
        let listed = listed.await.expect("lists").into_iter();
        let listed: Vec<_> = listed.map(|one| one.config_id).collect();
        assert_eq!(listed, expected, "{zone_data} {after} {limit}");
    }
    // As though the slot of 1200 were an hour later by the zone data of before.
    let mut order = lab.order(id, &[], Overlap::Skip).await;
    order.plan.last_slot = order.seen.state.last_slot;
    order.plan.next_fire_at = Some(at(4800));
    assert!(lab.fire(at(611), order).await.applied);
    scene.look(1210).await;
    assert_eq!(scene.fired(id).await, [(600, BY_SCHEDULE)]);
    scene.clock.set(at(620));
    let scheduler = scene.scheduler();
    while scheduler.recompute("2020a", at(620)).await.expect("works") {}
    let state = lab.read(id).await.schedule_state;
    assert_eq!(
        (state.last_slot, state.next_fire_at),
        (Some(at(600)), Some(at(1200)))
    );
    assert_eq!(scene.fired(id).await, [(600, BY_SCHEDULE)]);
    scene.look(1210).await;
    assert_eq!(
        scene.fired(id).await,
        [(600, BY_SCHEDULE), (1200, BY_SCHEDULE)]
    );
}

/// A disabled type skips its slots (E1), and the rule is told.
pub async fn slots_of_a_disabled_type_are_skipped(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    let id = scene.cron(json!({}), json!({})).await;
    disable(&scene, true).await;
    scene.look(600).await;
    scene.look(1200).await;
    assert!(scene.fired(id).await.is_empty());
    assert_eq!(scene.open(id).await, Some(("type_disabled", 600, 1200, 2)));
    assert_eq!(
        scene.why(id, Some(600)).await,
        ("type_disabled", "type_disabled")
    );
    disable(&scene, false).await;
    scene.look(1800).await;
    assert_eq!(scene.skipped(id).await, [("type_disabled", 600, 1200, 2)]);
    assert_eq!(scene.fired(id).await, [(1800, BY_SCHEDULE)]);
}

pub(super) async fn disable(scene: &Scene, held: bool) {
    let set = scene.store.set_disabled(at(0), TENANT, TYPE, held);
    set.await.expect("sets");
    scene.registry.refresh().await.expect("reads");
}

/// `why` of what is no slot, of what is to come, and of a task without a schedule.
pub async fn why_tells_what_is_no_slot(store: Arc<dyn Store>) {
    let scene = Scene::new(store).await;
    let manual = scene.write(json!({})).await.expect("good").id;
    assert_eq!(scene.why(manual, None).await, ("manual", ""));
    let id = scene.cron(json!({}), json!({})).await;
    assert_eq!(scene.why(id, None).await, ("not_due", ""));
    assert_eq!(scene.why(id, Some(601)).await.1, "not_a_slot");
    assert_eq!(scene.why(id, Some(600)).await.1, "not_due");
    assert_eq!(scene.why(id, Some(-600)).await.1, "before_anchor");
    scene.clock.set(at(601));
    assert_eq!(scene.why(id, Some(600)).await, ("due", "due"));
}

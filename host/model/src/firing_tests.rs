use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

fn cron(catch_up: CatchUp, window: u64) -> Timetable {
    let config = CronConfig {
        cron_expression: "*/10 * * * *".into(),
        timezone: "UTC".into(),
        misfire: Misfire {
            catch_up,
            window: Duration::from_secs(window),
            grace: Duration::from_secs(60),
        },
        jitter: Duration::ZERO,
        start_at: None,
        end_at: None,
    };
    Timetable::new(&ScheduleConfig::Cron(config), 7).expect("compiles")
}

fn state(anchor: &str) -> ScheduleState {
    ScheduleState {
        anchor_at: at(anchor),
        ..ScheduleState::default()
    }
}

fn slots(plan: &Plan) -> Vec<String> {
    plan.fires
        .iter()
        .map(|f| f.slot.format("%H:%M").to_string())
        .collect()
}

#[test]
fn one_slot_on_time_fires_by_schedule() {
    let plan = cron(CatchUp::Once, 86_400).plan(
        &state("2026-01-01T00:00:00Z"),
        at("2026-01-01T00:10:59Z"),
        Overlap::Skip,
    );
    assert_eq!(plan.fires[0].trigger, Trigger::Schedule);
    assert_eq!(
        (slots(&plan), plan.skipped),
        (vec!["00:10".to_owned()], None)
    );
    assert_eq!(plan.next_fire_at, Some(at("2026-01-01T00:20:00Z")));
}

#[test]
fn nothing_due_only_looks_ahead() {
    let before = state("2026-01-01T00:00:00Z");
    let plan = cron(CatchUp::Once, 86_400).plan(&before, at("2026-01-01T00:09:59Z"), Overlap::Skip);
    assert_eq!((plan.fires.len(), plan.last_slot), (0, None));
    assert_eq!(plan.next_fire_at, Some(at("2026-01-01T00:10:00Z")));
}

#[test]
fn a_missed_hour_is_made_up_as_the_policy_says() {
    let (before, now) = (state("2026-01-01T00:00:00Z"), at("2026-01-01T01:05:00Z"));
    let once = cron(CatchUp::Once, 86_400).plan(&before, now, Overlap::Skip);
    assert_eq!(
        (slots(&once), once.fires[0].trigger),
        (vec!["01:00".to_owned()], Trigger::CatchUp)
    );
    let skipped = once.skipped.expect("five were missed");
    assert_eq!(
        (skipped.first, skipped.last, skipped.count),
        (at("2026-01-01T00:10:00Z"), at("2026-01-01T00:50:00Z"), 5)
    );

    let skip = cron(CatchUp::Skip, 86_400).plan(&before, now, Overlap::Skip);
    assert_eq!(
        (skip.fires.len(), skip.skipped.map(|s| s.count)),
        (0, Some(6))
    );
    let skip = cron(CatchUp::Skip, 86_400).plan(&before, at("2026-01-01T01:00:30Z"), Overlap::Skip);
    assert_eq!(slots(&skip), ["01:00"]);

    let all = cron(CatchUp::All, 1800).plan(&before, now, Overlap::Skip);
    assert_eq!(slots(&all), ["00:40", "00:50", "01:00"]);
    assert_eq!(
        (all.made_up_all, all.skipped.map(|s| s.count)),
        (true, Some(3))
    );
    let as_once = cron(CatchUp::All, 86_400).plan(&before, now, Overlap::CancelRunning);
    assert_eq!(slots(&as_once), ["01:00"]);
}

#[test]
fn outside_the_window_nothing_is_made_up() {
    let plan = cron(CatchUp::Once, 120).plan(
        &state("2026-01-01T00:00:00Z"),
        at("2026-01-01T01:05:00Z"),
        Overlap::Skip,
    );
    assert_eq!(
        (plan.fires.len(), plan.skipped.map(|s| s.count)),
        (0, Some(6))
    );
    assert_eq!(plan.last_slot, Some(at("2026-01-01T01:00:00Z")));
}

#[test]
fn all_makes_up_the_newest_thousand() {
    let plan = cron(CatchUp::All, 366 * 86_400).plan(
        &state("2026-01-01T00:00:00Z"),
        at("2026-01-15T00:00:00Z"),
        Overlap::Allow,
    );
    assert_eq!(plan.fires.len(), MAX_MADE_UP);
    let skipped = plan.skipped.expect("the older ones");
    assert_eq!(skipped.count, 14 * 144 - 1000);
    assert_eq!(
        skipped.last + chrono::Duration::minutes(10),
        plan.fires[0].slot
    );
}

#[test]
fn what_is_too_much_at_once_is_made_up_in_several_looks() {
    let table = cron(CatchUp::All, 366 * 86_400);
    let now = at("2026-01-01T02:00:30Z");
    let whole = table.plan(&state("2026-01-01T00:00:00Z"), now, Overlap::Skip);
    assert_eq!(whole.fires.len(), 12);
    assert_eq!(whole.clone().at_most(12), whole);
    // Ten of twelve leave two, eleven would leave one that counts as on time.
    for (count, looks) in [(10, vec![10, 2]), (11, vec![10, 2]), (5, vec![5, 5, 2])] {
        let (mut before, mut fired) = (state("2026-01-01T00:00:00Z"), Vec::new());
        for expected in &looks {
            assert!(
                before.next_fire_at.is_none_or(|next| next <= now),
                "{count}"
            );
            let plan = table.plan(&before, now, Overlap::Skip).at_most(count);
            assert_eq!(plan.fires.len(), *expected, "{count}");
            assert!(plan.made_up_all && plan.skipped.is_none(), "{count}");
            before.last_slot = plan.last_slot;
            before.next_fire_at = plan.next_fire_at;
            fired.extend(plan.fires);
        }
        assert_eq!(fired, whole.fires, "{count}");
        assert_eq!(before.next_fire_at, whole.next_fire_at, "{count}");
    }
}

#[test]
fn a_clock_set_back_fires_nothing_until_it_passes_the_last_slot() {
    let before = ScheduleState {
        last_slot: Some(at("2026-01-01T12:00:00Z")),
        ..state("2026-01-01T00:00:00Z")
    };
    let plan = cron(CatchUp::All, 86_400).plan(&before, at("2026-01-01T09:00:00Z"), Overlap::Allow);
    assert!(plan.fires.is_empty() && plan.skipped.is_none());
    assert_eq!(plan.next_fire_at, Some(at("2026-01-01T12:10:00Z")));
}

#[test]
fn start_is_inclusive_end_exclusive_and_jitter_is_stable() {
    let Timetable::Cron {
        schedule,
        mut config,
        id,
    } = cron(CatchUp::Once, 60)
    else {
        unreachable!()
    };
    config.start_at = Some(at("2026-01-01T00:20:00Z"));
    config.end_at = Some(at("2026-01-01T00:40:00Z"));
    config.jitter = Duration::from_secs(300);
    let table = Timetable::Cron {
        schedule,
        config,
        id,
    };
    let slots: Vec<_> = table.slots(at("2026-01-01T00:00:00Z")).collect();
    assert_eq!(
        slots,
        [at("2026-01-01T00:20:00Z"), at("2026-01-01T00:30:00Z")]
    );
    for slot in slots {
        let delay = table.fires_at(slot) - slot;
        assert!(delay >= chrono::Duration::zero() && delay < chrono::Duration::seconds(300));
        assert_eq!(table.fires_at(slot), table.fires_at(slot));
    }
}

#[test]
fn a_missed_date_follows_its_policy() {
    let run_at = at("2026-01-01T00:00:00Z");
    let table = |catch_up| Timetable::Date {
        run_at,
        misfire: Misfire {
            catch_up,
            ..Misfire::default()
        },
    };
    let before = state("2025-12-31T00:00:00Z");
    let late = at("2026-01-01T02:00:00Z");
    assert_eq!(
        table(CatchUp::Once)
            .plan(&before, late, Overlap::Skip)
            .fires[0]
            .trigger,
        Trigger::CatchUp
    );
    assert!(
        table(CatchUp::Skip)
            .plan(&before, late, Overlap::Skip)
            .fires
            .is_empty()
    );
    assert_eq!(
        table(CatchUp::Once)
            .plan(&before, late, Overlap::Skip)
            .next_fire_at,
        None
    );
}

#[test]
fn overlap_verdicts() {
    use OverlapVerdict::*;
    let live = |waiting, running| LiveCount { waiting, running };
    assert_eq!(judge_overlap(Overlap::Allow, live(3, 3)), Enqueue);
    assert_eq!(judge_overlap(Overlap::Skip, live(0, 1)), Skip);
    assert_eq!(judge_overlap(Overlap::QueueOne, live(0, 1)), Enqueue);
    assert_eq!(judge_overlap(Overlap::QueueOne, live(1, 0)), Skip);
    assert_eq!(
        judge_overlap(Overlap::CancelRunning, live(0, 1)),
        CancelThenEnqueue
    );
    assert_eq!(judge_overlap(Overlap::CancelRunning, live(0, 0)), Enqueue);
}

/// What was planned ahead stands only while it would be planned again: for all policies, graces, jitters and slots
/// before it.
#[test]
fn a_plan_stands_while_it_would_be_made_again() {
    let mut stood = 0;
    for catch_up in [CatchUp::Skip, CatchUp::Once, CatchUp::All] {
        for (grace, jitter) in [(0, 0), (5, 0), (60, 0), (60, 300), (7200, 0)] {
            let config = CronConfig {
                cron_expression: "*/10 * * * *".into(),
                timezone: "UTC".into(),
                misfire: Misfire {
                    catch_up,
                    window: Duration::from_secs(86_400),
                    grace: Duration::from_secs(grace),
                },
                jitter: Duration::from_secs(jitter),
                start_at: None,
                end_at: None,
            };
            let timetable = Timetable::new(&ScheduleConfig::Cron(config), 7).expect("compiles");
            for anchor in ["2026-01-01T00:05:00Z", "2025-12-31T23:05:00Z"] {
                let before = state(anchor);
                let made_for = at("2026-01-01T00:10:00Z");
                let plan = timetable.plan(&before, made_for, Overlap::Skip);
                for late in [
                    0, 1, 4_999, 5_000, 5_001, 60_000, 60_001, 240_000, 599_999, 600_000, 900_000,
                ] {
                    let now = made_for + chrono::Duration::milliseconds(late);
                    if timetable.still(&plan, now) {
                        stood += 1;
                        assert_eq!(timetable.plan(&before, now, Overlap::Skip), plan, "{now}");
                    }
                }
                let too_early = made_for - chrono::Duration::milliseconds(1);
                assert!(!timetable.still(&plan, too_early));
            }
        }
    }
    assert!(stood > 30, "the usual case stands: {stood}");
}

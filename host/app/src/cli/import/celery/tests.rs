//! Fixtures and beat schedules.

use super::*;

fn read(document: &Value) -> Vec<Found> {
    let types = TypeMap::new(&[("app.tasks.mail".into(), "mailer".into())]);
    let reading = Reading {
        set: "celery",
        types: &types,
        zone: Tz::Europe__Berlin,
        now: "2026-01-01T00:00:00Z".parse().expect("an instant"),
    };
    reading.document(document).expect("read")
}

#[test]
fn a_fixture_is_read() {
    let fixture = json!([
        {"model": "django_celery_beat.crontabschedule", "pk": 1, "fields": {"minute": "0", "hour": "8, 20",
            "day_of_week": "monday-Friday", "day_of_month": "*", "month_of_year": "*", "timezone": "America/New_York"}},
        {"model": "django_celery_beat.intervalschedule", "pk": 1, "fields": {"every": 5, "period": "minutes"}},
        {"model": "django_celery_beat.clockedschedule", "pk": 3, "fields": {"clocked_time": "2030-01-01T09:00:00Z"}},
        {"model": "django_celery_beat.solarschedule", "pk": 2, "fields": {"event": "sunrise"}},
        {"model": "django_celery_beat.periodictask", "pk": 1, "fields": {"name": "Mail", "task": "app.tasks.mail",
            "crontab": 1, "interval": null, "args": "[1, 2]", "kwargs": "{\"to\": \"ada\"}", "enabled": true,
            "queue": "slow", "expire_seconds": 30, "start_time": "2026-02-01T00:00:00Z", "one_off": false}},
        {"model": "django_celery_beat.periodictask", "pk": 2, "fields": {"name": "Poll", "task": "app.poll",
            "interval": 1, "args": "[]", "kwargs": "{}", "enabled": false}},
        {"model": "django_celery_beat.periodictask", "pk": 3, "fields": {"name": "Once", "task": "app.poll", "clocked": 3}},
        {"model": "django_celery_beat.periodictask", "pk": 4, "fields": {"name": "Sun", "task": "app.poll", "solar": 2}},
        {"model": "django_celery_beat.periodictask", "pk": 5, "fields": {"name": "Gone", "task": "app.poll", "interval": 9}},
        {"model": "django_celery_beat.periodictask", "pk": 6, "fields": {"name": "celery.backend_cleanup", "task": "x", "crontab": 1}},
    ]);
    let found = read(&fixture);
    assert_eq!(found.len(), 5);
    let mail = &found[0].task;
    assert_eq!(mail["task_type"], "mailer");
    assert_eq!(mail["parameters"], json!({"to": "ada", "args": [1, 2]}));
    assert_eq!(
        mail["schedule_config"],
        json!({"cron_expression": "0 8,20 * * mon-fri", "timezone": "America/New_York",
            "start_at": "2026-02-01T00:00:00Z"})
    );
    assert_eq!(mail["expires_after_seconds"], 30);
    assert!(
        found[0]
            .notes
            .iter()
            .any(|note| note.contains("queue \"slow\""))
    );
    let poll = &found[1].task;
    assert_eq!(poll["schedule_config"]["cron_expression"], "*/5 * * * *");
    assert_eq!(
        (&poll["paused"], &poll["pause_reason"]),
        (&json!(true), &json!("it was disabled there"))
    );
    assert_eq!(
        found[2].task["schedule_config"]["run_at"],
        "2030-01-01T09:00:00Z"
    );
    for found in &found[3..] {
        assert_eq!(
            (&found.task["scheduler_type"], &found.task["paused"]),
            (&json!("manual"), &json!(true))
        );
    }
}

#[test]
fn a_beat_schedule_is_read() {
    let found = read(&json!({"timezone": "UTC", "beat_schedule": {
        "a": {"task": "app.a", "schedule": 30.0},
        "b": {"task": "app.b", "schedule": {"minute": "*/15", "hour": 4}, "args": [1], "options": {"expires": 60}},
        "c": {"task": "app.c", "schedule": "0 4 1 * *"},
        "d": {"task": "app.d", "schedule": "0 4 1 * 1"},
        "e": {"task": "app.e", "schedule": 90},
    }}));
    let expressions: Vec<&Value> = found
        .iter()
        .map(|f| {
            f.task
                .get("schedule_config")
                .map_or(&Value::Null, |s| &s["cron_expression"])
        })
        .collect();
    assert_eq!(
        expressions,
        [
            &json!("*/30 * * * * *"),
            &json!("*/15 4 * * *"),
            &json!("0 4 1 * *"),
            &Value::Null,
            &Value::Null
        ]
    );
    assert_eq!(found[1].task["expires_after_seconds"], 60);
    assert!(
        found[3].notes[0].contains("both to fit"),
        "{:?}",
        found[3].notes
    );
    assert!(
        found[4].notes[0].contains("every 90 s"),
        "{:?}",
        found[4].notes
    );
    for keyed in [&found[0], &found[1]] {
        let key = keyed.task["key"].as_str().expect("a key");
        assert!(key.starts_with("celery-"), "{key}");
    }
}

#[test]
fn a_crontab_without_one_of_its_fields_is_told() {
    for schedule in [
        json!({"minute": ""}),
        json!({"minute": " ", "day_of_week": ""}),
    ] {
        let found = read(&json!({"a": {"task": "x", "schedule": schedule}}));
        assert!(
            found[0].notes[0].contains("is empty"),
            "{:?}",
            found[0].notes
        );
    }
}

#[test]
fn intervals_that_divide_have_an_expression() {
    for (every, period, wanted) in [
        (1.0, "seconds", Some("* * * * * *")),
        (60.0, "seconds", Some("* * * * *")),
        (1.0, "minutes", Some("* * * * *")),
        (6.0, "hours", Some("0 */6 * * *")),
        (1.0, "days", Some("0 0 * * *")),
        (7.0, "days", Some("0 0 * * 0")),
        (5.0, "hours", None),
        (7.0, "minutes", None),
        (0.5, "seconds", None),
        (10.0, "microseconds", None),
        (2.0, "days", None),
    ] {
        let (when, _) = interval(Some(every), Some(period));
        let found = match &when {
            When::Cron(expression, _) => Some(expression.as_str()),
            _ => None,
        };
        assert_eq!(found, wanted, "{every} {period}");
    }
}

//! What the hosts are given to do: schedules, and triggers that go to whichever host is there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::RngExt;
use serde_json::{Value, json};

use super::Stage;

/// Clients that trigger.
const CLIENTS: u64 = 8;
/// How long a sleeping guest sleeps.
const SLEEP_MS: u64 = 3000;
/// One trigger in this many is for a sleeping guest, so that every host always runs some.
const SLEEPERS: u64 = 10;

/// A schedule: every so many seconds of the minute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) config: i64,
    pub(super) period_seconds: i64,
}

/// The tasks of a run.
#[derive(Debug)]
pub(super) struct Tasks {
    quick: i64,
    slow: i64,
    pub(super) schedules: Vec<Schedule>,
}

/// What the clients were told.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Triggers that were acknowledged.
    pub(super) acknowledged: Mutex<Vec<String>>,
    /// Triggers without an answer: they may have been taken.
    pub(super) unanswered: AtomicU64,
}

/// Creates the tasks; together the schedules have `slots_per_minute`.
pub(super) fn create(stage: &Stage, slots_per_minute: u64) -> Result<Tasks> {
    let host = &stage.hosts[0].host;
    let create = |body: Value| -> Result<i64> {
        let made = host.post("/v1/tasks", &body)?;
        made["id"].as_i64().context("a task without an id")
    };
    let sleep = json!({"milliseconds": SLEEP_MS});
    let by_hand = json!({"scheduler_type": "manual", "max_retries": 0});
    let quick = create(with(
        &by_hand,
        json!({"name": "quick", "task_type": "hello"}),
    ))?;
    let slow = json!({"name": "slow", "task_type": "sleep", "parameters": sleep});
    let slow = create(with(&by_hand, slow))?;
    // One that skips, some each minute, and most every three seconds.
    let rest = slots_per_minute.saturating_sub(10);
    let often = rest * 4 / 5 / 20;
    let mut schedules = Vec::new();
    let mut schedule = |name: String, period: i64, more: Value| -> Result<()> {
        let expression = match period {
            60 => "* * * * *".to_owned(),
            seconds => format!("*/{seconds} * * * * *"),
        };
        let timing = json!({"cron_expression": expression, "catch_up": "all"});
        let body = json!({"name": name, "scheduler_type": "cron", "schedule_config": timing, "max_retries": 0});
        schedules.push(Schedule {
            config: create(with(&body, more))?,
            period_seconds: period,
        });
        Ok(())
    };
    let skips = json!({"task_type": "sleep", "parameters": {"milliseconds": 8000}});
    schedule("skips".to_owned(), 6, skips)?;
    let allows = json!({"task_type": "hello", "overlap": "allow"});
    for n in 0..often {
        schedule(format!("often {n}"), 3, allows.clone())?;
    }
    for n in 0..rest - often * 20 {
        schedule(format!("each minute {n}"), 60, allows.clone())?;
    }
    Ok(Tasks {
        quick,
        slow,
        schedules,
    })
}

fn with(base: &Value, more: Value) -> Value {
    let mut all = base.clone();
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

/// Triggers `count` executions over `span`, each until it is acknowledged.
pub(super) fn trigger(stage: &Stage, tasks: &Tasks, answers: &Answers, count: u64, span: Duration) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut rng = rand::rng();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || stage.is_over() {
                        return;
                    }
                    stage.wait_until(span.mul_f64(number as f64 / count as f64));
                    let task = if number.is_multiple_of(SLEEPERS) {
                        tasks.slow
                    } else {
                        tasks.quick
                    };
                    while !stage.is_over() && !try_one(stage, task, answers, rng.random()) {}
                }
            });
        }
    });
}

/// One trigger through some host that should be there; whether it was acknowledged.
fn try_one(stage: &Stage, task: i64, answers: &Answers, choice: u64) -> bool {
    let there: Vec<_> = stage.hosts.iter().filter(|m| m.is_there()).collect();
    let Some(member) = there.get(choice as usize % there.len().max(1)) else {
        std::thread::sleep(Duration::from_millis(100));
        return false;
    };
    let answer = member
        .host
        .post(&format!("/v1/tasks/{task}/trigger"), &json!({}));
    match answer
        .ok()
        .as_ref()
        .and_then(|body| body["task_id"].as_str())
    {
        Some(task_id) => {
            let mut all = answers
                .acknowledged
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.push(task_id.to_owned());
            true
        }
        None => {
            answers.unanswered.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
            false
        }
    }
}

/// Stops the schedules, so that everything can come to its end.
pub(super) fn pause(stage: &Stage, tasks: &Tasks) -> Result<()> {
    let host = &stage.hosts[0].host;
    for schedule in &tasks.schedules {
        host.post(&format!("/v1/tasks/{}/pause", schedule.config), &json!({}))?;
    }
    Ok(())
}

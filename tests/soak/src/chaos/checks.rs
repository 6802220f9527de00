//! What must hold when everything has ended, read from the database itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::live::Told;
use super::load::{Answers, Schedule, Tasks};
use super::plan::Kind;
use crate::database::Database;

/// Rule E5: how soon what a dead host ran is taken over.
pub(super) const TAKEOVER: Duration = Duration::from_secs(17);
/// How late a slot may be looked at when nothing is wrong, in microseconds.
const LATENESS: i64 = 5_000_000;
/// How far the hosts' idea of the time may be from the database's, in microseconds.
const EARLY: i64 = 1_000_000;
/// Complaints kept of each kind.
const KEPT: usize = 5;

/// What the run knows beside the database.
pub(super) struct Facts<'a> {
    pub(super) tasks: &'a Tasks,
    pub(super) answers: &'a Answers,
    /// When the schedules were stopped, by the database's clock in microseconds.
    pub(super) paused_at: i64,
    pub(super) told: &'a [Told],
    /// Late ends that the hosts counted.
    pub(super) stale: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) checks: Vec<Check>,
    pub(super) acknowledged: u64,
    pub(super) unanswered: u64,
    pub(super) ended: u64,
    pub(super) lost: u64,
    pub(super) slots: u64,
    pub(super) fired: u64,
    pub(super) skipped: u64,
    pub(super) stale: u64,
    pub(super) given_up: u64,
}

/// One thing that must hold.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) name: &'static str,
    /// What is wrong; nothing when it holds.
    pub(super) wrong: Vec<String>,
}

pub(super) fn check(database: &Database, facts: &Facts<'_>) -> Result<Found> {
    let mut found = Found {
        stale: facts.stale,
        unanswered: facts.answers.unanswered.load(Ordering::Relaxed),
        ..Found::default()
    };
    let ended = one_end_each(database, facts, &mut found)?;
    how_they_ended(database, &mut found)?;
    slots(database, facts, &mut found)?;
    late_ends(database, &mut found)?;
    takeovers(facts, &mut found);
    found.ended = ended;
    let counts = database.row(
        "SELECT (SELECT coalesce(sum(lost), 0) FROM task_executions) AS lost, \
            (SELECT count(*) FROM hosts WHERE stopped_at IS NOT NULL) AS given_up",
    )?;
    found.lost = number(&counts, "lost")?;
    found.given_up = number(&counts, "given_up")?;
    Ok(found)
}

fn number(row: &Value, key: &str) -> Result<u64> {
    row[key].as_u64().with_context(|| format!("{key} in {row}"))
}

/// Every execution that was promised has one end, and there are no others.
fn one_end_each(database: &Database, facts: &Facts<'_>, found: &mut Found) -> Result<u64> {
    let mut wrong = Vec::new();
    let live = database.rows(
        "SELECT task_id, state, lost, incarnation FROM live_executions ORDER BY id LIMIT 5",
    )?;
    wrong.extend(live.iter().map(|row| format!("still live: {row}")));
    let rows =
        database.rows("SELECT task_id, trigger, state <> 'skipped' AS ran FROM task_executions")?;
    let mut seen: HashMap<&str, u32> = HashMap::new();
    let mut by_hand = 0_u64;
    for row in &rows {
        let task_id = row["task_id"].as_str().unwrap_or_default();
        *seen.entry(task_id).or_default() += 1;
        by_hand += u64::from(row["trigger"] != "schedule" && row["trigger"] != "catch_up");
    }
    let twice = seen.iter().filter(|(_, count)| **count > 1);
    wrong.extend(
        twice
            .map(|(task_id, count)| format!("{task_id} ended {count} times"))
            .take(KEPT),
    );
    let acknowledged = facts.answers.acknowledged.lock();
    let acknowledged = acknowledged.unwrap_or_else(PoisonError::into_inner);
    let missing = acknowledged
        .iter()
        .filter(|id| !seen.contains_key(id.as_str()));
    wrong.extend(
        missing
            .map(|id| format!("{id} was acknowledged and has no end"))
            .take(KEPT),
    );
    found.acknowledged = acknowledged.len() as u64;
    let most = found.acknowledged + found.unanswered;
    if by_hand < found.acknowledged || by_hand > most {
        wrong.push(format!(
            "{by_hand} triggered executions ended, {} were acknowledged, {} were not answered",
            found.acknowledged, found.unanswered
        ));
    }
    found.checks.push(Check {
        name: "each execution has exactly one recorded end",
        wrong,
    });
    Ok(rows.len() as u64)
}

/// No loss may cost an execution anything: each succeeds with its first and only attempt.
fn how_they_ended(database: &Database, found: &mut Found) -> Result<()> {
    let named = |rows: Vec<Value>| rows.iter().map(ToString::to_string).collect();
    let lost = database
        .rows("SELECT task_id, lost FROM task_executions WHERE error_kind = 'host_lost' LIMIT 5")?;
    found.checks.push(Check {
        name: "none ended host_lost",
        wrong: named(lost),
    });
    let failed = database.rows(
        "SELECT task_id, task_type, state, error_kind, error_message, host, attempt, lost FROM task_executions \
         WHERE state NOT IN ('succeeded', 'skipped') OR attempt > 1 LIMIT 5",
    )?;
    found.checks.push(Check {
        name: "all succeeded, and no loss used an attempt",
        wrong: named(failed),
    });
    Ok(())
}

/// Rules S1 and S5: each slot is one execution or lies in one skipped row.
fn slots(database: &Database, facts: &Facts<'_>, found: &mut Found) -> Result<()> {
    let (mut wrong, mut early) = (Vec::new(), Vec::new());
    let mut told: HashMap<i64, Slots> = HashMap::new();
    let rows = database.rows(
        "SELECT config_id, slot, slot_last, slot_count, state = 'skipped' AS skipped, created_at, first_started_at \
         FROM task_executions WHERE slot IS NOT NULL \
         UNION ALL SELECT config_id, skip_first, skip_last, skip_count, true, NULL, NULL \
         FROM task_schedules WHERE skip_first IS NOT NULL",
    )?;
    for row in &rows {
        let int = |key: &str| row[key].as_i64();
        let (Some(config), Some(slot)) = (int("config_id"), int("slot")) else {
            continue;
        };
        let own = told.entry(config).or_default();
        if row["skipped"] == true {
            let (last, count) = (
                int("slot_last").unwrap_or(slot),
                int("slot_count").unwrap_or(1),
            );
            own.skipped.push((slot, last, count));
            found.skipped += count.unsigned_abs();
        } else {
            own.fired.push(slot);
            found.fired += 1;
            let begun = [int("created_at"), int("first_started_at")];
            if begun.into_iter().flatten().any(|at| at < slot - EARLY) {
                early.push(format!("config {config}, slot {slot}: {row}"));
            }
        }
    }
    let states = database.rows("SELECT c.id AS config_id, c.created_at, s.last_slot FROM task_configs c JOIN task_schedules s ON s.config_id = c.id",
    )?;
    for schedule in &facts.tasks.schedules {
        let state = states
            .iter()
            .find(|row| row["config_id"] == schedule.config);
        let state = state.context("a schedule without a state")?;
        // Stopping the schedules moved their anchors.
        let anchor = state["created_at"].as_i64().context("an instant")?;
        let last = state["last_slot"].as_i64().unwrap_or(anchor);
        let own = told.remove(&schedule.config).unwrap_or_default();
        found.slots += own.judge(schedule, anchor, last, &mut wrong);
        if last + schedule.period_seconds * 1_000_000 + LATENESS < facts.paused_at {
            wrong.push(format!(
                "config {}: the last slot looked at is {last}, the schedules were stopped at {}",
                schedule.config, facts.paused_at
            ));
        }
    }
    found.checks.push(Check {
        name: "no slot was lost or doubled",
        wrong,
    });
    found.checks.push(Check {
        name: "nothing began before its time",
        wrong: early,
    });
    Ok(())
}

/// What became of one schedule's slots, in microseconds.
#[derive(Debug, Default)]
struct Slots {
    fired: Vec<i64>,
    /// First, last and how many.
    skipped: Vec<(i64, i64, i64)>,
}

impl Slots {
    /// Holds it against the slots there were; returns how many those are.
    fn judge(&self, schedule: &Schedule, anchor: i64, last: i64, wrong: &mut Vec<String>) -> u64 {
        let period = schedule.period_seconds * 1_000_000;
        let first = (anchor.div_euclid(period) + 1) * period;
        let mut accounts: BTreeMap<i64, u32> = BTreeMap::new();
        let mut slot = first;
        while slot <= last {
            accounts.insert(slot, 0);
            slot += period;
        }
        let there_are = accounts.len() as u64;
        let mut complain = |what: String| wrong.push(format!("config {}: {what}", schedule.config));
        for slot in &self.fired {
            match accounts.get_mut(slot) {
                Some(count) => *count += 1,
                None => complain(format!("{slot} fired and is no slot")),
            }
        }
        for (from, until, count) in &self.skipped {
            let mut within = 0;
            for (_, count) in accounts.range_mut(from..=until) {
                *count += 1;
                within += 1;
            }
            if within != *count {
                complain(format!(
                    "a skipped row from {from} to {until} counts {count} slots of {within}"
                ));
            }
        }
        for (slot, count) in accounts.iter().filter(|(_, count)| **count != 1).take(KEPT) {
            complain(format!("slot {slot} is accounted for {count} times"));
        }
        there_are
    }
}

/// Late ends were refused: no attempt but the last one ended anything, and hosts counted what they were refused.
fn late_ends(database: &Database, found: &mut Found) -> Result<()> {
    let mut wrong = Vec::new();
    let doubled = database.rows(
        "SELECT execution_id, claim, outcome FROM task_attempts WHERE outcome NOT IN ('lost', 'handed_back') LIMIT 5",
    )?;
    wrong.extend(
        doubled
            .iter()
            .map(|row| format!("an end before the end: {row}")),
    );
    let kinds = database.rows("SELECT outcome, count(*) AS count FROM task_attempts GROUP BY 1")?;
    let lost: HashSet<&str> = kinds
        .iter()
        .filter_map(|row| row["outcome"].as_str())
        .collect();
    if !lost.contains("lost") {
        wrong.push("nothing was running on any host that went away".to_owned());
    }
    if found.stale == 0 {
        wrong.push(
            "no host counted a late end, though some were stopped in the middle of runs".to_owned(),
        );
    }
    found.checks.push(Check {
        name: "late ends were refused and counted",
        wrong,
    });
    Ok(())
}

/// Rule E5: what a host ran is others' within 17 s, unless the database was away meanwhile.
fn takeovers(facts: &Facts<'_>, found: &mut Found) {
    let away = |from: Duration| {
        let restarts = facts
            .told
            .iter()
            .filter(|t| t.episode.kind == Kind::DatabaseRestarted);
        restarts
            .clone()
            .any(|t| t.episode.until >= from && t.episode.from <= from + TAKEOVER)
    };
    let mut wrong = Vec::new();
    let mut measured = 0;
    for told in facts.told.iter().filter(|t| t.episode.kind.is_taken_over()) {
        if away(told.episode.from) {
            continue;
        }
        measured += 1;
        let what = format!(
            "host-{} {} at {:.1} s",
            told.episode.host.unwrap_or_default(),
            told.episode.kind.name(),
            told.episode.from.as_secs_f64()
        );
        match told.taken_over {
            Some(took) if took <= TAKEOVER => {}
            Some(took) => wrong.push(format!("{what}: {:.1} s", took.as_secs_f64())),
            None => wrong.push(format!("{what}: not while it lasted")),
        }
    }
    if measured == 0 {
        wrong.push("no takeover was measured".to_owned());
    }
    found.checks.push(Check {
        name: "takeover took at most 17 s",
        wrong,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(fired: &[i64], skipped: &[(i64, i64, i64)]) -> (u64, Vec<String>) {
        let second = |slot: &i64| slot * 1_000_000;
        let slots = Slots {
            fired: fired.iter().map(second).collect(),
            skipped: skipped
                .iter()
                .map(|(from, until, count)| (second(from), second(until), *count))
                .collect(),
        };
        let schedule = Schedule {
            config: 1,
            period_seconds: 3,
        };
        let mut wrong = Vec::new();
        let slots = slots.judge(&schedule, 10_500_000, 21_000_000, &mut wrong);
        (slots, wrong)
    }

    #[test]
    fn slots_are_counted_once_each() {
        assert_eq!(judge(&[12, 15, 18, 21], &[]), (4, Vec::new()));
        assert_eq!(judge(&[12, 21], &[(15, 18, 2)]), (4, Vec::new()));
        for (fired, skipped) in [
            (&[12, 15, 18][..], &[][..]),
            (&[12, 15, 15, 18, 21], &[]),
            (&[12, 15, 18, 21, 22], &[]),
            (&[12, 15, 18, 21], &[(18, 21, 2)]),
            (&[12, 21], &[(15, 18, 1)]),
            (&[9, 12, 15, 18, 21], &[]),
        ] {
            let (_, wrong) = judge(fired, skipped);
            assert!(!wrong.is_empty(), "{fired:?} {skipped:?}");
        }
    }
}

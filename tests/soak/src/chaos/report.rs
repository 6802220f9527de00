//! What a run came to, for people and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::Options;
use super::checks::Found;
use super::live::Told;

/// The outcome of a chaos run.
#[derive(Debug)]
pub struct Report {
    seed: u64,
    hosts: usize,
    lived: Duration,
    told: Vec<Told>,
    found: Found,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        lived: Duration,
        mut told: Vec<Told>,
        found: Found,
    ) -> Self {
        told.sort_by_key(|told| told.episode.from);
        Self {
            seed: options.seed,
            hosts: options.hosts,
            lived,
            told,
            found,
        }
    }

    /// Whether everything held.
    pub fn holds(&self) -> bool {
        self.found.checks.iter().all(|check| check.wrong.is_empty())
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let found = &self.found;
        let troubles: Vec<Value> = self.told.iter().map(trouble).collect();
        let checks: Vec<Value> = found
            .checks
            .iter()
            .map(|check| {
                json!({"name": check.name, "holds": check.wrong.is_empty(), "wrong": check.wrong})
            })
            .collect();
        json!({
            "holds": self.holds(),
            "seed": self.seed,
            "hosts": self.hosts,
            "seconds": self.lived.as_secs(),
            "executions": {
                "acknowledged": found.acknowledged,
                "unanswered": found.unanswered,
                "ended": found.ended,
                "lost_runs": found.lost,
                "late_ends_refused": found.stale,
            },
            "slots": {"passed": found.slots, "fired": found.fired, "skipped": found.skipped},
            "incarnations_ended": found.given_up,
            "troubles": troubles,
            "checks": checks,
        })
    }

    /// As a table.
    pub fn table(&self) -> String {
        let found = &self.found;
        let mut text = format!(
            "\n{:>8}  {:>8}  {:<24}  {:<8}  {:>5}  {:>10}\n",
            "at", "lasted", "trouble", "host", "ran", "taken over"
        );
        for told in &self.told {
            let episode = &told.episode;
            let host = episode
                .host
                .map_or_else(String::new, |host| format!("host-{host}"));
            let took = told
                .taken_over
                .map_or_else(String::new, |took| format!("{:.1} s", took.as_secs_f64()));
            text.push_str(&format!(
                "{:>6.1} s  {:>6.1} s  {:<24}  {:<8}  {:>5}  {:>10}\n",
                episode.from.as_secs_f64(),
                (episode.until - episode.from).as_secs_f64(),
                episode.kind.name(),
                host,
                told.ran,
                took
            ));
        }
        text.push_str(&format!(
            "\n{} executions ended: {} triggers acknowledged ({} without an answer), {} of {} slots fired, {} skipped.\n\
             {} runs were lost with their host and run again; {} late ends were refused; {} incarnations ended.\n\n",
            found.ended,
            found.acknowledged,
            found.unanswered,
            found.fired,
            found.slots,
            found.skipped,
            found.lost,
            found.stale,
            found.given_up
        ));
        for check in &found.checks {
            let verdict = if check.wrong.is_empty() {
                "holds"
            } else {
                "WRONG"
            };
            text.push_str(&format!("{verdict}  {}\n", check.name));
            for wrong in check.wrong.iter().take(10) {
                text.push_str(&format!("       {wrong}\n"));
            }
        }
        text.push_str(&format!(
            "\nseed {}, {} s\n",
            self.seed,
            self.lived.as_secs()
        ));
        text
    }
}

fn trouble(told: &Told) -> Value {
    let episode = &told.episode;
    json!({
        "kind": episode.kind.name(),
        "host": episode.host.map(|host| format!("host-{host}")),
        "from_seconds": episode.from.as_secs_f64(),
        "until_seconds": episode.until.as_secs_f64(),
        "ran": told.ran,
        "taken_over_seconds": told.taken_over.map(|took| took.as_secs_f64()),
    })
}

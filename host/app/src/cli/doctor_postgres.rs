//! The checks of a PostgreSQL: its clock, its cleaning, its notifications.

use super::db::runtime;
use super::doctor::Finding;
use super::words as text;
use horarium::app::postgres_options;
use horarium::settings::{DatabaseUrl, Settings};
use horarium_core::clock::SystemClock;
use horarium_store::{Checkup, PostgresStore};
use std::time::Duration;

/// A clock that is further off is worth a word; hosts follow the database's all the same.
const CLOCK_OFF: Duration = Duration::from_secs(1);
/// A database that is further away makes everything slow.
const FAR: Duration = Duration::from_millis(10);

/// What the settings' PostgreSQL is like; nothing of SQLite, and nothing of one that does not answer: that is told
/// elsewhere.
pub(crate) fn findings(settings: &Settings) -> Vec<Finding> {
    let Ok(DatabaseUrl::Postgres(url)) = settings.database() else {
        return Vec::new();
    };
    let options = postgres_options(settings);
    let looked = runtime().map(|runtime| {
        let clock = SystemClock::new();
        runtime.block_on(PostgresStore::checkup(&url, &options, &clock))
    });
    match looked {
        Ok(Ok(checkup)) => judge(&checkup),
        _ => Vec::new(),
    }
}

fn judge(checkup: &Checkup) -> Vec<Finding> {
    let mut findings = vec![distance(checkup), clock(checkup), vacuum(checkup)];
    if !checkup.durable {
        findings.push(Finding::warn(
            "durability",
            "the database may lose its last transactions with the power",
            "set fsync = on and synchronous_commit = on",
        ));
    }
    findings.extend(notifications(checkup));
    findings
}

fn distance(checkup: &Checkup) -> Finding {
    const CHECK: &str = "round trip";
    let trip = text::span(checkup.round_trip.as_secs_f64());
    let detail = format!("PostgreSQL {} answers in {trip}", checkup.version);
    match checkup.round_trip <= FAR {
        true => Finding::ok(CHECK, detail),
        false => Finding::warn(
            CHECK,
            detail,
            "put hosts near the database: each operation waits some of these",
        ),
    }
}

fn clock(checkup: &Checkup) -> Finding {
    const CHECK: &str = "clock skew";
    let micros = checkup.clock_ahead.num_microseconds().unwrap_or(i64::MAX);
    let way = if micros < 0 { "behind" } else { "ahead of" };
    let off = Duration::from_micros(micros.unsigned_abs());
    let detail = format!(
        "this machine is {} {way} the database",
        text::span(off.as_secs_f64())
    );
    match off <= CLOCK_OFF {
        true => Finding::ok(CHECK, detail),
        false => Finding::warn(
            CHECK,
            detail,
            "set both by NTP; schedules go by the database's clock, log lines by the machine's",
        ),
    }
}

fn vacuum(checkup: &Checkup) -> Finding {
    const CHECK: &str = "autovacuum";
    if !checkup.autovacuum {
        let advice = "set autovacuum = on: the queue's tables would grow without end";
        return Finding::fail(CHECK, "is off", advice);
    }
    if !checkup.uncleaned.is_empty() {
        let detail = format!("is off for {}", checkup.uncleaned.join(", "));
        let advice = "ALTER TABLE … RESET (autovacuum_enabled)";
        return Finding::fail(CHECK, detail, advice);
    }
    if let Some((table, dead)) = checkup.bloated.first() {
        let dead = text::count(dead.unsigned_abs());
        let detail = format!("does not keep up: {table} has {dead} dead rows");
        let advice = "look for transactions that are open for long (pg_stat_activity), then VACUUM";
        return Finding::warn(CHECK, detail, advice);
    }
    Finding::ok(CHECK, "is on and keeps up")
}

fn notifications(checkup: &Checkup) -> Option<Finding> {
    const CHECK: &str = "notifications";
    let slow = "without them hosts hear of each other by the heartbeat, within 5 s";
    Some(match checkup.notification {
        None => Finding::warn(
            CHECK,
            "cannot pass the pooler",
            format!("set database.listen_url to the server itself; {slow}"),
        ),
        Some(None) => Finding::warn(
            CHECK,
            "did not arrive within 2 s",
            format!(
                "let the database's URL, or database.listen_url, lead to the primary without a pooler; {slow}"
            ),
        ),
        Some(Some(took)) => Finding::ok(
            CHECK,
            format!("arrive in {}", text::span(took.as_secs_f64())),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;

    fn good() -> Checkup {
        Checkup {
            version: "16.4".into(),
            clock_ahead: chrono::Duration::microseconds(-300),
            round_trip: Duration::from_micros(400),
            autovacuum: true,
            uncleaned: Vec::new(),
            bloated: Vec::new(),
            durable: true,
            notification: Some(Some(Duration::from_millis(2))),
        }
    }

    fn worst(checkup: &Checkup) -> Vec<(&'static str, Status)> {
        let findings = judge(checkup).into_iter();
        let bad = findings.filter(|finding| finding.status != Status::Ok);
        bad.map(|finding| (finding.check, finding.status)).collect()
    }

    #[test]
    fn what_is_wrong_is_told_by_itself() {
        assert!(worst(&good()).is_empty());
        let slow = Checkup {
            clock_ahead: chrono::Duration::seconds(-90),
            round_trip: Duration::from_millis(40),
            notification: None,
            bloated: vec![("live_executions".into(), 1_234_567)],
            ..good()
        };
        let warned = ["round trip", "clock skew", "autovacuum", "notifications"];
        assert_eq!(worst(&slow), warned.map(|check| (check, Status::Warn)));
        let off = Checkup {
            autovacuum: false,
            durable: false,
            notification: Some(None),
            ..good()
        };
        let found = worst(&off);
        assert_eq!(found[0], ("autovacuum", Status::Fail));
        assert_eq!(found.len(), 3);
        let own = Checkup {
            uncleaned: vec!["run_keys".into()],
            ..good()
        };
        assert_eq!(worst(&own), [("autovacuum", Status::Fail)]);
    }
}

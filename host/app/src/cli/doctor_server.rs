//! The check that asks the server.

use super::doctor::{Finding, words};
use super::failure::{Exit, Failure};
use super::plugin_limit;
use super::render::text_of;
use super::{Global, now};
use horarium_model::Timestamp;
use serde_json::Value;

const CHECK: &str = "server";
const BREAKERS: &str = "breakers";
const LOADS: &str = "plugins";

/// Whether the server answers, is ready, and knows the token; and what it holds back.
pub(crate) fn findings(global: &Global) -> Vec<Finding> {
    let asked = global.client().and_then(|client| {
        client.get("/readyz", &Vec::new())?;
        client.get("/v1/me", &Vec::new())?;
        Ok(client)
    });
    let url = asked.as_ref().map(|client| client.url().to_owned());
    let mut findings = vec![judge(url.map_err(Clone::clone), global.url.is_some())];
    if let Ok(client) = asked {
        let types = client.every("/v1/task-types");
        findings.extend(types.map_or_else(
            |failure| {
                let advice = "look at the server's log";
                vec![Finding::warn(BREAKERS, words(&failure), advice)]
            },
            |types| {
                let mut findings = breakers(&types);
                // Only a host-admin sees the hosts.
                if let Ok(hosts) = client.every("/v1/hosts") {
                    findings.push(loads(&types, &hosts, now()));
                }
                findings
            },
        ));
    }
    findings
}

/// Big components take their time, and hosts tell with a heartbeat what they loaded.
const LOADING: chrono::Duration = chrono::Duration::seconds(60);

/// The task types that no host could load, so that nothing of them starts.
fn loads(types: &[Value], hosts: &[Value], now: Timestamp) -> Finding {
    let loaded: Vec<&str> = hosts
        .iter()
        .filter_map(|host| host["loaded"].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let is_new = |of_type: &Value| {
        let changed = of_type["updated_at"].as_str().unwrap_or_default();
        changed
            .parse::<Timestamp>()
            .is_ok_and(|changed| now - changed < LOADING)
    };
    let held = |of_type: &&Value| {
        let name = of_type["task_type"].as_str().unwrap_or_default();
        !of_type["active_digest"].is_null()
            && of_type["disabled"] != true
            && !loaded.contains(&name)
            && !is_new(of_type)
    };
    let missing: Vec<String> = types
        .iter()
        .filter(held)
        .map(|t| text_of(t, "task_type"))
        .collect();
    match missing.is_empty() {
        true => Finding::ok(
            LOADS,
            "every active plugin is loaded somewhere, or being loaded",
        ),
        false => Finding::fail(
            LOADS,
            format!("no host could load {}", missing.join(", ")),
            "the servers' logs say why: `cannot load`; `horarium plugin activate` brings back an earlier version",
        ),
    }
}

/// The task types of which nothing starts because they keep failing.
fn breakers(types: &[Value]) -> Vec<Finding> {
    let open = |of_type: &Value| {
        let state = plugin_limit::open(of_type)?;
        let name = text_of(of_type, "task_type");
        let state = state.lines().next().unwrap_or_default();
        let advice = format!(
            "`horarium execution list --type {name} --state failed` shows what failed; mend or roll back the plugin, \
             then `horarium plugin breaker {name} reset`"
        );
        Some(Finding::warn(
            BREAKERS,
            format!("{name} is held: {state}"),
            advice,
        ))
    };
    let open: Vec<Finding> = types.iter().filter_map(open).collect();
    match open.is_empty() {
        true => vec![Finding::ok(
            BREAKERS,
            "none is open: no plugin is held because it keeps failing",
        )],
        false => open,
    }
}

fn judge(asked: Result<String, Failure>, named: bool) -> Finding {
    match asked {
        Ok(url) => Finding::ok(CHECK, format!("{url} is ready and knows the token")),
        Err(failure) => {
            let detail = words(&failure);
            match (failure.exit, failure.status()) {
                (_, Some(401 | 403)) => Finding::fail(
                    CHECK,
                    detail,
                    "set HORARIUM_TOKEN to the text of admin-token in the server's data directory",
                ),
                // Nobody asked for one in particular: it may simply not have been started yet.
                (Exit::Unreachable, _) if !named => {
                    Finding::warn(CHECK, detail, "start one with `horarium serve`")
                }
                (Exit::Unreachable, _) => Finding::fail(
                    CHECK,
                    detail,
                    "check the address in HORARIUM_URL or --url, and that the server runs",
                ),
                _ => Finding::fail(CHECK, detail, "look at the server's log"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;

    #[test]
    fn open_breakers_are_told_with_what_to_do() {
        let closed = serde_json::json!({"task_type": "fine", "breaker": null});
        let open = serde_json::json!({"task_type": "shaky", "breaker": {"failures": 20,
            "opened_at": "2026-01-01T00:00:00Z", "probe_at": "2026-01-01T00:00:30Z", "pause_seconds": 30,
            "error_kind": "trap", "error_message": "boom"}});
        let [fine] = &breakers(std::slice::from_ref(&closed))[..] else {
            panic!("one finding");
        };
        assert_eq!(fine.status, Status::Ok);
        let [held] = &breakers(&[closed, open])[..] else {
            panic!("one finding");
        };
        assert_eq!((held.check, held.status), ("breakers", Status::Warn));
        assert!(
            held.detail.starts_with("shaky is held: open since "),
            "{held:?}"
        );
        assert!(held.detail.contains("20 attempts") && held.detail.contains("trap: boom"));
        let advice = held.advice.as_deref().unwrap_or_default();
        assert!(advice.contains("plugin breaker shaky reset"), "{advice}");
    }

    #[test]
    fn a_plugin_that_no_host_loads_is_told() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().expect("an instant");
        let of = |name: &str, disabled: bool, changed: &str| serde_json::json!({"task_type": name, "disabled": disabled, "active_digest": "x", "updated_at": changed});
        let long_ago = "2026-01-01T00:00:00Z";
        let types = [
            of("here", false, long_ago),
            of("gone", false, long_ago),
            of("off", true, long_ago),
            of("new", false, "2026-01-01T00:09:30Z"),
        ];
        let hosts = [serde_json::json!({"loaded": ["here"]})];
        let found = loads(&types, &hosts, now);
        assert_eq!(found.status, Status::Fail);
        assert_eq!(found.detail, "no host could load gone");
        assert_eq!(loads(&types[..1], &hosts, now).status, Status::Ok);
    }

    #[test]
    fn a_missing_server_fails_only_when_it_was_named() {
        let gone = || Err(Failure::unreachable("no server"));
        assert_eq!(judge(gone(), false).status, Status::Warn);
        assert_eq!(judge(gone(), true).status, Status::Fail);
        let denied = Err(Failure::from_answer(401, ""));
        assert_eq!(judge(denied, false).status, Status::Fail);
        assert_eq!(judge(Ok("http://x".into()), false).status, Status::Ok);
    }
}

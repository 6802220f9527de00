//! Failures run again as the policy says, and people run again what they like.

use crate::support::{Host, text};
use serde_json::{Value, json};

const SOON: &str = r#"--retry '{"initial_seconds": 1, "factor": 1, "jitter": "none"}'"#;

#[test]
fn a_retry_keeps_the_task_id_and_every_attempt_is_kept() {
    let host = Host::start();
    host.register("hostile/flaky", "");
    let ran = host.run_once(&format!("--type flaky {SOON} --max-retries 2"));
    assert_eq!(
        (text(&ran, "state"), &ran["attempt"]),
        ("succeeded", &json!(3)),
        "{ran:#}"
    );
    assert_eq!(ran["max_attempts"], 3);
    assert_eq!(
        ran["result"]["task_id"], ran["task_id"],
        "the plugin saw the same id"
    );
    assert_eq!(
        (&ran["error_kind"], &ran["error_message"]),
        (&Value::Null, &Value::Null)
    );
    let attempts = host.attempts(text(&ran, "task_id"));
    let told: Vec<_> = attempts
        .iter()
        .map(|a| (a["attempt"].as_u64(), text(a, "outcome")))
        .collect();
    assert_eq!(
        told,
        [
            (Some(1), "failed"),
            (Some(2), "failed"),
            (Some(3), "succeeded")
        ]
    );
    assert_eq!(attempts[0]["error_kind"], "retryable");
    assert_eq!(
        (&attempts[1]["error_code"], &attempts[1]["error_details"]),
        (&json!("flaky"), &json!({"attempt": 2}))
    );
    assert!(text(&attempts[1], "started_at") > text(&attempts[0], "completed_at"));

    let other = host.run_once(&format!("--type flaky {SOON}"));
    assert_ne!(other["task_id"], ran["task_id"]);
}

#[test]
fn attempts_run_out_and_permanent_failures_are_final() {
    let host = Host::start();
    host.register("hostile/flaky", "");
    let spent = host.run_once(&format!("--type flaky {SOON} --max-retries 1"));
    assert_eq!(
        (text(&spent, "state"), &spent["attempt"]),
        ("failed", &json!(2)),
        "{spent:#}"
    );
    assert_eq!(
        (text(&spent, "error_kind"), &spent["is_success"]),
        ("retryable", &json!(false))
    );
    assert_eq!(
        text(&spent, "error_message"),
        "attempt 2 fails as it was told to"
    );
    let permanent = host.run_once("--type flaky --set class=permanent");
    assert_eq!(
        (text(&permanent, "error_kind"), &permanent["attempt"]),
        ("permanent", &json!(1))
    );
    let trapped = host.run_once(&format!(
        "--type flaky {SOON} --set class=trap --set fail_times=1"
    ));
    assert_eq!(
        (text(&trapped, "state"), &trapped["attempt"]),
        ("succeeded", &json!(2))
    );
    // The policy may say otherwise.
    let policy = r#"--retry '{"initial_seconds": 1, "jitter": "none", "retry_on": ["permanent"]}'"#;
    let again = host.run_once(&format!(
        "--type flaky {policy} --set class=permanent --set fail_times=1"
    ));
    assert_eq!(
        (text(&again, "state"), &again["attempt"]),
        ("succeeded", &json!(2))
    );
    let not_retried = host.run_once(&format!(
        "--type flaky {policy} --set class=trap --set fail_times=1"
    ));
    assert_eq!(
        (text(&not_retried, "state"), &not_retried["attempt"]),
        ("failed", &json!(1))
    );
}

#[test]
fn execution_retry_is_a_new_execution_of_the_same() {
    let host = Host::start();
    host.register("hostile/flaky", "");
    let failed =
        host.run_once("--type flaky --set class=permanent --set fail_times=1 --max-retries 0");
    let id = text(&failed, "task_id");
    let again = host
        .cli(&format!("execution retry {id} --wait --json"))
        .exits(1)
        .json();
    assert_ne!(again["task_id"], failed["task_id"]);
    assert_eq!(
        (&again["retry_of"], text(&again, "trigger")),
        (&failed["task_id"], "retry")
    );
    assert_eq!(
        (&again["config_id"], &again["parameters"]),
        (&failed["config_id"], &failed["parameters"])
    );
    assert_eq!(host.execution(id), failed, "the old one stays as it was");

    // What lives cannot be repeated; what never was neither.
    let waiting = host.create(
        "--name Waits --type flaky --retry '{\"initial_seconds\": 600, \"jitter\": \"none\"}'",
    );
    let waiting = host.trigger(waiting);
    host.reaches(&waiting, "retryable");
    host.cli(&format!("execution retry {waiting}")).exits(2);
    host.cli("execution retry 01900000-0000-7000-8000-000000000000")
        .exits(2);
    // It waits for its next attempt: a cancel ends it at once.
    let cancelled = host.run(&format!("execution cancel {waiting}"));
    assert_eq!(
        (text(&cancelled, "state"), &cancelled["attempt"]),
        ("cancelled", &json!(1))
    );
}

//! Verbs that need no server, and what the others say without one.

use crate::harness::{binary, guest, run};

#[test]
fn without_a_server_the_exit_code_is_three() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let outcome = run(binary()
        .args(["task", "list", "--json", "--data-dir"])
        .arg(dir.path()));
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.stderr.contains("no server"), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
}

#[test]
fn next_shows_the_slots_of_an_expression() {
    let args = ["--cron", "0 9 * * *", "--timezone", "Europe/Berlin"];
    let answer = run(binary().args(["task", "next", "--json"]).args(args)).ok();
    let slots = answer["slots"].as_array().expect("slots");
    let preview = answer["preview"].as_array().expect("a preview");
    assert!(!slots.is_empty());
    assert_eq!(slots.len(), preview.len());
    for (slot, shown) in slots.iter().zip(preview) {
        let text = slot.as_str().expect("text");
        // Nine in Berlin is eight in winter, seven in summer.
        assert!(
            text.ends_with("T08:00:00Z") || text.ends_with("T07:00:00Z"),
            "{text}"
        );
        let keys: Vec<_> = shown.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["fires_at", "note", "slot"]);
        assert_eq!(&shown["slot"], slot);
    }
}

#[test]
fn dev_run_answers_five_keys() {
    let outcome = run(binary().args(["dev", "run", "--json"]).arg(guest("hello")));
    let answer = outcome.ok();
    let keys: Vec<_> = answer.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["error", "is_success", "logs", "result", "usage"]);
    assert_eq!(answer["is_success"], true);

    let failed = run(binary()
        .args([
            "dev",
            "run",
            "--json",
            "--params",
            r#"{"class": "permanent"}"#,
        ])
        .arg(guest("hostile/flaky")));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_eq!(failed.json()["is_success"], false);

    let refused = run(binary()
        .args(["dev", "run", "--json", "--params", r#"{"n": 1000}"#])
        .arg(guest("hello")));
    refused.refused("/n");
}

//! What guests write down: floods are counted, forgeries and terminal escapes are made harmless.

use crate::support::{Host, text};
use serde_json::Value;

#[test]
fn a_gigabyte_of_log_is_counted_and_not_kept() {
    let host = Host::start();
    host.register("hostile/chatty", "");
    let before = host.memory().resident;
    let ran = host.run_once(
        "--type chatty --set log_bytes=1073741824 --set line=65536 --timeout 90 --max-retries 0",
    );
    assert_eq!(ran["state"], "succeeded", "{ran:#}");
    let usage = &ran["usage"];
    let number = |key: &str| usage[key].as_u64().expect("counted");
    assert!(number("log_bytes") > 1_073_000_000, "{usage:#}");
    assert!(
        number("log_bytes") - number("log_dropped_bytes") <= 128 << 10,
        "{usage:#}"
    );
    let kept: usize = host
        .logs(text(&ran, "task_id"))
        .iter()
        .map(|line| text(line, "message").len())
        .sum();
    assert!(kept <= 128 << 10, "{kept}");
    assert!(host.memory().resident < before + (64 << 20));
}

#[test]
fn forged_lines_and_terminal_escapes_are_made_harmless() {
    let host = Host::start();
    host.register("hostile/forge", "");
    let ran = host.run_once("--type forge --max-retries 0");
    let id = text(&ran, "task_id");
    assert_eq!(text(&ran, "error_kind"), "permanent");
    clean(&ran);
    for line in host.logs(id) {
        clean(&line);
    }
    for verb in ["logs", "show"] {
        let human = host.cli(&format!("execution {verb} {id}")).exits(0).stdout;
        harmless(&human);
        // A line of the guest's never stands where the host's own begin.
        assert!(
            !human
                .lines()
                .any(|line| line.starts_with("2026-01-01T00:00:00Z ERROR")),
            "{human}"
        );
    }
    harmless(&host.cli("execution list").exits(0).stdout);
    let log = host.last_words();
    assert!(!log.contains("forged"), "the host's own log: {log}");
}

/// Every text in a document.
fn clean(value: &Value) {
    match value {
        Value::String(text) => harmless(text),
        Value::Array(items) => items.iter().for_each(clean),
        Value::Object(map) => map.values().for_each(clean),
        _ => {}
    }
}

/// No control characters but line ends, none that turn or break lines unseen.
#[track_caller]
fn harmless(text: &str) {
    let evil =
        |c: char| c.is_control() && c != '\n' || ['\u{202e}', '\u{2028}', '\u{2029}'].contains(&c);
    assert!(!text.contains(evil), "{text:?}");
}

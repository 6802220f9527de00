//! What a run leaves behind for people: messages, backtraces, logs.

use crate::support::{Host, items, text};

#[test]
fn a_panic_tells_its_message_and_where() {
    let host = Host::start();
    host.register("hostile/panic", "");
    let panicked = host.run_once("--type panic --max-retries 0 --set message='the bridge is out'");
    assert_eq!(
        (text(&panicked, "state"), text(&panicked, "error_kind")),
        ("failed", "trap")
    );
    let message = text(&panicked, "error_message");
    assert!(
        message.contains("the bridge is out") && !message.contains('\n'),
        "{message}"
    );
    let traceback = text(&panicked, "error_traceback");
    for word in ["inner_function", "outer_function", "the bridge is out"] {
        assert!(traceback.contains(word), "no {word} in\n{traceback}");
    }
}

#[test]
fn exits_and_overflows_have_their_kinds() {
    let host = Host::start();
    host.register("hostile/exit", "");
    host.register("hostile/deep", "");
    let left = host.run_once("--type exit --max-retries 0 --set code=7");
    assert_eq!(text(&left, "error_kind"), "exit", "{left:#}");
    assert!(
        text(&left, "error_traceback").contains("leaving with 7"),
        "{left:#}"
    );
    // Inside `run` even a successful exit is no result.
    let zero = host.run_once("--type exit --max-retries 0 --set code=0");
    assert_eq!(
        (text(&zero, "state"), text(&zero, "error_kind")),
        ("failed", "exit")
    );
    let deep = host.run_once("--type deep --max-retries 0");
    assert_eq!(text(&deep, "error_kind"), "trap", "{deep:#}");
    assert!(text(&deep, "error_message").contains("stack"), "{deep:#}");
    let fine = host.run_once("--type deep --set depth=100");
    assert_eq!(fine["result"]["sum"], 100);
}

#[test]
fn a_long_log_keeps_its_head_and_tail_and_counts_the_rest() {
    let host = Host::start();
    host.register("hostile/chatty", "");
    let ran = host.run_once("--type chatty --limit log_bytes=8KiB --set log_bytes=200000");
    assert_eq!(ran["state"], "succeeded", "{ran:#}");
    let usage = &ran["usage"];
    let (written, dropped) = (
        usage["log_bytes"].as_u64(),
        usage["log_dropped_bytes"].as_u64(),
    );
    let (written, dropped) = (written.expect("counted"), dropped.expect("counted"));
    assert!(
        written >= 190_000 && dropped > 180_000 && dropped < written,
        "{usage:#}"
    );

    let lines = host.logs(text(&ran, "task_id"));
    let messages: Vec<&str> = lines.iter().map(|line| text(line, "message")).collect();
    assert!(
        messages.iter().any(|m| m.starts_with("line 0 ")),
        "no head: {messages:?}"
    );
    assert!(
        messages.iter().any(|m| m.starts_with("line 1999 ")),
        "no tail: {messages:?}"
    );
    assert!(
        !messages.iter().any(|m| m.starts_with("line 1000 ")),
        "the middle is dropped"
    );
    let kept: usize = messages.iter().map(|m| m.len()).sum();
    assert!(kept <= 8192 + 1024, "{kept} bytes kept");
}

#[test]
fn stdout_and_stderr_are_log_too() {
    let host = Host::start();
    host.register("hostile/chatty", "");
    let ran = host.run_once(
        "--type chatty --set stdout_bytes=300 --set stderr_bytes=200 --set log_bytes=100",
    );
    let lines = host.logs(text(&ran, "task_id"));
    let of = |source: &str| lines.iter().filter(|line| line["source"] == source).count();
    assert_eq!(
        (of("log"), of("stdout"), of("stderr")),
        (1, 3, 2),
        "{lines:#?}"
    );
    for line in &lines {
        crate::support::has_keys(line, "line attempt at level source message");
    }
    let human = host
        .cli(&format!("execution logs {}", text(&ran, "task_id")))
        .exits(0);
    assert_eq!(human.stdout.lines().count(), 6, "{human:#?}");
}

#[test]
fn logs_are_followed_to_the_end_and_read_in_pages() {
    let host = Host::start();
    host.register("hostile/sleep", "");
    host.register("hostile/chatty", "");
    let task = host.create("--name Slow --type sleep --set milliseconds=1500");
    let id = host.trigger(task);
    let followed = host.cli(&format!("execution logs {id} --follow")).exits(0);
    assert!(followed.stdout.contains("sleeping"), "{followed:#?}");
    assert_eq!(
        host.execution(&id)["state"],
        "succeeded",
        "it followed to the end"
    );

    let ran = host.run_once("--type chatty --set log_bytes=1000");
    let (mut lines, mut cursor) = (Vec::new(), String::new());
    loop {
        let id = text(&ran, "task_id");
        let page = host.run(&format!("execution logs {id} --limit 4 {cursor}"));
        lines.extend(
            items(&page)
                .iter()
                .map(|line| line["line"].as_u64().expect("a number")),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("--cursor {next}"),
            None => break,
        }
    }
    assert_eq!(lines, (0..10).collect::<Vec<u64>>());
}

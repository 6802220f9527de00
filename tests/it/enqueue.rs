//! How executions come to be besides by a schedule: chains, batches, requests that are sent twice, retries
//! and cancels by filter.

use crate::support::{Host, items, text, until};
use serde_json::{Value, json};
use std::fmt::Write as _;

#[test]
fn the_end_of_a_task_starts_the_next_with_its_result() {
    let host = Host::start();
    host.register("hello", "");
    host.register("hostile/flaky", "");
    let last = host.create("--name Last --type hello --key last --set name=nobody");
    let then = host.create(
        r#"--name Then --type hello --key then --set n=7 --chain '[{"task": "last", "parameters": {"/name": "/greeting"}}]'"#,
    );
    let chain = r#"--chain '[{"task": "then", "parameters": {"/name": "/greeting"}}]'"#;
    let first = host.create(&format!("--name First --type hello --set name=Ada {chain}"));
    let parent = host.trigger(first);
    let child = |of: &str, task: i64| {
        until(&format!("the child of {of}"), || {
            let all = host.executions(&format!("task={task}&trigger=chain&state=succeeded"));
            all.into_iter().find(|e| e["parent_task_id"] == of)
        })
    };
    let second = child(&parent, then);
    let second = host.execution(text(&second, "task_id"));
    assert_eq!(second["parameters"], json!({"n": 7, "name": "Hello, Ada!"}));
    let third = child(text(&second, "task_id"), last);
    let third = host.execution(text(&third, "task_id"));
    assert_eq!(
        text(&third["result"], "greeting"),
        "Hello, Hello, Hello, Ada!!!"
    );

    // A failure takes the other way; a pointer that leads nowhere fails the child with a reason.
    let chain =
        r#"[{"task": "then"}, {"task": "last", "on": ["failed"], "parameters": {"/name": "/x"}}]"#;
    let failing = host.create(&format!(
        "--name Fails --type flaky --set class=permanent --set fail_times=1 --max-retries 0 --chain '{chain}'"
    ));
    let parent = host.trigger(failing);
    host.ended(&parent);
    let of_parent = |task: i64| -> Vec<Value> {
        let all = host.executions(&format!("task={task}&trigger=chain"));
        all.into_iter()
            .filter(|e| e["parent_task_id"] == parent.as_str())
            .collect()
    };
    let failed = of_parent(last);
    assert_eq!(
        failed.len(),
        1,
        "at once, in the same transaction: {failed:#?}"
    );
    assert_eq!(
        (text(&failed[0], "state"), text(&failed[0], "error_kind")),
        ("failed", "invalid_parameters")
    );
    assert!(
        text(&failed[0], "error_message").contains("/x"),
        "{failed:#?}"
    );
    assert!(of_parent(then).is_empty());
    host.cli(r#"task create --name No --type hello --chain '[{"task": "nobody"}]'"#)
        .exits(2)
        .complains(&["/chain/0/task", "nobody"]);
    let shown = host.run(&format!("task show {first}"));
    assert_eq!(
        shown["chain"],
        json!([{"task": "then", "on": ["succeeded"], "parameters": {"/name": "/greeting"}}])
    );
}

#[test]
fn a_keyed_request_is_carried_out_once_even_over_a_crash() {
    let mut host = Host::start();
    host.register("hello", "");
    let task = host.create("--name Once --type hello --idempotency-key create");
    assert_eq!(
        host.create("--name Once --type hello --idempotency-key create"),
        task
    );
    let trigger = format!("task trigger {task} --set name=Ada --idempotency-key run");
    let first = host.run(&trigger);
    host.kill();
    host.start_again();
    assert_eq!(host.run(&trigger), first, "the stored answer");
    host.cli(&format!(
        "task trigger {task} --set name=Bob --idempotency-key run"
    ))
    .exits(2)
    .complains(&["another request"]);
    host.ended(text(&first, "task_id"));
    assert_eq!(host.executions(&format!("task={task}")).len(), 1);
}

#[test]
fn a_batch_comes_from_a_file_of_lines() {
    let host = Host::start();
    host.register("hello", "");
    let task = host.create("--name Many --type hello --key many");
    let file = host.data_dir().join("lines.jsonl");
    let mut lines = String::new();
    for n in 0..500 {
        writeln!(lines, r#"{{"n": {}, "name": "{n}"}}"#, n % 90).expect("written");
    }
    lines.push_str("{\"n\": 91}\n{}\n");
    std::fs::write(&file, lines).expect("written");
    let batch = format!("task trigger many --batch '{}'", file.display());
    host.cli(&format!("{batch} --atomic"))
        .exits(2)
        .complains(&["/items/500/parameters/n"]);
    assert!(host.executions(&format!("task={task}")).is_empty());
    let told = host.cli(&format!("{batch} --json")).exits(1).json();
    assert_eq!(
        (&told["enqueued"], &told["refused"]),
        (&json!(501), &json!(1))
    );
    assert_eq!(told["items"][500]["errors"][0]["pointer"], "/parameters/n");
    until("the end of all", || {
        let ended = host.executions(&format!("task={task}&state=succeeded&trigger=batch"));
        (ended.len() == 501).then_some(())
    });
    std::fs::write(&file, "{}\nnot json\n").expect("written");
    host.cli(&batch).exits(2).complains(&["line 2"]);
}

#[test]
fn many_are_cancelled_and_retried_by_filter() {
    let host = Host::start();
    host.register("hello", "");
    let task = host.create("--name Later --type hello --key later");
    let body = json!({"items": vec![json!({"task": "later", "delay_seconds": 3600}); 30]});
    host.post("/v1/executions/batch", &body).is(202);
    let why = items(&host.run("execution list --task later --limit 1")).remove(0);
    let why = host.run(&format!("execution why {}", text(&why, "task_id")));
    assert_eq!(
        (text(&why, "state"), text(&why, "reason")),
        ("scheduled", "not_due")
    );
    host.cli("execution cancel").exits(2).complains(&["filter"]);
    let dry = host.run("execution cancel --task later --dry-run");
    assert_eq!(
        (&dry["matched"], &dry["dry_run"]),
        (&json!(30), &json!(true))
    );
    let done = host.run("execution cancel --task later");
    assert_eq!(
        (&done["cancelled"], &done["requested"]),
        (&json!(30), &json!(0))
    );
    let again = host.run("execution retry --task later --state cancelled --error-kind cancelled");
    assert_eq!(
        (&again["retried"], &again["refused"]),
        (&json!(30), &json!(0))
    );
    until("the end of all", || {
        let ended = host.executions(&format!("task={task}&state=succeeded&trigger=retry"));
        (ended.len() == 30).then_some(())
    });
    // What lives refuses another when asked to.
    let waiting = host.run("task trigger later --delay 3600");
    host.cli("task trigger later --if-running refuse")
        .exits(2)
        .complains(&["if_running"]);
    assert_eq!(waiting["state"], "scheduled");
    host.cli(&format!(
        "execution retry {} --task later",
        text(&waiting, "task_id")
    ))
    .exits(2);
}

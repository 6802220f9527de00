//! The main job: plugins registered, tasks written, fired on time, run, kept across a restart.

use crate::support::{Host, HostBuilder, World, has_keys, items, text, until};
use serde_json::{Value, json};
use std::collections::HashSet;

const EXECUTION_COLUMNS: &str = "id config_id task_id is_success started_at completed_at \
    duration_seconds result error_message error_traceback tenant_id task_type state trigger slot \
    slot_last slot_count skip_reason priority attempt max_attempts lost parameters error_kind usage \
    plugin_digest host created_at first_started_at due_at expires_at cancel_requested_at progress \
    parent_task_id retry_of";
const CONFIG_COLUMNS: &str = "id tenant_id key name task_type scheduler_type parameters \
    schedule_config max_retries timeout_seconds priority limits retry_policy overlap concurrency chain \
    plugin_version paused pause_reason pause_after_failures expires_after_seconds version created_at \
    updated_at deleted_at next_fire_at last_slot is_scheduled";
const USAGE_KEYS: &str = "fuel memory_peak_bytes duration_seconds cpu_seconds queued_seconds \
    http_calls http_request_bytes http_response_bytes log_bytes log_dropped_bytes state_bytes \
    host_version engine_version";

#[test]
fn plugins_run_on_their_schedules_and_the_history_survives_a_restart() {
    let world = World::start();
    let url = world.url();
    let mut host = HostBuilder::default()
        .setting("network.allow_private", "127.0.0.0/8")
        .start();
    let grant = format!("--grant 'http GET {url} via 127.0.0.0/8'");
    host.register("hello", "");
    host.register("jq", "");
    host.register("http_request", &grant);
    host.register("reddit_scraper", &format!("{grant} --grant state"));

    let scraper = host.create(&format!(
        r#"--name Scraper --type reddit_scraper --cron '* * * * * *' --set subreddit=python --set limit=100 --set base_url={url}"#
    ));
    let dated = host.create("--name 'In two seconds' --type hello --at +2s --set name=Ada");
    let by_hand =
        host.create(r#"--name Filter --type jq --params '{"filter": ".a", "input": {"a": [7]}}'"#);
    let page = host.create(&format!(
        "--name Page --type http_request --set url={url}/status --set extract=/visit"
    ));

    let filtered = host.run(&format!("task trigger {by_hand} --wait"));
    assert_eq!(filtered["result"], json!({"outputs": [[7]]}));
    let answered = host.run(&format!("task trigger {page} --wait"));
    assert_eq!(answered["result"]["extracted"], 1);
    assert_eq!(world.visits("/status"), 1);

    let once = until("run of the date task", || {
        host.executions(&format!("task={dated}&state=succeeded"))
            .pop()
    });
    assert_eq!(
        (text(&once, "trigger"), &once["attempt"]),
        ("schedule", &json!(1))
    );
    let scraped = until("three runs of the scraper", || {
        Some(host.executions(&format!("task={scraper}&state=succeeded"))).filter(|e| e.len() >= 3)
    });
    every_post_once(&host, &scraped);

    host.run(&format!("task pause {scraper}"));
    until("quiet", || {
        host.executions("state=available,running")
            .is_empty()
            .then_some(())
    });
    let before = ended_in_full(&host);
    let configs = configs(&host, &[scraper, dated, by_hand, page]);
    assert_eq!(host.stop(), Some(0), "{}", host.last_words());
    host.start_again();
    assert_eq!(ended_in_full(&host), before);
    assert_eq!(
        self::configs(&host, &[scraper, dated, by_hand, page]),
        configs
    );

    host.run(&format!("task resume {scraper}"));
    let newest = scraped[0]["id"].as_i64();
    until("another run of the scraper", || {
        let runs = host.executions(&format!("task={scraper}&state=succeeded"));
        (runs[0]["id"].as_i64() > newest).then_some(())
    });
    assert_eq!(
        host.executions(&format!("task={dated}")).len(),
        1,
        "a date fires once"
    );
}

/// The first run tells the newest hundred posts, later ones none of them again: the state was kept.
fn every_post_once(host: &Host, scraped: &[Value]) {
    let mut told = HashSet::new();
    let mut slots = HashSet::new();
    for (number, run) in scraped.iter().rev().enumerate() {
        assert!(
            slots.insert(text(run, "slot").to_owned()),
            "a slot ran twice: {run:#}"
        );
        let run = host.execution(text(run, "task_id"));
        let expected = if number == 0 { 100 } else { 0 };
        assert_eq!(run["result"]["new"], expected, "run {number}: {run:#}");
        for post in run["result"]["posts"].as_array().expect("posts") {
            assert!(told.insert(post["name"].to_string()), "told twice: {post}");
        }
    }
}

/// Every ended execution as `show` has it, in the columns of the contract.
fn ended_in_full(host: &Host) -> Vec<Value> {
    let listed = host.executions("state=succeeded,failed,cancelled");
    assert!(listed.len() >= 6, "{listed:#?}");
    let full: Vec<Value> = listed
        .iter()
        .map(|e| host.execution(text(e, "task_id")))
        .collect();
    for execution in listed.iter().chain(&full) {
        has_keys(execution, EXECUTION_COLUMNS);
        has_keys(&execution["usage"], USAGE_KEYS);
        let id = execution["id"].as_i64().expect("an integer");
        assert!((1..1 << 53).contains(&id));
        let task_id: uuid::Uuid = text(execution, "task_id").parse().expect("a UUID");
        assert_eq!(task_id.get_version_num(), 7);
        for instant in ["started_at", "completed_at", "created_at", "due_at"] {
            assert!(
                text(execution, instant).ends_with('Z'),
                "{instant} in {execution:#}"
            );
        }
    }
    full
}

fn configs(host: &Host, ids: &[i64]) -> Vec<Value> {
    let shown: Vec<Value> = ids
        .iter()
        .map(|id| host.run(&format!("task show {id}")))
        .collect();
    for config in shown.iter().chain(&items(&host.run("task list"))) {
        has_keys(config, CONFIG_COLUMNS);
        assert_eq!(config["is_scheduled"], config["scheduler_type"] != "manual");
    }
    shown
}

//! An execution is part of the trace that its trigger came from, and carries it on; a collector is told.

use crate::many_hosts::{database, member};
use crate::support::{Host, HostBuilder, World, text};
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

/// The text or number of an attribute.
fn attribute(span: &Value, key: &str) -> Option<String> {
    let attributes = span["attributes"].as_array().expect("a list");
    let value = &attributes.iter().find(|pair| pair["key"] == key)?["value"];
    let found = value["stringValue"].as_str().or(value["intValue"].as_str());
    Some(found.unwrap_or_else(|| panic!("{value}")).to_owned())
}

/// What the collector got at a path, by the members that lead to it.
fn collected(world: &World, path: &str, keys: [&str; 3]) -> Vec<Value> {
    let mut found = Vec::new();
    for request in world.received(path) {
        assert_eq!(
            request.header("content-type").as_deref(),
            Some("application/json")
        );
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        let resource = &body[keys[0]][0];
        let service = attribute(&resource["resource"], "service.name");
        assert_eq!(service.as_deref(), Some("horarium"), "{body:#}");
        let items = &resource[keys[1]][0][keys[2]];
        found.extend(items.as_array().expect("a list").clone());
    }
    found
}

/// Every span that the collector got.
fn spans(world: &World) -> Vec<Value> {
    collected(
        world,
        "/v1/traces",
        ["resourceSpans", "scopeSpans", "spans"],
    )
}

fn nanos(span: &Value, key: &str) -> i64 {
    text(span, key).parse().expect("nanoseconds")
}

/// A task that asks the world's echo, with headers of its own.
fn asking(host: &Host, world: &World) -> i64 {
    let grant = format!("--grant 'http GET {} via 127.0.0.0/8'", world.url());
    host.register("http_request", &grant);
    let forged = json!({"traceparent": "00-11111111111111111111111111111111-2222222222222222-01",
        "tracestate": "forged=1", "x-mine": "stays"});
    host.create(&format!(
        "--name Asks --type http_request --max-retries 0 --set url={}/echo --set headers='{forged}'",
        world.url()
    ))
}

fn trigger(host: &Host, task: i64, headers: &[(&str, &str)]) -> String {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let path = format!("/v1/tasks/{task}/trigger");
    let reply = host.send("POST", &path, &all, b"{}").is(202);
    text(&reply.json(), "task_id").to_owned()
}

fn open() -> HostBuilder {
    HostBuilder::default().setting("network.allow_private", "127.0.0.0/8")
}

#[test]
fn a_trigger_s_trace_goes_through_a_run_to_whom_it_asks() {
    let world = World::start();
    let mut host = open()
        .setting("otlp.endpoint", &world.url())
        .setting("otlp.headers", "x-key=of the collector")
        .setting("otlp.sample_percent", "0")
        .setting("host.name", "tracing")
        .start();
    let task = asking(&host, &world);
    let traced = [("traceparent", &*traceparent()), ("tracestate", "vendor=7")];
    let id = trigger(&host, task, &traced);
    assert_eq!(host.ended(&id)["state"], "succeeded");
    // Its requests carry the trace on; what the guest wrote is gone.
    let echo = &world.received("/echo")[0];
    let carried = echo.header("traceparent").expect("carried on");
    let parts: Vec<&str> = carried.split('-').collect();
    assert_eq!(
        (parts[0], parts[1], parts[3]),
        ("00", TRACE, "01"),
        "{carried}"
    );
    assert_eq!(echo.header("tracestate").as_deref(), Some("vendor=7"));
    assert_eq!(echo.header("x-mine").as_deref(), Some("stays"));
    // One whose trigger brought none is sampled by this host: not at all.
    host.ended(&trigger(&host, task, &[]));
    assert!(
        world.received("/echo")[1]
            .header("traceparent")
            .expect("begun here")
            .ends_with("-00")
    );
    // What is no trace counts as none.
    host.ended(&trigger(&host, task, &[("traceparent", "00-nonsense-01")]));
    // What was not sent yet is sent when the host stops.
    assert_eq!(host.stop(), Some(0));
    let spans = spans(&world);
    assert_eq!(spans.len(), 2, "{spans:#?}");
    let named = |name: &str| {
        let found = spans.iter().find(|span| span["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
    };
    let (run, call) = (named("run http_request"), named("GET"));
    assert_eq!(
        (text(run, "traceId"), text(run, "parentSpanId")),
        (TRACE, PARENT)
    );
    assert_eq!(text(run, "traceState"), "vendor=7");
    assert_eq!(call["traceId"], run["traceId"]);
    assert_eq!(call["parentSpanId"], run["spanId"]);
    assert_eq!(
        text(call, "spanId"),
        parts[2],
        "the span that whoever was asked was told of"
    );
    assert_eq!(attribute(run, "horarium.task_id"), Some(id));
    assert_eq!(
        attribute(run, "horarium.state").as_deref(),
        Some("succeeded")
    );
    assert_eq!(
        attribute(call, "http.response.status_code").as_deref(),
        Some("200")
    );
    let events = run["events"].as_array().expect("a list");
    assert!(events.iter().any(|event| event["name"] == "log"), "{run:#}");
    assert!(nanos(run, "startTimeUnixNano") <= nanos(call, "startTimeUnixNano"));
    assert!(nanos(call, "endTimeUnixNano") <= nanos(run, "endTimeUnixNano"));
    let sent = &world.received("/v1/traces")[0];
    assert_eq!(sent.header("x-key").as_deref(), Some("of the collector"));
}

#[test]
fn a_trace_waits_with_its_execution_for_whatever_host_runs_it() {
    let (_cluster, url) = database();
    let world = World::start();
    let builder = || member("one", &url, "2").setting("network.allow_private", "127.0.0.0/8");
    let mut first = builder().start();
    let task = asking(&first, &world);
    let body = json!({"delay_seconds": 2}).to_string();
    let path = format!("/v1/tasks/{task}/trigger");
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", &*traceparent()),
    ];
    let reply = first.send("POST", &path, &headers, body.as_bytes()).is(202);
    let id = text(&reply.json(), "task_id").to_owned();
    assert_eq!(first.stop(), Some(0));
    let second = builder().start();
    assert_eq!(second.ended(&id)["state"], "succeeded");
    let carried = world.received("/echo")[0]
        .header("traceparent")
        .expect("carried on");
    assert!(
        carried.starts_with(&format!("00-{TRACE}-")) && carried.ends_with("-01"),
        "{carried}"
    );
}

#[test]
fn the_server_s_log_goes_to_the_collector_and_a_failure_is_a_failed_span() {
    let world = World::start();
    let mut host = HostBuilder::default()
        .setting("otlp.endpoint", &format!("{}/", world.url()))
        .setting("otlp.logs", "true")
        .setting("log.format", "json")
        .start();
    host.register("hostile/exit", "");
    host.run_once("--type exit --max-retries 0");
    assert_eq!(host.stop(), Some(0));
    let spans = spans(&world);
    assert_eq!(spans.len(), 1, "{spans:#?}");
    assert_eq!(attribute(&spans[0], "error.type").as_deref(), Some("exit"));
    let status = &spans[0]["status"];
    assert!(
        status["code"] == 2 && status["message"].is_string(),
        "{status:#}"
    );
    assert!(spans[0].get("parentSpanId").is_none(), "{:#}", spans[0]);
    let lines = collected(
        &world,
        "/v1/logs",
        ["resourceLogs", "scopeLogs", "logRecords"],
    );
    let serving = lines
        .iter()
        .find(|line| line["body"]["stringValue"] == "serving");
    let serving = serving.unwrap_or_else(|| panic!("{lines:#?}"));
    assert_eq!(
        (&serving["severityText"], &serving["severityNumber"]),
        (&"INFO".into(), &9.into())
    );
    assert_eq!(attribute(serving, "url").as_deref(), Some(host.url()));
    // On stderr each line is an object all the same.
    for line in host.last_words().lines() {
        let _: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
}

#[test]
fn a_chain_is_one_trace_whoever_began_it() {
    let world = World::start();
    let mut host = open().setting("otlp.endpoint", &world.url()).start();
    host.register("hello", "");
    host.create("--name Then --type hello --key then");
    let first = host.create("--name First --type hello --key first");
    let chain = json!({"chain": [{"task": "then"}]});
    let patch = [("content-type", "application/merge-patch+json")];
    let path = format!("/v1/tasks/{first}");
    host.send("PATCH", &path, &patch, chain.to_string().as_bytes())
        .is(200);
    let headers = [("traceparent", &*traceparent())];
    let (traced, plain) = (trigger(&host, first, &headers), trigger(&host, first, &[]));
    for parent in [&traced, &plain] {
        let child = crate::support::until("its chain", || {
            let all = host.executions("trigger=chain");
            all.into_iter()
                .find(|child| child["parent_task_id"] == **parent)
        });
        host.ended(text(&child, "task_id"));
    }
    assert_eq!(host.stop(), Some(0));
    let spans = spans(&world);
    assert_eq!(spans.len(), 4, "{spans:#?}");
    for parent in [&traced, &plain] {
        let of = |id: &str| {
            let found = spans
                .iter()
                .find(|span| attribute(span, "horarium.task_id").as_deref() == Some(id));
            found.unwrap_or_else(|| panic!("no {id} in {spans:#?}"))
        };
        let above = of(parent);
        let below = spans
            .iter()
            .filter(|span| span["parentSpanId"] == above["spanId"]);
        let below: Vec<&Value> = below.collect();
        assert_eq!(below.len(), 1, "{spans:#?}");
        assert_eq!(below[0]["traceId"], above["traceId"]);
        assert_eq!(
            attribute(below[0], "horarium.trigger").as_deref(),
            Some("chain")
        );
    }
    let under_ours = spans.iter().filter(|span| span["traceId"] == TRACE);
    assert_eq!(under_ours.count(), 2, "the trigger's trace");
}

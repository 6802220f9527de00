//! `dev`: what a plugin author has, without a server.

use crate::support::{World, has_keys, horarium, keys, plugin, text};
use serde_json::{Value, json};

/// Runs a plugin once; the exit code and the document.
fn dev_run(name: &str, flags: &str) -> (i32, Value) {
    let file = plugin(name);
    let output = horarium(&format!("dev run '{}' --json {flags}", file.display()));
    assert_eq!(output.stderr, "", "{output:#?}");
    let document = output.json();
    assert_eq!(
        keys(&document),
        ["error", "is_success", "logs", "result", "usage"]
    );
    (output.status, document)
}

#[test]
fn a_success_has_the_shape_of_the_contract() {
    let (status, ran) = dev_run("hello", r#"--params '{"name": "Ada"}'"#);
    assert_eq!(
        (status, &ran["is_success"], &ran["error"]),
        (0, &json!(true), &Value::Null)
    );
    assert_eq!(ran["result"]["greeting"], "Hello, Ada!");
    has_keys(
        &ran["usage"],
        "fuel memory_peak_bytes duration_seconds cpu_seconds queued_seconds http_calls \
         http_request_bytes http_response_bytes log_bytes log_dropped_bytes state_bytes host_version \
         engine_version",
    );
    assert!(ran["usage"]["fuel"].as_u64() > Some(0), "{ran:#}");
    assert_eq!(ran["logs"], json!([]));
    // For people the result alone on stdout.
    let human = horarium(&format!("dev run '{}'", plugin("hello").display())).exits(0);
    assert!(human.stdout.contains("Hello, world!"), "{human:#?}");
}

#[test]
fn a_failure_has_kind_message_and_traceback() {
    let (status, ran) = dev_run("hostile/panic", "");
    assert_eq!(
        (status, &ran["is_success"], &ran["result"]),
        (1, &json!(false), &Value::Null)
    );
    assert_eq!(keys(&ran["error"]), ["kind", "message", "traceback"]);
    assert_eq!(ran["error"]["kind"], "trap");
    assert!(
        text(&ran["error"], "message").contains("told to panic"),
        "{ran:#}"
    );
    assert!(
        text(&ran["error"], "traceback").contains("inner_function"),
        "{ran:#}"
    );
    for line in ran["logs"].as_array().expect("a list") {
        assert_eq!(keys(line), ["level", "message"]);
    }
    let (status, ran) = dev_run("hostile/spin", "--timeout 1");
    assert_eq!((status, &ran["error"]["kind"]), (1, &json!("timeout")));
    assert_eq!(
        ran["logs"],
        json!([{"level": "info", "message": "spinning"}])
    );
    let (status, ran) = dev_run("hostile/burn", "--limit fuel=1000000");
    assert_eq!((status, &ran["error"]["kind"]), (1, &json!("out_of_fuel")));
    let (status, ran) = dev_run("hostile/hog", "--limit memory_bytes=8MiB");
    assert_eq!((status, &ran["error"]["kind"]), (1, &json!("memory_limit")));
    let (status, ran) = dev_run("hostile/flaky", "--attempt 3");
    assert_eq!(
        (status, &ran["result"]["attempt"]),
        (0, &json!(3)),
        "{ran:#}"
    );
}

#[test]
fn grants_are_the_same_as_a_servers() {
    let world = World::start();
    let params = json!({"url": format!("{}/page", world.url())});
    let (status, denied) = dev_run("http_request", &format!("--params '{params}'"));
    assert_eq!(
        (status, &denied["error"]["kind"]),
        (1, &json!("permanent")),
        "{denied:#}"
    );
    assert!(
        text(&denied["error"], "message").contains("grant"),
        "{denied:#}"
    );
    let grant = format!("--grant 'http GET {} via 127.0.0.0/8'", world.url());
    let (status, ran) = dev_run("http_request", &format!("--params '{params}' {grant}"));
    assert_eq!(
        (status, &ran["result"]["status"]),
        (0, &json!(200)),
        "{ran:#}"
    );
    assert_eq!(world.visits("/page"), 1);
    let (status, ran) = dev_run("hostile/stateful", "--grant state");
    assert_eq!((status, &ran["result"]["count"]), (0, &json!(1)), "{ran:#}");
}

#[test]
fn wrong_input_is_refused_before_anything_runs() {
    let hello = plugin("hello");
    let hello = hello.display();
    for (arguments, wanted) in [
        (
            format!("'{hello}' --params '[1]'"),
            &["--params", "object"][..],
        ),
        (
            format!("'{hello}' --params '{{\"n\": \"many\"}}'"),
            &["/parameters/n"],
        ),
        (
            format!("'{hello}' --params '{{\"n\": 1, \"n\": 2}}'"),
            &["--params"],
        ),
        (format!("'{hello}' --grant nonsense"), &["/grants/0"]),
        (format!("'{hello}' --limit fule=1"), &["fuel"]),
        (format!("'{hello}' --timeout 0"), &["--timeout"]),
        ("/no/such/file.wasm".to_owned(), &["/no/such/file.wasm"]),
    ] {
        horarium(&format!("dev run {arguments}"))
            .exits(2)
            .complains(wanted);
    }
}

#[test]
fn inspect_tells_world_imports_and_descriptor() {
    let file = plugin("reddit_scraper");
    let shown = horarium(&format!("dev inspect '{}' --json", file.display()))
        .exits(0)
        .json();
    has_keys(
        &shown,
        "digest world imports exports descriptor asked_grants",
    );
    assert_eq!(shown["world"], "horarium:task/task");
    let names = |key: &str| {
        shown[key]
            .as_array()
            .expect("a list")
            .iter()
            .map(|v| v.as_str().expect("a text").to_owned())
            .collect::<Vec<_>>()
    };
    assert!(
        names("exports").contains(&"horarium:task/run@1.0.0".to_owned()),
        "{shown:#}"
    );
    assert!(
        names("imports").iter().any(|i| i.starts_with("wasi:http/")),
        "{shown:#}"
    );
    assert!(names("asked_grants").contains(&"state".to_owned()));
    assert_eq!(
        shown["descriptor"]["parameters_schema"]["properties"]["limit"]["maximum"],
        1000
    );
    let human = horarium(&format!("dev inspect '{}'", file.display())).exits(0);
    assert!(human.stdout.contains("subreddit"), "{human:#?}");
}

#[test]
fn cases_are_run_told_apart_and_blessed() {
    let dir = tempfile::tempdir().expect("a directory");
    let cases = dir.path().join("cases");
    std::fs::create_dir(&cases).expect("made");
    let case = |name: &str, document: &Value| {
        std::fs::write(cases.join(name), document.to_string()).expect("written");
    };
    let test = |name: &str, flags: &str| {
        let file = plugin(name);
        horarium(&format!(
            "dev test '{}' '{}' --json {flags}",
            file.display(),
            cases.display()
        ))
    };
    test("hello", "")
        .exits(2)
        .complains(&["there are no cases"]);
    let ada = json!({"params": {"name": "Ada", "n": 10}});
    case("ada.json", &ada);
    case(
        "wrong.json",
        &json!({"params": {"n": 5}, "expect": {"result": {"greeting": "Hello, world!", "fib": 6}}}),
    );
    case(
        "poor.json",
        &json!({"limits": {"fuel": 1000}, "expect": {"error": {"kind": "out_of_fuel"}}}),
    );
    let told = test("hello", "").exits(1).json();
    assert_eq!(
        (&told["passed"], &told["failed"]),
        (&json!(1), &json!(2)),
        "{told:#}"
    );
    let wrong: Vec<&Value> = told["cases"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|case| &case["wrong"])
        .collect();
    let wanted = [
        json!(["expects nothing yet"]),
        json!([]),
        json!(["/result/fib is 5, not 6"]),
    ];
    assert_eq!(wrong, wanted.iter().collect::<Vec<_>>());
    let blessed = test("hello", "--bless").exits(0).json();
    assert_eq!(blessed["cases"][0]["blessed"], true, "{blessed:#}");
    test("hello", "").exits(0);
    let kept = std::fs::read_to_string(cases.join("ada.json")).expect("read");
    let kept: Value = serde_json::from_str(&kept).expect("JSON");
    assert_eq!(kept["params"], ada["params"], "the rest stays");
    assert_eq!(kept["expect"]["result"]["greeting"], "Hello, Ada!");

    // Clocks and randomness are the same each time, without a word of it.
    for name in ["ada.json", "wrong.json", "poor.json"] {
        std::fs::remove_file(cases.join(name)).expect("removed");
    }
    case("now.json", &json!({}));
    test("hostile/clocks", "--bless").exits(0);
    test("hostile/clocks", "").exits(0);
    case("now.json", &json!({"expect": {"result": null}}));
    let told = test("hostile/clocks", "").exits(1).json();
    let wrong = told["cases"][0]["wrong"][0].as_str().unwrap_or_default();
    assert!(wrong.ends_with("not null"), "{told:#}");
    case("now.json", &json!({"expect": {"error": {"kidn": "x"}}}));
    test("hostile/clocks", "").exits(2).complains(&[
        "now.json",
        "/expect/error/kidn",
        "did you mean `kind`",
    ]);
    case("now.json", &json!({"parms": {}, "config": {"a": 1}}));
    test("hostile/clocks", "").exits(2).complains(&[
        "now.json",
        "/parms",
        "did you mean `params`",
        "/config/a",
    ]);
}

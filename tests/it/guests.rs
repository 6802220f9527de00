//! Guests of every kind, built by their own tools (`cargo xtask plugins --all`).

use crate::support::{Host, HostBuilder, World, horarium, plugin, text, until};
use serde_json::{Value, json};

/// Runs a guest once without a server; the exit code and the document.
fn dev_run(name: &str, flags: &str, params: &Value) -> (i32, Value) {
    let file = plugin(name);
    let line = format!(
        "dev run '{}' --json {flags} --params '{params}'",
        file.display()
    );
    let output = horarium(&line);
    (output.status, output.json())
}

/// Fails unless a run reports what it used as any other does.
fn measured(usage: &Value) {
    assert!(usage["fuel"].as_u64() > Some(1000), "{usage:#}");
    assert!(
        usage["memory_peak_bytes"].as_u64() >= Some(65_536),
        "{usage:#}"
    );
}

#[test]
fn a_rust_template_and_a_module_without_wasi_are_tasks() {
    for name in ["hello_rs", "hello_unknown"] {
        let (status, ran) = dev_run(name, "", &json!({"name": "Ada", "n": 10}));
        assert_eq!(status, 0, "{name}: {ran:#}");
        assert_eq!(
            ran["result"],
            json!({"greeting": "Hello, Ada!", "fib": 55}),
            "{name}"
        );
        measured(&ran["usage"]);
    }
    let file = plugin("hello_unknown");
    let shown = horarium(&format!("dev inspect '{}' --json", file.display()))
        .exits(0)
        .json();
    assert_eq!(shown["world"], "horarium:task/task");
    let remarks = shown["warnings"].to_string();
    assert!(remarks.contains("component-type metadata"), "{shown:#}");
    let imports = shown["imports"].to_string();
    assert!(!imports.contains("wasi:"), "{shown:#}");
}

#[test]
fn programs_take_arguments_environment_and_input() {
    let flags = "--args-from /args --stdin-from /csv";
    for name in ["csv_sum", "csv_sum_p1"] {
        let csv = json!({"args": ["b"], "csv": "a,b\n1,2.5\n3,4\n"});
        let (status, ran) = dev_run(name, flags, &csv);
        assert_eq!(
            (status, &ran["result"]),
            (0, &json!({"rows": 2, "sum": 6.5})),
            "{name}: {ran:#}"
        );
        assert_eq!(
            ran["logs"],
            json!([{"level": "warn", "message": "2 rows in attempt 1"}])
        );
        measured(&ran["usage"]);

        let (status, failed) = dev_run(name, flags, &json!({"args": ["c"], "csv": "a,b\n"}));
        assert_eq!(
            (status, &failed["error"]["kind"]),
            (1, &json!("exit")),
            "{failed:#}"
        );
        assert_eq!(
            failed["error"]["message"], "no column `c` in `a,b`",
            "the last line of stderr"
        );

        let (_, refused) = dev_run(name, flags, &json!({"args": ["a"]}));
        assert_eq!(
            refused["error"]["message"], "there is nothing yet",
            "{refused:#}"
        );
        // Rust's std knows success and failure alone for wasm32-wasip2; a preview 1 program's code is kept.
        let kind = if name == "csv_sum" {
            "exit"
        } else {
            "retryable"
        };
        assert_eq!(refused["error"]["kind"], kind, "{refused:#}");
    }
    let (status, counted) = dev_run(
        "wc_c",
        "--args-from /args --stdin-from /text",
        &json!({"text": "three short words\n"}),
    );
    assert_eq!(
        (status, &counted["result"]),
        (0, &json!({"lines": 1, "words": 3, "bytes": 18})),
        "{counted:#}"
    );
    measured(&counted["usage"]);
    // Without a choice, all parameters are what it reads.
    let (_, counted) = dev_run("wc_c", "", &json!({"a": 1}));
    assert_eq!(counted["result"]["bytes"], 7, "{counted:#}");
    let file = plugin("wc_c");
    let wrong = format!(
        "dev run '{}' --args-from /args --params '{{\"args\": 5}}'",
        file.display()
    );
    horarium(&wrong)
        .exits(2)
        .complains(&["/parameters/args", "list"]);
    let task = plugin("hello");
    let task = format!("dev run '{}' --args-from /args", task.display());
    horarium(&task)
        .exits(2)
        .complains(&["--args-from", "WASI program"]);
}

#[test]
fn what_a_program_is_started_with_is_registered_with_its_version() {
    let host = Host::start();
    let file = plugin("wc_c");
    let register =
        |flags: &str| host.cli(&format!("plugin register wc '{}' {flags}", file.display()));
    register("--stdin-from text")
        .exits(2)
        .complains(&["/stdin_from", "JSON pointer"]);
    let hello = plugin("hello");
    let as_task = host.cli(&format!(
        "plugin register wc '{}' --env-from /env",
        hello.display()
    ));
    as_task.exits(2).complains(&["/env_from", "WASI programs"]);
    host.get("/v1/task-types/wc").is(404);

    register("--args-from /args --stdin-from /text").exits(0);
    let shown = host.run("plugin show wc");
    assert_eq!(shown["active"]["args_from"], "/args", "{shown:#}");
    assert_eq!(shown["active"]["env_from"], Value::Null, "{shown:#}");
    let human = host.cli("plugin show wc").exits(0);
    assert!(
        human.stdout.contains("/text of the parameters"),
        "{human:#?}"
    );

    let counted = host.run_once(r#"--type wc --params '{"args": ["words"], "text": "one two"}'"#);
    assert_eq!(counted["result"], json!({"words": 2}), "{counted:#}");
    measured(&counted["usage"]);
    let lines = host.logs(text(&counted, "task_id"));
    assert_eq!(text(&lines[0], "message"), "read 7 bytes in attempt 1");
    let wrong = host.cli(r#"task create --name bad --type wc --params '{"args": ["words", {}]}'"#);
    wrong.exits(2).complains(&["/parameters/args/1", "string"]);

    // The same program anew: left alone when nothing is said, another choice otherwise.
    register("").exits(0);
    assert_eq!(host.run("plugin show wc")["active"]["stdin_from"], "/text");
    register("--stdin-from ''").exits(0);
    let shown = host.run("plugin show wc");
    assert_eq!(
        (
            &shown["active"]["stdin_from"],
            &shown["active"]["args_from"]
        ),
        (&json!(""), &Value::Null)
    );
    let whole = host.run_once(r#"--type wc --params '{"a": 1}'"#);
    assert_eq!(whole["result"]["bytes"], 7, "{whole:#}");
}

#[test]
fn interpreted_languages_run_and_their_compiling_holds_nobody_up() {
    let world = World::start();
    let mut host = HostBuilder::default()
        .setting("network.allow_private", "127.0.0.0/8")
        .start();
    host.register("hello", "");
    let small = host.create("--name small --type hello");
    let versions: Vec<String> = ["greet_js", "fetch_py"]
        .iter()
        .map(|name| upload(&host, name))
        .collect();
    let mut beside = 0;
    for version in &versions {
        loop {
            let before = host.get(version).is(200).json();
            if before["state"] != "compiling" {
                assert_eq!(before["state"], "ready", "{before:#}");
                break;
            }
            let ran = host.ended(&host.trigger(small));
            assert_eq!(ran["state"], "succeeded", "{ran:#}");
            let still = host.get(version).is(200).json()["state"] == "compiling";
            beside += u32::from(still);
        }
    }
    assert!(
        beside >= 10,
        "only {beside} runs ended while large components were compiled"
    );

    javascript(&host);
    python(&host, &world);
    // Started anew, the host has their code from the store, and loads what is used.
    assert_eq!(host.stop(), Some(0));
    host.start_again();
    javascript(&host);
    let log = host.last_words();
    let (_, since) = log.rsplit_once("serving").expect("it was started");
    let loaded = since.matches("compiled code is loaded").count();
    assert_eq!(loaded, 1, "{log}");
}

/// Uploads without waiting; where the version is shown.
fn upload(host: &Host, name: &str) -> String {
    let bytes = std::fs::read(plugin(name)).expect("read");
    let kind = [("content-type", "application/wasm")];
    let path = format!("/v1/task-types/{name}/versions");
    let version = host.send("POST", &path, &kind, &bytes).is(202).json();
    format!("{path}/{}", text(&version, "digest").replace(':', "%3A"))
}

fn javascript(host: &Host) {
    let greeted = host.run_once("--type greet_js --set name=Ada --max-retries 0");
    assert_eq!(
        greeted["result"],
        json!({"greeting": "Hello, Ada!"}),
        "{greeted:#}"
    );
    measured(&greeted["usage"]);
    let lines = host.logs(text(&greeted, "task_id"));
    assert_eq!(text(&lines[0], "message"), "greeting Ada", "{lines:#?}");
    assert_eq!(lines[0]["fields"], json!({"attempt": 1}), "{lines:#?}");
    assert!(
        lines
            .iter()
            .any(|line| text(line, "message").contains("is log as well")),
        "{lines:#?}"
    );
    let nobody = host.run_once("--type greet_js --set name=nobody");
    assert_eq!(text(&nobody, "error_kind"), "permanent", "{nobody:#}");
    assert_eq!(text(&nobody, "error_message"), "there is nobody to greet");
    let wrong = host.cli("task create --name wrong --type greet_js --set times=2");
    wrong.exits(2).complains(&["name"]);
}

fn python(host: &Host, world: &World) {
    let url = format!("{}/page", world.url());
    let run = format!("--type fetch_py --set url={url} --max-retries 0");
    let denied = host.run_once(&run);
    assert_eq!(text(&denied, "state"), "failed", "{denied:#}");
    assert!(
        text(&denied, "error_message").contains("grant"),
        "{denied:#}"
    );
    let grants = json!({"grants": [format!("http GET {} via 127.0.0.0/8", world.url())]});
    let kind = [("content-type", "application/json")];
    host.send(
        "PUT",
        "/v1/task-types/fetch_py/grants",
        &kind,
        grants.to_string().as_bytes(),
    )
    .is(200);
    let fetched = until("a page fetched by Python", || {
        let ran = host.run_once(&run);
        (ran["state"] == "succeeded").then_some(ran)
    });
    assert_eq!(fetched["result"]["status"], 200, "{fetched:#}");
    assert!(fetched["result"]["bytes"].as_u64() > Some(0), "{fetched:#}");
    assert_eq!(fetched["usage"]["http_calls"], 1, "{fetched:#}");
    measured(&fetched["usage"]);
    assert_eq!(world.visits("/page"), 1);
    let lines = host.logs(text(&fetched, "task_id"));
    assert!(
        lines
            .iter()
            .any(|line| text(line, "message").contains("answered 200")),
        "{lines:#?}"
    );
}

#[test]
fn a_plugin_is_begun_and_never_written_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path().join("mine");
    let new = |flags: &str| horarium(&format!("dev new mine --dir '{}' {flags}", at.display()));
    let begun = new("--lang python --json").exits(0).json();
    let files = begun["files"].as_array().expect("a list");
    assert!(
        files.contains(&json!("wit/deps/http.wit")) && files.contains(&json!("plugin.py")),
        "{begun:#}"
    );
    new("--lang python")
        .exits(2)
        .complains(&["is there already"]);
    horarium("dev new Mine").exits(2).complains(&["Mine"]);
    horarium("dev new mine --lang cobol")
        .exits(2)
        .complains(&["cobol", "python"]);
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    let build = horarium(&format!("dev build '{}'", empty.display()));
    build.exits(2).complains(&["dev new"]);
    let wit = dir.path().join("wit");
    horarium(&format!("dev wit '{}'", wit.display())).exits(0);
    let contract = std::fs::read_to_string(wit.join("types.wit")).expect("written");
    assert!(contract.contains("package horarium:task@1.0.0"));
}

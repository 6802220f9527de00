//! `task apply`: a file of plugins and tasks, applied, applied again, changed, spoilt and pruned.

use crate::support::{Host, horarium_fed, plugin, text};
use serde_json::{Value, json};
use std::path::Path;

/// Writes the file beside a copy of a plugin, which it names by a relative path.
fn write(directory: &Path, tasks: &str) -> String {
    let file = directory.join("tasks.toml");
    let head = r#"
        set = "team/nightly"
        [plugins.hello]
        file = "plugins/hello.wasm"
        limits = { memory_bytes = "32MiB" }
    "#;
    std::fs::write(&file, format!("{head}{tasks}")).expect("written");
    file.display().to_string()
}

const TWO: &str = r#"
    [tasks.nightly]
    name = "Nightly"
    type = "hello"
    cron = "0 3 * * *"
    timezone = "Europe/Berlin"
    parameters = { name = "Ada" }
    [tasks.greet]
    type = "hello"
    parameters = { name = "Grace" }
"#;

fn counts(answer: &Value) -> [&Value; 4] {
    ["created", "updated", "unchanged", "deleted"].map(|key| &answer[key])
}

#[test]
fn a_file_is_applied_again_and_again() {
    let host = Host::start();
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("plugins")).expect("made");
    let copy = directory.path().join("plugins/hello.wasm");
    std::fs::copy(plugin("hello"), copy).expect("copied");
    let file = write(directory.path(), TWO);

    // Looked at first: nothing is there yet, not even the plugin.
    let told = host
        .cli(&format!("task apply -f '{file}' --dry-run"))
        .exits(0);
    for part in [
        "+ plugin hello",
        "+ task nightly",
        "+ task greet",
        "3 to create",
        "dry run",
    ] {
        assert!(told.stdout.contains(part), "{part} in\n{}", told.stdout);
    }
    assert_eq!(host.run("plugin list")["items"], json!([]));

    let done = host.run(&format!("task apply -f '{file}'"));
    assert_eq!(counts(&done), [&json!(3), &json!(0), &json!(0), &json!(0)]);
    let nightly = host.run("task show nightly");
    assert_eq!(
        (text(&nightly, "name"), text(&nightly, "declared_by")),
        ("Nightly", "team/nightly")
    );
    assert_eq!(
        host.run("plugin show hello")["active"]["limits"]["memory_bytes"],
        32 << 20
    );
    let ended =
        host.ended(&host.trigger(host.run("task show greet")["id"].as_i64().expect("an id")));
    assert_eq!(ended["result"]["greeting"], "Hello, Grace!");

    let again = host.cli(&format!("task apply -f '{file}'")).exits(0);
    assert!(
        again
            .stdout
            .contains("Nothing to do: all 3 are as declared."),
        "{}",
        again.stdout
    );
    assert_eq!(host.run("task show nightly")["version"], nightly["version"]);

    // A field changes, a task goes; one bad item and neither happens.
    let one = TWO
        .split("[tasks.greet]")
        .next()
        .expect("its start")
        .replace("0 3", "0 4");
    let bad = format!(
        "{one}\n[tasks.bad]\ntype = \"hello\"\ncron = \"61 * * * *\"\nparameters = {{ nam = 1 }}"
    );
    let file = write(directory.path(), &bad);
    host.cli(&format!("task apply -f '{file}' --prune"))
        .exits(2)
        .complains(&["tasks.toml: /tasks/bad/schedule_config/cron_expression"]);
    assert_eq!(host.run("task show nightly")["version"], nightly["version"]);
    let unfit = bad.replace("61", "1");
    write(directory.path(), &unfit);
    host.cli(&format!("task apply -f '{file}' --prune"))
        .exits(2)
        .complains(&["/tasks/bad/parameters"]);
    write(directory.path(), &one);
    let told = host
        .cli(&format!("task apply -f '{file}' --dry-run"))
        .exits(0);
    let line = "schedule_config/cron_expression: \"0 3 * * *\" -> \"0 4 * * *\"";
    assert!(told.stdout.contains(line), "{}", told.stdout);
    assert!(told.stdout.contains("? task greet"), "{}", told.stdout);
    let done = host.run(&format!("task apply -f '{file}' --prune"));
    assert_eq!(counts(&done), [&json!(0), &json!(1), &json!(1), &json!(1)]);
    host.cli("task show greet").exits(2);
    assert_eq!(text(&ended, "state"), "succeeded");
    let kept = host.execution(text(&ended, "task_id"));
    assert_eq!(
        (&kept["config_id"], text(&kept, "state")),
        (&Value::Null, "succeeded"),
        "its history stays"
    );

    // A component that is none leaves everything as it is.
    std::fs::write(directory.path().join("plugins/hello.wasm"), "no component").expect("written");
    let before = host.run("plugin show hello")["active_digest"].clone();
    host.cli(&format!("task apply -f '{file}'")).exits(2);
    assert_eq!(host.run("plugin show hello")["active_digest"], before);

    // Standard input has no place and no name.
    let fed = |input: &str| horarium_fed(&host.data_dir(), "task apply -f - --json", input);
    fed("[tasks.a]\ntype = 'hello'")
        .exits(2)
        .complains(&["/set: is missing"]);
    let done = fed("set = 'fed'\n[tasks.a]\ntype = 'hello'")
        .exits(0)
        .json();
    assert_eq!(done["created"], 1);
}

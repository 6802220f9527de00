//! Files of declarations, whole and faulty.

use super::*;

fn read(text: &str, directory: &Path) -> Result<Declared, Failure> {
    let file = directory.join("tasks.toml");
    std::fs::write(&file, text).expect("written");
    Declared::read(&file.display().to_string())
}

#[test]
fn tables_and_lists_say_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("plugins")).expect("made");
    std::fs::write(directory.path().join("plugins/a.wasm"), b"\0asm").expect("written");
    let tables = read(
        r#"
        set = "team/nightly"
        [plugins.scraper]
        file = "plugins/a.wasm"
        grants = ["state"]
        limits = { fuel = 1_000, memory_bytes = "16MiB" }
        [tasks.nightly]
        type = "scraper"
        cron = "0 3 * * *"
        timezone = "Europe/Berlin"
        schedule_config = { catch_up = "all" }
        parameters = { since = 2030-01-01T00:00:00Z, deep = [{ a = 1.5 }] }
        [tasks.once]
        name = "Once"
        type = "scraper"
        at = 2030-01-31T09:00:00+01:00
        "#,
        directory.path(),
    )
    .expect("read");
    let lists = read(
        r#"
        set = "team/nightly"
        [[plugins]]
        task_type = "scraper"
        file = "plugins/a.wasm"
        grants = ["state"]
        limits = { fuel = 1_000, memory_bytes = 16777216 }
        [[tasks]]
        key = "nightly"
        name = "nightly"
        task_type = "scraper"
        scheduler_type = "cron"
        schedule_config = { cron_expression = "0 3 * * *", timezone = "Europe/Berlin", catch_up = "all" }
        parameters = { since = "2030-01-01T00:00:00Z", deep = [{ a = 1.5 }] }
        [[tasks]]
        key = "once"
        name = "Once"
        type = "scraper"
        schedule_config = { run_at = "2030-01-31T09:00:00+01:00" }
        "#,
        directory.path(),
    )
    .expect("read");
    assert_eq!(
        (&tables.plugins, &tables.tasks),
        (&lists.plugins, &lists.tasks)
    );
    assert_eq!(tables.plugins[0]["digest"], digest(b"\0asm"));
    assert_eq!(tables.tasks[1]["scheduler_type"], "date");
    assert!(tables.is_named);
    assert_eq!(
        tables.place_of("/tasks/1/schedule_config/run_at"),
        "/tasks/once/schedule_config/run_at"
    );
    assert_eq!(lists.place_of("/plugins/0/digest"), "/plugins/0/file");
    for task in &tables.tasks {
        let now = super::super::now();
        horarium_model::TaskSpec::from_json(task, now, None).expect("as the server takes it");
    }
}

#[test]
fn a_set_without_a_name_is_called_like_its_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().join("nightly");
    std::fs::create_dir(&directory).expect("made");
    let declared = read("", &directory).expect("read");
    assert_eq!(
        (declared.set.as_str(), declared.is_named),
        ("nightly/tasks", false)
    );
}

#[test]
fn the_example_of_the_documentation_is_read() {
    let page = include_str!("../../../../../docs/apply.md");
    let example = page
        .split("```")
        .find_map(|part| part.strip_prefix("toml\n"));
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("plugins")).expect("made");
    let plugin = directory.path().join("plugins/reddit_scraper.wasm");
    std::fs::write(plugin, b"\0asm").expect("written");
    let declared = read(example.expect("an example"), directory.path()).expect("read");
    assert_eq!((declared.plugins.len(), declared.tasks.len()), (1, 4));
    for task in &declared.tasks {
        let now = super::super::now();
        horarium_model::TaskSpec::from_json(task, now, None).expect("as the server takes it");
    }
}

#[test]
fn the_schema_for_editors_knows_the_same_keys() {
    let schema: Value = serde_json::from_str(include_str!("../../../../../docs/tasks.schema.json"))
        .expect("a schema");
    let keys = |at: &str| -> Vec<String> {
        let properties = schema.pointer(at).and_then(Value::as_object);
        let mut keys: Vec<String> = properties.expect(at).keys().cloned().collect();
        keys.sort_unstable();
        keys
    };
    let sorted = |known: &[&[&str]]| {
        let mut keys: Vec<String> = known.concat().into_iter().map(str::to_owned).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(keys("/properties"), sorted(&[TOP]));
    assert_eq!(keys("/$defs/plugin/properties"), sorted(&[PLUGIN]));
    assert_eq!(
        keys("/$defs/task/properties"),
        sorted(&[TaskSpec::KEYS, SHORT])
    );
}

#[test]
fn every_fault_is_told_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = r#"
        taskz = 1
        [plugins.a]
        file = "none.wasm"
        grant = []
        [tasks.b]
        type = "a"
        task_type = "a"
        corn = "* * * * *"
        cron = "* * * * *"
        at = "2030-01-01T00:00:00Z"
        limits = { memory_bytes = "much" }
        "#;
    let told = read(text, directory.path())
        .expect_err("refused")
        .render(false);
    for part in [
        "/taskz: is not known here; did you mean `tasks`?",
        "/plugins/a/grant: is not known here; did you mean `grants`?",
        "/plugins/a/file: ",
        "/tasks/b/task_type: is said twice",
        "/tasks/b/corn: is not known here; did you mean `cron`?",
        "/tasks/b/at: and `cron` exclude each other",
        "/tasks/b/limits/memory_bytes: `much` is not a whole number",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    let broken = read("[tasks\n", directory.path()).expect_err("refused");
    assert!(
        broken.render(false).contains("tasks.toml, line 1: "),
        "{broken:?}"
    );
    let infinite = read("[tasks.a]\nparameters = { x = inf }", directory.path());
    assert!(infinite.is_err_and(|f| f.render(false).contains("/tasks/a/parameters/x")));
}

//! What the demo runs, and how each of it should go.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::host::Host;
use super::watch::Watch;
use super::world::World;

/// A private address that no settings allow: where clouds keep their machines' credentials.
const FORBIDDEN: &str = "http://169.254.169.254";

/// One task config and what should become of it.
pub(super) struct Scene {
    /// Its name in the terminal.
    pub(super) name: &'static str,
    /// Its id.
    pub(super) id: i64,
    /// When it is triggered by hand; none when its schedule fires it.
    pub(super) trigger_after: Option<Duration>,
    /// Whether that has happened.
    pub(super) triggered: bool,
    /// What should become of it.
    pub(super) expected: Expected,
}

/// How a scene should go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Expected {
    /// Succeeds about this often, never fails, and tells every post once.
    Often(Duration),
    /// Succeeds once, at this attempt.
    OnceAtAttempt(u64),
    /// Fails once, like this, the message saying this.
    Failure(&'static str, &'static str),
}

impl Expected {
    /// In words.
    pub(super) fn words(self) -> String {
        match self {
            Self::Often(every) => format!("succeeds every {} s", every.as_secs()),
            Self::OnceAtAttempt(1) => "succeeds once".to_owned(),
            Self::OnceAtAttempt(attempt) => format!("succeeds at attempt {attempt}"),
            Self::Failure(kind, _) => format!("fails: {kind}"),
        }
    }
}

/// Registers what the tasks run, each with no more than it needs.
pub(super) fn register_plugins(host: &Host, world: &World) -> Result<()> {
    let reachable = format!("http GET {} via 127.0.0.0/8", world.url());
    // Granted, but it is private and the grant says no `via`: the guard refuses it all the same.
    let forbidden = format!("http GET {FORBIDDEN}");
    let plugins: [(&str, &str, &[&str]); 6] = [
        ("reddit_scraper", "reddit_scraper", &[&reachable, "state"]),
        ("http_request", "http_request", &[&reachable, &forbidden]),
        ("hello", "hello", &[]),
        ("spin", "hostile/spin", &[]),
        ("burn", "hostile/burn", &[]),
        ("hog", "hostile/hog", &[]),
    ];
    for (name, file, grants) in plugins {
        let path = crate::root().join(format!("target/plugins/{file}.wasm"));
        let path = path.display().to_string();
        let mut arguments = vec!["plugin", "register", name, &path];
        for grant in grants {
            arguments.extend(["--grant", grant]);
        }
        host.ask(&arguments)?;
        let may = if grants.is_empty() {
            "nothing".to_owned()
        } else {
            grants.join(", ")
        };
        println!("demo: registered {name:14} may: {may}");
    }
    Ok(())
}

/// Writes the task configs.
pub(super) fn create(host: &Host, world: &World) -> Result<Vec<Scene>> {
    let url = world.url();
    let scrape = json!({"subreddit": "python", "limit": 100, "base_url": url}).to_string();
    let flaky = json!({"url": format!("{url}/flaky"), "extract": "/status"}).to_string();
    let private = json!({"url": format!("{FORBIDDEN}/latest/meta-data/")}).to_string();
    let seconds = Duration::from_secs;
    let by_hand = |after: u64| Some(seconds(after));
    let mut scenes = Vec::new();
    let mut add = |name, trigger_after, expected, arguments: &[&str]| -> Result<()> {
        let created = host.ask(&[&["task", "create", "--name", name], arguments].concat())?;
        scenes.push(Scene {
            name,
            id: created["id"]
                .as_i64()
                .context("the created task has no id")?,
            trigger_after,
            triggered: false,
            expected,
        });
        Ok(())
    };
    add(
        "scraper",
        None,
        Expected::Often(seconds(2)),
        &[
            "--type",
            "reddit_scraper",
            "--params",
            &scrape,
            "--cron",
            "*/2 * * * * *",
        ],
    )?;
    add(
        "urgent",
        by_hand(1),
        Expected::OnceAtAttempt(1),
        &[
            "--type",
            "hello",
            "--priority",
            "100",
            "--params",
            r#"{"name": "the operator"}"#,
        ],
    )?;
    add(
        "flaky page",
        by_hand(1),
        Expected::OnceAtAttempt(3),
        &[
            "--type",
            "http_request",
            "--params",
            &flaky,
            "--retry",
            r#"{"initial_seconds": 1}"#,
        ],
    )?;
    add(
        "private address",
        by_hand(2),
        Expected::Failure("permanent", "grant"),
        &["--type", "http_request", "--params", &private],
    )?;
    add(
        "endless loop",
        by_hand(3),
        Expected::Failure("timeout", ""),
        &["--type", "spin", "--timeout", "1", "--max-retries", "0"],
    )?;
    add(
        "too much fuel",
        by_hand(4),
        Expected::Failure("out_of_fuel", ""),
        &["--type", "burn", "--limit", "fuel=1000000000"],
    )?;
    add(
        "too much memory",
        by_hand(5),
        Expected::Failure("memory_limit", ""),
        &["--type", "hog", "--limit", "memory_bytes=32MiB"],
    )?;
    add(
        "on a date",
        None,
        Expected::OnceAtAttempt(1),
        &[
            "--type",
            "hello",
            "--at",
            "+8s",
            "--params",
            r#"{"name": "the future"}"#,
        ],
    )?;
    Ok(scenes)
}

/// Triggers the tasks whose moment has come.
pub(super) fn trigger_due(host: &Host, watch: &mut Watch) -> Result<()> {
    let elapsed = watch.elapsed();
    for scene in watch.scenes_mut() {
        if !scene.triggered && scene.trigger_after.is_some_and(|after| after <= elapsed) {
            host.ask(&["task", "trigger", &scene.id.to_string()])?;
            scene.triggered = true;
        }
    }
    Ok(())
}

/// One line on what an execution came to.
pub(super) fn told(host: &Host, execution: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if execution["state"] != "succeeded" {
        let (kind, message) = (
            text(&execution["error_kind"]),
            text(&execution["error_message"]),
        );
        return match message.starts_with(&kind) {
            true => message,
            false => format!("{kind}: {message}"),
        };
    }
    // Lists leave results out.
    let shown = host.ask(&["execution", "show", &text(&execution["task_id"])]);
    let Ok(result) = shown.map(|shown| shown["result"].clone()) else {
        return String::new();
    };
    match (&result["new"], &result["greeting"], &result["extracted"]) {
        (Value::Number(new), _, _) => {
            format!("{new} new posts, newest {}", text(&result["newest_id"]))
        }
        (_, Value::String(greeting), _) => greeting.clone(),
        (_, _, Value::String(extracted)) => format!("answered \"{extracted}\""),
        _ => String::new(),
    }
}

//! `plugin`: registered plugins and their versions.

use super::failure::{Failure, Outcome};
use super::render::{Cell, Facts, Paint, Style, Table, instant_of, text_of};
use super::{PageArguments, Remote, now, words};
use super::{
    plugin_config as config, plugin_diff as diff, plugin_grant as grant, plugin_limit as limit,
    plugin_register as register,
};
use crate::client::segment;
use clap::{Args, Subcommand};
use diff::Arguments as DiffArguments;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Register a component as a plugin, or a new version of one
    Register(register::Arguments),
    /// List registered plugins
    List(PageArguments),
    /// Show a plugin, its active version and the others
    Show(ShowArguments),
    /// Make a version the one that runs
    Activate(ActivateArguments),
    /// Make the version active that was active before
    Rollback(RollbackArguments),
    /// Show how two versions differ, and what speaks against the second
    Diff(DiffArguments),
    /// Remove a plugin with its versions and settings; its history stays
    Remove(RemoveArguments),
    /// Hold a plugin: nothing of it starts, its slots are skipped
    Disable(DisableArguments),
    /// Bound how many executions of a plugin run at once and wait
    Limit(limit::Arguments),
    /// Show the circuit breaker of a plugin that keeps failing, or close it
    Breaker(limit::BreakerArguments),
    /// Show or change what the active version may do
    Grant(grant::Arguments),
    /// Settings that every run of a plugin reads
    #[command(subcommand)]
    Config(config::Verb),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The registered name
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// This version alone: its digest, or the start of it
    #[arg(long, value_name = "DIGEST")]
    version: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ActivateArguments {
    /// The registered name
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// The version's digest, or the start of it
    #[arg(value_name = "DIGEST")]
    digest: String,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    /// The registered name
    #[arg(value_name = "TYPE")]
    task_type: String,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// The registered name
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// Cancel what waits of it
    #[arg(long)]
    cancel_waiting: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DisableArguments {
    /// The registered name
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// Free it again
    #[arg(long)]
    undo: bool,
}

/// `/v1/task-types/TYPE` and what follows.
pub(crate) fn path(task_type: &str, rest: &str) -> String {
    format!("/v1/task-types/{}{rest}", segment(task_type))
}

pub(crate) fn run(remote: &Remote, verb: Verb) -> Outcome {
    match verb {
        Verb::Register(arguments) => register::run(remote, &arguments),
        Verb::List(page) => {
            let answer = remote.client.get("/v1/task-types", &page.query())?;
            let empty = "No plugin is registered yet: `horarium plugin register NAME FILE.wasm`.";
            remote.show_list(&answer, empty, types)
        }
        Verb::Show(arguments) => show(remote, &arguments),
        Verb::Activate(arguments) => {
            let name = &arguments.task_type;
            let digest = whole_digest(remote, name, &arguments.digest)?;
            let body = json!({"digest": digest});
            let answer = remote.client.post(&path(name, "/activate"), &body)?;
            remote.show(&answer, |_| {
                format!("{name} now runs {digest}.\nSee it: horarium plugin show {name}\n")
            })
        }
        Verb::Rollback(arguments) => {
            let name = &arguments.task_type;
            let answer = remote.client.post(&path(name, "/rollback"), &json!({}))?;
            remote.show(&answer, |active| {
                let digest = text_of(active, "active_digest");
                format!("{name} now runs {digest} again.\nSee what it goes without: horarium plugin diff {name}\n")
            })
        }
        Verb::Diff(arguments) => diff::run(remote, &arguments),
        Verb::Remove(arguments) => {
            let name = &arguments.task_type;
            let query = vec![("cancel_waiting", arguments.cancel_waiting.to_string())];
            let answer = remote.client.delete(&path(name, ""), &query)?;
            remote.show(&answer, |removed| {
                let cancelled = match removed["cancelled"].as_u64() {
                    Some(count) if count > 0 => format!(", {count} waiting executions cancelled"),
                    _ => String::new(),
                };
                format!("Removed {name}{cancelled}; its history stays: horarium execution list --type {name}\n")
            })
        }
        Verb::Limit(arguments) => limit::run(remote, &arguments),
        Verb::Breaker(arguments) => limit::breaker(remote, &arguments),
        Verb::Grant(arguments) => grant::run(remote, &arguments),
        Verb::Config(verb) => config::run(remote, &verb),
        Verb::Disable(arguments) => {
            let name = &arguments.task_type;
            let body = json!({"disabled": !arguments.undo});
            let answer = remote.client.post(&path(name, "/disable"), &body)?;
            remote.show(&answer, |_| match arguments.undo {
                false => format!(
                    "{name} is held: nothing of it starts. `horarium plugin disable {name} --undo` frees it.\n"
                ),
                true => format!(
                    "{name} is free again.\nSee what runs: horarium execution list --type {name}\n"
                ),
            })
        }
    }
}

fn types(items: &[Value]) -> Table {
    let mut table = Table::new(&[
        "TYPE",
        "STATE",
        "SHARED",
        "ACTIVE VERSION",
        "CHANGED",
        "AT ONCE+>",
        "BACKLOG+>",
        "DIGEST+",
    ]);
    for item in items {
        let (state, paint) = if item["disabled"] == true {
            ("disabled", Paint::Warning)
        } else if item["breaker"].is_object() {
            ("held by its breaker", Paint::Bad)
        } else if item["active_digest"].is_string() {
            ("active", Paint::Good)
        } else {
            ("nothing active", Paint::Dim)
        };
        let changed = instant_of(item, "updated_at").map(|at| words::from_now(at, now()));
        table.row(vec![
            text_of(item, "task_type").into(),
            Cell::painted(paint, state),
            if is_shared(item) { "yes" } else { "" }.into(),
            short(&text_of(item, "active_digest")).into(),
            changed.unwrap_or_default().into(),
            text_of(&item["concurrency"], "max").into(),
            text_of(&item["concurrency"], "backlog").into(),
            text_of(item, "active_digest").into(),
        ]);
    }
    table
}

/// Whether the host shares a type with every tenant.
pub(crate) fn is_shared(task_type: &Value) -> bool {
    task_type.get("tenant_id").is_some_and(Value::is_null)
}

/// The start of a digest that tells versions apart.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take("blake3:".len() + 12).collect()
}

fn show(remote: &Remote, arguments: &ShowArguments) -> Outcome {
    let name = &arguments.task_type;
    if let Some(version) = &arguments.version {
        let digest = whole_digest(remote, name, version)?;
        let rest = format!("/versions/{}", segment(&digest));
        let answer = remote.client.get(&path(name, &rest), &Vec::new())?;
        return remote.show(&answer, |version| {
            describe(version).render(Style::of_stdout())
        });
    }
    let answer = remote.client.get(&path(name, ""), &Vec::new())?;
    if remote.json {
        return remote.show(&answer, |_| String::new());
    }
    let task_type = answer.json()?;
    let versions = versions(remote, name)?;
    let style = Style::of_stdout();
    let active = task_type["active_digest"].as_str().unwrap_or_default();
    let mut text = format!(
        "{}{}{}\n\n",
        style.paint(Paint::Bold, name),
        if is_shared(&task_type) {
            ", shared by the host with every tenant"
        } else {
            ""
        },
        if task_type["disabled"] == true {
            style.paint(Paint::Warning, " (disabled)")
        } else {
            String::new()
        }
    );
    text.push_str(&limit::describe(&task_type).render(style));
    match versions.iter().find(|version| version["digest"] == active) {
        Some(version) => text.push_str(&describe(version).render(style)),
        None => text.push_str("No version is active: `horarium plugin activate TYPE DIGEST`.\n"),
    }
    text.push('\n');
    text.push_str(&version_table(&versions, active).render(style));
    super::print(&text)?;
    Ok(super::Exit::Done)
}

fn version_table(versions: &[Value], active: &str) -> Table {
    let mut table = Table::new(&["VERSION", "LABEL", "STATE", "SIZE>", "REGISTERED", "ERROR"]);
    for version in versions {
        let state = text_of(version, "state");
        let state = if version["digest"] == active {
            Cell::painted(Paint::Good, "active")
        } else {
            Cell::state(&state)
        };
        let registered = instant_of(version, "created_at").map(|at| words::from_now(at, now()));
        table.row(vec![
            short(&text_of(version, "digest")).into(),
            text_of(&version["descriptor"], "version").into(),
            state,
            version["size_bytes"]
                .as_u64()
                .map(words::bytes)
                .unwrap_or_default()
                .into(),
            registered.unwrap_or_default().into(),
            text_of(version, "error").into(),
        ]);
    }
    table
}

/// One version.
pub(crate) fn describe(version: &Value) -> Facts {
    let descriptor = &version["descriptor"];
    let texts = |value: &Value| -> String {
        let items = value.as_array().into_iter().flatten();
        let items: Vec<String> = items
            .map(|item| match item {
                Value::String(text) => horarium_model::text::sanitize(text, false),
                other => other.to_string(),
            })
            .collect();
        items.join("\n")
    };
    let mut facts = Facts::default();
    facts
        .add("summary", text_of(descriptor, "summary"))
        .add("label", text_of(descriptor, "version"))
        .add("digest", text_of(version, "digest"))
        .add("state", text_of(version, "state"))
        .add("error", text_of(version, "error"))
        .add(
            "granted",
            grant::lines(&version["grants"], Style::of_stdout()),
        )
        .add("asks for", texts(&descriptor["capabilities"]))
        .add("limits", super::task_show::limits(&version["limits"]))
        .add("arguments", taken_from(&version["args_from"]))
        .add("environment", taken_from(&version["env_from"]))
        .add("reads", taken_from(&version["stdin_from"]))
        .add("parameters", parameters(&descriptor["parameters_schema"]))
        .add("remarks", texts(&version["warnings"]));
    facts
}

/// Where something of a program comes from; nothing where that was not chosen.
fn taken_from(pointer: &Value) -> String {
    match pointer.as_str() {
        None => String::new(),
        Some("") => "all parameters".to_owned(),
        Some(pointer) => format!(
            "{} of the parameters",
            horarium_model::text::one_line(pointer, 200)
        ),
    }
}

/// The parameters a schema names, a line each.
pub(crate) fn parameters(schema: &Value) -> String {
    let required = schema["required"].as_array();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let lines: Vec<String> = properties
        .map(|(name, property)| {
            let needed = required.is_some_and(|names| names.iter().any(|n| n == name));
            let kind = match &property["type"] {
                Value::String(kind) => kind.clone(),
                Value::Array(kinds) => {
                    let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
                    kinds.join("|")
                }
                _ => "any".to_owned(),
            };
            let default = match property.get("default") {
                _ if needed => ", required".to_owned(),
                Some(default) => format!(", default {default}"),
                None => String::new(),
            };
            let about = property["description"].as_str().unwrap_or_default();
            let line = format!("{name} ({kind}{default}) {about}");
            horarium_model::text::one_line(&line, 120)
        })
        .collect();
    lines.join("\n")
}

fn versions(remote: &Remote, name: &str) -> Result<Vec<Value>, Failure> {
    let answer = remote.client.get(&path(name, "/versions"), &Vec::new())?;
    let mut body = answer.json()?;
    Ok(match body["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

/// The one version whose digest starts like this, with or without `blake3:`.
pub(super) fn whole_digest(remote: &Remote, name: &str, start: &str) -> Result<String, Failure> {
    if horarium_model::task_type::is_digest(start) {
        return Ok(start.to_owned());
    }
    let versions = versions(remote, name)?;
    let digests: Vec<String> = versions.iter().map(|v| text_of(v, "digest")).collect();
    one_that_starts(&digests, start).map_err(Failure::refused)
}

fn one_that_starts(digests: &[String], start: &str) -> Result<String, String> {
    let hex = start.strip_prefix("blake3:").unwrap_or(start);
    let fits = |digest: &&String| {
        digest
            .strip_prefix("blake3:")
            .is_some_and(|d| !hex.is_empty() && d.starts_with(hex))
    };
    let found: Vec<&String> = digests.iter().filter(fits).collect();
    let shown = horarium_model::text::one_line(start, 80);
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(format!(
            "no version's digest starts with `{shown}`; `horarium plugin show` lists them"
        )),
        _ => Err(format!(
            "{} versions' digests start with `{shown}`; write more of it",
            found.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_digest_is_enough_if_it_is_the_only_one() {
        let digests = ["blake3:abc1".to_owned(), "blake3:abd2".to_owned()];
        assert_eq!(one_that_starts(&digests, "abc"), Ok("blake3:abc1".into()));
        assert_eq!(
            one_that_starts(&digests, "blake3:abd"),
            Ok("blake3:abd2".into())
        );
        assert!(one_that_starts(&digests, "ab").is_err_and(|e| e.contains("write more")));
        assert!(one_that_starts(&digests, "").is_err() && one_that_starts(&digests, "f").is_err());
    }

    #[test]
    fn a_version_shows_what_it_may_and_what_it_takes() {
        let version = json!({"digest": "blake3:ab", "state": "ready", "grants": [], "descriptor": {
        "capabilities": ["state"],
        "parameters_schema": {"required": ["subreddit"], "properties": {
            "subreddit": {"type": "string", "description": "Its name"},
            "limit": {"type": "integer", "default": 100},
        }}}});
        let text = describe(&version).render(Style::of_stdout());
        for part in [
            "nothing",
            "state",
            "subreddit (string, required) Its name",
            "limit (integer, default 100)",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
    }
}

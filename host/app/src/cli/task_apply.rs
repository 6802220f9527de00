//! `task apply`: plugins and tasks as a file declares them.

use super::apply_file::Declared;
use super::failure::{Failure, Outcome};
use super::plugin_register::{read_component, upload};
use super::render::{Paint, Style, text_of};
use super::{Remote, print};
use crate::client::Answer;
use clap::Args;
use horarium_model::task_type::digest;
use horarium_model::text::{one_line, sanitize};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// Longest value that is shown of a field: a digest is shown whole.
const MAX_VALUE: usize = 76;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What shall be, in TOML (docs/apply.md); - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: String,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete tasks that an earlier apply of this set declared and the file no longer does
    #[arg(long)]
    prune: bool,
    /// Do not ask on a terminal
    #[arg(long, short)]
    yes: bool,
    /// Take tasks that another set declares
    #[arg(long)]
    take_over: bool,
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Outcome {
    let declared = Declared::read(&arguments.file)?;
    let body = json!({
        "set": declared.set,
        "plugins": declared.plugins,
        "tasks": declared.tasks,
        "prune": arguments.prune,
        "take_over": arguments.take_over,
    });
    let place = |failure: Failure| {
        let file = &arguments.file;
        failure.relocate(|pointer| format!("{file}: {}", declared.place_of(pointer)))
    };
    let answer = apply(remote, &body, None).map_err(place)?;
    let plan = answer.json()?;
    let nothing = !changes_anything(&plan);
    let answer = match nothing && !arguments.dry_run {
        // Told as what it is: done, with nothing to do.
        true => apply(remote, &body, Some(&plan["plan"])).map_err(place)?,
        false => answer,
    };
    if arguments.dry_run || nothing {
        return remote.show(&answer, |plan| {
            let end = match nothing {
                true => nothing_to_do(plan, &declared),
                false => {
                    "This was a dry run: nothing was changed. Do it: the same without --dry-run (horarium task apply …)\n"
                        .to_owned()
                }
            };
            format!("{}{end}", describe(plan, &declared))
        });
    }
    if !remote.json {
        print(&describe(&plan, &declared))?;
        if !arguments.yes && !agreed()? {
            return Err(Failure::refused("nothing was changed"));
        }
    }
    for (index, plugin) in declared.plugins.iter().enumerate() {
        if plan["items"][index]["registered"] == false {
            register(remote, plugin, &declared.files[index]).map_err(place)?;
        }
    }
    let answer = apply(remote, &body, Some(&plan["plan"]))
        .map_err(|failure| with_what_became_of_it(place(failure)))?;
    remote.show(&answer, |done| {
        format!("Applied: {}.\n{}", counts(done, true), next_step(&declared))
    })
}

/// A refusal changes nothing; of a deed that got no answer, nobody here knows how far it went.
pub(crate) fn with_what_became_of_it(failure: Failure) -> Failure {
    match failure.status() {
        Some(412) => failure.hint("run it again to see the new plan"),
        Some(400..=499) => {
            failure.hint("nothing was changed; versions that were uploaded are kept, inactive")
        }
        _ => failure.hint(
            "all of it was applied, or nothing; run it again: what is there already is not made twice",
        ),
    }
}

/// The plan (without one to go by), or the deed.
fn apply(remote: &Remote, body: &Value, plan: Option<&Value>) -> Result<Answer, Failure> {
    let mut body = body.clone();
    body["dry_run"] = plan.is_none().into();
    body["plan"] = plan.cloned().unwrap_or_default();
    remote.client.post("/v1/apply", &body)
}

/// Keeps a version beside the one that runs.
fn register(remote: &Remote, plugin: &Value, file: &std::path::Path) -> Result<(), Failure> {
    let name = text_of(plugin, "task_type");
    let component = read_component(file)?;
    if plugin["digest"] != digest(&component) {
        return Err(Failure::refused(format!(
            "{} changed while it was applied; run it again",
            file.display()
        )));
    }
    let mut options = plugin.clone();
    if let Some(options) = options.as_object_mut() {
        options.retain(|key, _| key != "task_type" && key != "digest");
        options.insert("activate".into(), false.into());
        // Without, a version has the grants of the active one.
        options.entry("grants").or_insert_with(|| json!([]));
    }
    let (_, version) = upload(remote, &name, "/versions", &component, &options)?;
    if version["state"] == "ready" {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "plugin {name} ({}): {}; nothing was changed",
        file.display(),
        text_of(&version, "error")
    )))
}

/// Asks on a terminal; elsewhere nobody is there to answer, and who wrote the script has decided.
fn agreed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(true);
    }
    let asked = |error: std::io::Error| Failure::failed(format!("the terminal: {error}"));
    let mut stderr = std::io::stderr();
    write!(stderr, "Apply this? [y/N] ")
        .and_then(|()| stderr.flush())
        .map_err(asked)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(asked)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn changes_anything(plan: &Value) -> bool {
    ["created", "updated", "deleted"]
        .iter()
        .any(|key| plan[*key].as_u64() != Some(0))
}

fn nothing_to_do(plan: &Value, declared: &Declared) -> String {
    let what = match plan["unchanged"].as_u64() {
        Some(0) | None => "the file declares nothing".to_owned(),
        Some(1) => "the one declared is as it should be".to_owned(),
        Some(count) => format!("all {count} are as declared"),
    };
    format!("Nothing to do: {what}.\n{}", next_step(declared))
}

fn counts(plan: &Value, done: bool) -> String {
    let words = match done {
        true => ["created", "updated", "deleted"],
        false => ["to create", "to update", "to delete"],
    };
    let mut parts: Vec<String> = ["created", "updated", "deleted"]
        .iter()
        .zip(words)
        .filter(|(key, _)| plan[**key].as_u64().unwrap_or(0) > 0)
        .map(|(key, word)| format!("{} {word}", plan[*key]))
        .collect();
    parts.push(format!("{} unchanged", plan["unchanged"]));
    if let Some(cancelled) = plan["cancelled"].as_u64().filter(|count| *count > 0) {
        parts.push(format!("{cancelled} waiting executions cancelled"));
    }
    parts.join(", ")
}

fn next_step(declared: &Declared) -> String {
    format!("See them: horarium task list --set '{}'\n", declared.set)
}

/// The plan as people read it.
fn describe(plan: &Value, declared: &Declared) -> String {
    let style = Style::of_stdout();
    let mut text = format!(
        "Set {}",
        style.paint(Paint::Bold, &sanitize(&declared.set, false))
    );
    if !declared.is_named {
        text.push_str(" (after the file; set = \"…\" in it gives another name)");
    }
    text.push('\n');
    let none = Vec::new();
    let items = plan["items"].as_array().unwrap_or(&none);
    for item in items {
        if item["action"] != "unchanged" || item["note"].is_string() {
            text.push_str(&describe_item(item, style));
        }
    }
    if changes_anything(plan) {
        text.push_str(&format!("Plan: {}.\n", counts(plan, false)));
    }
    text
}

fn describe_item(item: &Value, style: Style) -> String {
    let (sign, paint) = match item["action"].as_str() {
        Some("create") => ("+", Paint::Good),
        Some("update") => ("~", Paint::Warning),
        Some("delete") => ("-", Paint::Bad),
        Some("undeclared") => ("?", Paint::Dim),
        _ => ("=", Paint::Dim),
    };
    let kind = text_of(item, "kind");
    let mut name = match kind.as_str() {
        "plugin" => text_of(item, "task_type"),
        _ => text_of(item, "key"),
    };
    if let Some(id) = item["id"].as_i64() {
        name = match name.is_empty() {
            true => id.to_string(),
            false => format!("{name} ({id})"),
        };
    }
    let mut line = style.paint(paint, &format!("  {sign} {kind} {name}"));
    let note = text_of(item, "note");
    if !note.is_empty() {
        line.push_str(&style.paint(Paint::Dim, &format!("  {note}")));
    }
    line.push('\n');
    line.push_str(&changes(&item["changes"], item["action"] == "create"));
    line
}

/// Fields that change, a line each; of what is new only what it becomes.
pub(crate) fn changes(changes: &Value, is_new: bool) -> String {
    let changes = changes.as_array().into_iter().flatten();
    let lines = changes.map(|change| {
        let field = text_of(change, "pointer");
        let field = field.trim_start_matches('/');
        let (old, new) = (value(&change["old"]), value(&change["new"]));
        match is_new {
            true => format!("      {field}: {new}\n"),
            false => format!("      {field}: {old} -> {new}\n"),
        }
    });
    lines.collect()
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        other => one_line(&sanitize(&other.to_string(), false), MAX_VALUE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_told_to_have_changed_nothing() {
        let told = |failure: Failure| with_what_became_of_it(failure).render(false);
        let refused = |status| {
            Failure::from_answer(status, r#"{"title": "t", "detail": "d", "status": 422}"#)
        };
        assert!(told(refused(422)).contains("nothing was changed"));
        let gone = told(Failure::unreachable("Peer disconnected"));
        assert!(
            gone.contains("run it again") && !gone.contains("nothing was changed"),
            "{gone}"
        );
    }
}

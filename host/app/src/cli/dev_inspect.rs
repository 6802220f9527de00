//! `dev inspect`: what a component is, needs and asks for.

use super::dev::{Taken, take_in};
use super::failure::{Exit, Outcome};
use super::render::{Facts, Style, pretty};
use super::{Global, plugin, print, words};
use clap::Args;
use horarium_core::runner::Inspection;
use horarium_model::descriptor::Descriptor;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let Taken {
        inspection,
        descriptor,
        ..
    } = take_in(&arguments.file, Vec::new())?;
    let body = document(&inspection, &descriptor);
    if global.json {
        print(&format!("{body}\n"))?;
    } else {
        print(&render(&body))?;
    }
    Ok(Exit::Done)
}

fn document(inspection: &Inspection, descriptor: &Descriptor) -> Value {
    json!({
        "digest": inspection.digest,
        "size_bytes": inspection.size_bytes,
        "kind": inspection.kind,
        "world": world(inspection),
        "imports": inspection.imports,
        "exports": inspection.exports,
        "descriptor": descriptor,
        "asked_grants": descriptor.capabilities,
        "warnings": inspection.warnings,
    })
}

/// The world its exports make it one of.
fn world(inspection: &Inspection) -> &'static str {
    let exports = |name: &str| {
        inspection
            .exports
            .iter()
            .any(|export| export.starts_with(name))
    };
    if inspection.kind == "command" {
        "wasi:cli/command"
    } else if exports("horarium:task/describe") {
        "horarium:task/task"
    } else {
        "horarium:task/minimal-task"
    }
}

fn render(body: &Value) -> String {
    let texts = |key: &str| -> String {
        let items = body[key].as_array().into_iter().flatten();
        let items: Vec<&str> = items.filter_map(Value::as_str).collect();
        horarium_model::text::sanitize(&items.join("\n"), true)
    };
    let descriptor = &body["descriptor"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut facts = Facts::default();
    facts
        .add("digest", text(&body["digest"]))
        .add(
            "size",
            body["size_bytes"]
                .as_u64()
                .map(words::bytes)
                .unwrap_or_default(),
        )
        .add("world", text(&body["world"]))
        .add("exports", texts("exports"))
        .add("imports", texts("imports"))
        .add("summary", text(&descriptor["summary"]))
        .add("label", text(&descriptor["version"]))
        .add(
            "parameters",
            plugin::parameters(&descriptor["parameters_schema"]),
        )
        .add("limits", super::task_show::limits(&descriptor["limits"]))
        .add("asks for", texts("asked_grants"))
        .add("remarks", texts("warnings"));
    if let Some(example) = descriptor["examples"].get(0) {
        facts.add("example", pretty(example));
    }
    facts.render(Style::of_stdout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_follows_from_kind_and_exports() {
        let mut inspection = Inspection {
            digest: "blake3:ab".into(),
            size_bytes: 10,
            kind: "task".into(),
            imports: vec!["wasi:cli/stdout@0.2.6".into()],
            exports: vec!["horarium:task/run@1.0.0".into()],
            warnings: Vec::new(),
        };
        assert_eq!(world(&inspection), "horarium:task/minimal-task");
        inspection
            .exports
            .push("horarium:task/describe@1.0.0".into());
        assert_eq!(world(&inspection), "horarium:task/task");
        inspection.kind = "command".into();
        let body = document(&inspection, &Descriptor::default());
        assert_eq!(body["world"], "wasi:cli/command");
        assert!(render(&body).contains("wasi:cli/stdout@0.2.6"));
    }
}

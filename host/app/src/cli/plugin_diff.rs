//! `plugin diff`: how two versions of a plugin differ.

use super::Remote;
use super::failure::Outcome;
use super::plugin::{path, short, whole_digest};
use super::render::{Paint, Style, text_of};
use super::task_apply::changes;
use clap::Args;
use serde_json::Value;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The registered name
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// A version's digest, or the start of it: what the active one is compared with [default: the newest that is
    /// ready; where that is active, it is compared with what was active before]
    #[arg(value_name = "DIGEST")]
    digest: Option<String>,
    /// Another version's: the first is compared with this one
    #[arg(value_name = "OTHER")]
    other: Option<String>,
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Outcome {
    let name = &arguments.task_type;
    let whole = |start: &String| whole_digest(remote, name, start);
    let first = arguments.digest.as_ref().map(whole).transpose()?;
    let other = arguments.other.as_ref().map(whole).transpose()?;
    let (from, to) = match other {
        Some(other) => (first, Some(other)),
        None => (None, first),
    };
    let mut query = Vec::new();
    query.extend(from.map(|digest| ("from_digest", digest)));
    query.extend(to.map(|digest| ("to_digest", digest)));
    let answer = remote.client.get(&path(name, "/diff"), &query)?;
    remote.show(&answer, |diff| describe(diff, Style::of_stdout()))
}

fn describe(diff: &Value, style: Style) -> String {
    let name = text_of(diff, "task_type");
    let digest = |key: &str| short(&text_of(diff, key));
    let (from, to) = (digest("from_digest"), digest("to_digest"));
    let title = format!("{name} {from} -> {to}");
    let mut text = format!("{}\n", style.paint(Paint::Bold, &title));
    match changes(&diff["changes"], false) {
        lines if lines.is_empty() => text.push_str("      nothing differs but the code\n"),
        lines => text.push_str(&lines),
    }
    if diff["obstacle"].is_string() {
        let obstacle = text_of(diff, "obstacle");
        let line = format!("Against {to}: {obstacle}.\n");
        text.push_str(&style.paint(Paint::Warning, &line));
    }
    text.push_str(&format!(
        "Make it the one that runs: horarium plugin activate {name} {to}\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_is_told_field_by_field() {
        let mut diff = json!({"task_type": "hello", "from_digest": "blake3:aa", "to_digest": "blake3:bb", "obstacle": null,
            "changes": [{"pointer": "/descriptor/version", "old": "1", "new": "2"}]});
        let text = describe(&diff, Style::of_stdout());
        assert!(
            text.contains(
                "hello blake3:aa -> blake3:bb\n      descriptor/version: \"1\" -> \"2\"\n"
            ),
            "{text}"
        );
        diff["changes"] = json!([]);
        diff["obstacle"] = "it would break task 1".into();
        let text = describe(&diff, Style::of_stdout());
        for part in ["but the code", "Against blake3:bb: it would break task 1."] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
    }
}

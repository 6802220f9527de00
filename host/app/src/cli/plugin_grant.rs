//! `plugin grant`: what a plugin may do.

use super::Remote;
use super::failure::{Failure, Outcome};
use super::plugin::path;
use super::render::{Paint, Style};
use clap::Args;
use horarium_model::grant::Grant;
use horarium_model::{Invalid, Problem};
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The registered name
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// Allow it something more, such as 'http GET https://example.com/api'
    #[arg(long, value_name = "GRANT")]
    add: Vec<String>,
    /// Take something away that it was granted
    #[arg(long, value_name = "GRANT")]
    remove: Vec<String>,
}

impl Arguments {
    /// Whether nothing is to be changed.
    pub(crate) fn only_shows(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Outcome {
    let name = &arguments.task_type;
    let path = path(name, "/grants");
    let answer = if arguments.only_shows() {
        remote.client.get(&path, &Vec::new())?
    } else {
        let mut problems = wrong(&arguments.add, "/add");
        problems.extend(wrong(&arguments.remove, "/remove"));
        if !problems.is_empty() {
            return Err(Failure::invalid(&Invalid(problems)));
        }
        let body = json!({"add": arguments.add, "remove": arguments.remove});
        remote
            .client
            .patch(&path, "application/json", None, &body)?
    };
    remote.show(&answer, |body| {
        let lines = lines(&body["grants"], Style::of_stdout());
        match arguments.only_shows() {
            true => format!("{lines}\n"),
            false => format!(
                "{name} may now, from the next run on:\n{lines}\nSee the version: horarium plugin show {name}\n"
            ),
        }
    })
}

/// What is no grant, with its place below `pointer`.
pub(crate) fn wrong(texts: &[String], pointer: &str) -> Vec<Problem> {
    let parsed = texts.iter().map(|text| text.parse::<Grant>());
    parsed
        .enumerate()
        .filter_map(|(index, grant)| {
            let detail = grant.err()?;
            Some(Problem::at(format!("{pointer}/{index}"), detail))
        })
        .collect()
}

/// Grants a line each; what gives a secret away in red.
pub(crate) fn lines(grants: &Value, style: Style) -> String {
    let grants = grants.as_array().into_iter().flatten();
    let lines: Vec<String> = grants
        .filter_map(Value::as_str)
        .map(|text| {
            let text = horarium_model::text::sanitize(text, false);
            match text.parse() {
                Ok(Grant::SecretReveal { .. }) => style.paint(
                    Paint::Bad,
                    &format!("{text} (the plugin sees the value itself)"),
                ),
                _ => text,
            }
        })
        .collect();
    match lines.is_empty() {
        true => "nothing".to_owned(),
        false => lines.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_a_secret_away_is_shown_in_red() {
        let grants = json!(["state", "secret k reveal"]);
        let shown = lines(&grants, Style::coloured());
        assert!(
            shown.starts_with("state\n\u{1b}[31msecret k reveal"),
            "{shown:?}"
        );
        assert_eq!(lines(&json!([]), Style::coloured()), "nothing");
    }
}

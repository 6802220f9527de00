//! `plugin register`: upload, then wait until the version is ready or has failed.

use super::failure::{Exit, Failure, Outcome};
use super::plugin::{describe, is_shared, path};
use super::render::{Paint, Style, text_of};
use super::task_trigger::bar;
use super::{Remote, print, values};
use crate::client::{Answer, segment};
use clap::Args;
use horarium_model::input::Fields;
use horarium_model::limits::MAX_COMPONENT_BYTES;
use horarium_model::program::ProgramInput;
use horarium_model::{Invalid, Problem};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The name tasks will use: a-z first, then a-z, 0-9, _ . -
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Allow it something, such as 'http GET https://example.com/api' or 'state' [default: what the active version may]
    #[arg(long, value_name = "GRANT")]
    grant: Vec<String>,
    /// Allow it everything its description asks for
    #[arg(long)]
    grant_asked: bool,
    /// A description that wins over the plugin's own, field by field
    #[arg(long, value_name = "FILE")]
    descriptor: Option<PathBuf>,
    /// A limit of each run, such as fuel=1000000000 or memory_bytes=16MiB
    #[arg(long, value_name = "NAME=N", value_parser = values::limit)]
    limit: Vec<(String, u64)>,
    #[command(flatten)]
    input: ProgramInputArguments,
    /// Keep it beside the version that runs
    #[arg(long)]
    no_activate: bool,
    /// Share it with every tenant, as a host-admin
    #[arg(long)]
    shared: bool,
}

/// What of the parameters a WASI program is started with.
#[derive(Debug, Args)]
pub(crate) struct ProgramInputArguments {
    /// Of a WASI program: where in the parameters its arguments are, a list of strings, such as /args
    #[arg(long, value_name = "POINTER")]
    args_from: Option<String>,
    /// Of a WASI program: where its environment is, an object of strings, such as /env
    #[arg(long, value_name = "POINTER")]
    env_from: Option<String>,
    /// Of a WASI program: what it reads, such as /text [default: all parameters, as JSON]
    #[arg(long, value_name = "POINTER")]
    stdin_from: Option<String>,
}

impl ProgramInputArguments {
    /// The keys of REST for what was said.
    pub(crate) fn document(&self) -> Map<String, Value> {
        let said = [
            ("args_from", &self.args_from),
            ("env_from", &self.env_from),
            ("stdin_from", &self.stdin_from),
        ];
        let said = said.into_iter();
        said.filter_map(|(key, pointer)| Some((key.to_owned(), pointer.clone()?.into())))
            .collect()
    }

    /// Read as the server reads them.
    pub(crate) fn read(&self) -> Result<ProgramInput, Failure> {
        let read = Fields::read(&self.document().into(), "", ProgramInput::read)?;
        Ok(read.unwrap_or_default())
    }
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Outcome {
    let options = options(arguments)?;
    let component = read_component(&arguments.file)?;
    let name = &arguments.task_type;
    let rest = match arguments.shared {
        true => "/versions?shared=true",
        false => "/versions",
    };
    let (answer, version) = upload(remote, name, rest, &component, &options)?;
    let failed = version["state"] != "ready";
    if remote.json {
        print(&format!("{}\n", answer.text.trim_end()))?;
    } else if failed {
        return Err(Failure::refused(format!(
            "{name}: {}",
            match text_of(&version, "error") {
                error if error.is_empty() => "the version failed".to_owned(),
                error => error,
            }
        )));
    } else {
        print(&report(remote, name, &version)?)?;
    }
    Ok(if failed { Exit::Refused } else { Exit::Done })
}

/// Sends a component and waits until the version is ready or has failed, with progress on a terminal.
pub(crate) fn upload(
    remote: &Remote,
    name: &str,
    rest: &str,
    component: &[u8],
    options: &Value,
) -> Result<(Answer, Value), Failure> {
    let bar = bar();
    let size = super::words::bytes(component.len() as u64);
    let mut sent = |done: u64, all: u64| {
        let percent = done * 100 / all.max(1);
        bar.set_message(if done < all {
            format!("{name}: uploading {size}: {percent} %")
        } else {
            format!("{name}: checking {size}")
        });
    };
    let to = path(name, rest);
    let answer = remote.client.upload(&to, component, options, &mut sent)?;
    bar.set_message(format!("{name}: compiling {size}"));
    let finished = wait_until_finished(remote, name, answer)?;
    bar.finish_and_clear();
    Ok(finished)
}

/// The options as REST takes them; what was not named is left out.
fn options(arguments: &Arguments) -> Result<Value, Failure> {
    let problems = super::plugin_grant::wrong(&arguments.grant, "/grants");
    if !problems.is_empty() {
        return Err(Invalid(problems).into());
    }
    arguments.input.read()?;
    let mut options = arguments.input.document();
    if !arguments.grant.is_empty() {
        options.insert("grants".into(), json!(arguments.grant));
    }
    options.insert("grant_asked".into(), arguments.grant_asked.into());
    options.insert("activate".into(), (!arguments.no_activate).into());
    if let Some(file) = &arguments.descriptor {
        let text = format!("@{}", file.display());
        let descriptor = values::object_argument("--descriptor", &text)?;
        options.insert("descriptor".into(), descriptor.into());
    }
    if !arguments.limit.is_empty() {
        let limits: Map<String, Value> = arguments
            .limit
            .iter()
            .map(|(name, value)| (name.clone(), (*value).into()))
            .collect();
        options.insert("limits".into(), limits.into());
    }
    Ok(options.into())
}

/// The bytes of a component that is not too large to be one.
pub(crate) fn read_component(file: &Path) -> Result<Vec<u8>, Failure> {
    let size = std::fs::metadata(file)
        .map_err(|error| Failure::refused(format!("{}: {error}", file.display())))?
        .len();
    if size > MAX_COMPONENT_BYTES {
        let detail = format!(
            "{} has {}; a component has at most {}",
            file.display(),
            super::words::bytes(size),
            super::words::bytes(MAX_COMPONENT_BYTES)
        );
        return Err(Problem::at("/component", detail).into());
    }
    values::read_file(file)
}

fn wait_until_finished(
    remote: &Remote,
    name: &str,
    first: Answer,
) -> Result<(Answer, Value), Failure> {
    let mut answer = first;
    let mut pause = Duration::from_millis(50);
    loop {
        let version = answer.json()?;
        if version["state"] != "compiling" {
            return Ok((answer, version));
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
        let rest = format!("/versions/{}", segment(&text_of(&version, "digest")));
        answer = remote.client.get(&path(name, &rest), &Vec::new())?;
    }
}

fn report(remote: &Remote, name: &str, version: &Value) -> Result<String, Failure> {
    let style = Style::of_stdout();
    let task_type = remote.client.get(&path(name, ""), &Vec::new())?.json()?;
    let active = task_type["active_digest"] == version["digest"];
    let word = if active && is_shared(&task_type) {
        "is ready and active, for every tenant"
    } else if active {
        "is ready and active"
    } else {
        "is ready, another version stays active"
    };
    let mut text = format!(
        "{} {word}.\n{}",
        style.paint(Paint::Good, name),
        describe(version).render(style)
    );
    if active {
        text.push_str(&format!(
            "Next: horarium task create --name NAME --type {name}\n"
        ));
    } else {
        text.push_str(&format!(
            "`horarium plugin activate {name} {}` makes it the one that runs.\n",
            super::plugin::short(&text_of(version, "digest"))
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Register {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(flags: &[&str]) -> Arguments {
        let flags = ["register", "hello", "hello.wasm"].iter().chain(flags);
        Register::try_parse_from(flags).expect("flags").arguments
    }

    #[test]
    fn options_name_only_what_was_said() {
        assert_eq!(
            options(&parsed(&[])),
            Ok(json!({"grant_asked": false, "activate": true}))
        );
        let flags = [
            "--grant",
            "state",
            "--grant",
            "http GET https://a.example",
            "--no-activate",
            "--limit",
            "fuel=5",
        ];
        assert_eq!(
            options(&parsed(&flags)),
            Ok(
                json!({"grants": ["state", "http GET https://a.example"], "grant_asked": false,
                "activate": false, "limits": {"fuel": 5}})
            )
        );
    }

    #[test]
    fn a_wrong_grant_is_refused_before_anything_is_sent() {
        let failure = options(&parsed(&["--grant", "state", "--grant", "everything"]));
        let failure = failure.expect_err("refused");
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.render(false).contains("/grants/1"), "{failure:?}");
    }
}

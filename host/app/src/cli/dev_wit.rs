//! `dev wit`: the contract as WIT, with the WASI packages that its worlds import.

use super::failure::{Exit, Outcome};
use super::templates::{self, Tree};
use super::{Global, print};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to write it; made if it is missing
    #[arg(value_name = "DIR", default_value = "wit")]
    directory: PathBuf,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let tree: Tree = templates::wit("");
    // Nothing in it is anybody's own work, so that older files may be replaced.
    let written = templates::write(&arguments.directory, &tree, true)?;
    if global.json {
        let body = json!({"directory": arguments.directory, "files": written});
        print(&format!("{body}\n"))?;
    } else {
        print(&format!(
            "{}: package horarium:task@1.0.0, worlds task, minimal-task and http-task\n\
             Begin a plugin that has it: horarium dev new NAME\n",
            arguments.directory.display()
        ))?;
    }
    Ok(Exit::Done)
}

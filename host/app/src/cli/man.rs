//! `man`: manual pages, made from the same definitions as `--help`.

use super::failure::{Exit, Failure, Outcome};
use super::{Cli, print};
use clap::{Args, CommandFactory};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Write the pages of all verbs here, such as /usr/local/share/man/man1 [default: print the first page]
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Some(directory) = &arguments.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(|error| Failure::failed(format!("the page cannot be made: {error}")))?;
        print(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Done);
    };
    let failed =
        |error: std::io::Error| Failure::refused(format!("{}: {error}", directory.display()));
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)?;
    print(&format!(
        "The pages are in {0}. Read the first: man -l {0}/horarium.1\n",
        directory.display()
    ))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page() {
        let directory = tempfile::tempdir().expect("a directory");
        let arguments = Arguments {
            dir: Some(directory.path().join("man1")),
        };
        run(&arguments).expect("written");
        for page in [
            "horarium.1",
            "horarium-task.1",
            "horarium-task-apply.1",
            "horarium-import-crontab.1",
        ] {
            let text = std::fs::read_to_string(directory.path().join("man1").join(page));
            let text = text.expect(page);
            assert!(
                text.contains(".TH") && text.contains(".SH OPTIONS"),
                "{page}"
            );
        }
    }
}

//! The command line, as a shell would call it.

use serde_json::Value;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The binary under test, without what the environment says for another server.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_horarium"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HORARIUM_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs `horarium LINE` with no server behind it.
pub(crate) fn horarium(line: &str) -> Output {
    Output::of(binary().args(words(line)), line)
}

/// Runs `horarium LINE` with this token.
pub(crate) fn horarium_as(token: &str, line: &str) -> Output {
    Output::of(
        binary().args(words(line)).env("HORARIUM_TOKEN", token),
        line,
    )
}

/// Runs `horarium LINE` as an operator on the machine of the server whose data directory this is.
pub(crate) fn horarium_in(data_dir: &Path, line: &str) -> Output {
    Output::of(
        binary().args(words(line)).arg("--data-dir").arg(data_dir),
        line,
    )
}

/// As [`horarium_in`], with something on standard input.
pub(crate) fn horarium_fed(data_dir: &Path, line: &str, input: &str) -> Output {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(input.as_bytes()).expect("written");
    file.rewind().expect("at its start");
    let mut command = binary();
    command.args(words(line)).arg("--data-dir").arg(data_dir);
    Output::of(command.stdin(file), line)
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Output {
    /// The line, for messages.
    #[expect(dead_code, reason = "shown by Debug")]
    pub(crate) line: String,
    /// The exit code.
    pub(crate) status: i32,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained.
    pub(crate) stderr: String,
}

impl Output {
    fn of(command: &mut Command, line: &str) -> Self {
        let output = command.output().expect("the binary starts");
        Self {
            line: line.chars().take(300).collect(),
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }

    /// What it printed, as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: stdout is no JSON: {self:#?}"))
    }

    /// Fails unless it ended with this exit code.
    #[track_caller]
    pub(crate) fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// Fails unless it complained on stderr, and only there, with each of these words.
    #[track_caller]
    pub(crate) fn complains(self, wanted: &[&str]) -> Self {
        assert_eq!(self.stdout, "", "{self:#?}");
        for word in wanted {
            assert!(self.stderr.contains(word), "no `{word}` in {self:#?}");
        }
        self
    }
}

/// Splits a line as a shell does: at blanks, save between single quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    assert!(!quoted, "a quote is open: {line}");
    words.extend(word);
    words
}

#[test]
fn a_line_is_split_as_a_shell_does() {
    assert_eq!(
        words("a  b 'c d' e='{\"f\": 1}' ''"),
        ["a", "b", "c d", "e={\"f\": 1}", ""]
    );
}

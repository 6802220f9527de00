//! `secret`: values that plugins use and nobody reads back.

use super::failure::{Failure, Outcome};
use super::render::{Cell, Table, instant_of, text_of};
use super::{PageArguments, Remote, now, values, words};
use crate::client::segment;
use clap::{Args, Subcommand};
use horarium_core::secrets::SecretValue;
use serde_json::{Value, json};
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use zeroize::{Zeroize, Zeroizing};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Set a secret; the value comes from a file, standard input, or a prompt
    Set(SetArguments),
    /// List names, never values
    List(PageArguments),
    /// Show one, never its value
    Show(NameArgument),
    /// Forget a secret
    Delete(NameArgument),
    /// Encrypt all secrets anew with the current key
    Rekey(RekeyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct NameArgument {
    /// Its name: letters, digits, _ - .
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Args)]
pub(crate) struct SetArguments {
    #[command(flatten)]
    secret: NameArgument,
    /// Read the value from a file; one line break at its end is left out
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// For whoever writes the value here: it is refused, and why is told.
    #[arg(hide = true, allow_hyphen_values = true)]
    value: Option<String>,
}

impl std::fmt::Debug for SetArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SetArguments({:?}, {:?})", self.secret, self.from_file)
    }
}

#[derive(Debug, Args)]
pub(crate) struct RekeyArguments {
    /// Make a new key first; only while one host is alive and the key is in its file
    #[arg(long)]
    new_key: bool,
}

pub(crate) fn run(remote: &Remote, verb: Verb) -> Outcome {
    let path = |name: &NameArgument| format!("/v1/secrets/{}", segment(&name.name));
    match verb {
        Verb::Set(arguments) => set(remote, &arguments, &path(&arguments.secret)),
        Verb::List(page) => {
            let answer = remote.client.get("/v1/secrets", &page.query())?;
            let empty = "There is no secret yet: `horarium secret set NAME < FILE`.";
            remote.show_list(&answer, empty, table)
        }
        Verb::Show(name) => {
            let answer = remote.client.get(&path(&name), &Vec::new())?;
            remote.show(&answer, |secret| {
                table(std::slice::from_ref(secret)).render(super::render::Style::of_stdout())
            })
        }
        Verb::Delete(name) => delete(remote, &name, &path(&name)),
        Verb::Rekey(arguments) => {
            let body = json!({"new_key": arguments.new_key});
            let answer = remote.client.post("/v1/secrets/rekey", &body)?;
            remote.show(&answer, |done| {
                format!(
                    "{} secrets were encrypted anew; all have key {} now.\nSee them: horarium secret list\n",
                    text_of(done, "rekeyed"),
                    text_of(done, "key_id")
                )
            })
        }
    }
}

fn set(remote: &Remote, arguments: &SetArguments, path: &str) -> Outcome {
    if arguments.value.is_some() {
        return Err(Failure::refused(
            "a value on the command line is seen by everybody on this machine and stays in the shell's history",
        )
        .hint(format!(
            "pipe it (`horarium secret set {0} < FILE`), name the file with --from-file, or write `horarium secret set {0}` and be asked",
            arguments.secret.name
        )));
    }
    let value = read_value(arguments)?;
    let mut body = json!({"value": value.expose()});
    let answer = remote.client.put(path, &body);
    if let Some(Value::String(text)) = body.get_mut("value") {
        text.zeroize();
    }
    remote.show(&answer?, |secret| {
        let name = text_of(secret, "name");
        let mut text = format!("Set `{name}`, version {}.\n", text_of(secret, "version"));
        text.push_str(&match secret["granted_to"][0].as_str() {
            None => format!(
                "No plugin may use it yet: `horarium plugin grant TYPE --add 'secret {name} in header:authorization to https://HOST'`.\n"
            ),
            Some(_) => format!("Runs that begin from now on have it. See whose: horarium secret show {name}\n"),
        });
        text
    })
}

fn read_value(arguments: &SetArguments) -> Result<SecretValue, Failure> {
    let bytes = match &arguments.from_file {
        Some(file) => Zeroizing::new(values::read_file(file)?),
        None if std::io::stdin().is_terminal() => {
            let asked = rpassword::prompt_password(format!("Value of {}: ", arguments.secret.name));
            let text = asked.map_err(|error| Failure::refused(format!("the terminal: {error}")))?;
            Zeroizing::new(text.into_bytes())
        }
        None => {
            let mut bytes = Zeroizing::new(Vec::new());
            let read = std::io::stdin().read_to_end(&mut bytes);
            read.map_err(|error| Failure::refused(format!("standard input: {error}")))?;
            bytes
        }
    };
    secret_value(&bytes).map_err(|detail| Failure::refused(format!("the value {detail}")))
}

/// The bytes of a file as a value: text, without the line break that editors and `echo` put at its end.
pub(crate) fn secret_value(bytes: &[u8]) -> Result<SecretValue, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        "is not UTF-8 text; encode it, as base64 for instance, and let the plugin decode it"
            .to_owned()
    })?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    SecretValue::new(text.to_owned())
}

fn delete(remote: &Remote, name: &NameArgument, path: &str) -> Outcome {
    // Asked before: afterwards nobody knows whom it concerns.
    let granted = match remote.json {
        true => Vec::new(),
        false => {
            let secret = remote.client.get(path, &Vec::new())?.json()?;
            let granted = secret["granted_to"].as_array().into_iter().flatten();
            granted
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        }
    };
    let answer = remote.client.delete(path, &Vec::new())?;
    let mut text = format!("Forgot `{}`.\n", name.name);
    if !granted.is_empty() {
        text.push_str(&format!(
            "Runs of {} end secret_missing until it is set again: horarium secret set {}\n",
            granted.join(", "),
            name.name
        ));
    } else {
        text.push_str("See the others: horarium secret list\n");
    }
    remote.show(&answer, |_| text)
}

fn table(items: &[Value]) -> Table {
    let mut table = Table::new(&["NAME", "VERSION>", "SET", "KEY", "GRANTED TO"]);
    for item in items {
        let set = instant_of(item, "updated_at").map(|at| words::from_now(at, now()));
        let granted = item["granted_to"].as_array().into_iter().flatten();
        let granted: Vec<&str> = granted.filter_map(Value::as_str).collect();
        table.row(vec![
            text_of(item, "name").into(),
            text_of(item, "version").into(),
            set.unwrap_or_default().into(),
            text_of(item, "key_id").into(),
            Cell::from(granted.join(", ")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_not_part_of_a_value() {
        for (bytes, value) in [
            ("v\n", "v"),
            ("v\r\n", "v"),
            ("v\n\n", "v\n"),
            (" v ", " v "),
        ] {
            let read = secret_value(bytes.as_bytes()).expect("a value");
            assert_eq!(read.expose(), value, "{bytes:?}");
        }
        assert!(secret_value(b"\n").is_err() && secret_value(&[0xff]).is_err());
    }
}

//! `dev new`: a plugin to begin with.

use super::failure::{Exit, Failure, Outcome};
use super::templates::{self, Language};
use super::{Global, dev_build, print};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Its name, and its directory's: a-z first, then a-z, 0-9, _ -
    #[arg(value_name = "NAME")]
    name: String,
    /// In what it is written
    #[arg(long, value_enum, value_name = "LANGUAGE", default_value = "rust")]
    lang: Language,
    /// Another directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let name = &arguments.name;
    horarium_model::task_type::check_name(name).map_err(Failure::refused)?;
    if name.contains('.') {
        return Err(Failure::refused(format!(
            "`{name}` names a crate or package too, which holds no dot"
        )));
    }
    if let Some(why) = reserved(arguments.lang, name) {
        return Err(Failure::refused(format!(
            "`{name}` cannot be the name of a crate: {why}; choose another one, the plugin's files and its task \
             type are called so"
        )));
    }
    let directory = arguments.dir.as_deref().unwrap_or(Path::new(name));
    let tree = templates::project(arguments.lang, name);
    let files = templates::write(directory, &tree, false)?;
    if global.json {
        let body = json!({"name": name, "directory": directory, "files": files});
        print(&format!("{body}\n"))?;
    } else {
        print(&next_steps(name, arguments.lang, directory))?;
    }
    Ok(Exit::Done)
}

/// Why Cargo would not build a crate of this name, or nothing could be built with it.
fn reserved(language: Language, name: &str) -> Option<&'static str> {
    let is_crate = matches!(language, Language::Rust | Language::Command);
    match name {
        _ if !is_crate => None,
        "as" | "async" | "await" | "become" | "box" | "break" | "const" | "continue" | "crate"
        | "do" | "dyn" | "else" | "enum" | "extern" | "false" | "final" | "fn" | "for" | "gen"
        | "if" | "impl" | "in" | "let" | "loop" | "macro" | "match" | "mod" | "move" | "mut"
        | "override" | "priv" | "pub" | "ref" | "return" | "self" | "static" | "struct"
        | "super" | "trait" | "true" | "try" | "type" | "typeof" | "unsafe" | "unsized" | "use"
        | "virtual" | "where" | "while" | "yield" => Some("it is a keyword of Rust"),
        "alloc" | "core" | "proc_macro" | "proc-macro" | "std" | "test" => {
            Some("Rust's own libraries are called so")
        }
        "build" | "deps" | "examples" | "incremental" => {
            Some("Cargo keeps what it builds in directories called so")
        }
        "horarium-task" | "horarium_task" | "schemars" | "serde" => {
            Some("the plugin depends on the crate of that name")
        }
        _ => None,
    }
}

fn next_steps(name: &str, language: Language, directory: &Path) -> String {
    let commands = dev_build::commands(language, name);
    let commands: String = commands
        .iter()
        .map(|line| format!("    {line}\n"))
        .collect();
    let wasm = dev_build::output(language, name);
    let params = match language {
        Language::Rust | Language::Js => r#"{"name": "Ada"}"#,
        Language::Python => r#"{"url": "https://example.com/"}"#,
        Language::C => r#"{"text": "three short words"}"#,
        Language::Command => r#"{"args": ["b"], "csv": "a,b\n1,2\n3,4\n"}"#,
    };
    let flags = match language {
        Language::Rust | Language::Js => "",
        Language::Python => " --grant 'http GET https://example.com'",
        Language::C => " --stdin-from /text",
        Language::Command => " --args-from /args --stdin-from /csv",
    };
    format!(
        "{} is there. Build it (`horarium dev build` does the same), try it, register it:\n\n    \
         cd {}\n{commands}    horarium dev run {wasm} --params '{params}'{flags}\n    \
         horarium plugin register {name} {wasm}{flags}\n",
        directory.display(),
        directory.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_refused_where_they_name_a_crate() {
        for name in ["fn", "test", "deps", "serde"] {
            assert!(reserved(Language::Rust, name).is_some(), "{name}");
            assert!(reserved(Language::Command, name).is_some(), "{name}");
            assert_eq!(reserved(Language::C, name), None);
        }
        assert_eq!(reserved(Language::Rust, "my-plugin"), None);
    }

    #[test]
    fn the_next_command_names_the_file_that_is_built() {
        let steps = next_steps("my-plugin", Language::Rust, Path::new("x"));
        assert!(
            steps.contains("register my-plugin target/wasm32-wasip2/release/my_plugin.wasm"),
            "{steps}"
        );
    }
}

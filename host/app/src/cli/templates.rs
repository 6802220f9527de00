//! What `dev new` and `dev wit` write: the examples of this repository, collected by build.rs.

use super::failure::Failure;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Paths below a directory, and texts.
pub(crate) type Tree = Vec<(String, String)>;

include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// In what a plugin can be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Language {
    /// Rust with the SDK
    Rust,
    /// JavaScript (componentize-js)
    Js,
    /// Python (componentize-py), with HTTP
    Python,
    /// C, an ordinary program
    C,
    /// Rust, an ordinary program with no SDK
    Command,
}

/// The contract as WIT with all it needs, below `directory`.
pub(crate) fn wit(directory: &str) -> Tree {
    let own = CONTRACT.iter().map(|(path, text)| {
        let name = path.rsplit('/').next().unwrap_or(path);
        (format!("{directory}{name}"), (*text).to_owned())
    });
    let wasi = WASI.iter().map(|(name, text)| {
        let path = format!("{directory}deps/{name}");
        (path, (*text).to_owned())
    });
    own.chain(wasi).collect()
}

/// A plugin to begin with.
pub(crate) fn project(language: Language, name: &str) -> Tree {
    let (files, folder, example) = match language {
        Language::Rust => return rust(name),
        Language::Js => (JS, "js/", "greet_js"),
        Language::Python => (PYTHON, "python/", "fetch_py"),
        Language::C => (C, "c/", "wc_c"),
        Language::Command => (COMMAND, "command/", "csv_sum"),
    };
    let files = files.iter().map(|(path, text)| {
        let path = path.strip_prefix(folder).unwrap_or(path);
        (path.to_owned(), text.replace(example, name))
    });
    let mut tree: Tree = files.collect();
    let ignored = match language {
        Language::Js => "/node_modules\n*.wasm\n",
        Language::Python => "/.venv\n__pycache__\n*.wasm\n",
        Language::C => "*.wasm\n",
        Language::Rust | Language::Command => "/target\n",
    };
    tree.push((".gitignore".to_owned(), ignored.to_owned()));
    if matches!(language, Language::Js | Language::Python) {
        tree.extend(wit("wit/"));
    }
    tree
}

/// The example `hello`, in a workspace of its own with the SDK's sources beside it: no registry has the
/// SDK yet.
fn rust(name: &str) -> Tree {
    let text = |wanted: &str| {
        let found = RUST.iter().find(|(path, _)| *path == wanted);
        found.map_or("", |(_, text)| *text)
    };
    let workspace: Vec<&str> = text("Cargo.toml")
        .lines()
        .map(|line| match line.split(" = ").next() {
            Some("members") => "members = [\"vendor/horarium-task\"]",
            _ => line,
        })
        .filter(|line| !line.starts_with('#'))
        .collect();
    let workspace = workspace
        .join("\n")
        .replace("path = \"sdk\"", "path = \"vendor/horarium-task\"");
    let package = text("hello/Cargo.toml")
        .replace("name = \"hello\"", &format!("name = \"{name}\""))
        .replace(
            "The smallest plugin; also what the benchmarks run",
            "Greets somebody",
        );
    let sdk = RUST.iter().filter_map(|(path, text)| {
        let below = path.strip_prefix("sdk/")?;
        Some((format!("vendor/horarium-task/{below}"), (*text).to_owned()))
    });
    let mut tree: Tree = vec![
        ("Cargo.toml".to_owned(), format!("{package}\n{workspace}\n")),
        // Cargo drops what the new workspace does not use and keeps the tested versions of the rest.
        ("Cargo.lock".to_owned(), text("Cargo.lock").to_owned()),
        ("src/lib.rs".to_owned(), text("hello/src/lib.rs").to_owned()),
        (".gitignore".to_owned(), "/target\n".to_owned()),
    ];
    tree.extend(sdk);
    tree.extend(wit("wit/"));
    tree
}

/// Writes files below a directory and returns their paths. Unless `replace`, none of them may exist:
/// that is asked before anything is written.
///
/// # Errors
/// A file that exists, or that cannot be written.
pub(crate) fn write(directory: &Path, tree: &Tree, replace: bool) -> Result<Vec<String>, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::refused(format!("{}: {error}", path.display()))
    };
    let taken = |(path, _): &&(String, String)| directory.join(path).exists();
    if !replace && let Some((path, _)) = tree.iter().find(taken) {
        let path = directory.join(path);
        return Err(Failure::refused(format!(
            "{} is there already; nothing was written",
            path.display()
        )));
    }
    for (path, text) in tree {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        }
        let mut options = File::options();
        options.write(true);
        if replace {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        options
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| failed(&path, error))?;
    }
    Ok(tree.iter().map(|(path, _)| path.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn no_template_keeps_its_examples_name() {
        for language in Language::value_variants() {
            let tree = project(*language, "mine");
            for (path, text) in &tree {
                for example in ["greet_js", "fetch_py", "wc_c", "csv_sum"] {
                    assert!(
                        !text.contains(example),
                        "{language:?}: {path} names {example}"
                    );
                }
                assert!(!text.is_empty(), "{language:?}: {path} is empty");
            }
        }
    }

    #[test]
    fn nothing_is_written_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let tree: Tree = vec![("a".into(), "1".into()), ("b/c".into(), "2".into())];
        fs::write(directory.path().join("a"), "mine").expect("written");
        let refused = write(directory.path(), &tree, false).expect_err("refused");
        assert!(
            refused.render(false).contains("is there already"),
            "{refused:?}"
        );
        assert!(!directory.path().join("b").exists());
        assert_eq!(
            write(directory.path(), &tree, true).expect("written"),
            ["a", "b/c"]
        );
        assert_eq!(
            fs::read_to_string(directory.path().join("b/c")).expect("read"),
            "2"
        );
    }
}

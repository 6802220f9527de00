//! `dev build`: the commands of docs/plugins.md for a directory that `dev new` wrote, one by one.

use super::dev::inspect;
use super::failure::{Exit, Failure, Outcome};
use super::templates::Language;
use super::{Global, print, words};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The plugin's directory
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

/// What builds a plugin, as one would type it in its directory.
pub(crate) fn commands(language: Language, name: &str) -> Vec<String> {
    let lines: &[&str] = match language {
        Language::Rust | Language::Command => &["cargo build --release --target wasm32-wasip2"],
        Language::Js => &["npm ci", "npm run build"],
        Language::Python => &[
            "python3 -m venv .venv",
            ".venv/bin/pip install -r requirements.txt",
            ".venv/bin/componentize-py -d wit -w http-task componentize plugin -o {name}.wasm",
        ],
        Language::C => &["make"],
    };
    let lines = lines.iter();
    lines.map(|line| line.replace("{name}", name)).collect()
}

/// The component they make, seen from there.
pub(crate) fn output(language: Language, name: &str) -> String {
    match language {
        // Cargo names a library after its crate, which holds no dash, and a program after its package.
        Language::Rust => format!(
            "target/wasm32-wasip2/release/{}.wasm",
            name.replace('-', "_")
        ),
        Language::Command => format!("target/wasm32-wasip2/release/{name}.wasm"),
        Language::Js | Language::Python | Language::C => format!("{name}.wasm"),
    }
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let directory = &arguments.directory;
    let (language, name) = recognise(directory)?;
    for line in commands(language, &name) {
        if is_done(directory, &line) {
            continue;
        }
        eprintln!("+ {line}");
        execute(directory, &line)?;
    }
    let wasm = built(directory, language, &name);
    let inspection = inspect(&wasm)?;
    if global.json {
        let body = json!({"file": wasm, "digest": inspection.digest, "size_bytes": inspection.size_bytes,
            "kind": inspection.kind, "warnings": inspection.warnings});
        print(&format!("{body}\n"))?;
    } else {
        print(&format!(
            "{0} ({1}, {2})\nTry it: horarium dev run {0} --params '{{}}'\n",
            wasm.display(),
            inspection.kind,
            words::bytes(inspection.size_bytes)
        ))?;
    }
    Ok(Exit::Done)
}

/// Cargo's output directory may be elsewhere.
fn built(directory: &Path, language: Language, name: &str) -> PathBuf {
    let output = output(language, name);
    match (
        output.strip_prefix("target/"),
        std::env::var_os("CARGO_TARGET_DIR"),
    ) {
        (Some(below), Some(target)) => Path::new(&target).join(below),
        _ => directory.join(output),
    }
}

/// What a directory holds, by the files `dev new` writes.
fn recognise(directory: &Path) -> Result<(Language, String), Failure> {
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).ok();
    let quoted = |text: &str, before: &str| {
        let rest = text.split_once(before)?.1;
        Some(rest.split('"').next()?.to_owned())
    };
    let found = if let Some(manifest) = read("Cargo.toml") {
        let language = if directory.join("src/lib.rs").exists() {
            Language::Rust
        } else {
            Language::Command
        };
        let parsed: Option<toml::Table> = manifest.parse().ok();
        let name = parsed.and_then(|t| Some(t.get("package")?.get("name")?.as_str()?.to_owned()));
        name.map(|name| (language, name))
    } else if let Some(manifest) = read("package.json") {
        quoted(&manifest, "\"name\": \"").map(|name| (Language::Js, name))
    } else if directory.join("plugin.py").exists() {
        let named = read("pyproject.toml").and_then(|text| quoted(&text, "name = \""));
        let name = named.or_else(|| directory_name(directory));
        name.map(|name| (Language::Python, name))
    } else if let Some(makefile) = read("Makefile") {
        let name = makefile.lines().find_map(|line| line.split_once(".wasm:"));
        name.map(|(name, _)| (Language::C, name.to_owned()))
    } else {
        None
    };
    found.ok_or_else(|| {
        Failure::refused(format!(
            "{}: no plugin that `dev new` wrote (Cargo.toml, package.json, plugin.py or Makefile)",
            directory.display()
        ))
    })
}

fn directory_name(directory: &Path) -> Option<String> {
    let whole = directory.canonicalize().ok()?;
    Some(whole.file_name()?.to_string_lossy().into_owned())
}

/// Tools that are installed in the directory are not installed again, as long as what names them is older.
fn is_done(directory: &Path, line: &str) -> bool {
    let newer = |made: &str, from: &str| {
        let changed = |path: &str| std::fs::metadata(directory.join(path))?.modified();
        matches!((changed(made), changed(from)), (Ok(made), Ok(from)) if made >= from)
    };
    match line {
        "npm ci" => newer("node_modules/.package-lock.json", "package-lock.json"),
        "python3 -m venv .venv" => directory.join(".venv/bin/pip").exists(),
        _ if line.contains("pip install") => newer(".venv/bin/componentize-py", "requirements.txt"),
        _ => false,
    }
}

fn execute(directory: &Path, line: &str) -> Result<(), Failure> {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    // A path is meant from the plugin's directory, not from ours.
    let absolute = directory.canonicalize().map(|whole| whole.join(program));
    let started = match absolute {
        Ok(path) if program.contains('/') => Command::new(path),
        _ => Command::new(program),
    }
    .args(words)
    .current_dir(directory)
    // Standard output is for what was built.
    .stdout(Stdio::from(std::io::stderr()))
    .status();
    match started {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::failed(format!("`{line}` ended with {status}"))),
        Err(error) => Err(Failure::failed(format!(
            "`{program}` does not start ({error}); docs/plugins.md says what a language needs"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::templates;
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn what_was_written_is_recognised() {
        for language in Language::value_variants() {
            let directory = tempfile::tempdir().expect("a directory");
            let directory = directory.path().join("elsewhere");
            templates::write(
                &directory,
                &templates::project(*language, "my-plugin"),
                false,
            )
            .expect("written");
            assert_eq!(
                recognise(&directory).expect("recognised"),
                (*language, "my-plugin".to_owned())
            );
            assert!(!commands(*language, "my-plugin").is_empty());
            let file = match language {
                Language::Rust => "target/wasm32-wasip2/release/my_plugin.wasm",
                Language::Command => "target/wasm32-wasip2/release/my-plugin.wasm",
                Language::Js | Language::Python | Language::C => "my-plugin.wasm",
            };
            assert_eq!(output(*language, "my-plugin"), file);
        }
        let empty = tempfile::tempdir().expect("a directory");
        assert!(recognise(empty.path()).is_err());
    }
}

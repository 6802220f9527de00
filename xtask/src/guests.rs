//! `plugins --all`: the examples of other kinds. Each is begun with `horarium dev new` and built with
//! `horarium dev build`, which run the commands of docs/plugins.md; so what users are told is what is
//! tested.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::plugins::{cargo, rustflags};
use crate::servers::{self, Server};
use crate::{setup, test};

/// Name and language of each.
const EXAMPLES: [(&str, &str); 5] = [
    ("hello_rs", "rust"),
    ("greet_js", "js"),
    ("fetch_py", "python"),
    ("wc_c", "c"),
    ("csv_sum", "command"),
];

/// What tools leave in a directory and find again.
const KEPT: [&str; 2] = ["node_modules", ".venv"];

static TOOLS: [Server; 4] = [
    Server {
        package: "nodejs npm",
        why: "the JavaScript example is built by componentize-js",
        elsewhere: "put node and npm into PATH",
        is_there: || servers::in_path("node") && servers::in_path("npm"),
    },
    Server {
        package: "python3 python3-venv",
        why: "the Python example is built by componentize-py",
        elsewhere: "put a python3 with venv into PATH",
        is_there: has_venv,
    },
    Server {
        package: "clang lld wasi-libc libclang-rt-dev-wasm32",
        why: "the C example is compiled by clang against wasi-libc",
        elsewhere: "put clang and wasm-ld into PATH and a wasi sysroot into /usr",
        is_there: has_clang,
    },
    Server {
        package: "make",
        why: "the C example has a Makefile",
        elsewhere: "put make into PATH",
        is_there: || servers::in_path("make"),
    },
];

/// Builds them to target/plugins/.
pub(crate) fn run(root: &Path) -> Result<()> {
    setup::ensure_all()?;
    servers::install(&TOOLS)?;
    let horarium = root.join("target/debug/horarium");
    // The same build as the tests': another selection of packages would build everything twice.
    test::build()?;
    let plugins = root.join("target/plugins");
    for (name, language) in EXAMPLES {
        let built = example(root, &horarium, name, language)?;
        lay_out(root, &built, &plugins.join(format!("{name}.wasm")))?;
    }
    program_of_preview_1(root, &plugins)?;
    task_without_wasi(root, &plugins)
}

/// Builds an example where its files changed, and says where its component is.
fn example(root: &Path, horarium: &Path, name: &str, language: &str) -> Result<PathBuf> {
    let begun = root.join("target/guests/begun");
    let (fresh, directory) = (begun.join(format!("{name}.new")), begun.join(name));
    let _ = fs::remove_dir_all(&fresh);
    let new = ["dev", "new", name, "--lang", language, "--json", "--dir"];
    check(
        Command::new(horarium)
            .args(new)
            .arg(&fresh)
            .stdout(std::process::Stdio::null()),
    )?;
    let wanted = files(&fresh)?;
    fs::remove_dir_all(&fresh)?;
    // Cargo changes its lock, so that what was written is remembered apart.
    let written = begun.join(format!("{name}.written"));
    let digest = digest(&wanted);
    if fs::read_to_string(&written).ok().as_ref() != Some(&digest) {
        if directory.exists() {
            clear(&directory)?;
        }
        for (path, text) in &wanted {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().context("a file has a directory")?)?;
            fs::write(&path, text)?;
        }
        fs::write(&written, &digest)?;
    }
    let built = match language {
        "rust" | "command" => root
            .join("target/guests")
            .join(setup::TARGET)
            .join(format!("release/{name}.wasm")),
        _ => directory.join(format!("{name}.wasm")),
    };
    // Cargo and make know themselves what is up to date.
    if ["rust", "command", "c"].contains(&language) || !built.exists() {
        println!("plugins: {name}: horarium dev build");
        let mut build = Command::new(horarium);
        build.args(["dev", "build"]).arg(&directory);
        for (variable, _) in std::env::vars_os() {
            let text = variable.to_string_lossy();
            if text == "RUSTFLAGS"
                || text.starts_with("CARGO_PROFILE_")
                || text == "CARGO_INCREMENTAL"
            {
                build.env_remove(&variable);
            }
        }
        // Dependencies are shared with the other plugins.
        check(build.env("CARGO_TARGET_DIR", root.join("target/guests")))?;
    }
    Ok(built)
}

/// The same program for WASI preview 1: a core module, which the host wraps.
fn program_of_preview_1(root: &Path, plugins: &Path) -> Result<()> {
    let target = "wasm32-wasip1";
    let directory = root.join("target/guests/begun/csv_sum");
    let build = ["build", "--release", "--target", target];
    let target_dir = root.join("target/guests");
    check(
        cargo(root, &build)
            .current_dir(directory)
            .env("CARGO_TARGET_DIR", &target_dir),
    )?;
    let built = target_dir.join(target).join("release/csv_sum.wasm");
    lay_out(root, &built, &plugins.join("csv_sum_p1.wasm"))
}

/// hello for a target without WASI: a core module that names its world.
fn task_without_wasi(root: &Path, plugins: &Path) -> Result<()> {
    let target = "wasm32-unknown-unknown";
    let build = [
        "build",
        "--release",
        "--locked",
        "--package",
        "hello",
        "--lib",
        "--target",
        target,
    ];
    check(cargo(root, &build).env("CARGO_ENCODED_RUSTFLAGS", rustflags(root)?))?;
    let built = root
        .join("target/guests")
        .join(target)
        .join("release/hello.wasm");
    lay_out(root, &built, &plugins.join("hello_unknown.wasm"))
}

/// Paths and contents below a directory, what tools made aside.
fn files(directory: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if KEPT.contains(&name.as_str()) || name == "__pycache__" || name.ends_with(".wasm") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(directory)?.to_owned(), fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// A number for what was written, good enough to notice a change.
fn digest(files: &BTreeMap<PathBuf, Vec<u8>>) -> String {
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Removes what is not [`KEPT`].
fn clear(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if KEPT.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn lay_out(root: &Path, built: &Path, target: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("{} was not built", built.display()))?;
    let changed = fs::read(target).map_or(true, |old| old != bytes);
    if changed {
        let partial = target.with_extension(format!("wasm.{}", std::process::id()));
        fs::write(&partial, &bytes).with_context(|| partial.display().to_string())?;
        fs::rename(&partial, target).with_context(|| target.display().to_string())?;
    }
    let note = if changed { "" } else { "  unchanged" };
    let shown = target.strip_prefix(root).unwrap_or(target);
    println!("{:>9}  {}{note}", bytes.len(), shown.display());
    Ok(())
}

fn check(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{} does not start", command.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn has_venv() -> bool {
    let asked = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output();
    asked.is_ok_and(|output| output.status.success())
}

/// Asked by compiling, since a clang may come without a linker or a library.
fn has_clang() -> bool {
    let out = std::env::temp_dir().join(format!("horarium-clang-{}.wasm", std::process::id()));
    let arguments = [
        "--target=wasm32-wasi",
        "--sysroot=/usr",
        "-x",
        "c",
        "-",
        "-o",
    ];
    let mut child = match Command::new("clang")
        .args(arguments)
        .arg(&out)
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
    {
        Ok(child) => child,
        Err(_) => return false,
    };
    if let Some(mut input) = child.stdin.take() {
        let program = "#include <stdio.h>\nint main(void) { return puts(\"\"); }\n";
        let _ = std::io::Write::write_all(&mut input, program.as_bytes());
    }
    let compiled = child.wait().is_ok_and(|status| status.success());
    let _ = fs::remove_file(&out);
    compiled
}

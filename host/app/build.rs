//! Collects what `dev new` and `dev wit` write: the examples under plugins/ as templates, the SDK, the
//! contract, and the WIT of WASI that world `http-task` needs. That last one is other people's and not
//! in this repository; it comes with the crate that implements it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The crate that carries the WIT of wasi:http and of all it uses.
const CARRIER: &str = "wasmtime-wasi-http";

fn main() -> Result<()> {
    let app = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = app.join("../..").canonicalize()?;
    let mut code = String::new();
    let contract = ["types", "guest", "host", "worlds", "http/http-task"];
    let contract = contract.map(|name| format!("wit/{name}.wit"));
    list(
        &mut code,
        "CONTRACT",
        &root,
        contract.iter().map(String::as_str),
    )?;
    let js = ["js/package.json", "js/package-lock.json", "js/plugin.js"];
    let sdk = rust_files(&root.join("plugins/sdk"))?;
    let sdk = sdk.iter().map(String::as_str);
    let rust = [
        "Cargo.toml",
        "Cargo.lock",
        "hello/Cargo.toml",
        "hello/src/lib.rs",
    ];
    for (name, files) in [
        ("JS", js.to_vec()),
        (
            "PYTHON",
            vec![
                "python/pyproject.toml",
                "python/requirements.txt",
                "python/plugin.py",
            ],
        ),
        ("C", vec!["c/Makefile", "c/plugin.c"]),
        ("COMMAND", vec!["command/Cargo.toml", "command/src/main.rs"]),
        ("RUST", rust.into_iter().chain(sdk).collect()),
    ] {
        list(&mut code, name, &root.join("plugins"), files)?;
    }
    let wasi = carrier(&root)?.join("wit/deps");
    let mut files = Vec::new();
    for entry in fs::read_dir(&wasi)? {
        files.push(entry?.file_name().to_string_lossy().into_owned());
    }
    files.sort();
    list(&mut code, "WASI", &wasi, files.iter().map(String::as_str))?;
    fs::write(
        PathBuf::from(env::var("OUT_DIR")?).join("templates.rs"),
        code,
    )?;
    Ok(())
}

/// Writes a constant with the paths and texts of files.
fn list<'f>(
    code: &mut String,
    name: &str,
    directory: &Path,
    files: impl IntoIterator<Item = &'f str>,
) -> Result<()> {
    writeln!(code, "const {name}: &[(&str, &str)] = &[")?;
    for file in files {
        let path = directory.join(file);
        if !path.is_file() {
            return Err(format!("{} is missing", path.display()).into());
        }
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(
            code,
            "    ({file:?}, include_str!({:?})),",
            path.display().to_string()
        )?;
    }
    writeln!(code, "];")?;
    Ok(())
}

/// The manifest and sources of the SDK, below plugins/.
fn rust_files(sdk: &Path) -> Result<Vec<String>> {
    let mut files = vec!["sdk/Cargo.toml".to_owned(), "sdk/README.md".to_owned()];
    let mut folders = vec![sdk.join("src")];
    while let Some(folder) = folders.pop() {
        println!("cargo::rerun-if-changed={}", folder.display());
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let below = path.strip_prefix(sdk)?.display().to_string();
                files.push(format!("sdk/{below}"));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Where the sources of [`CARRIER`] are: in cargo's registry, else where cargo says (vendored sources).
fn carrier(root: &Path) -> Result<PathBuf> {
    let lock = root.join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let lock = fs::read_to_string(lock)?;
    let version = lock
        .split("[[package]]")
        .find_map(|package| {
            let rest = package
                .trim_start()
                .strip_prefix(&format!("name = {CARRIER:?}\nversion = \""))?;
            rest.split('"').next()
        })
        .ok_or("Cargo.lock does not name the crate with the WIT of WASI")?;
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let registries = home.map(|home| home.join("registry/src"));
    let registries = registries.and_then(|path| fs::read_dir(path).ok());
    let mut crates = registries.into_iter().flatten().flatten();
    let below = |registry: fs::DirEntry| registry.path().join(format!("{CARRIER}-{version}"));
    if let Some(found) = crates.find_map(|r| Some(below(r)).filter(|path| path.is_dir())) {
        return Ok(found);
    }
    let output = Command::new(env::var("CARGO")?)
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(root)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let manifests = text.split(r#""manifest_path":""#).skip(1);
    let manifests = manifests.filter_map(|rest| rest.split('"').next().map(Path::new));
    let mut folders = manifests.filter_map(Path::parent);
    folders
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(CARRIER))
        })
        .map(PathBuf::from)
        .ok_or_else(|| format!("the sources of {CARRIER} are not to be found").into())
}

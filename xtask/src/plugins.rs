//! `plugins`: builds the guest workspace and lays its components out under target/plugins/.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use wasmparser::{Encoding, Parser, Payload};

use crate::setup;

/// What a component must export to be a task plugin that describes itself.
const EXPORTS: [&str; 2] = ["horarium:task/run@1.0.0", "horarium:task/describe@1.0.0"];

/// What the benchmarks embed.
const EMBEDDED: [&str; 3] = ["hello.wasm", "http_request.wasm", "hostile/burn.wasm"];

#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Also renew the copies that the benchmarks embed (host/app/assets/)
    #[arg(long)]
    pub(crate) embed: bool,
    /// Also list what every component imports
    #[arg(long)]
    pub(crate) imports: bool,
    /// Also build the examples in other languages and of other kinds, each by its own tools
    #[arg(long)]
    pub(crate) all: bool,
    #[arg(skip)]
    pub(crate) quiet: bool,
}

impl Arguments {
    /// Nothing on stdout, for verbs whose own output matters.
    pub(crate) fn quiet() -> Self {
        Self {
            quiet: true,
            ..Self::default()
        }
    }
}

/// Builds all guests in release and copies what changed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure()?;
    let root = crate::root();
    build(&root)?;

    let built = root
        .join("target/guests")
        .join(setup::TARGET)
        .join("release");
    let plugins = root.join("target/plugins");
    let mut rows = Vec::new();
    for name in members(&root)? {
        if name == "hostile" {
            for guest in examples(&root.join("plugins/hostile/Cargo.toml"))? {
                let source = built.join("examples").join(format!("{guest}.wasm"));
                let target = plugins.join("hostile").join(format!("{guest}.wasm"));
                rows.push(lay_out(&source, &target)?);
            }
        } else if name != "sdk" {
            let file = format!("{name}.wasm");
            rows.push(lay_out(&built.join(&file), &plugins.join(&file))?);
        }
    }
    for row in rows.iter().filter(|_| !arguments.quiet) {
        let shown = row.path.strip_prefix(&root).unwrap_or(&row.path);
        let note = if row.changed { "" } else { "  unchanged" };
        println!("{:>9}  {}{note}", row.bytes, shown.display());
        if arguments.imports {
            for import in &row.imports {
                println!("           imports {import}");
            }
        }
    }
    if arguments.all {
        crate::guests::run(&root)?;
    }
    if arguments.embed {
        for file in EMBEDDED {
            let name = Path::new(file).file_name().unwrap_or_default();
            let asset = root.join("host/app/assets").join(name);
            let row = lay_out(&plugins.join(file), &asset)?;
            let note = if row.changed { "renewed" } else { "unchanged" };
            println!(
                "{:>9}  host/app/assets/{}  {note}",
                row.bytes,
                name.display()
            );
        }
    }
    Ok(())
}

/// Cargo itself does nothing when nothing changed.
fn build(root: &Path) -> Result<()> {
    // The registry's directory must be there before its name can be remapped.
    if !cargo(root, &["fetch", "--locked", "--target", setup::TARGET])
        .status()?
        .success()
    {
        bail!("the plugins' dependencies cannot be fetched: is the network there?");
    }
    let status = cargo(
        root,
        &[
            "build",
            "--release",
            "--locked",
            "--workspace",
            "--lib",
            "--examples",
        ],
    )
    .env("CARGO_ENCODED_RUSTFLAGS", rustflags(root)?)
    .status()?;
    if !status.success() {
        bail!("the plugins do not build; to see it alone: cd plugins && cargo build --release");
    }
    Ok(())
}

/// Cargo in the guest workspace, without what an outer cargo or a shell set for the host's build.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg("--quiet")
        .current_dir(root.join("plugins"));
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_BUILD_TARGET",
    ] {
        command.env_remove(name);
    }
    // A profile bent by the environment would change the bytes.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PROFILE_") {
            command.env_remove(name);
        }
    }
    command
}

/// The same bytes wherever the repository, cargo's home and the compiler are: panic messages carry
/// the paths of sources. Where two prefixes match, rustc takes the later.
pub(crate) fn rustflags(root: &Path) -> Result<String> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir()
            .context("no home directory: set CARGO_HOME")?
            .join(".cargo"),
    };
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let mut flags = vec![remap(&cargo_home, "/cargo"), remap(root, "/horarium")];
    // Mirrors differ in the name of their directory, so crates are named below it.
    if let Ok(registries) = cargo_home.join("registry/src").read_dir() {
        flags.extend(
            registries
                .flatten()
                .map(|entry| remap(&entry.path(), "/crates")),
        );
    }
    // Where the component rust-src is installed, the library's sources have a path of this machine.
    let version = setup::rustc(&["-vV"])?;
    if let Some(hash) = version
        .lines()
        .find_map(|line| line.strip_prefix("commit-hash: "))
    {
        let sources = PathBuf::from(setup::rustc(&["--print", "sysroot"])?.trim())
            .join("lib/rustlib/src/rust");
        flags.push(remap(&sources, &format!("/rustc/{hash}")));
    }
    Ok(flags.join("\x1f"))
}

/// The guest workspace's members, from its manifest.
fn members(root: &Path) -> Result<Vec<String>> {
    let manifest = read_manifest(&root.join("plugins/Cargo.toml"))?;
    let members = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("members"));
    let members = members
        .and_then(toml::Value::as_array)
        .context("plugins/Cargo.toml has no workspace.members")?;
    Ok(members
        .iter()
        .filter_map(|member| member.as_str().map(str::to_owned))
        .collect())
}

/// The names of a package's examples, from its manifest.
fn examples(manifest: &Path) -> Result<Vec<String>> {
    let parsed = read_manifest(manifest)?;
    let examples = parsed.get("example").and_then(toml::Value::as_array);
    let examples =
        examples.with_context(|| format!("{} has no [[example]]", manifest.display()))?;
    Ok(examples
        .iter()
        .filter_map(|example| example.get("name")?.as_str().map(str::to_owned))
        .collect())
}

fn read_manifest(path: &Path) -> Result<toml::Table> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

/// A component in its place.
struct Row {
    path: PathBuf,
    bytes: usize,
    changed: bool,
    imports: Vec<String>,
}

/// Checks a component and copies it, unless the same bytes are there already.
fn lay_out(source: &Path, target: &Path) -> Result<Row> {
    let bytes = fs::read(source).with_context(|| format!("{} was not built", source.display()))?;
    let (imports, exports) = interfaces(&bytes).with_context(|| source.display().to_string())?;
    for wanted in EXPORTS {
        if !exports.iter().any(|export| export == wanted) {
            bail!(
                "{} does not export {wanted}: is horarium_task::export! missing?",
                source.display()
            );
        }
    }
    let changed = fs::read(target).map_or(true, |old| old != bytes);
    if changed {
        let directory = target.parent().context("a file needs a directory")?;
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        // Whoever reads meanwhile sees the old file or the new one, never half of it.
        let partial = target.with_extension(format!("wasm.{}", std::process::id()));
        fs::write(&partial, &bytes).with_context(|| partial.display().to_string())?;
        fs::rename(&partial, target).with_context(|| target.display().to_string())?;
    }
    Ok(Row {
        path: target.to_owned(),
        bytes: bytes.len(),
        changed,
        imports,
    })
}

/// The names a component imports and exports at its outermost level.
fn interfaces(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => bail!("is no component"),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

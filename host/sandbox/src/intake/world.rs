//! Imports and exports of a component, held against what this host has and needs.

use super::parse_error;
use crate::capability::{self, TASK_IMPORTS, TASK_PACKAGE};
use horarium_core::runner::COMMAND;
use horarium_model::text::one_line;
use wasmparser::{Parser, Payload};

/// Most imports and exports a component may list.
const MAX_NAMES: usize = 1000;

/// Components above this hold the interpreter of another language.
const INTERPRETER_BYTES: u64 = 4 << 20;

/// Interfaces of WASI 0.2 the host has. All of a package, since guests import more than they use.
const WASI_PACKAGES: &[&str] = &[
    "io",
    "clocks",
    "random",
    "cli",
    "filesystem",
    "sockets",
    "http",
];

/// What a component imports and exports, by name, sanitised.
pub(super) struct World {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    modules: usize,
}

/// Reads the outermost imports and exports.
///
/// # Errors
/// Where the bytes cannot be parsed.
pub(super) fn read(component: &[u8]) -> Result<World, String> {
    let mut world = World {
        imports: Vec::new(),
        exports: Vec::new(),
        modules: 0,
    };
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| parse_error(&error))? {
            Payload::ModuleSection { .. } => {
                world.modules += 1;
                depth += 1;
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(|error| parse_error(&error))?;
                    world.imports.push(one_line(import.name.name, 200));
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(|error| parse_error(&error))?;
                    world.exports.push(one_line(export.name.name, 200));
                }
            }
            _ => {}
        }
        if world.imports.len() + world.exports.len() > MAX_NAMES {
            return Err(format!("more than {MAX_NAMES} imports and exports"));
        }
    }
    Ok(world)
}

/// `namespace:package/interface@version`, taken apart.
struct Name<'n> {
    package: &'n str,
    interface: &'n str,
    version: &'n str,
}

impl<'n> Name<'n> {
    fn parse(name: &'n str) -> Option<Self> {
        let (path, version) = name.split_once('@').unwrap_or((name, ""));
        let (package, interface) = path.split_once('/')?;
        Some(Self {
            package,
            interface,
            version,
        })
    }

    fn is(&self, package: &str, interface: &str) -> bool {
        self.package == package && self.interface == interface
    }
}

/// Components of WASI 0.3 use what this engine leaves out.
pub(super) fn refuse_newer_wasi(world: &World) -> Result<(), String> {
    let names = || world.imports.iter().chain(&world.exports);
    let newer = |name: &&String| {
        Name::parse(name)
            .is_some_and(|n| n.package.starts_with("wasi:") && n.version.starts_with("0.3"))
    };
    match names().find(newer) {
        Some(name) => Err(format!(
            "uses `{name}`: WASI 0.3 is not supported; build for WASI 0.2 (target wasm32-wasip2)"
        )),
        None => Ok(()),
    }
}

/// Whether the host can run it and has all it imports; its kind.
pub(super) fn check(world: &World) -> Result<&'static str, String> {
    let kind = kind(world)?;
    for import in &world.imports {
        if !provided(import) {
            return Err(format!(
                "imports `{import}`, which this host does not have; it has horarium:task@1.0 ({}), WASI 0.2 ({}) and {}",
                TASK_IMPORTS[1..].join(", "),
                WASI_PACKAGES.join(", "),
                capability::config::WASI_INTERFACE
            ));
        }
    }
    Ok(kind)
}

fn kind(world: &World) -> Result<&'static str, String> {
    let exported = |package, interface, version: &str| {
        world
            .exports
            .iter()
            .filter_map(|name| Name::parse(name))
            .any(|name| name.is(package, interface) && name.version.starts_with(version))
    };
    if exported(TASK_PACKAGE, "run", "1.") {
        return Ok("task");
    }
    if exported("wasi:cli", "run", "0.2.") {
        return Ok(COMMAND);
    }
    let needed = "horarium:task/run@1.0.0 (world horarium:task/minimal-task) or wasi:cli/run@0.2";
    if world.exports.is_empty() {
        return Err(format!(
            "an empty component: it exports nothing; a plugin exports {needed}"
        ));
    }
    let mut listed = world
        .exports
        .iter()
        .take(5)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if world.exports.len() > 5 {
        listed.push_str(", …");
    }
    Err(format!(
        "a component of another world: it exports {listed}; missing is {needed}"
    ))
}

fn provided(import: &str) -> bool {
    let Some(name) = Name::parse(import) else {
        return false;
    };
    match name.package.split_once(':') {
        Some(("wasi", "config")) => import == capability::config::WASI_INTERFACE,
        Some(("wasi", package)) => {
            WASI_PACKAGES.contains(&package) && name.version.starts_with("0.2.")
        }
        Some(("horarium", "task")) => {
            TASK_IMPORTS.contains(&name.interface) && name.version.starts_with("1.0.")
        }
        _ => false,
    }
}

/// Whether it describes itself.
pub(crate) fn exports_describe(exports: &[String]) -> bool {
    exports
        .iter()
        .filter_map(|name| Name::parse(name))
        .any(|name| name.is(TASK_PACKAGE, "describe") && name.version.starts_with("1."))
}

/// What the operator should know.
pub(super) fn remarks(world: &World, size: u64, made: Option<&'static str>) -> Vec<String> {
    let mut remarks: Vec<String> = made.into_iter().map(str::to_owned).collect();
    if world
        .imports
        .iter()
        .any(|name| name.starts_with("wasi:sockets/tcp@"))
    {
        remarks.push(
            "imports wasi:sockets, which is always denied; requests go through wasi:http"
                .to_owned(),
        );
    }
    // Large ones hold an interpreter, whose authors have no choice.
    if world.modules > 3 && made.is_none() && size < INTERPRETER_BYTES {
        remarks.push(format!(
            "holds {} core modules; one built for wasm32-wasip2 directly, without an adapter, starts faster",
            world.modules
        ));
    }
    remarks
}

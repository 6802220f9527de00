//! The checks that need no server: files, disk, limits of the process, the engine.

use super::db::{self, runtime};
use super::dev;
use super::doctor::{Finding, words};
use super::render::text_of;
use super::{now, words as text};
use crate::bench;
use horarium::api::TURNED_AWAY_AT_ONCE;
use horarium::settings::{DatabaseUrl, Settings};
use horarium_core::clock::{Clock, SystemClock};
use horarium_core::runner::Intake;
use horarium_sandbox::{Sandbox, SandboxSettings};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A commit that waits longer than this for the disk is worth a word.
const SLOW_SYNC: Duration = Duration::from_millis(20);
/// Address space below which instances cannot come from a pool.
const SMALL_ADDRESS_SPACE: u64 = 1 << 40;
/// No clock that is right shows an earlier year.
const EARLIEST_YEAR: i32 = 2026;

/// The data directory: there, ours alone, writable; and where compiled code goes.
pub(crate) fn directory(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "data directory";
    let path = &settings.data_dir;
    let shown = path.display();
    let mode = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata.permissions().mode() & 0o777,
        Ok(_) => {
            let detail = format!("{shown} is not a directory");
            return vec![Finding::fail(
                CHECK,
                detail,
                "choose another with --data-dir",
            )];
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return vec![Finding::ok(
                CHECK,
                format!("{shown} does not exist yet; `horarium serve` makes it"),
            )];
        }
        Err(error) => {
            let advice = "let this user read it, or choose another with --data-dir";
            return vec![Finding::fail(CHECK, format!("{shown}: {error}"), advice)];
        }
    };
    if let Err(error) = tempfile::tempfile_in(path) {
        let advice = "let this user write there, or choose another with --data-dir";
        return vec![Finding::fail(CHECK, format!("{shown}: {error}"), advice)];
    }
    let finding = if mode & 0o077 == 0 {
        Finding::ok(CHECK, format!("{shown}, mode {mode:03o}, writable"))
    } else {
        Finding::warn(
            CHECK,
            format!("{shown} has mode {mode:03o}: other users may look into it"),
            format!("chmod 700 {shown}"),
        )
    };
    let mut findings = vec![finding];
    let aot = path.join("aot");
    if aot.is_dir()
        && let Err(error) = tempfile::tempfile_in(&aot)
    {
        let detail = format!("{}: {error}", aot.display());
        findings.push(Finding::fail(
            "compiled code",
            detail,
            "let this user write there",
        ));
    }
    findings
}

/// Whoever reads the token may do everything.
pub(crate) fn token(settings: &Settings) -> Finding {
    const CHECK: &str = "admin token";
    let path = settings.data_dir.join("admin-token");
    match std::fs::metadata(&path) {
        Ok(metadata) => match metadata.permissions().mode() & 0o777 {
            mode if mode & 0o077 == 0 => Finding::ok(CHECK, format!("mode {mode:03o}")),
            mode => Finding::fail(
                CHECK,
                format!(
                    "{} has mode {mode:03o}: other users can read it",
                    path.display()
                ),
                format!("chmod 600 {}", path.display()),
            ),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Finding::ok(CHECK, "does not exist yet; `horarium serve` makes it")
        }
        Err(error) => Finding::fail(
            CHECK,
            format!("{}: {error}", path.display()),
            "let this user read it",
        ),
    }
}

/// The database: readable, ours, up to date, not damaged.
pub(crate) fn database(settings: &Settings) -> Finding {
    const CHECK: &str = "database";
    let database = match settings.database() {
        Ok(database) => database,
        Err(error) => return Finding::fail(CHECK, error.to_string(), "correct database.url"),
    };
    let looked = runtime().and_then(|runtime| {
        runtime.block_on(async {
            let status = db::status(settings, &database).await?;
            let damage = match &database {
                DatabaseUrl::Sqlite(path) if status["schema_version"] != 0 => {
                    horarium_store::quick_check(path).await?
                }
                _ => Vec::new(),
            };
            Ok((status, damage))
        })
    });
    let (status, damage) = match looked {
        Ok(looked) => looked,
        Err(failure) => {
            let advice = match database {
                DatabaseUrl::Sqlite(_) => {
                    "choose another data directory, or restore the file from a backup"
                }
                DatabaseUrl::Postgres(_) => "correct database.url, or start the database",
            };
            return Finding::fail(CHECK, words(&failure), advice);
        }
    };
    if let Some(first) = damage.first() {
        let detail = format!("{} is damaged: {first}", text_of(&status, "database"));
        return Finding::fail(CHECK, detail, "stop the server and restore a backup");
    }
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    match (number("schema_version"), number("pending")) {
        (0, _) => Finding::ok(CHECK, "does not exist yet; `horarium serve` creates it"),
        (version, 0) => Finding::ok(
            CHECK,
            format!(
                "schema {version}, up to date, {}, sound",
                text::bytes(number("size_bytes"))
            ),
        ),
        (version, pending) => Finding::warn(
            CHECK,
            format!("schema {version}, {pending} steps behind this binary"),
            "the next `horarium serve` takes them, or `horarium db migrate`",
        ),
    }
}

/// How long the disk takes to keep something for good: every recorded end waits for that.
pub(crate) fn disk(settings: &Settings) -> Finding {
    const CHECK: &str = "disk";
    let directory = existing(&settings.data_dir);
    match sync_latency(directory) {
        Ok(span) if span < SLOW_SYNC => Finding::ok(
            CHECK,
            format!(
                "keeps a page for good in {}",
                text::span(span.as_secs_f64())
            ),
        ),
        Ok(span) => Finding::warn(
            CHECK,
            format!(
                "takes {} to keep a page for good",
                text::span(span.as_secs_f64())
            ),
            "put the data directory on a faster disk, or set database.durability = \"relaxed\"",
        ),
        Err(error) => Finding::warn(
            CHECK,
            format!("{}: {error}", directory.display()),
            "make room, or let this user write there",
        ),
    }
}

/// The directory itself, or the nearest above it that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|ancestor| ancestor.is_dir())
        .unwrap_or_else(|| Path::new("."))
}

/// The median of some writes, each followed by fdatasync as SQLite's commits are.
fn sync_latency(directory: &Path) -> std::io::Result<Duration> {
    let mut file = tempfile::tempfile_in(directory)?;
    let clock = SystemClock::new();
    let mut spans = Vec::new();
    for _ in 0..11 {
        let begun = clock.monotonic();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        spans.push(clock.monotonic().saturating_sub(begun));
    }
    spans.sort();
    Ok(spans[spans.len() / 2])
}

/// A clock that is years off fires everything at once, or nothing.
pub(crate) fn clock() -> Finding {
    const CHECK: &str = "clock";
    use chrono::Datelike;
    let now = now();
    if (EARLIEST_YEAR..2100).contains(&now.year()) {
        Finding::ok(CHECK, format!("{} in UTC", text::instant(now)))
    } else {
        Finding::fail(
            CHECK,
            format!("says {}", text::instant(now)),
            "set the machine's clock (NTP) before starting the server",
        )
    }
}

/// `ulimit -v`.
pub(crate) fn address_space() -> Finding {
    const CHECK: &str = "address space";
    match getrlimit(Resource::RLIMIT_AS) {
        Ok((RLIM_INFINITY, _)) => Finding::ok(CHECK, "not limited"),
        Ok((limit, _)) if limit >= SMALL_ADDRESS_SPACE => {
            Finding::ok(CHECK, format!("limited to {}", text::bytes(limit)))
        }
        Ok((limit, _)) => Finding::warn(
            CHECK,
            format!(
                "limited to {}: runs are slower without a pool",
                text::bytes(limit)
            ),
            "raise it: ulimit -v unlimited",
        ),
        Err(error) => Finding::warn(CHECK, error.to_string(), "see ulimit -v"),
    }
}

/// `ulimit -n`: connections, database, requests of guests.
pub(crate) fn open_files(settings: &Settings) -> Finding {
    const CHECK: &str = "open files";
    let connections = settings.max_connections.saturating_add(TURNED_AWAY_AT_ONCE);
    let needed = u64::try_from(connections).unwrap_or(u64::MAX);
    let needed = needed.saturating_add(u64::from(settings.slots) * 8 + 64);
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((limit, _)) if limit >= needed => Finding::ok(CHECK, format!("{limit} allowed")),
        Ok((limit, _)) => Finding::warn(
            CHECK,
            format!("{limit} allowed, {needed} may be wanted when all is busy"),
            format!("raise it: ulimit -n {needed}, or lower api.max_connections"),
        ),
        Err(error) => Finding::warn(CHECK, error.to_string(), "see ulimit -n"),
    }
}

/// The engine with the server's slots, and the child that compiles for it.
pub(crate) fn engine(settings: &Settings) -> Vec<Finding> {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            return vec![Finding::fail("engine", error.to_string(), "see ulimit -u")];
        }
    };
    let worker = match dev::worker() {
        Ok(worker) => worker,
        Err(failure) => {
            return vec![Finding::fail(
                "compile worker",
                words(&failure),
                "install it anew",
            )];
        }
    };
    let mut wanted = SandboxSettings::new(settings.slots as usize, env!("CARGO_PKG_VERSION"));
    wanted.memory_bytes = settings.engine_memory;
    wanted.worker = Some(worker);
    runtime.block_on(async {
        match Sandbox::new(wanted, Arc::new(SystemClock::new())) {
            Ok(sandbox) => vec![pool(&sandbox, settings), worker_starts(&sandbox).await],
            Err(error) => vec![Finding::fail(
                "engine",
                error.to_string(),
                "this machine cannot run WebAssembly with these settings; see engine.pooling",
            )],
        }
    })
}

fn pool(sandbox: &Sandbox, settings: &Settings) -> Finding {
    const CHECK: &str = "engine";
    let stats = sandbox.stats();
    let version = stats.engine_version;
    let memory = text::bytes(stats.memory_total_bytes);
    if stats.pooling {
        let detail = format!(
            "wasmtime {version}, {} slots from a pool, {memory} for guests",
            settings.slots
        );
        return Finding::ok(CHECK, detail);
    }
    let reason = stats.fallback.unwrap_or_else(|| "switched off".to_owned());
    Finding::warn(
        CHECK,
        format!("wasmtime {version} without a pool: {reason}"),
        "runs are slower; raise ulimit -v or lower executor.slots",
    )
}

async fn worker_starts(sandbox: &Sandbox) -> Finding {
    const CHECK: &str = "compile worker";
    const ADVICE: &str = "plugins cannot be registered: check that this user may start processes";
    let clock = SystemClock::new();
    let compiled = match sandbox.inspect(bench::HELLO.to_vec()).await {
        Ok((_, pending)) => pending.await,
        Err(invalid) => Err(invalid.to_string()),
    };
    match compiled {
        Ok(_) => {
            let span = text::span(clock.monotonic().as_secs_f64());
            Finding::ok(
                CHECK,
                format!("starts, and compiled a small plugin in {span}"),
            )
        }
        Err(error) => Finding::fail(CHECK, error, ADVICE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;

    fn settings(directory: &Path) -> Settings {
        Settings {
            data_dir: directory.to_owned(),
            ..Settings::default()
        }
    }

    fn private() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700))
            .expect("a mode");
        directory
    }

    #[test]
    fn files_that_others_can_read_are_told() {
        let directory = private();
        let settings = settings(directory.path());
        assert_eq!(super::directory(&settings)[0].status, Status::Ok);
        assert_eq!(token(&settings).status, Status::Ok);
        let file = directory.path().join("admin-token");
        std::fs::write(&file, "x").expect("written");
        for (mode, status) in [(0o600, Status::Ok), (0o640, Status::Fail)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
            assert_eq!(token(&settings).status, status, "{mode:o}");
        }
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
            .expect("a mode");
        assert_eq!(super::directory(&settings)[0].status, Status::Warn);
    }

    #[test]
    fn what_is_not_there_yet_is_fine_and_what_is_no_database_is_not() {
        let directory = private();
        let missing = settings(&directory.path().join("a/b"));
        assert_eq!(super::directory(&missing)[0].status, Status::Ok);
        assert_eq!(database(&missing).status, Status::Ok);
        assert_eq!(existing(&missing.data_dir), directory.path());
        assert!(sync_latency(directory.path()).is_ok());
        std::fs::write(directory.path().join("horarium.db"), "not a database").expect("written");
        assert_eq!(database(&settings(directory.path())).status, Status::Fail);
    }
}

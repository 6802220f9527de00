//! Programs of Debian's that tests need: the servers they start for themselves (PostgreSQL, and
//! pgbouncer in front of it), and the tools of the plugins in other languages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program, by Debian's packages.
pub(crate) struct Server {
    pub(crate) package: &'static str,
    pub(crate) why: &'static str,
    /// How to say where it is, when it is not where Debian puts it.
    pub(crate) elsewhere: &'static str,
    pub(crate) is_there: fn() -> bool,
}

const SERVERS: [Server; 2] = [
    Server {
        package: "postgresql",
        why: "the tests of the PostgreSQL store start throwaway servers of their own",
        elsewhere: "set PG_BIN to the folder of its initdb",
        is_there: has_postgres,
    },
    Server {
        package: "pgbouncer",
        why: "a test goes through a pooler in transaction mode",
        elsewhere: "put it into PATH",
        is_there: has_pgbouncer,
    },
];

/// The servers.
pub(crate) fn ensure() -> Result<()> {
    install(&SERVERS)
}

/// Installs what is missing, on Debian as root; else says in one line what to install.
pub(crate) fn install(wanted: &'static [Server]) -> Result<()> {
    let missing: Vec<&Server> = wanted.iter().filter(|s| !(s.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|s| s.package).collect();
    let packages = packages.join(" ");
    let may = nix::unistd::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists();
    if !may {
        let other: Vec<&str> = missing.iter().map(|s| s.elsewhere).collect();
        bail!(
            "needed: {packages}; run `sudo apt-get install {packages}`, or where it is installed, {}",
            other.join(" and ")
        );
    }
    for server in &missing {
        println!("setup: installing {}: {}", server.package, server.why);
    }
    println!("setup: apt-get install {packages}");
    apt(&["update", "-q"])?;
    let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
    install.extend(missing.iter().flat_map(|s| s.package.split(' ')));
    apt(&install)?;
    match missing.iter().find(|s| !(s.is_there)()) {
        Some(server) => bail!("{} was installed, but is not found", server.package),
        None => Ok(()),
    }
}

fn apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("apt-get does not start")?;
    if !status.success() {
        bail!(
            "apt-get {} failed ({status}): check the network",
            arguments.join(" ")
        );
    }
    Ok(())
}

/// As the tests look for it.
fn has_postgres() -> bool {
    if let Some(folder) = std::env::var_os("PG_BIN") {
        return Path::new(&folder).join("initdb").is_file();
    }
    let versions = Path::new("/usr/lib/postgresql").read_dir();
    let mut debian = versions.into_iter().flatten().flatten();
    debian.any(|version| version.path().join("bin/initdb").is_file()) || in_path("initdb")
}

fn has_pgbouncer() -> bool {
    Path::new("/usr/sbin/pgbouncer").is_file() || in_path("pgbouncer")
}

pub(crate) fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).map(|folder: PathBuf| folder.join(program));
    folders.any(|file| file.is_file())
}

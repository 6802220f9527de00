//! Long tests with real servers, as `cargo xtask soak` runs them; short forms of the same run with the other tests.

#![allow(
    clippy::disallowed_methods,
    reason = "the rule is the host's: a test from outside has no clock to be given"
)]

pub mod chaos;
mod database;
mod host;
pub mod idle;
pub mod level;
mod link;
pub mod prune;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Result, bail};

/// What is tested.
#[derive(Debug, Clone)]
pub struct Build {
    /// The server.
    pub binary: PathBuf,
    /// The folder of the plugins, `target/plugins`.
    pub plugins: PathBuf,
}

impl Build {
    fn plugin(&self, name: &str) -> Result<PathBuf> {
        let file = self.plugins.join(format!("{name}.wasm"));
        if !file.is_file() {
            bail!("{} is not built: run cargo xtask plugins", file.display());
        }
        Ok(file)
    }
}

/// Hears how a run goes on.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Raised, it makes runs end soon, with an error.
pub fn interrupt() -> Arc<AtomicBool> {
    INTERRUPTED.clone()
}

fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Acquire)
}

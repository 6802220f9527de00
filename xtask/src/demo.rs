//! `demo`: the whole product at work on this machine, in a directory of its own that goes afterwards.

#![allow(
    clippy::disallowed_methods,
    reason = "the rule is the host's: a chore has no clock to be given"
)]

pub(crate) mod host;
mod tasks;
mod watch;
mod world;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{plugins, setup};
use host::Host;
use watch::Watch;
use world::World;

/// How often the terminal hears what changed.
const LOOK_EVERY: Duration = Duration::from_millis(400);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// End by itself this long after everything is ready, such as 30s, and tell how it went
    #[arg(long = "for", value_name = "SPAN", value_parser = span)]
    span: Option<Duration>,
}

/// `30s`, `2m`, or seconds. Shorter than the tasks take it would only fail.
fn span(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix('m') {
        Some(digits) => (digits, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| (20..=86_400).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "write 30s or 2m; it takes at least 20s".to_owned())
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let stop = stop_flag()?;
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    println!(
        "demo: building the plugins and the host, unoptimised: the builds `cargo xtask test` uses \
         too, and much sooner ready than a release. The first time takes minutes."
    );
    setup::ensure()?;
    plugins::run(&plugins::Arguments::default())?;
    let binary = host::build()?;
    interrupted(&stop)?;

    let directory = Directory::new()?;
    let world = World::start()?;
    println!(
        "demo: the world outside is {} (listings, and a page that fails twice)",
        world.url()
    );
    let mut host = Host::start(binary, &directory.0)?;
    println!(
        "demo: the server is {}, its files in {}",
        host.url()?,
        directory.0.display()
    );
    let registered = tasks::register_plugins(&host, &world);
    host.explain(registered)?;
    let created = tasks::create(&host, &world);
    let scenes = host.explain(created)?;
    interrupted(&stop)?;

    println!("demo: ready; this is what happens:\n");
    let ready = Instant::now();
    let mut watch = Watch::new(scenes, ready, colour);
    let live = live(&mut host, &mut watch, arguments.span, &stop);
    host.explain(live)?;
    let good = if arguments.span.is_some() && !stop.load(Ordering::Relaxed) {
        let verdict = watch.verdict(&host, ready.elapsed());
        host.explain(verdict)?
    } else {
        true
    };
    host.stop();
    if !good {
        bail!("not everything went as it should: see the table");
    }
    println!("demo: done");
    Ok(())
}

/// Prints what changes until the time is over or Ctrl-C.
fn live(
    host: &mut Host,
    watch: &mut Watch,
    span: Option<Duration>,
    stop: &AtomicBool,
) -> Result<()> {
    if span.is_none() {
        println!("  (until Ctrl-C; meanwhile, in another terminal:");
        println!(
            "   {} execution list --data-dir {})\n",
            host.binary(),
            host.data_dir()
        );
    }
    while !stop.load(Ordering::Relaxed) && span.is_none_or(|span| watch.elapsed() < span) {
        tasks::trigger_due(host, watch)?;
        watch.look(host)?;
        host.check_alive()?;
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Raised by Ctrl-C and SIGTERM, so that the server and the directory do not outlive us.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("signals cannot be caught")?;
    }
    Ok(stop)
}

fn interrupted(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// A fresh directory that is removed with everything in it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let unique = since_epoch.map_or(0, |span| span.as_nanos());
        let name = format!("horarium-demo-{}-{unique}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Refused if somebody made it before us; readable by nobody else.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("demo: {} stays: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_bounds() {
        assert_eq!(span("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(span("45"), Ok(Duration::from_secs(45)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        assert!(span("5s").is_err() && span("soon").is_err() && span("99999m").is_err());
    }
}

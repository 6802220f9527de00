//! `bench`: the ladder of `horarium bench`, of this tree and, to find regressions, of another commit in turn.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Measure this commit too, turn about, and show the ratios
    #[arg(long, value_name = "COMMIT")]
    compare: Option<String>,
    /// Rounds; medians are shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Build this way; figures of `dev` only show that all works
    #[arg(long, value_name = "PROFILE", default_value = "release")]
    profile: String,
    /// As `horarium bench --database-url` [default: SQLite files in a temporary directory]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Print all figures as JSON
    #[arg(long)]
    json: bool,
}

/// One of the benches of `horarium bench`.
struct Run {
    name: &'static str,
    flags: &'static [&'static str],
    /// It takes `--database-url`.
    database: bool,
}

const fn run_of(name: &'static str, flags: &'static [&'static str], database: bool) -> Run {
    Run {
        name,
        flags,
        database,
    }
}

/// What a round runs. `bench growth` is no part of it: its curves take minutes.
const RUNS: &[Run] = &[
    run_of("drain", &["--runs", "1", "--slots", "2048"], true),
    run_of("latency", &[], true),
    run_of("schedule", &["--for", "5"], true),
    run_of("guest", &[], false),
    run_of("waiting", &["--loops", "3", "--slots", "2000"], true),
    run_of(
        "host",
        &["--plugins", "50", "--starts", "1", "--idle", "5"],
        false,
    ),
];

/// A figure of the ladder.
struct Figure {
    name: &'static str,
    run: &'static str,
    pointer: &'static str,
    /// Less of it is better.
    less: bool,
}

const fn more(name: &'static str, run: &'static str, pointer: &'static str) -> Figure {
    Figure {
        name,
        run,
        pointer,
        less: false,
    }
}

const fn less(name: &'static str, run: &'static str, pointer: &'static str) -> Figure {
    Figure {
        less: true,
        ..more(name, run, pointer)
    }
}

const FIGURES: &[Figure] = &[
    more("bare / plain", "drain", "/bare_over_plain"),
    more("drain / plain", "drain", "/drain_over_plain"),
    less("overhead, µs", "drain", "/overhead_us"),
    more("enqueue, 500 a call", "drain", "/enqueue_per_second"),
    more(
        "enqueue by REST, single",
        "drain",
        "/enqueue_single_per_second",
    ),
    more(
        "enqueue by REST, 10 000",
        "drain",
        "/enqueue_batch_per_second",
    ),
    less("start p50, ms", "latency", "/start_ms/p50"),
    less("start p99, ms", "latency", "/start_ms/p99"),
    less("recorded p50, ms", "latency", "/recorded_ms/p50"),
    less("other host p50, ms", "latency", "/pickup_other_ms/p50"),
    less("slots late p99, ms", "schedule", "/lateness_ms/p99"),
    less("slots missed", "schedule", "/missed"),
    less("slots doubled", "schedule", "/doubled"),
    less("compile hello, ms", "guest", "/compile_ms"),
    less("load hello, ms", "guest", "/load_ms"),
    less("run hello p50, ms", "guest", "/run_ms/p50"),
    less(
        "metered loop / unmetered",
        "guest",
        "/metering/loop/on_over_off",
    ),
    less("2000 waiting, MiB", "waiting", "/resident_peak_mib"),
    less("computing beside / alone", "waiting", "/beside_over_alone"),
    less("start to first run, ms", "host", "/first_start_ms"),
    less("idle, % of a core", "host", "/idle_cpu_percent"),
    less("resident at rest, MiB", "host", "/resident_mib"),
    less("binary, bytes", "host", "/binary_bytes"),
];

/// A binary and what it showed: of each round, the figures in order.
struct Side {
    name: String,
    binary: PathBuf,
    rounds: Vec<Vec<Option<f64>>>,
}

/// Builds, measures, prints.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut sides = Vec::new();
    if let Some(commit) = &arguments.compare {
        sides.push(built_at(commit, &arguments.profile)?);
    }
    // Last, so that what is left in the target directory belongs to this tree.
    let binary = build(&crate::root(), "this-tree", &arguments.profile)?;
    sides.push(Side::new("this tree", binary));
    for round in 1..=arguments.rounds {
        for side in &mut sides {
            eprintln!("round {round} of {}: {}", arguments.rounds, side.name);
            side.measure(arguments.database_url.as_deref())?;
        }
    }
    if arguments.json {
        println!("{:#}", document(&sides));
    } else {
        print!("{}", table(&sides));
    }
    Ok(())
}

impl Side {
    fn new(name: &str, binary: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            binary,
            rounds: Vec::new(),
        }
    }

    fn measure(&mut self, database: Option<&str>) -> Result<()> {
        let mut documents = Vec::new();
        for Run {
            name,
            flags,
            database: takes_database,
        } in RUNS
        {
            // A commit may be older than a bench.
            if !self.output(&["bench", name, "--help"])?.status.success() {
                eprintln!("{} has no bench {name}", self.name);
                continue;
            }
            let mut all = vec!["bench", name, "--json"];
            all.extend(*flags);
            if let Some(url) = database.filter(|_| *takes_database) {
                all.extend(["--database-url", url]);
            }
            let output = self.output(&all)?;
            let told = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "bench {name} failed: {told}");
            let document: Value = serde_json::from_slice(&output.stdout)
                .with_context(|| format!("bench {name} printed no JSON"))?;
            documents.push((*name, document));
        }
        let figure = |figure: &Figure| {
            let (_, document) = documents.iter().find(|(run, _)| *run == figure.run)?;
            document.pointer(figure.pointer)?.as_f64()
        };
        self.rounds.push(FIGURES.iter().map(figure).collect());
        Ok(())
    }

    fn output(&self, arguments: &[&str]) -> Result<Output> {
        let output = Command::new(&self.binary).args(arguments).output();
        output.context("the binary does not start")
    }

    fn figures(&self, at: usize) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round[at]).collect()
    }
}

/// The binary of another commit, built in a worktree of its own with the dependencies of this one.
fn built_at(commit: &str, profile: &str) -> Result<Side> {
    let hash = git(&[
        "rev-parse",
        "--short=12",
        "--verify",
        &format!("{commit}^{{commit}}"),
    ])
    .with_context(|| format!("there is no commit `{commit}`"))?;
    let tree = scratch()?.join(format!("tree-{hash}"));
    let path = tree.to_str().context("the path is no text")?;
    // One that an earlier run was stopped in.
    let _ = git(&["worktree", "remove", "--force", path]);
    git(&["worktree", "add", "--detach", path, &hash])?;
    let built = build(&tree, &hash, profile);
    git(&["worktree", "remove", "--force", path])?;
    Ok(Side::new(&format!("{commit} ({hash})"), built?))
}

/// Builds a tree into this one's target directory and keeps the binary under a name of its own.
fn build(tree: &Path, name: &str, profile: &str) -> Result<PathBuf> {
    let target = crate::root().join("target");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", &target)
        // Each tree has its own; `cargo xtask` was started with this one's.
        .env_remove("LIBSQLITE3_FLAGS")
        .args([
            "build",
            "--profile",
            profile,
            "--locked",
            "--workspace",
            "--bin",
            "horarium",
        ])
        .status()
        .context("cargo does not start")?;
    if !status.success() {
        bail!("{} does not build", tree.display());
    }
    let kept = scratch()?.join(format!("horarium-{name}"));
    // Cargo's own name for what it builds with `dev`.
    let folder = if profile == "dev" { "debug" } else { profile };
    std::fs::copy(target.join(folder).join("horarium"), &kept).context("cannot keep the binary")?;
    Ok(kept)
}

fn scratch() -> Result<PathBuf> {
    let folder = crate::root().join("target/bench");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .current_dir(crate::root())
        .args(arguments)
        .output()
        .context("git does not start")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "git {}: {}",
        arguments[0],
        told.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

/// The median of the rounds' ratios: both of a round met the same moods of the machine.
fn ratio(base: &Side, side: &Side, at: usize) -> Option<f64> {
    let rounds = base.rounds.iter().zip(&side.rounds);
    let ratios = rounds.filter_map(|(base, side)| Some(side[at]? / base[at]?));
    median(ratios.filter(|ratio| ratio.is_finite()).collect())
}

fn document(sides: &[Side]) -> Value {
    let figures = FIGURES.iter().enumerate().map(|(at, figure)| {
        let medians = sides.iter().map(|side| (side.name.clone(), json!(median(side.figures(at)))));
        let medians: serde_json::Map<String, Value> = medians.collect();
        let rounds = sides.iter().map(|side| (side.name.clone(), json!(side.figures(at))));
        let rounds: serde_json::Map<String, Value> = rounds.collect();
        let ratio = match sides {
            [base, side] => ratio(base, side, at),
            _ => None,
        };
        json!({"figure": figure.name, "less_is_better": figure.less, "medians": medians, "ratio": ratio,
            "rounds": rounds})
    });
    json!({"figures": figures.collect::<Vec<_>>()})
}

fn table(sides: &[Side]) -> String {
    let mut text = format!("{:<26}", "median");
    for side in sides {
        text += &format!("{:>28}", side.name);
    }
    text += if sides.len() == 2 {
        "      ratio\n"
    } else {
        "\n"
    };
    for (at, figure) in FIGURES.iter().enumerate() {
        let medians: Vec<Option<f64>> = sides.iter().map(|side| median(side.figures(at))).collect();
        if medians.iter().all(Option::is_none) {
            continue;
        }
        text += &format!("{:<26}", figure.name);
        for median in medians {
            let shown = median.map_or("-".to_owned(), |median| format!("{median:.2}"));
            text += &format!("{shown:>28}");
        }
        if let [base, side] = sides {
            text += &match ratio(base, side, at) {
                Some(ratio) => format!("{ratio:>9.2} {}\n", judged(ratio, figure.less)),
                None => "\n".to_owned(),
            };
        } else {
            text += "\n";
        }
    }
    text
}

/// A twentieth is what these machines vary by.
fn judged(ratio: f64, less: bool) -> &'static str {
    let better = if less { 1.0 / ratio } else { ratio };
    match better {
        better if better < 0.95 => "worse",
        better if better > 1.05 => "better",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &str, rounds: &[f64]) -> Side {
        let mut side = Side::new(name, PathBuf::new());
        for figure in rounds {
            let mut round = vec![None; FIGURES.len()];
            round[1] = Some(*figure);
            round[2] = Some(100.0 / figure);
            side.rounds.push(round);
        }
        side
    }

    #[test]
    fn ratios_are_of_the_same_round_and_judged_by_what_is_better() {
        // The machine slowed down by half for the second round; the tree did not.
        let (base, tree) = (
            side("main", &[1.0, 0.5, 1.0]),
            side("this tree", &[2.0, 1.0, 1.9]),
        );
        assert_eq!(ratio(&base, &tree, 1), Some(2.0));
        assert_eq!(ratio(&base, &tree, 0), None);
        let shown = table(&[base, tree]);
        let line = |name: &str| {
            let line = shown.lines().find(|line| line.starts_with(name));
            line.unwrap_or_else(|| panic!("{name} not in\n{shown}"))
                .to_owned()
        };
        assert!(line("drain / plain").ends_with("2.00 better"), "{shown}");
        assert!(line("overhead, µs").ends_with("0.50 better"), "{shown}");
        assert!(!shown.contains("bare"), "{shown}");
    }

    #[test]
    fn a_twentieth_is_no_change() {
        assert_eq!(judged(1.04, false), "");
        assert_eq!(judged(0.9, false), "worse");
        assert_eq!(judged(1.1, true), "worse");
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}

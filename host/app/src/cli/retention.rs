//! `task retention` and `tenant retention`: how long ended executions are kept.

use super::Remote;
use super::failure::Outcome;
use super::render::{Facts, Style};
use super::values::span;
use super::words;
use clap::Args;
use serde_json::{Map, Value};

/// What is kept. Without any flag it is shown.
#[derive(Debug, Args)]
pub(crate) struct Bounds {
    /// Keep successes this long, such as 36h or 30d; `all` for no bound of its own
    #[arg(long, value_name = "SPAN", value_parser = bound)]
    succeeded: Option<Bound>,
    /// Keep failures this long
    #[arg(long, value_name = "SPAN", value_parser = bound)]
    failed: Option<Bound>,
    /// Keep cancelled executions this long
    #[arg(long, value_name = "SPAN", value_parser = bound)]
    cancelled: Option<Bound>,
    /// Keep rows of skipped slots this long
    #[arg(long, value_name = "SPAN", value_parser = bound)]
    skipped: Option<Bound>,
    /// Keep this many ended executions of a task, the newest
    #[arg(long, value_name = "N", value_parser = number)]
    keep: Option<Bound>,
}

/// A bound, or none.
#[derive(Debug, Clone, Copy)]
struct Bound(Option<u64>);

fn bound(text: &str) -> Result<Bound, String> {
    match text {
        "all" => Ok(Bound(None)),
        text => span(text).map(|seconds| Bound(Some(seconds))),
    }
}

fn number(text: &str) -> Result<Bound, String> {
    match text {
        "all" => Ok(Bound(None)),
        text => match text.parse() {
            Ok(count) => Ok(Bound(Some(count))),
            Err(_) => Err("it must be a whole number, or `all`".to_owned()),
        },
    }
}

impl Bounds {
    /// Whether nothing is to be changed.
    pub(crate) fn only_shows(&self) -> bool {
        self.changes().is_empty()
    }

    fn changes(&self) -> Vec<(&'static str, Bound)> {
        let all = [
            ("succeeded_seconds", self.succeeded),
            ("failed_seconds", self.failed),
            ("cancelled_seconds", self.cancelled),
            ("skipped_seconds", self.skipped),
            ("keep", self.keep),
        ];
        let named = all.into_iter();
        named
            .filter_map(|(key, bound)| Some((key, bound?)))
            .collect()
    }

    /// Shows what is at a path, or changes it: what no flag names stays.
    pub(crate) fn run(&self, remote: &Remote, path: &str) -> Outcome {
        let mut answer = remote.client.get(path, &Vec::new())?;
        let changes = self.changes();
        let next = match changes.is_empty() {
            true => "",
            false => "See what there is to keep: horarium execution list\n",
        };
        if !changes.is_empty() {
            let mut body: Map<String, Value> = match answer.json()? {
                Value::Object(map) => map,
                _ => Map::new(),
            };
            for (key, Bound(value)) in changes {
                body.insert(key.to_owned(), value.into());
            }
            answer = remote.client.put(path, &Value::Object(body))?;
        }
        remote.show(&answer, |retention| facts(retention) + next)
    }
}

fn facts(retention: &Value) -> String {
    let mut facts = Facts::default();
    for (key, label) in [
        ("succeeded_seconds", "succeeded"),
        ("failed_seconds", "failed"),
        ("cancelled_seconds", "cancelled"),
        ("skipped_seconds", "skipped"),
    ] {
        let seconds = retention[key].as_u64();
        facts.add(
            label,
            seconds.map_or("no bound here".to_owned(), |s| words::span(s as f64)),
        );
    }
    let keep = retention["keep"].as_u64();
    facts.add(
        "of each task",
        keep.map_or("no bound here".to_owned(), |n| {
            format!("the newest {}", words::count(n))
        }),
    );
    facts.render(Style::of_stdout())
}

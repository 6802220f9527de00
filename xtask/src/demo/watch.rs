//! What happens, line by line, and at the end how it went.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::host::Host;
use super::tasks::{Expected, Scene, told};

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const CYAN: &str = "\u{1b}[36m";

/// The terminal's side of the demo.
pub(super) struct Watch {
    scenes: Vec<Scene>,
    ready: Instant,
    colour: bool,
    /// State and attempt last told, by execution.
    seen: HashMap<String, (String, u64)>,
}

impl Watch {
    /// Nothing was told yet; times count from `ready`.
    pub(super) fn new(scenes: Vec<Scene>, ready: Instant, colour: bool) -> Self {
        Self {
            scenes,
            ready,
            colour,
            seen: HashMap::new(),
        }
    }

    /// Since everything was ready.
    pub(super) fn elapsed(&self) -> Duration {
        self.ready.elapsed()
    }

    /// The scenes, to be triggered.
    pub(super) fn scenes_mut(&mut self) -> impl Iterator<Item = &mut Scene> {
        self.scenes.iter_mut()
    }

    /// Tells what changed since the last look.
    pub(super) fn look(&mut self, host: &Host) -> Result<()> {
        let listed = host.ask(&["execution", "list", "--limit", "100"])?;
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        for execution in items.iter().rev() {
            let text = |key: &str| execution[key].as_str().unwrap_or_default().to_owned();
            let attempt = execution["attempt"].as_u64().unwrap_or(0);
            let now = (text("state"), attempt);
            if self.seen.get(&text("task_id")) == Some(&now) {
                continue;
            }
            // Waiting for a free slot is over too soon to be told.
            if matches!(now.0.as_str(), "running" | "retryable") || is_end(&now.0) {
                self.tell(host, execution, &now.0, attempt);
            }
            self.seen.insert(text("task_id"), now);
        }
        Ok(())
    }

    fn tell(&self, host: &Host, execution: &Value, state: &str, attempt: u64) {
        let id = execution["config_id"].as_i64();
        let name = self
            .scenes
            .iter()
            .find(|scene| Some(scene.id) == id)
            .map_or("(other)", |scene| scene.name);
        let (colour, detail) = match state {
            "succeeded" => (GREEN, told(host, execution)),
            "failed" => (RED, told(host, execution)),
            "retryable" => (
                YELLOW,
                format!("attempt {attempt} failed, waits for the next"),
            ),
            "running" if attempt > 1 => (CYAN, format!("attempt {attempt}")),
            "running" => (CYAN, execution["trigger"].as_str().unwrap_or("").to_owned()),
            "skipped" => (
                YELLOW,
                execution["skip_reason"].as_str().unwrap_or("").to_owned(),
            ),
            _ => (YELLOW, String::new()),
        };
        let line = format!(
            "{:6.1}s  {name:16} {} {detail}",
            self.elapsed().as_secs_f64(),
            self.paint(colour, &format!("{state:10}")),
        );
        println!("{}", line.trim_end());
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("{colour}{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Prints what ran, and whether it went as it should.
    pub(super) fn verdict(&self, host: &Host, span: Duration) -> Result<bool> {
        println!(
            "\n  {:16} {:24} {:5} {:34} RIGHT",
            "TASK", "SHOULD BE", "RUNS", "WAS"
        );
        let mut good = true;
        for scene in &self.scenes {
            let id = scene.id.to_string();
            let listed = host.ask(&["execution", "list", "--task", &id, "--limit", "1000"])?;
            let runs = listed["items"].as_array().cloned().unwrap_or_default();
            let right = as_expected(scene.expected, &runs, span);
            good &= right;
            let ran = runs.iter().filter(|run| run["state"] != "skipped").count();
            println!(
                "  {:16} {:24} {ran:<5} {:34} {}",
                scene.name,
                scene.expected.words(),
                summary(&runs),
                if right {
                    self.paint(GREEN, "yes")
                } else {
                    self.paint(RED, "NO")
                }
            );
        }
        println!();
        Ok(good)
    }
}

fn is_end(state: &str) -> bool {
    matches!(state, "succeeded" | "failed" | "cancelled" | "skipped")
}

fn count(runs: &[Value], state: &str) -> usize {
    runs.iter().filter(|run| run["state"] == state).count()
}

/// Whether a scene's executions, newest first, are what they should be after `span`.
fn as_expected(expected: Expected, runs: &[Value], span: Duration) -> bool {
    match expected {
        Expected::Often(every) => {
            // A busy machine may skip a slot behind a slow run; half of them is proof enough.
            let slots = span.as_secs() / every.as_secs().max(1);
            let enough = usize::try_from(slots / 2).unwrap_or(usize::MAX);
            count(runs, "failed") == 0 && count(runs, "succeeded") >= enough.max(1)
        }
        Expected::OnceAtAttempt(attempt) => match runs {
            [run] => run["state"] == "succeeded" && run["attempt"] == attempt,
            _ => false,
        },
        Expected::Failure(kind, said) => match runs {
            [run] => {
                let message = run["error_message"].as_str().unwrap_or_default();
                run["state"] == "failed" && run["error_kind"] == kind && message.contains(said)
            }
            _ => false,
        },
    }
}

/// `14 succeeded`, or the one end with its kind.
fn summary(runs: &[Value]) -> String {
    if let [run] = runs {
        let state = run["state"].as_str().unwrap_or_default();
        return match run["error_kind"].as_str() {
            Some(kind) => format!("{state}: {kind}"),
            None => format!("{state} at attempt {}", run["attempt"]),
        };
    }
    let states = [
        "succeeded",
        "failed",
        "skipped",
        "running",
        "retryable",
        "available",
    ];
    let parts: Vec<String> = states
        .iter()
        .map(|state| (count(runs, state), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_scene_is_right_only_as_expected() {
        let span = Duration::from_secs(30);
        let often = Expected::Often(Duration::from_secs(2));
        let good = vec![json!({"state": "succeeded"}); 8];
        assert!(as_expected(often, &good, span) && !as_expected(often, &good[..6], span));
        let with_failure = [good.clone(), vec![json!({"state": "failed"})]].concat();
        assert!(!as_expected(often, &with_failure, span));

        let third = Expected::OnceAtAttempt(3);
        let run = |attempt: u64| vec![json!({"state": "succeeded", "attempt": attempt})];
        assert!(as_expected(third, &run(3), span) && !as_expected(third, &run(1), span));
        assert!(!as_expected(third, &[], span));

        let refused = Expected::Failure("permanent", "grant");
        let failed = |message: &str| {
            vec![json!({"state": "failed", "error_kind": "permanent", "error_message": message})]
        };
        assert!(as_expected(
            refused,
            &failed("needs the grant: http …"),
            span
        ));
        assert!(!as_expected(refused, &failed("connection refused"), span));
    }

    #[test]
    fn summaries_count_or_name_the_end() {
        assert_eq!(summary(&[]), "nothing");
        assert_eq!(
            summary(&[json!({"state": "failed", "error_kind": "timeout"})]),
            "failed: timeout"
        );
        let runs = [
            json!({"state": "succeeded"}),
            json!({"state": "succeeded"}),
            json!({"state": "skipped"}),
        ];
        assert_eq!(summary(&runs), "2 succeeded, 1 skipped");
    }
}

//! What an import comes to, for people and as JSON.

use super::Found;
use super::history::Moved;
use super::types::TypeMap;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::render::{Cell, Paint, Style, Table};
use crate::cli::words::count;
use crate::cli::{Remote, print, task_show};
use horarium_model::text::one_line;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Tasks that are shown one by one.
const SHOWN: usize = 200;

/// What an import comes to.
#[derive(Debug)]
pub(crate) struct Report {
    /// Where it came from.
    pub(super) source: String,
    set: String,
    applied: bool,
    types: Vec<TypeLine>,
    tasks: Vec<TaskLine>,
    /// The history, if it was asked for.
    pub(super) executions: Option<Moved>,
    /// What is to be known of all of it.
    pub(super) notes: Vec<String>,
}

/// What stands for what.
#[derive(Debug)]
struct TypeLine {
    from: String,
    to: String,
    registered: bool,
    tasks: u64,
}

#[derive(Debug)]
struct TaskLine {
    place: String,
    task: Value,
    is_new: bool,
    notes: Vec<String>,
}

impl Report {
    pub(super) fn new(
        set: &str,
        applied: bool,
        found: &[Found],
        tasks: &[Value],
        plan: &Value,
        types: &TypeMap,
        registered: &[Value],
    ) -> Self {
        let is_registered = |name: &str| registered.iter().any(|known| known["task_type"] == name);
        let mut lines: BTreeMap<(String, String), u64> = BTreeMap::new();
        for (found, task) in found.iter().zip(tasks) {
            let to = task["task_type"].as_str().unwrap_or_default().to_owned();
            *lines.entry((found.from_type.clone(), to)).or_default() += 1;
        }
        let types_here = lines
            .into_iter()
            .map(|((from, to), tasks)| TypeLine {
                registered: is_registered(&to),
                from,
                to,
                tasks,
            })
            .collect();
        let items = plan["items"].as_array().map_or(&[][..], Vec::as_slice);
        let tasks = found
            .iter()
            .zip(tasks)
            .enumerate()
            .map(|(index, (found, task))| {
                let item = items.get(index).unwrap_or(&Value::Null);
                let is_new = item["action"] == "create";
                let mut task = task.clone();
                let mut notes = found.notes.clone();
                if let (true, Some(note)) = (is_new, item["note"].as_str()) {
                    // The server made it a pause.
                    task["paused"] = true.into();
                    notes.push(note.to_owned());
                }
                TaskLine {
                    place: found.place.clone(),
                    task,
                    is_new,
                    notes,
                }
            })
            .collect();
        let unused = types.unused();
        let notes = match unused.is_empty() {
            true => Vec::new(),
            false => vec![format!("--map met nothing for: {}", unused.join(", "))],
        };
        Self {
            source: String::new(),
            set: set.to_owned(),
            applied,
            types: types_here,
            tasks,
            executions: None,
            notes,
        }
    }

    fn new_tasks(&self) -> impl Iterator<Item = &TaskLine> {
        self.tasks.iter().filter(|line| line.is_new)
    }

    fn to_json(&self) -> Value {
        let created = self.new_tasks().count();
        let paused = self.new_tasks().filter(|line| line.task["paused"] == true);
        json!({
            "source": self.source,
            "set": format!("import/{}", self.set),
            "applied": self.applied,
            "created": created,
            "known": self.tasks.len() - created,
            "paused": paused.count(),
            "types": self.types.iter().map(|line| json!({
                "from": line.from, "to": line.to, "registered": line.registered, "tasks": line.tasks,
            })).collect::<Vec<_>>(),
            "tasks": self.tasks.iter().map(|line| json!({
                "place": line.place,
                "action": if line.is_new { "create" } else { "known" },
                "task": line.task,
                "notes": line.notes,
            })).collect::<Vec<_>>(),
            "executions": self.executions,
            "notes": self.notes,
        })
    }

    /// Prints it.
    pub(super) fn show(&self, remote: &Remote) -> Outcome {
        match remote.json {
            true => print(&format!("{}\n", self.to_json()))?,
            false => print(&self.render(Style::of_stdout()))?,
        }
        Ok(Exit::Done)
    }

    fn render(&self, style: Style) -> String {
        let mut text = format!("From {}\n\n", style.paint(Paint::Bold, &self.source));
        if self.tasks.is_empty() {
            text.push_str("There are no tasks there.\n");
        } else {
            text.push_str(&self.type_table().render(style));
            text.push('\n');
            text.push_str(&self.task_table().render(style));
            if self.tasks.len() > SHOWN {
                text.push_str(&format!(
                    "and {} more; --json tells all\n",
                    self.tasks.len() - SHOWN
                ));
            }
            for line in self.tasks.iter().take(SHOWN) {
                for note in &line.notes {
                    let place = style.paint(Paint::Warning, &line.place);
                    text.push_str(&format!("  {place}: {note}\n"));
                }
            }
        }
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        if let Some(moved) = &self.executions {
            text.push_str(&executions(moved, self.applied));
        }
        text.push_str(&self.end());
        text
    }

    fn type_table(&self) -> Table {
        let mut table = Table::new(&["THERE", "HERE", "TASKS>", "PLUGIN"]);
        for line in &self.types {
            table.row(vec![
                line.from.as_str().into(),
                line.to.as_str().into(),
                count(line.tasks).into(),
                match line.registered {
                    true => Cell::painted(Paint::Good, "registered"),
                    false => Cell::painted(Paint::Warning, "not registered"),
                },
            ]);
        }
        table
    }

    fn task_table(&self) -> Table {
        let mut table = Table::new(&["FOUND AT", "KEY", "NAME", "TYPE", "SCHEDULE", "BECOMES"]);
        for line in self.tasks.iter().take(SHOWN) {
            let text = |key: &str| line.task[key].as_str().unwrap_or_default();
            let becomes = match (line.is_new, line.task["paused"] == true) {
                (false, _) => Cell::painted(Paint::Dim, "is there already"),
                (true, true) => Cell::painted(Paint::Warning, "paused"),
                (true, false) => Cell::painted(Paint::Good, "active"),
            };
            table.row(vec![
                line.place.as_str().into(),
                text("key").into(),
                text("name").into(),
                text("task_type").into(),
                task_show::schedule(&line.task).into(),
                becomes,
            ]);
        }
        table
    }

    fn end(&self) -> String {
        let created = self.new_tasks().count();
        let missing: Vec<&str> = self
            .types
            .iter()
            .filter(|line| !line.registered)
            .map(|line| line.to.as_str())
            .collect();
        let mut text = match self.applied {
            true => format!(
                "Imported: {created} tasks created, {} were there already.\n",
                self.tasks.len() - created
            ),
            false => "This was a report: nothing was written. Do it: the same with --apply (horarium import …).\n".to_owned(),
        };
        if !missing.is_empty() {
            text.push_str(&format!(
                "Not registered yet: {}. Their tasks are created paused; `horarium plugin register TYPE FILE.wasm`, then \
                 `horarium task resume TASK`. --map OLD=NEW names another plugin.\n",
                one_line(&missing.join(", "), 300)
            ));
        }
        if self.applied {
            text.push_str(&format!(
                "See them: horarium task list --set import/{}\n",
                self.set
            ));
            let fires = |line: &TaskLine| {
                line.task["paused"] != true && line.task["scheduler_type"] != "manual"
            };
            if self.new_tasks().any(fires) {
                text.push_str(
                    "They fire from now on: stop the old system, or pause them, lest both do.\n",
                );
            }
        }
        text
    }
}

fn executions(moved: &Moved, applied: bool) -> String {
    let mut parts = vec![match applied {
        true => format!(
            "{} imported, {} known already",
            count(moved.imported),
            count(moved.known)
        ),
        false => format!("{} to import", count(moved.imported)),
    }];
    if moved.unfinished > 0 {
        parts.push(format!(
            "{} have not ended there (import again when they have)",
            count(moved.unfinished)
        ));
    }
    if !moved.left.is_empty() {
        parts.push(format!("{} cannot be taken", moved.left.len()));
    }
    let mut text = format!(
        "Executions: {} there; {}.\n",
        count(moved.total),
        parts.join(", ")
    );
    if moved.noted > 0 {
        text.push_str(&format!(
            "  {} have a remark in their log, such as\n",
            count(moved.noted)
        ));
        for note in moved.notes.iter().take(5) {
            text.push_str(&format!("    {note}\n"));
        }
    }
    for reason in moved.left.iter().take(10) {
        text.push_str(&format!("  not taken: {reason}\n"));
    }
    text
}

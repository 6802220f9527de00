//! What people see on a terminal: aligned tables, colours only where a terminal shows them.

use horarium_model::text;
use indicatif::ProgressBar;
use serde_json::Value;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest text of a cell; what is longer is cut with `…`.
const MAX_CELL: usize = 60;
/// The same where nothing shall be cut: what a line can be at all.
const MAX_WIDE_CELL: usize = 4000;

/// Whether `-o wide` was asked for.
static WIDE: AtomicBool = AtomicBool::new(false);

/// Whether tables have all their columns from now on.
pub(crate) fn go_wide(wide: bool) {
    WIDE.store(wide, Ordering::Relaxed);
}

/// Colours of this program's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Paint {
    #[default]
    Plain,
    Good,
    Bad,
    Busy,
    Warning,
    Dim,
    Bold,
}

impl Paint {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\u{1b}[32m",
            Self::Bad => "\u{1b}[31m",
            Self::Busy => "\u{1b}[36m",
            Self::Warning => "\u{1b}[33m",
            Self::Dim => "\u{1b}[2m",
            Self::Bold => "\u{1b}[1m",
        }
    }

    /// The colour of an execution's or a version's state.
    pub(crate) fn of_state(state: &str) -> Self {
        match state {
            "succeeded" | "ready" | "ok" => Self::Good,
            "failed" | "fail" | "lost" => Self::Bad,
            "running" | "compiling" => Self::Busy,
            "retryable" | "cancelled" | "warn" | "handed_back" => Self::Warning,
            "skipped" | "scheduled" => Self::Dim,
            _ => Self::Plain,
        }
    }
}

/// Whether and how to colour, and how much room there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    colour: bool,
    wide: bool,
}

impl Style {
    /// Colours where stdout is a terminal and NO_COLOR is not set.
    pub(crate) fn of_stdout() -> Self {
        Self::decide(std::io::stdout().is_terminal())
    }

    /// Colours where stderr is a terminal and NO_COLOR is not set.
    pub(crate) fn of_stderr() -> Self {
        Self::decide(std::io::stderr().is_terminal())
    }

    /// Colours whatever stdout is.
    #[cfg(test)]
    pub(crate) fn coloured() -> Self {
        Self {
            colour: true,
            wide: false,
        }
    }

    fn decide(terminal: bool) -> Self {
        Self {
            colour: terminal && !Self::is_unwanted(),
            wide: WIDE.load(Ordering::Relaxed),
        }
    }

    /// Somebody wants plain text, or the terminal can show no other.
    fn is_unwanted() -> bool {
        std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
    }

    /// `text` as it is where nothing shall be cut, else its first characters.
    pub(crate) fn whole_or_cut(self, text: &str, most: usize) -> String {
        match self.wide {
            true => text::one_line(text, MAX_WIDE_CELL),
            false => text::one_line(text, most),
        }
    }

    /// `text` in a colour.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        if self.colour && paint != Paint::Plain {
            format!("{}{text}\u{1b}[0m", paint.code())
        } else {
            text.to_owned()
        }
    }
}

/// A bar on a terminal's stderr, none with NO_COLOR; hidden anywhere else by the crate itself.
pub(crate) fn progress_bar(length: u64) -> ProgressBar {
    match Style::is_unwanted() {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(length),
    }
}

/// One cell of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// A cell in a colour.
    pub(crate) fn painted(paint: Paint, text: impl AsRef<str>) -> Self {
        Self {
            paint,
            ..Self::from(text.as_ref())
        }
    }

    /// A state's word in its colour.
    pub(crate) fn state(state: &str) -> Self {
        Self::painted(Paint::of_state(state), state)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        let text = text::one_line(text, MAX_WIDE_CELL);
        Self {
            text: if text.is_empty() { "-".into() } else { text },
            paint: Paint::Plain,
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// Rows under headings, columns aligned; numbers to the right.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    right: Vec<bool>,
    wide: Vec<bool>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these headings; one that ends in `>` is aligned to the right, one with `+` is shown only by
    /// `-o wide`.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self {
            right: headings.iter().map(|h| h.ends_with('>')).collect(),
            wide: headings.iter().map(|h| h.contains('+')).collect(),
            headings: headings
                .iter()
                .map(|h| h.trim_end_matches(['>', '+']))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// One more row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The text, a line a row.
    pub(crate) fn render(&self, style: Style) -> String {
        let columns: Vec<usize> = (0..self.headings.len())
            .filter(|column| style.wide || !self.wide[*column])
            .collect();
        let cut = |cell: &Cell| style.whole_or_cut(&cell.text, MAX_CELL);
        let heading = columns.iter().map(|column| {
            let text = self.headings[*column].to_owned();
            (text, Paint::Bold)
        });
        let mut lines: Vec<Vec<(String, Paint)>> = vec![heading.collect()];
        lines.extend(self.rows.iter().map(|row| {
            let cells = columns.iter().map(|column| {
                let cell = row.get(*column).cloned().unwrap_or_default();
                (cut(&cell), cell.paint)
            });
            cells.collect()
        }));
        let widths: Vec<usize> = (0..columns.len())
            .map(|at| {
                let cells = lines.iter().filter_map(|line| line.get(at));
                cells
                    .map(|(text, _)| text.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for cells in &lines {
            let mut line = String::new();
            for (at, (text, paint)) in cells.iter().enumerate() {
                let padding = " ".repeat(widths[at].saturating_sub(text.chars().count()));
                let text = style.paint(*paint, text);
                if at > 0 {
                    line.push_str("  ");
                }
                match self.right[columns[at]] {
                    true => line.push_str(&format!("{padding}{text}")),
                    false => line.push_str(&format!("{text}{padding}")),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Labelled lines, the labels aligned.
#[derive(Debug, Default)]
pub(crate) struct Facts(Vec<(String, String)>);

impl Facts {
    /// One more line, unless there is nothing to say.
    pub(crate) fn add(&mut self, label: &str, value: impl Into<String>) -> &mut Self {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((label.to_owned(), value));
        }
        self
    }

    /// The text, a line a fact; further lines of a value are indented under its first.
    pub(crate) fn render(&self, style: Style) -> String {
        let width = self.0.iter().map(|(label, _)| label.chars().count()).max();
        let width = width.unwrap_or(0) + 2;
        let mut out = String::new();
        for (label, value) in &self.0 {
            let padding = " ".repeat(width - label.chars().count());
            let value = value.replace('\n', &format!("\n{}", " ".repeat(width)));
            out.push_str(&format!(
                "{}{padding}{value}\n",
                style.paint(Paint::Dim, label)
            ));
        }
        out
    }
}

/// The text at `key`, made safe for a terminal; empty when there is none.
pub(crate) fn text_of(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => text::sanitize(text, false),
        Some(Value::Null) | None => String::new(),
        Some(other) => text::sanitize(&other.to_string(), false),
    }
}

/// The instant at `key`.
pub(crate) fn instant_of(value: &Value, key: &str) -> Option<horarium_model::Timestamp> {
    value.get(key)?.as_str()?.parse().ok()
}

/// A value as people read it: indented JSON, control characters escaped by JSON itself.
pub(crate) fn pretty(value: &Value) -> String {
    text::sanitize(
        &serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string()),
        true,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLAIN: Style = Style {
        colour: false,
        wide: false,
    };

    #[test]
    fn columns_are_aligned_and_colours_take_no_room() {
        let mut table = Table::new(&["STATE", "COUNT>", "NAME"]);
        table.row(vec![Cell::state("failed"), "7".into(), "a".into()]);
        table.row(vec![Cell::state("ok"), "1234567".into(), "".into()]);
        assert_eq!(
            table.render(PLAIN),
            "STATE     COUNT  NAME\nfailed        7  a\nok      1234567  -\n"
        );
        let coloured = table.render(Style::coloured());
        assert!(coloured.contains("\u{1b}[31mfailed\u{1b}[0m        7  a"));
    }

    #[test]
    fn wide_tables_have_all_columns_and_cut_nothing() {
        let mut table = Table::new(&["A", "B+>", "C"]);
        table.row(vec!["1".into(), "2".into(), "x".repeat(100).into()]);
        let narrow = table.render(PLAIN);
        assert_eq!(narrow, format!("A  C\n1  {}…\n", "x".repeat(MAX_CELL - 1)));
        let style = Style {
            wide: true,
            ..PLAIN
        };
        assert_eq!(
            table.render(style),
            format!("A  B  C\n1  2  {}\n", "x".repeat(100))
        );
    }

    #[test]
    fn cells_cannot_forge_lines_or_move_the_cursor() {
        let cell = Cell::from("a\u{1b}[2J\nb");
        assert_eq!(cell.text, "a\u{FFFD}[2J");
        assert_eq!(text_of(&json!({"a": "\u{202e}x"}), "a"), "\u{FFFD}x");
    }

    #[test]
    fn facts_indent_further_lines() {
        let mut facts = Facts::default();
        facts.add("id", "1").add("empty", "").add("result", "{\n}");
        assert_eq!(facts.render(PLAIN), "id      1\nresult  {\n        }\n");
    }
}

//! A task with no SDK: an ordinary program. It reads CSV and sums a column.
//!
//!     horarium plugin register csv_sum csv_sum.wasm --args-from /args --stdin-from /csv
//!
//! Its output is the result, what it writes to stderr is log, and the last line of that the error's
//! message. Exit codes: 0 success, 75 try again, others failure.

use std::io::{self, BufRead};
use std::process::ExitCode;

/// EX_TEMPFAIL: the host tries again.
const TRY_AGAIN: u8 = 75;

fn main() -> ExitCode {
    let Some(column) = std::env::args().nth(1) else {
        eprintln!("which column? give its name as the argument");
        return ExitCode::from(2);
    };
    match sum(&column) {
        Ok(Some((rows, sum))) => {
            eprintln!("{rows} rows in attempt {}", variable("HORARIUM_ATTEMPT"));
            println!(r#"{{"rows": {rows}, "sum": {sum}}}"#);
            ExitCode::SUCCESS
        }
        Ok(None) => {
            eprintln!("there is nothing yet");
            ExitCode::from(TRY_AGAIN)
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Rows and the column's sum; none when the input is empty.
fn sum(column: &str) -> Result<Option<(usize, f64)>, String> {
    let mut lines = io::stdin().lock().lines();
    let Some(head) = lines.next() else {
        return Ok(None);
    };
    let head = head.map_err(|error| error.to_string())?;
    let index = head
        .split(',')
        .position(|name| name.trim() == column)
        .ok_or_else(|| format!("no column `{column}` in `{head}`"))?;
    let (mut rows, mut sum) = (0, 0.0);
    for line in lines {
        let line = line.map_err(|error| error.to_string())?;
        let field = line.split(',').nth(index).unwrap_or_default().trim();
        let value: f64 = field
            .parse()
            .map_err(|_| format!("row {}: `{field}` is no number", rows + 1))?;
        rows += 1;
        sum += value;
    }
    Ok(Some((rows, sum)))
}

//! Parameters and results of many bytes: what they cost an execution, and how often they are written on its way from the
//! queue through its end into history.

use super::lab::Lab;
use super::lab_host::LabHost;
use super::statistics::rounded;
use super::{BenchError, drain, process};
use horarium_core::service::Registration;
use horarium_model::limits::LimitOverrides;
use serde_json::{Value, json};

/// Bytes of parameters of all executions of a point together.
const TOGETHER: usize = 256 << 20;
/// Executions of a point at least.
const LEAST: usize = 8;
/// What parameters and results have beside the text.
const FRAME: u64 = 1024;
/// Databases of these measurements are named after those of the others.
const FIRST_RUN: usize = 1001;

/// What executions of a size cost.
struct Point {
    bytes: usize,
    tasks: usize,
    per_second: f64,
    /// Bytes this process wrote for each, until the database was closed; none where another process writes.
    written: Option<f64>,
}

/// Measures with next to nothing, a tenth of `most`, and `most` bytes each way: hello's greeting holds the name it is given.
pub(super) async fn measure(
    lab: &Lab,
    most: usize,
    tasks: usize,
    progress: &dyn Fn(String),
) -> Result<Value, BenchError> {
    let mut points = Vec::new();
    for (run, bytes) in (FIRST_RUN..).zip([1, (most / 10).max(1), most]) {
        progress(format!("parameters and results of {bytes} bytes"));
        points.push(point(lab, run, bytes, tasks).await?);
    }
    Ok(document(&points))
}

async fn point(lab: &Lab, run: usize, bytes: usize, tasks: usize) -> Result<Point, BenchError> {
    let tasks = tasks.min(TOGETHER / bytes).max(LEAST);
    let allowed = Some(bytes as u64 + FRAME);
    let wish = Registration {
        limits: Some(LimitOverrides {
            parameters_bytes: allowed,
            result_bytes: allowed,
            ..LimitOverrides::default()
        }),
        ..Registration::default()
    };
    let parameters = json!({"parameters": {"name": "x".repeat(bytes)}});
    let host = LabHost::open_with(lab, run, wish, parameters).await?;
    let before = process::written()?;
    drain::fill(&host, tasks).await?;
    let per_second = drain::empty(lab, &host, tasks).await?;
    // What still stands in the log of the database is written into it at the end.
    host.close().await?;
    let written = process::written()?.saturating_sub(before) as f64 / tasks as f64;
    Ok(Point {
        bytes,
        tasks,
        per_second,
        written: lab.writes_itself().then_some(written),
    })
}

fn document(points: &[Point]) -> Value {
    let shown = points.iter().map(|point| {
        json!({
            "bytes": point.bytes,
            "tasks": point.tasks,
            "drain_per_second": rounded(point.per_second),
            "us": rounded(1e6 / point.per_second),
            "written_bytes": point.written.map(rounded),
        })
    });
    // Each byte is there twice: as a parameter and in the result.
    let per_byte = |less: &Point, more: &Point| {
        let bytes = 2.0 * (more.bytes as f64 - less.bytes as f64);
        Some(rounded((more.written? - less.written?) / bytes))
    };
    let steps = points.windows(2).map(|pair| per_byte(&pair[0], &pair[1]));
    json!({
        "points": shown.collect::<Vec<_>>(),
        "written_per_byte": steps.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_written_are_told_for_each_byte_more() {
        let point = |bytes, written| Point {
            bytes,
            tasks: 8,
            per_second: 100.0,
            written,
        };
        let told = document(&[
            point(1, Some(4000.0)),
            point(1001, Some(8000.0)),
            point(2001, Some(14_000.0)),
        ]);
        assert_eq!(told["written_per_byte"], json!([2.0, 3.0]));
        assert_eq!(told["points"][1]["us"], 10_000.0);
        let told = document(&[point(1, None), point(1001, None)]);
        assert_eq!(told["written_per_byte"], json!([null]));
    }
}

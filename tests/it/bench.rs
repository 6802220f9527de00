//! `bench` prints the documents of the contract. Speed is not judged here: the machine is shared.

use crate::support::{has_keys, horarium, plugin};
use serde_json::Value;

/// A figure of a document that is there and above 0.
#[track_caller]
fn above_zero(figures: &Value, pointer: &str) -> f64 {
    let figure = figures.pointer(pointer).and_then(Value::as_f64);
    let figure = figure.unwrap_or_else(|| panic!("{pointer} in {figures:#}"));
    assert!(figure > 0.0, "{pointer} in {figures:#}");
    figure
}

#[test]
fn drain_prints_its_figures() {
    let ran = horarium("bench drain --tasks 200 --runs 1 --json").exits(0);
    let figures = ran.json();
    has_keys(
        &figures,
        "plain_per_second bare_per_second enqueue_per_second drain_per_second drain_over_plain \
         overhead_us tasks workers store",
    );
    for key in [
        "plain_per_second",
        "bare_per_second",
        "enqueue_per_second",
        "enqueue_single_per_second",
        "enqueue_batch_per_second",
        "drain_per_second",
    ] {
        assert!(figures[key].as_f64() > Some(0.0), "{key} in {figures:#}");
    }
    let number = |key: &str| {
        figures[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{key} in {figures:#}"))
    };
    let ratio = number("drain_per_second") / number("plain_per_second");
    assert!(
        (number("drain_over_plain") / ratio - 1.0).abs() < 0.05,
        "{figures:#}"
    );
    assert_eq!(figures["tasks"], 200);
    assert!(number("workers") >= 1.0);
    assert!(
        figures["store"]
            .as_str()
            .is_some_and(|s| s.contains("sqlite")),
        "{figures:#}"
    );
}

#[test]
fn latency_prints_its_figures() {
    let figures = horarium("bench latency --tasks 20 --json").exits(0).json();
    for key in ["start_ms", "recorded_ms"] {
        has_keys(&figures[key], "p50 p99");
        let (median, tail) = (figures[key]["p50"].as_f64(), figures[key]["p99"].as_f64());
        assert!(median > Some(0.0) && median <= tail, "{figures:#}");
    }
}

#[test]
fn every_slot_of_many_fires_once() {
    let line = "bench schedule --configs 200 --due-per-second 20 --for 3 --json";
    let figures = horarium(line).exits(0).json();
    for (key, wanted) in [
        ("due", 60),
        ("fired", 60),
        ("doubled", 0),
        ("missed", 0),
        ("configs", 200),
    ] {
        assert_eq!(figures[key], wanted, "{key} in {figures}");
    }
    for key in ["lateness_ms", "started_ms"] {
        let figure = |share: &str| figures[key][share].as_f64().expect("a figure");
        assert!(
            figure("p50") <= figure("p99") && figure("p99") <= figure("max"),
            "{figures}"
        );
    }
    horarium("bench schedule --configs 10 --due-per-second 20 --json").exits(2);
}

#[test]
fn large_parameters_are_measured_against_small_ones() {
    // So many that what a transaction more or less writes, on a slow machine, is little beside them.
    let line = "bench drain --tasks 8 --runs 1 --parameters-bytes 400000 --json";
    let figures = horarium(line).exits(0).json();
    let points = figures["payload"]["points"].as_array().expect("points");
    let bytes: Vec<_> = points.iter().map(|point| point["bytes"].as_u64()).collect();
    assert_eq!(bytes, [Some(1), Some(40_000), Some(400_000)], "{figures:#}");
    for point in 0..3 {
        above_zero(
            &figures,
            &format!("/payload/points/{point}/drain_per_second"),
        );
    }
    // What is a parameter and comes back in the result is written at least once each.
    assert!(
        above_zero(&figures, "/payload/written_per_byte/1") >= 1.0,
        "{figures:#}"
    );
}

#[test]
fn growth_has_points_of_every_cost_and_draws_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let picture = folder.path().join("growth.svg");
    let line = format!(
        "bench growth --up-to 1200 --tasks 60 --due 5 --rounds 1 --json --picture {}",
        picture.display()
    );
    let figures = horarium(&line).exits(0).json();
    let points = figures["points"].as_array().expect("points");
    for cost in "run list list_failed list_task list_deep claim run_backlog tick".split(' ') {
        let of = |point: &&Value| point["cost"] == cost;
        let last = points
            .iter()
            .rfind(of)
            .unwrap_or_else(|| panic!("{cost} in {figures:#}"));
        assert_eq!(last["size"], 1200, "{figures:#}");
        assert!(last["us"].as_f64() > Some(0.0), "{figures:#}");
    }
    for cost in ["run", "list", "claim", "run_backlog", "tick"] {
        above_zero(&figures, &format!("/growth/{cost}"));
    }
    let drawn = std::fs::read_to_string(&picture).expect("a picture");
    assert!(
        drawn.starts_with("<svg ") && drawn.contains("<g id=\"tick\">"),
        "{drawn}"
    );
    horarium("bench growth --up-to 10 --picture /nowhere/growth.svg").exits(2);
}

#[test]
fn runs_that_wait_are_weighed() {
    let line = "bench waiting --slots 40 --loops 1 --iterations 100000 --json";
    let figures = horarium(line).exits(0).json();
    assert_eq!(figures["waiting"], 40, "{figures:#}");
    let before = above_zero(&figures, "/resident_before_mib");
    assert!(
        above_zero(&figures, "/resident_waiting_mib") > before,
        "{figures:#}"
    );
    for pointer in [
        "/resident_peak_mib",
        "/alone_ms",
        "/beside_ms",
        "/beside_over_alone",
    ] {
        above_zero(&figures, pointer);
    }
    assert!(above_zero(&figures, "/fuel") > 100_000.0, "{figures:#}");
    // A guest that does not ask for the server.
    let hello = format!(
        "bench waiting --slots 2 --loops 1 --iterations 10 --plugin {}",
        plugin("hello").display()
    );
    horarium(&hello).exits(2);
}

#[test]
fn a_guest_is_weighed() {
    let line = "bench guest --runs 20 --loads 1 --iterations 1000000 --params {\"n\":80} --json";
    let figures = horarium(line).exits(0).json();
    for pointer in [
        "/size_bytes",
        "/compile_ms",
        "/compiled_bytes",
        "/load_ms",
        "/first_run_ms",
        "/run_ms/p50",
        "/fuel",
        "/memory_peak_bytes",
        "/metering/guest/on_over_off",
        "/metering/loop/off_ms",
        "/metering/loop/on_over_off",
    ] {
        above_zero(&figures, pointer);
    }
    assert!(figures["run_ms"]["p50"].as_f64() <= figures["run_ms"]["p99"].as_f64());
    horarium("bench guest --params {\"n\":91}").exits(2);
    horarium("bench guest --params 5").exits(2);
}

#[test]
fn a_host_is_started_and_watched_at_rest() {
    let line = "bench host --plugins 2 --starts 1 --idle 1 --json";
    let figures = horarium(line).exits(0).json();
    let (begun, ended) = (
        above_zero(&figures, "/first_start_ms"),
        above_zero(&figures, "/first_end_ms"),
    );
    assert!(begun <= ended, "{figures:#}");
    for pointer in [
        "/ready_ms",
        "/idle_cpu_percent",
        "/resident_mib",
        "/binary_bytes",
    ] {
        above_zero(&figures, pointer);
    }
}

//! `bench` prints the documents of the contract. Speed is not judged here: the machine is shared.

use crate::support::{has_keys, horarium};

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

//! The exposition is valid, every metric is documented, and the dashboard asks for nothing else.

use super::*;
use horarium_core::observe::{Observer, Recorded};
use horarium_core::store::{BacklogOf, QueueCounts, TakenOver, WaitingHead};
use horarium_model::alert::AlertEvent;
use horarium_model::execution::SkipReason;
use horarium_model::{ErrorKind, State, TaskId, Timestamp, Trigger, Usage};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Metrics that heard of everything there is.
fn heard() -> Metrics {
    let metrics = Metrics::new(2);
    let moment = Duration::from_millis(3);
    metrics.fired(moment);
    metrics.skipped(SkipReason::Missed, 4);
    metrics.refused(BacklogOf::Tenant);
    metrics.claimed(3);
    metrics.started("one", moment);
    for (task_type, state, error_kind) in [
        ("one", State::Succeeded, None),
        ("two", State::Failed, Some(ErrorKind::Trap)),
        ("three", State::Retryable, Some(ErrorKind::Timeout)),
        ("four", State::Succeeded, None),
    ] {
        let usage = Usage {
            fuel: 1000,
            memory_peak_bytes: 1 << 20,
            duration_seconds: 0.5,
            cpu_seconds: 0.25,
            http_calls: 2,
            http_request_bytes: 10,
            http_response_bytes: 20,
            ..Usage::default()
        };
        metrics.recorded(&Recorded {
            task_type,
            trigger: Trigger::Schedule,
            state,
            error_kind,
            usage: &usage,
            run: None,
        });
    }
    metrics.stale();
    metrics.handed_back();
    metrics.lease_lost(2);
    metrics.taken_over(&TakenOver {
        requeued: 1,
        failed: 1,
        cancelled: 1,
    });
    metrics.stored("claim", moment, true);
    metrics.stored("complete_many", moment, false);
    metrics.compiled(moment, true);
    metrics.instantiated(moment);
    metrics.http("BREW", Label::Word("none"), 405, moment);
    metrics.alert(AlertEvent::MissedRuns, "sent");
    metrics.pinged(false);
    metrics
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(seconds, 0).expect("in range")
}

fn head(task_type: &str, due: i64) -> WaitingHead {
    WaitingHead {
        tenant_id: 1,
        task_type: task_type.to_owned(),
        task_id: TaskId::nil(),
        due_at: at(due),
    }
}

/// A scrape at second 100 that finds everything there is.
fn scraped(metrics: &Metrics) -> String {
    let figures = Figures {
        queue: QueueFigures {
            counts: QueueCounts::default(),
            heads: vec![head("one", 40), head("one", 70), head("five", 99)],
            next_due: Some(at(98)),
        },
        executor: Some(ExecutorFigures {
            running: 1,
            slots: 8,
            heartbeat_age: Duration::from_millis(3),
        }),
        engine: Some(EngineFigures::default()),
        database: Some(DatabaseFigures {
            busy: 1,
            idle: 2,
            most: 16,
        }),
    };
    metrics.scrape(at(100), &figures).expect("encodes")
}

/// A sample: its name, its labels, its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads an OpenMetrics text by its grammar, as strictly as a scraper may: families in one piece, their type before
/// their samples, suffixes that fit the type, label values quoted, no sample twice, buckets that rise and end with
/// the count, and `# EOF` as the last line.
fn parse(text: &str) -> BTreeMap<String, (String, Vec<Sample>)> {
    let mut families: BTreeMap<String, (String, Vec<Sample>)> = BTreeMap::new();
    let mut current = String::new();
    let mut seen = BTreeSet::new();
    let body = text.strip_suffix("# EOF\n").expect("ends with # EOF");
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next(), words.next(), words.next());
            let name = name.expect("names a family").to_owned();
            match kind {
                Some("HELP") => {
                    assert!(!families.contains_key(&name), "{name} comes twice");
                    families.insert(name.clone(), Default::default());
                    current = name;
                }
                Some("TYPE") => {
                    assert_eq!(name, current);
                    families.get_mut(&name).expect("begun").0 = rest.expect("a type").to_owned();
                }
                Some("UNIT") => assert!(name.ends_with(&format!("_{}", rest.expect("a unit")))),
                other => panic!("{other:?} in {line}"),
            }
            continue;
        }
        let sample = sample(line);
        let (kind, samples) = families.get_mut(&current).expect("a family was begun");
        let suffix = sample.0.strip_prefix(&current).expect(line);
        let fits = match kind.as_str() {
            "counter" => suffix == "_total",
            "gauge" => suffix.is_empty(),
            "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
            other => panic!("{other} is no type"),
        };
        assert!(fits, "{suffix} of a {kind}: {line}");
        assert!(
            seen.insert(format!("{:?}", (&sample.0, &sample.1))),
            "twice: {line}"
        );
        assert!(kind == "gauge" || sample.2 >= 0.0, "{line}");
        samples.push(sample);
    }
    for (name, (kind, samples)) in &families {
        if kind == "histogram" {
            hold_to_buckets(name, samples);
        }
    }
    families
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(name.chars().all(fits), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        let mut left = inner;
        loop {
            let (label, after) = left.split_once("=\"").expect(line);
            assert!(label.chars().all(fits), "{line}");
            // None of our values needs an escape.
            let (value, after) = after.split_once('"').expect(line);
            assert!(!value.contains('\\'), "{line}");
            assert!(labels.insert(label.to_owned(), value.to_owned()).is_none());
            match after.strip_prefix(',') {
                Some(more) => left = more,
                None => break rest = after.strip_prefix('}').expect(line),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect(line);
    let value = value
        .parse()
        .unwrap_or_else(|_| panic!("no number: {line}"));
    (name.to_owned(), labels, value)
}

/// Bounds with their counts, and the count of all.
type Buckets = (Vec<(f64, f64)>, Option<f64>);

fn hold_to_buckets(name: &str, samples: &[Sample]) {
    let mut series: BTreeMap<String, Buckets> = BTreeMap::new();
    for (sample, labels, value) in samples {
        let mut labels = labels.clone();
        let bound = labels.remove("le");
        let one = series.entry(format!("{labels:?}")).or_default();
        match bound {
            Some(bound) => {
                let bound = bound.replace("+Inf", "inf").parse().expect("a bound");
                one.0.push((bound, *value));
            }
            None if sample.ends_with("_count") => one.1 = Some(*value),
            None => {}
        }
    }
    for (labels, (buckets, count)) in series {
        let rising = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let last = buckets.last().expect("has buckets");
        assert!(rising, "{name}{labels}: {buckets:?}");
        assert_eq!(
            (last.0, Some(last.1)),
            (f64::INFINITY, count),
            "{name}{labels}"
        );
    }
}

#[test]
fn the_exposition_is_valid_and_tells_every_metric() {
    let metrics = heard();
    let text = scraped(&metrics);
    let families = parse(&text);
    let lines = &metrics.sheet().lines;
    for line in lines {
        let family = line.name.strip_suffix("_total").unwrap_or(&line.name);
        let Some((kind, samples)) = families.get(family) else {
            panic!("{} was not told:\n{text}", line.name);
        };
        assert_eq!(kind, line.kind, "{family}");
        for (_, labels, _) in samples {
            let names = labels
                .keys()
                .map(String::as_str)
                .filter(|name| *name != "le");
            let names: BTreeSet<&str> = names.collect();
            assert_eq!(names, line.labels.iter().copied().collect(), "{family}");
        }
    }
    assert_eq!(families.len(), lines.len());
}

#[test]
fn task_types_beyond_the_cap_count_as_one() {
    let families = parse(&scraped(&heard()));
    let mut attempts: Vec<(&str, &str, f64)> = families["horarium_attempts"]
        .1
        .iter()
        .map(|(_, labels, value)| (&*labels["task_type"], &*labels["error_kind"], *value))
        .collect();
    attempts.sort_by_key(|(task_type, kind, _)| (*task_type, *kind));
    assert_eq!(
        attempts,
        [
            ("_other", "none", 1.0),
            ("_other", "timeout", 1.0),
            ("one", "none", 1.0),
            ("two", "trap", 1.0),
        ]
    );
    let mut oldest: Vec<(&str, f64)> = families["horarium_queue_oldest_seconds"]
        .1
        .iter()
        .map(|(_, labels, value)| (&*labels["task_type"], *value))
        .collect();
    oldest.sort_by_key(|(task_type, _)| *task_type);
    assert_eq!(oldest, [("_other", 1.0), ("one", 60.0)]);
    let (_, overdue) = &families["horarium_schedule_overdue_seconds"];
    assert_eq!(overdue[0].2, 2.0);
}

#[test]
fn a_type_whose_queue_is_empty_again_is_not_told() {
    let metrics = heard();
    scraped(&metrics);
    let text = metrics.scrape(at(200), &Figures::default());
    let text = text.expect("encodes");
    assert!(!text.contains("horarium_queue_oldest_seconds"), "{text}");
    assert!(
        text.contains("horarium_schedule_overdue_seconds 0.0\n"),
        "{text}"
    );
}

#[test]
fn scrapes_at_the_same_time_all_tell_the_whole() {
    let metrics = heard();
    let whole = scraped(&metrics);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    assert_eq!(scraped(&metrics).len(), whole.len());
                }
            });
        }
    });
}

#[test]
fn the_metrics_page_is_made_from_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, metrics_markdown()).expect("written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == metrics_markdown(),
        "docs/metrics.md is stale; its last paragraph says how it is made"
    );
}

/// Every string under this key, anywhere below.
fn all<'v>(value: &'v serde_json::Value, key: &str, found: &mut Vec<&'v str>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                match value.as_str() {
                    Some(text) if name == key => found.push(text),
                    _ => all(value, key, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| all(item, key, found)),
        _ => {}
    }
}

/// The words of a PromQL expression that are names of metrics or of labels.
fn words(expression: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    expression.split(part).filter(|word| !word.is_empty())
}

#[test]
fn the_dashboard_asks_only_for_metrics_that_exist() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/grafana.json");
    let text = std::fs::read_to_string(path).expect("the dashboard is there");
    let board: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let metrics = heard();
    let exposed = parse(&scraped(&metrics));
    // What is scraped, with the labels of each: the scraper adds two of its own.
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (sample, labels, _) in exposed.values().flat_map(|(_, samples)| samples) {
        let of_sample = known.entry(sample).or_default();
        of_sample.extend(labels.keys().map(String::as_str));
        of_sample.extend(["instance", "job"]);
    }
    let (mut expressions, mut used) = (Vec::new(), BTreeSet::new());
    all(&board, "expr", &mut expressions);
    assert!(expressions.len() > 20, "{}", expressions.len());
    for expression in expressions {
        let asked: Vec<&str> = words(expression)
            .filter(|w| w.starts_with("horarium_"))
            .collect();
        assert!(!asked.is_empty(), "{expression}");
        let mut labels = BTreeSet::new();
        for name in asked {
            let Some(of_sample) = known.get(name) else {
                panic!("there is no {name}: {expression}");
            };
            labels.extend(of_sample.iter().copied());
            used.insert(name);
        }
        // `by (a, b)` and `{a="…"}` name labels.
        let groups = expression
            .split("by (")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let selectors = expression
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next());
        let named = groups.flat_map(|group| group.split(',')).map(str::trim);
        let selected = selectors
            .flat_map(|selector| selector.split(','))
            .filter_map(|one| one.split(['=', '!']).next())
            .map(str::trim);
        for label in named.chain(selected).filter(|label| !label.is_empty()) {
            assert!(
                labels.contains(label),
                "there is no label {label}: {expression}"
            );
        }
    }
    // What nobody looks at is not worth telling.
    for line in &metrics.sheet().lines {
        let shown = used.iter().any(|name| name.starts_with(&*line.name));
        assert!(shown, "no panel shows {}", line.name);
    }
}

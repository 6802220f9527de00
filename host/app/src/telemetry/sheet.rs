//! The list of metrics: what is registered is also told to `docs/metrics.md`.

use super::labels::Label;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt::{self, Write};
use std::sync::atomic::AtomicU64;

/// A gauge with a fraction.
pub(super) type Real = Gauge<f64, AtomicU64>;

/// A counter with a fraction.
pub(super) type Spent = Counter<f64, AtomicU64>;

/// One metric as people read of it.
#[derive(Debug)]
pub(super) struct Line {
    /// As it is scraped: with its unit, and `_total` for a counter.
    pub(super) name: String,
    /// `counter`, `gauge` or `histogram`.
    pub(super) kind: &'static str,
    /// Names of its labels.
    pub(super) labels: Vec<&'static str>,
    /// What it tells.
    pub(super) help: &'static str,
}

/// A metric by the values of its labels.
#[derive(Debug)]
pub(super) struct By<const N: usize, M> {
    names: [&'static str; N],
    family: Family<[(&'static str, Label); N], M>,
}

impl<const N: usize, M> By<N, M> {
    /// Changes the metric with these labels.
    pub(super) fn with(&self, values: [Label; N], change: impl FnOnce(&M)) {
        let mut labels = self.names.map(|name| (name, Label::Number(0)));
        for (label, value) in labels.iter_mut().zip(values) {
            label.1 = value;
        }
        change(&self.family.get_or_create(&labels));
    }
}

impl<const N: usize, M> By<N, M> {
    /// Forgets every one.
    pub(super) fn clear(&self) {
        self.family.clear();
    }
}

impl<const N: usize> By<N, Counter> {
    /// Counts one.
    pub(super) fn inc(&self, values: [Label; N]) {
        self.with(values, |counter| {
            counter.inc();
        });
    }

    /// Counts several.
    pub(super) fn inc_by(&self, values: [Label; N], count: u64) {
        self.with(values, |counter| {
            counter.inc_by(count);
        });
    }
}

impl<const N: usize> By<N, Histogram> {
    /// Adds an observation.
    pub(super) fn observe(&self, values: [Label; N], value: f64) {
        self.with(values, |histogram| histogram.observe(value));
    }
}

/// All metrics, under the prefix `horarium`.
#[derive(Debug)]
pub(super) struct Sheet {
    registry: Registry,
    pub(super) lines: Vec<Line>,
}

impl Sheet {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self {
            registry: Registry::with_prefix("horarium"),
            lines: Vec::new(),
        }
    }

    fn enter(
        &mut self,
        name: &'static str,
        unit: Option<Unit>,
        kind: &'static str,
        labels: &[&'static str],
        help: &'static str,
        metric: impl prometheus_client::registry::Metric,
    ) {
        let suffix = match &unit {
            Some(unit) => format!("_{}", unit.as_str()),
            None => String::new(),
        };
        let total = if kind == "counter" { "_total" } else { "" };
        self.lines.push(Line {
            name: format!("horarium_{name}{suffix}{total}"),
            kind,
            labels: labels.to_vec(),
            help,
        });
        match unit {
            Some(unit) => self.registry.register_with_unit(name, help, unit, metric),
            None => self.registry.register(name, help, metric),
        }
    }

    /// A counter.
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let metric = Counter::default();
        self.enter(name, None, "counter", &[], help, metric.clone());
        metric
    }

    /// Counters by labels.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        unit: Option<Unit>,
        names: [&'static str; N],
        help: &'static str,
    ) -> By<N, Counter> {
        let family = Family::default();
        self.enter(name, unit, "counter", &names, help, family.clone());
        By { names, family }
    }

    /// Counters of seconds, by labels.
    pub(super) fn seconds_spent<const N: usize>(
        &mut self,
        name: &'static str,
        names: [&'static str; N],
        help: &'static str,
    ) -> By<N, Spent> {
        let family = Family::default();
        let unit = Some(Unit::Seconds);
        self.enter(name, unit, "counter", &names, help, family.clone());
        By { names, family }
    }

    /// A gauge.
    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let metric = Gauge::default();
        self.enter(name, None, "gauge", &[], help, metric.clone());
        metric
    }

    /// A gauge of bytes.
    pub(super) fn bytes(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let metric = Gauge::default();
        self.enter(name, Some(Unit::Bytes), "gauge", &[], help, metric.clone());
        metric
    }

    /// A gauge of seconds.
    pub(super) fn seconds(&mut self, name: &'static str, help: &'static str) -> Real {
        let metric = Real::default();
        self.enter(
            name,
            Some(Unit::Seconds),
            "gauge",
            &[],
            help,
            metric.clone(),
        );
        metric
    }

    /// Gauges by labels.
    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        names: [&'static str; N],
        help: &'static str,
    ) -> By<N, Gauge> {
        let family = Family::default();
        self.enter(name, None, "gauge", &names, help, family.clone());
        By { names, family }
    }

    /// Gauges of seconds by labels.
    pub(super) fn seconds_by<const N: usize>(
        &mut self,
        name: &'static str,
        names: [&'static str; N],
        help: &'static str,
    ) -> By<N, Real> {
        let family = Family::default();
        let unit = Some(Unit::Seconds);
        self.enter(name, unit, "gauge", &names, help, family.clone());
        By { names, family }
    }

    /// A histogram.
    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        unit: Unit,
        help: &'static str,
        make: fn() -> Histogram,
    ) -> Histogram {
        let metric = make();
        self.enter(name, Some(unit), "histogram", &[], help, metric.clone());
        metric
    }

    /// Histograms by labels.
    pub(super) fn histograms<const N: usize>(
        &mut self,
        name: &'static str,
        unit: Unit,
        names: [&'static str; N],
        help: &'static str,
        make: fn() -> Histogram,
    ) -> By<N, Histogram> {
        let family: Family<[(&'static str, Label); N], Histogram> =
            Family::new_with_constructor(make);
        self.enter(name, Some(unit), "histogram", &names, help, family.clone());
        By { names, family }
    }

    /// A gauge that stands at 1 and whose labels tell something.
    pub(super) fn info<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [(&'static str, Label); N],
        help: &'static str,
    ) {
        let family: Family<[(&'static str, Label); N], Gauge> = Family::default();
        family.get_or_create(&labels).set(1);
        let names = labels.map(|(name, _)| name);
        self.enter(name, None, "gauge", &names, help, family);
    }

    /// The text for scrapers.
    pub(super) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// The table of `docs/metrics.md`.
    pub(super) fn table(&self) -> String {
        let mut table = String::from("| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n");
        for line in &self.lines {
            let labels: Vec<String> = line.labels.iter().map(|l| format!("`{l}`")).collect();
            // Writing to a String does not fail.
            let _ = writeln!(
                table,
                "| `{}` | {} | {} | {} |",
                line.name,
                line.kind,
                labels.join(" "),
                line.help
            );
        }
        table
    }
}

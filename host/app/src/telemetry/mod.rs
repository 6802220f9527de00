//! What the server tells of itself: log lines, `/metrics`, and traces for a collector.

mod labels;
mod logs;
mod meters;
mod metrics;
mod otlp;
mod sheet;
mod spans;
#[cfg(test)]
mod tests;

pub(crate) use labels::Label;
pub use metrics::{
    DatabaseFigures, EngineFigures, ExecutorFigures, Figures, Metrics, QueueFigures,
};
pub(crate) use otlp::Export;

use crate::settings::{LogFormat, Settings};
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// The page that documents every metric.
pub fn metrics_markdown() -> String {
    let mut page = String::from(include_str!("metrics.md"));
    page.push_str(&Metrics::new(1).sheet().table());
    page
}

/// Starts logging on stderr, and into a queue for a collector if the settings want that. A second call in one process
/// changes nothing.
pub fn init(settings: &Settings) {
    // Checked when the settings were read; a filter that fails all the same must not silence the log.
    let filter = EnvFilter::try_new(&settings.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer()
        .with_ansi(colours())
        .with_writer(std::io::stderr);
    let lines = match settings.log_format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let begun = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(otlp::log_layer(settings))
        .try_init();
    if begun.is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// The log's filter.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Changes what the log of this process holds from now on, as the setting `log.level` says it.
///
/// # Errors
/// Why it cannot.
pub fn set_level(level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
    let handle = FILTER.get().ok_or("the log is not this program's")?;
    handle.reload(filter).map_err(|error| error.to_string())
}

/// Colours are for people at a terminal who did not ask for none (<https://no-color.org>).
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

//! Settings of OTLP.

/// Where traces and logs go.
#[derive(Clone, PartialEq)]
pub struct OtlpSettings {
    /// `otlp.endpoint`: the collector's base URL, without a slash at the end; none = nothing is sent.
    pub endpoint: Option<String>,
    /// `otlp.headers`: sent with each batch.
    pub headers: Vec<(String, String)>,
    /// `otlp.traces`.
    pub traces: bool,
    /// `otlp.logs`.
    pub logs: bool,
    /// `otlp.sample_percent`: of executions whose trigger brought no trace.
    pub sample_percent: u8,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: Vec::new(),
            traces: true,
            logs: false,
            sample_percent: 100,
        }
    }
}

impl OtlpSettings {
    /// The share of executions whose trace is begun here, from 0 to 1; none when no traces are sent.
    pub(crate) fn sample(&self) -> Option<f64> {
        let traces = self.endpoint.is_some() && self.traces;
        traces.then(|| f64::from(self.sample_percent) / 100.0)
    }
}

impl std::fmt::Debug for OtlpSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        // Their values may be keys.
        f.debug_struct("OtlpSettings")
            .field("endpoint", &self.endpoint)
            .field("headers", &names)
            .field("traces", &self.traces)
            .field("logs", &self.logs)
            .field("sample_percent", &self.sample_percent)
            .finish()
    }
}

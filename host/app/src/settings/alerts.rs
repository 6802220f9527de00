//! Settings of alerts.

use horarium_model::alert::AlertEvent;
use http::Uri;
use ipnet::IpNet;
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// What a host tells whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertSettings {
    /// `alerts.url`: the webhook; none = alerts are neither kept nor sent.
    pub url: Option<Uri>,
    /// `alerts.secret`: what alerts are signed with.
    pub secret: Option<AlertSecret>,
    /// `alerts.events`: what is told.
    pub events: Vec<AlertEvent>,
    /// `alerts.streak`: how many failures in a row make an alert.
    pub streak: u32,
    /// `alerts.stuck_after_seconds`: how long the first in a queue may wait.
    pub stuck_after: Duration,
    /// `alerts.allow_private`: private networks that these URLs may lead to.
    pub allow_private: Vec<IpNet>,
    /// `alerts.dead_man_url`: asked for regularly while the host lives; `{host}` stands for its name.
    pub dead_man_url: Option<String>,
    /// `alerts.dead_man_seconds`: how often.
    pub dead_man_every: Duration,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            events: AlertEvent::ALL.to_vec(),
            streak: 3,
            stuck_after: Duration::from_secs(300),
            allow_private: Vec::new(),
            dead_man_url: None,
            dead_man_every: Duration::from_secs(60),
        }
    }
}

/// A secret that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AlertSecret(Zeroizing<String>);

impl AlertSecret {
    /// Fewer characters can be guessed.
    pub(super) const SHORTEST: usize = 16;

    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// The secret.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AlertSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AlertSecret(…)")
    }
}

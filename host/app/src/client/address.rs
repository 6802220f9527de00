//! Where the server is, and whose certificates are trusted.

use crate::cli::failure::Failure;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Where the server is and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// `http://HOST:PORT`, no slash at the end.
    pub(crate) url: String,
    /// The token, if there is one at hand.
    pub(crate) token: Option<String>,
    /// Where the address came from, for messages.
    pub(crate) source: String,
    /// Whose certificates are trusted.
    pub(crate) tls: TlsConfig,
}

impl Address {
    /// `HORARIUM_URL` and `HORARIUM_TOKEN` (or `--url`), else what the local server left in its data
    /// directory.
    pub(crate) fn find(url: Option<&str>, data_dir: &Path) -> Result<Self, Failure> {
        let token = std::env::var("HORARIUM_TOKEN")
            .ok()
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        if let Some(url) = url {
            let url = url.trim_end_matches('/').to_owned();
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(Failure::refused(format!(
                    "`{url}` is not the address of a server; write it like http://127.0.0.1:7411"
                )));
            }
            return Ok(Self {
                token,
                source: url.clone(),
                url,
                tls: trusted()?,
            });
        }
        let file = data_dir.join("server.json");
        let Ok(text) = std::fs::read_to_string(&file) else {
            return Err(no_server(&format!("in {}", data_dir.display())));
        };
        let known: Option<Value> = serde_json::from_str(&text).ok();
        let url = known
            .as_ref()
            .and_then(|known| known.get("url")?.as_str())
            .ok_or_else(|| {
                Failure::unreachable(format!("{} has no url: is it damaged?", file.display()))
            })?;
        let token_file = data_dir.join("admin-token");
        let token = token.or_else(|| {
            let text = std::fs::read_to_string(&token_file).ok()?;
            Some(text.trim().to_owned()).filter(|token| !token.is_empty())
        });
        // What is on this machine's loopback cannot be listened to on the way, and its certificate is for another name.
        let tls = match is_loopback(url) {
            true => TlsConfig::builder().disable_verification(true).build(),
            false => trusted()?,
        };
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token,
            tls,
            source: format!("{} ({})", url, file.display()),
        })
    }
}

/// Whether an address of `server.json` is of this machine alone.
fn is_loopback(url: &str) -> bool {
    let address = url.trim_start_matches("https://").trim_end_matches('/');
    let address: Result<std::net::SocketAddr, _> = address.parse();
    address.is_ok_and(|address| address.ip().is_loopback())
}

/// The public CAs, or those of the file that `HORARIUM_CA_FILE` names.
fn trusted() -> Result<TlsConfig, Failure> {
    let Some(file) = std::env::var_os("HORARIUM_CA_FILE").filter(|file| !file.is_empty()) else {
        return Ok(TlsConfig::default());
    };
    let wrong = |detail: String| {
        Failure::refused(format!("HORARIUM_CA_FILE: {}: {detail}", file.display()))
    };
    let text = std::fs::read(&file).map_err(|error| wrong(error.to_string()))?;
    let items = parse_pem(&text).collect::<Result<Vec<_>, _>>();
    let items = items.map_err(|error| wrong(error.to_string()))?;
    let roots: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if roots.is_empty() {
        return Err(wrong("holds no certificate in PEM".into()));
    }
    let roots = RootCerts::Specific(Arc::new(roots));
    Ok(TlsConfig::builder().root_certs(roots).build())
}

pub(super) fn no_server(place: &str) -> Failure {
    Failure::unreachable(format!("no server {place}"))
        .hint("start one with `horarium serve`, or set HORARIUM_URL and HORARIUM_TOKEN")
}

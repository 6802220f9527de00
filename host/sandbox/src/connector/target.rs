//! Where a request goes, taken apart once and normalised.

use horarium_model::grant::origin;
use http::Uri;
use std::fmt;
use std::net::IpAddr;

/// The destination of a request: scheme, host and port are what grants, addresses and TLS are checked
/// against; nothing is read from the URI again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    scheme: &'static str,
    host: String,
    port: u16,
    path: String,
}

/// Why a URI is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(pub &'static str);

impl Target {
    /// Takes an absolute `http` or `https` URI apart.
    ///
    /// # Errors
    /// For other schemes, user information, and hosts that are neither a name nor an address.
    pub fn from_uri(uri: &Uri) -> Result<Self, TargetError> {
        let scheme = match uri.scheme_str() {
            Some(s) if s.eq_ignore_ascii_case("https") => "https",
            Some(s) if s.eq_ignore_ascii_case("http") => "http",
            _ => return Err(TargetError("the scheme must be http or https")),
        };
        let authority = uri.authority().ok_or(TargetError("the URI has no host"))?;
        if authority.as_str().contains('@') {
            return Err(TargetError("a user in the URI is not allowed"));
        }
        let host = authority.host().to_ascii_lowercase();
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(&host);
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let address = host.parse::<IpAddr>().is_ok();
        if host.is_empty() || host.len() > 253 || !(address || host.bytes().all(name)) {
            return Err(TargetError("the host is neither a name nor an address"));
        }
        let port = match authority.port_u16() {
            Some(0) => return Err(TargetError("port 0 does not exist")),
            Some(port) => port,
            None if authority.port().is_some() || authority.as_str().ends_with(':') => {
                return Err(TargetError("the port is not a number below 65536"));
            }
            None if scheme == "https" => 443,
            None => 80,
        };
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            path: uri.path().to_owned(),
        })
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Lower-case, without trailing dot or brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own where none was written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The address, where the host is one.
    pub fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// `host[:port]` as the Host header has it.
    pub fn authority(&self) -> String {
        let whole = origin(self.scheme, &self.host, self.port);
        whole
            .split_once("://")
            .map_or(whole.clone(), |(_, rest)| rest.to_owned())
    }
}

impl fmt::Display for Target {
    /// Without the query, which may hold what nobody should read in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&origin(self.scheme, &self.host, self.port))?;
        f.write_str(&horarium_model::text::one_line(&self.path, 200))
    }
}

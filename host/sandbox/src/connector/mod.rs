//! The one way out: everything done on a tenant's behalf connects here. A name is resolved once, its
//! addresses are checked, and the connection goes to an address that was checked.

mod address;
mod own;
mod resolver;
mod target;
mod tls;

pub use address::special_range;
pub use own::OwnRequest;
pub use resolver::{Resolver, SystemResolver};
pub use target::{Target, TargetError};

use crate::settings::SandboxError;
use horarium_model::grant::{Grant, origin};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest time from the first address tried to a finished TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for a name to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRESSES_TRIED: usize = 4;

/// An open connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections that grants allow.
#[derive(Debug)]
pub struct Connector {
    resolver: Arc<dyn Resolver>,
    tls: tls::Tls,
    allow_private: Vec<IpNet>,
}

/// The networks that the matching grants open beside public addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    via: Vec<IpNet>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No grant, or a private address; the sentence names what would allow it.
    #[error("{0}")]
    Denied(String),
    /// The name has no address.
    #[error("{0} cannot be resolved: {1}")]
    Resolve(String, String),
    /// Resolving took too long.
    #[error("resolving {0} took longer than {1:?}")]
    ResolveTimeout(String, Duration),
    /// Nobody accepted.
    #[error("{0} does not accept connections: {1}")]
    Connect(String, std::io::Error),
    /// Connecting took too long.
    #[error("connecting to {0} took longer than {1:?}")]
    ConnectTimeout(String, Duration),
    /// The TLS handshake failed.
    #[error("TLS with {0} failed: {1}")]
    Tls(String, std::io::Error),
}

impl Connector {
    /// A connector that reaches private networks only inside `allow_private`.
    ///
    /// # Errors
    /// When an extra certificate is not one.
    pub fn new(
        resolver: Option<Arc<dyn Resolver>>,
        allow_private: Vec<IpNet>,
        extra_roots: &[Vec<u8>],
    ) -> Result<Self, SandboxError> {
        Ok(Self {
            resolver: resolver.unwrap_or_else(|| Arc::new(SystemResolver::default())),
            tls: tls::Tls::new(extra_roots)?,
            allow_private,
        })
    }

    /// Whether the grants cover a request, before any name is resolved.
    ///
    /// # Errors
    /// [`ConnectError::Denied`], naming the grant that would allow it.
    pub fn authorise(
        &self,
        grants: &[Grant],
        method: &str,
        target: &Target,
    ) -> Result<Permission, ConnectError> {
        let mut matching = false;
        let mut via = Vec::new();
        for grant in grants {
            let Grant::Http(grant) = grant else { continue };
            let (scheme, host, path) = (target.scheme(), target.host(), target.path());
            if grant.allows(method, scheme, host, target.port(), path) {
                matching = true;
                via.extend(grant.via);
            }
        }
        if matching {
            Ok(Permission { via })
        } else {
            Err(ConnectError::Denied(not_granted(method, target)))
        }
    }

    /// Resolves, checks and connects, with TLS for `https`, within `limit`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(
        &self,
        method: &str,
        target: &Target,
        permission: &Permission,
        limit: Duration,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        let addresses = self.resolve(target, limit.min(RESOLVE_TIMEOUT)).await?;
        let allowed = self.checked(&addresses, permission);
        if allowed.is_empty() {
            let address = addresses.first().copied();
            return Err(ConnectError::Denied(private(method, target, address)));
        }
        let limit = limit.min(CONNECT_TIMEOUT);
        tokio::time::timeout(limit, self.open(target, &allowed))
            .await
            .map_err(|_| ConnectError::ConnectTimeout(target.authority(), limit))?
    }

    async fn resolve(&self, target: &Target, limit: Duration) -> Result<Vec<IpAddr>, ConnectError> {
        if let Some(address) = target.literal() {
            return Ok(vec![address]);
        }
        let host = target.host();
        let shown = || host.to_owned();
        let found = tokio::time::timeout(limit, self.resolver.resolve(host))
            .await
            .map_err(|_| ConnectError::ResolveTimeout(shown(), limit))?
            .map_err(|error| ConnectError::Resolve(shown(), error.to_string()))?;
        if found.is_empty() {
            return Err(ConnectError::Resolve(shown(), "it has no address".into()));
        }
        Ok(found)
    }

    fn checked(&self, addresses: &[IpAddr], permission: &Permission) -> Vec<IpAddr> {
        let opened = |address: &IpAddr| {
            permission.via.iter().any(|net| net.contains(address))
                && self.allow_private.iter().any(|net| net.contains(address))
        };
        addresses
            .iter()
            .copied()
            .filter(|address| special_range(*address).is_none() || opened(address))
            .take(ADDRESSES_TRIED)
            .collect()
    }

    async fn open(
        &self,
        target: &Target,
        addresses: &[IpAddr],
    ) -> Result<Box<dyn Stream>, ConnectError> {
        let mut last = std::io::Error::other("no address");
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(*address, target.port())).await {
                Ok(stream) => {
                    // Small requests should not wait for more of the body.
                    let _ = stream.set_nodelay(true);
                    if target.scheme() == "https" {
                        return self.tls.handshake(target, stream).await;
                    }
                    return Ok(Box::new(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(ConnectError::Connect(target.authority(), last))
    }
}

fn not_granted(method: &str, target: &Target) -> String {
    let place = origin(target.scheme(), target.host(), target.port());
    let grant = format!("http {method} {place}");
    match target
        .literal()
        .filter(|address| special_range(*address).is_some())
    {
        None => {
            format!("denied: {method} {target} is not granted; allow it with --grant '{grant}'")
        }
        Some(address) => format!(
            "denied: {method} {target} is not granted; allow it with --grant '{grant} via {net}' and, since {address} is {kind}, network.allow_private = [\"{net}\"] in the host's settings",
            net = IpNet::from(address),
            kind = special_range(address).unwrap_or("private"),
        ),
    }
}

fn private(method: &str, target: &Target, address: Option<IpAddr>) -> String {
    let place = origin(target.scheme(), target.host(), target.port());
    let Some(address) = address else {
        return format!("denied: {method} {target} has no address");
    };
    format!(
        "denied: {method} {target} goes to {address}, which is {kind}; it needs both network.allow_private = [\"{net}\"] in the host's settings and --grant 'http {method} {place} via {net}'",
        net = IpNet::from(address),
        kind = special_range(address).unwrap_or("private"),
    )
}

#[cfg(test)]
mod tests;

//! Where a server is: an address in numbers is not looked up.

use std::net::SocketAddr;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Takes numbers as they are and has names looked up. With a time limit, ureq does that in a thread of its own for each
/// request, on a connection that is open as well.
#[derive(Debug, Default)]
pub(super) struct NumbersFirst(DefaultResolver);

impl Resolver for NumbersFirst {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let Some(address) = numbers(uri) else {
            return self.0.resolve(uri, config, timeout);
        };
        let mut found = self.empty();
        found.push(address);
        Ok(found)
    }
}

fn numbers(uri: &Uri) -> Option<SocketAddr> {
    let usual = match uri.scheme_str()? {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = uri.host()?;
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = inner.unwrap_or(host).parse().ok()?;
    Some(SocketAddr::new(host, uri.port_u16().unwrap_or(usual)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_they_are() {
        let told = |uri: &str| numbers(&uri.parse().expect("an address")).map(|at| at.to_string());
        let known = |uri: &str| told(uri).expect("numbers");
        assert_eq!(known("http://127.0.0.1:7340/v1"), "127.0.0.1:7340");
        assert_eq!(known("https://10.0.0.1"), "10.0.0.1:443");
        assert_eq!(known("http://[::1]:80/"), "[::1]:80");
        assert_eq!(known("http://[::1]/"), "[::1]:80");
        for looked_up in ["http://localhost:7340", "https://horarium.example/", "/v1"] {
            assert_eq!(told(looked_up), None, "{looked_up}");
        }
    }
}

//! What an operator allows a plugin: the grammar of `--grant` (design section 3) and its matching.

use crate::text::one_line;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// One grant, as `--grant` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// `http METHOD[,METHOD…] scheme://host[:port][/path-prefix] [via CIDR]`
    Http(HttpGrant),
    /// `secret NAME in header:NAME|query:NAME|body to ORIGIN[,ORIGIN…]`
    SecretIn {
        /// Name of the secret.
        name: String,
        /// Where its value may stand.
        place: SecretPlace,
        /// Origins it may travel to, normalised.
        origins: Vec<String>,
    },
    /// `secret NAME reveal`
    SecretReveal {
        /// Name of the secret.
        name: String,
    },
    /// `state`
    State,
}

/// Where in a request a secret's value may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// In the header of this (lower-case) name.
    Header(String),
    /// In the query parameter of this name.
    Query(String),
    /// In the body.
    Body,
}

/// A rule for outgoing requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    /// Upper-case methods; empty = any (`*`).
    pub methods: Vec<String>,
    /// `http` or `https`.
    pub scheme: String,
    /// Lower-case host; `*.example.com` matches any name below example.com.
    pub host: String,
    /// Port, the scheme's default when not written.
    pub port: u16,
    /// Path prefix, matched on segment borders; `/` = any.
    pub path: String,
    /// The private network it may reach, which the host's settings must allow too.
    pub via: Option<IpNet>,
}

impl HttpGrant {
    /// Whether a request falls under this grant. `host` is lower-case without a trailing dot.
    pub fn allows(&self, method: &str, scheme: &str, host: &str, port: u16, path: &str) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|m| m.eq_ignore_ascii_case(method)))
            && self.scheme == scheme
            && self.port == port
            && self.host_matches(host)
            && path_under(path, &self.path)
    }

    /// Whether the host part is a wildcard.
    pub fn is_wildcard(&self) -> bool {
        self.host.starts_with("*.")
    }

    fn host_matches(&self, host: &str) -> bool {
        match self.host.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.host,
        }
    }
}

/// `/api` covers `/api` and `/api/x`, not `/apix`; dot segments never match, so no `..` escapes.
fn path_under(path: &str, prefix: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or("/");
    let lower = path.to_ascii_lowercase();
    let dotted = lower
        .split(['/', '\\'])
        .any(|s| matches!(s.replace("%2e", ".").as_str(), "." | ".."))
        || lower.contains("%2f")
        || lower.contains("%5c");
    if prefix == "/" {
        return true;
    }
    if dotted {
        return false;
    }
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

impl Grant {
    /// The secret it is about, if it is about one.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::SecretIn { name, .. } | Self::SecretReveal { name } => Some(name),
            Self::Http(_) | Self::State => None,
        }
    }
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Body => f.write_str("body"),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State => f.write_str("state"),
            Self::SecretReveal { name } => write!(f, "secret {name} reveal"),
            Self::SecretIn {
                name,
                place,
                origins,
            } => write!(f, "secret {name} in {place} to {}", origins.join(",")),
            Self::Http(g) => {
                let methods = if g.methods.is_empty() {
                    "*".to_owned()
                } else {
                    g.methods.join(",")
                };
                write!(f, "http {methods} {}", origin(&g.scheme, &g.host, g.port))?;
                if g.path != "/" {
                    f.write_str(&g.path)?;
                }
                if let Some(via) = g.via {
                    write!(f, " via {via}")?;
                }
                Ok(())
            }
        }
    }
}

/// `scheme://host[:port]`, the port left out where it is the scheme's default.
pub fn origin(scheme: &str, host: &str, port: u16) -> String {
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if port == default_port(scheme) {
        format!("{scheme}://{host}")
    } else {
        format!("{scheme}://{host}:{port}")
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["state"] => Ok(Self::State),
            ["http", methods, url] => Ok(Self::Http(http(methods, url, None)?)),
            ["http", methods, url, "via", cidr] => Ok(Self::Http(http(methods, url, Some(cidr))?)),
            ["http", ..] => Err(format!(
                "`{}`: write http METHOD[,METHOD…] scheme://host[:port][/path-prefix] [via CIDR]",
                one_line(text, 80)
            )),
            ["secret", name, "reveal"] => Ok(Self::SecretReveal {
                name: secret_name(name)?,
            }),
            ["secret", name, "in", place, "to", origins] => Ok(Self::SecretIn {
                name: secret_name(name)?,
                place: secret_place(place)?,
                origins: origins
                    .split(',')
                    .map(parse_origin)
                    .collect::<Result<_, _>>()?,
            }),
            ["secret", ..] => Err(format!(
                "`{}`: write secret NAME in header:NAME|query:NAME|body to ORIGIN[,ORIGIN…], or secret NAME reveal",
                one_line(text, 80)
            )),
            ["execution" | "log" | "progress" | "config", ..] => Err(format!(
                "`{}` needs no grant; every plugin has it",
                one_line(text, 40)
            )),
            _ => Err(format!(
                "`{}` is not a grant; it starts with http, secret or state",
                one_line(text, 80)
            )),
        }
    }
}

fn http(methods: &str, url: &str, via: Option<&str>) -> Result<HttpGrant, String> {
    let methods = if methods == "*" {
        Vec::new()
    } else {
        methods.split(',').map(method).collect::<Result<_, _>>()?
    };
    let (scheme, host, port, path) = split_url(url)?;
    let via = via
        .map(|cidr| {
            cidr.parse::<IpNet>()
                .or_else(|_| cidr.parse::<std::net::IpAddr>().map(IpNet::from))
                .map_err(|_| {
                    format!(
                        "`{}` after via is not a network like 10.0.0.0/8",
                        one_line(cidr, 60)
                    )
                })
        })
        .transpose()?;
    if via.is_some() && host.starts_with("*.") {
        return Err(format!(
            "`{host}`: a wildcard host never reaches a private network; name the host before via"
        ));
    }
    Ok(HttpGrant {
        methods,
        scheme,
        host,
        port,
        path,
        via,
    })
}

fn method(word: &str) -> Result<String, String> {
    let upper = word.to_ascii_uppercase();
    if upper.is_empty()
        || upper.len() > 20
        || !upper.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
    {
        return Err(format!(
            "`{}` is not an HTTP method; write GET, POST, … or *",
            one_line(word, 40)
        ));
    }
    Ok(upper)
}

fn split_url(url: &str) -> Result<(String, String, u16, String), String> {
    let shown = one_line(url, 100);
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| format!("`{shown}` has no scheme; write https://…"))?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return Err(format!("`{shown}`: the scheme must be http or https"));
    }
    let (authority, path) = rest.find('/').map_or((rest, "/"), |i| rest.split_at(i));
    if authority.contains('@') {
        return Err(format!(
            "`{shown}`: user and password do not belong into a grant"
        ));
    }
    if path.contains(['?', '#', '*', '%', '\\']) || path.split('/').any(|s| s == "." || s == "..") {
        return Err(format!(
            "`{shown}`: the path is a plain prefix, without ?, #, *, % or dot segments"
        ));
    }
    let (host, port) = split_host_port(authority, &scheme)
        .ok_or_else(|| format!("`{shown}`: the port is not a number from 1 to 65535"))?;
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let v6 = name.parse::<std::net::Ipv6Addr>().is_ok();
    if name.is_empty() || !(plain || v6) {
        return Err(format!(
            "`{shown}`: the host is a name, an address, or *.name (ASCII; xn-- for others)"
        ));
    }
    Ok((scheme, host, port, path.to_owned()))
}

fn split_host_port<'a>(authority: &'a str, scheme: &str) -> Option<(&'a str, u16)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok().filter(|p| *p > 0)?)),
            None if after.is_empty() => Some((host, default_port(scheme))),
            None => None,
        };
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => Some((host, port.parse().ok().filter(|p| *p > 0)?)),
        None => Some((authority, default_port(scheme))),
    }
}

fn parse_origin(text: &str) -> Result<String, String> {
    let (scheme, host, port, path) = split_url(text)?;
    if path != "/" {
        return Err(format!(
            "`{}` is an origin and has no path",
            one_line(text, 80)
        ));
    }
    if host.starts_with("*.") {
        return Err(format!(
            "`{}`: a secret goes to hosts that are named, not to a wildcard",
            one_line(text, 80)
        ));
    }
    Ok(origin(&scheme, &host, port))
}

/// Checks the name of a secret: letters, digits, `_`, `-`, `.`, at most 64.
///
/// # Errors
/// A sentence for the user.
pub fn secret_name(name: &str) -> Result<String, String> {
    let fits = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if fits {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "`{}` is not a secret's name (letters, digits, _ - ., at most 64)",
            one_line(name, 70)
        ))
    }
}

fn secret_place(place: &str) -> Result<SecretPlace, String> {
    match place.split_once(':') {
        None if place == "body" => Ok(SecretPlace::Body),
        Some(("header", name)) if is_header_name(name) => {
            Ok(SecretPlace::Header(name.to_ascii_lowercase()))
        }
        Some(("query", name)) if !name.is_empty() => Ok(SecretPlace::Query(name.to_owned())),
        _ => Err(format!(
            "`{}`: write header:NAME, query:NAME or body",
            one_line(place, 60)
        )),
    }
}

/// A token of RFC 9110 that may carry a value of the plugin's: not one that frames the message.
fn is_header_name(name: &str) -> bool {
    const FRAMING: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];
    !name.is_empty()
        && name.len() <= 256
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        && !FRAMING.contains(&name.to_ascii_lowercase().as_str())
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(text: &str) -> HttpGrant {
        match text.parse().expect(text) {
            Grant::Http(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn grants_print_as_they_are_written() {
        for text in [
            "state",
            "secret api-key reveal",
            "secret api-key in header:authorization to https://api.example.com",
            "secret k in query:key to https://a.example,http://b.example:8080",
            "http GET https://api.example.com",
            "http GET,POST https://*.example.com/v1",
            "http * http://[fd00::1]:8080/x via fd00::/8",
            "http GET http://10.0.0.5:8080 via 10.0.0.0/8",
        ] {
            assert_eq!(text.parse::<Grant>().expect(text).to_string(), text);
        }
        assert_eq!(
            "http get HTTPS://Example.COM:443/"
                .parse::<Grant>()
                .unwrap()
                .to_string(),
            "http GET https://example.com"
        );
    }

    #[test]
    fn prefixes_match_on_segment_borders_and_wildcards_below_only() {
        let grant = http("http GET https://*.example.com/api");
        assert!(grant.allows("GET", "https", "a.example.com", 443, "/api"));
        assert!(grant.allows("get", "https", "a.b.example.com", 443, "/api/x?q=1"));
        assert!(!grant.allows("GET", "https", "example.com", 443, "/api"));
        assert!(!grant.allows("GET", "https", "evilexample.com", 443, "/api"));
        assert!(!grant.allows("GET", "https", "a.example.com", 443, "/apix"));
        for escape in [
            "/api/../admin",
            "/api/%2e%2e/admin",
            "/api/..%2fadmin",
            "/api/.%2E/x",
        ] {
            assert!(
                !grant.allows("GET", "https", "a.example.com", 443, escape),
                "{escape}"
            );
        }
        assert!(!grant.allows("POST", "https", "a.example.com", 443, "/api"));
        assert!(!grant.allows("GET", "http", "a.example.com", 443, "/api"));
        assert!(!grant.allows("GET", "https", "a.example.com", 8443, "/api"));
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        for (text, part) in [
            ("", "starts with http"),
            ("log", "needs no grant"),
            ("http GET", "METHOD"),
            ("http GET example.com", "no scheme"),
            ("http GET ftp://example.com", "http or https"),
            ("http GET https://u:p@example.com", "user and password"),
            ("http GET https://example.com:0", "port"),
            ("http GET https://example.com/../x", "dot segments"),
            ("http GET https://exa*mple.com", "host"),
            ("http GET https://*.example.com via 10.0.0.0/8", "wildcard"),
            ("http GET https://example.com via ten", "network"),
            ("http G3T https://example.com", "method"),
            ("secret a b", "write secret"),
            ("secret a in cookie:x to https://e.com", "header:NAME"),
            ("secret a in header:x:y to https://e.com", "header:NAME"),
            ("secret a in header:Host to https://e.com", "header:NAME"),
            ("secret a in body to https://e.com/path", "no path"),
            ("secret a in body to https://*.e.com", "named"),
        ] {
            let refused = text.parse::<Grant>().expect_err(text);
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }
}

//! As much of a URL as a request needs. No IDNA and no normalising: what is not plain is refused.

use std::fmt::Write;

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
// A fake host looks at the whole URL instead.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
pub(crate) struct Target {
    pub(crate) is_https: bool,
    pub(crate) authority: String,
    pub(crate) path_with_query: String,
}

impl Target {
    /// Splits an absolute http or https URL; the fragment is dropped.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        if let Some(bad) = url.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(format!("the URL contains {bad:?}: percent-encode it"));
        }
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("the URL must begin with http:// or https://")?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            other => return Err(format!("the scheme {other:?} is not http or https")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() {
            return Err("the URL names no host".to_owned());
        }
        if authority.contains('@') {
            return Err("the URL carries a user name: use an Authorization header".to_owned());
        }
        let path_with_query = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok(Self {
            is_https,
            authority: authority.to_owned(),
            path_with_query,
        })
    }
}

/// Percent-encodes everything but letters, digits and `-._~`, for one part of a path or query.
pub fn encode(part: &str) -> String {
    let mut encoded = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        let target = |url| Target::parse(url).unwrap();
        let parts = |t: Target| (t.is_https, t.authority, t.path_with_query);
        assert_eq!(
            parts(target("http://h:80/a?b#c")),
            (false, "h:80".into(), "/a?b".into())
        );
        assert_eq!(
            parts(target("HTTPS://[::1]")),
            (true, "[::1]".into(), "/".into())
        );
        assert_eq!(
            parts(target("https://h?q=/")),
            (true, "h".into(), "/?q=/".into())
        );
    }

    #[test]
    fn refuses() {
        for url in [
            "",
            "h",
            "/a",
            "ftp://h/",
            "http://",
            "http:///a",
            "http://u:p@h/",
            "http://h/a b",
            "http://ü/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn encodes() {
        assert_eq!(encode("a b/ü&~"), "a%20b%2F%C3%BC%26~");
    }
}

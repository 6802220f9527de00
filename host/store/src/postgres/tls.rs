//! `sslmode` as libpq means it, over what sqlx makes of it: sockets know no TLS, `require` with a CA checks
//! that CA, `allow` and `prefer` try two ways.

use super::connect::refuse;
use horarium_core::store::StoreResult;
use sqlx::ConnectOptions;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::path::Path;

/// The ways that a mode stands for, in order, where it is not one alone.
pub(super) fn ways(mode: PgSslMode) -> Option<[PgSslMode; 2]> {
    match mode {
        PgSslMode::Allow => Some([PgSslMode::Disable, PgSslMode::Require]),
        PgSslMode::Prefer => Some([PgSslMode::Prefer, PgSslMode::Disable]),
        _ => None,
    }
}

/// Whether the other way may succeed: the server lets nobody in on this one, or TLS does not come about.
pub(super) fn may_go_otherwise(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::ConnectionRefused,
        _ => code.as_deref() == Some("28000"),
    }
}

/// `allow` for a connection that is made without trying twice: with TLS where the server has it.
pub(super) fn not_plain_alone(options: PgConnectOptions) -> PgConnectOptions {
    match options.get_ssl_mode() {
        PgSslMode::Allow => options.ssl_mode(PgSslMode::Prefer),
        _ => options,
    }
}

/// A URL without `sslrootcert=system`, and whether it was there: then public CAs are trusted.
pub(super) fn take_system(url: &str) -> (String, bool) {
    const SYSTEM: &str = "sslrootcert=system";
    let Some((place, query)) = url.split_once('?') else {
        return (url.to_owned(), false);
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| *pair != SYSTEM).collect();
    let found = kept.len() < query.split('&').count();
    match (found, query.contains("sslmode=")) {
        (false, _) => (url.to_owned(), false),
        (true, true) => (format!("{place}?{}", kept.join("&")), true),
        (true, false) => (
            format!("{place}?sslmode=verify-full&{}", kept.join("&")),
            true,
        ),
    }
}

/// The mode as libpq understands it, and the files that it names.
pub(super) fn as_libpq(
    options: PgConnectOptions,
    trusts_public: bool,
) -> StoreResult<PgConnectOptions> {
    if options.get_socket().is_some() {
        return Ok(options.ssl_mode(PgSslMode::Disable));
    }
    let mode = options.get_ssl_mode();
    if trusts_public {
        return match mode {
            PgSslMode::VerifyFull => Ok(options),
            _ => Err(refuse(
                "sslrootcert=system trusts every public CA, which proves nothing without the name; write sslmode=verify-full",
            )),
        };
    }
    let checks = matches!(
        mode,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull
    );
    if !checks {
        return Ok(options);
    }
    let mut root = None;
    for (name, value) in options.to_url_lossy().query_pairs() {
        // What is no file stands in a variable itself.
        if matches!(&*name, "sslrootcert" | "sslcert" | "sslkey")
            && let Some(path) = value.strip_prefix("file: ")
        {
            check_file(&name, Path::new(path))?;
        }
        if name == "sslrootcert" {
            root = Some(());
        }
    }
    let home = std::env::home_dir().map(|home| home.join(".postgresql/root.crt"));
    let home = home.filter(|path| root.is_none() && path.is_file());
    let options = match &home {
        Some(path) => {
            check_file("sslrootcert", path)?;
            options.ssl_root_cert(path)
        }
        None => options,
    };
    match (mode, root.is_some() || home.is_some()) {
        // As for psql: whoever gives a CA wants it checked.
        (PgSslMode::Require, true) => Ok(options.ssl_mode(PgSslMode::VerifyCa)),
        (PgSslMode::VerifyCa, false) => Err(refuse(
            "sslmode=verify-ca needs the CA: add sslrootcert=FILE to the URL, or use verify-full, which without it \
             trusts public CAs",
        )),
        _ => Ok(options),
    }
}

fn check_file(name: &str, path: &Path) -> StoreResult<()> {
    let text = std::fs::read(path).map_err(|error| {
        refuse(format_args!(
            "{name} {} in the PostgreSQL URL: {error}",
            path.display()
        ))
    })?;
    let marker: &[u8] = b"-----BEGIN ";
    match text.windows(marker.len()).any(|part| part == marker) {
        true => Ok(()),
        false => Err(refuse(format_args!(
            "{name} {} in the PostgreSQL URL is no PEM file",
            path.display()
        ))),
    }
}

/// What a certificate that was not accepted means, with what would be right.
pub(super) fn advise(error: &std::io::Error) -> String {
    let said = error.to_string();
    let said = said
        .strip_prefix("invalid peer certificate: ")
        .unwrap_or(&said);
    let advice = if said.contains("not valid for name") {
        "connect by a name that is in it, or check the CA alone with sslmode=verify-ca"
    } else if said.contains("CaUsedAsEndEntity") {
        "a certificate that is its own CA cannot be checked; sign the server's with a CA and give that as sslrootcert"
    } else if said.contains("UnknownIssuer") || said.contains("BadSignature") {
        "give the CA that signed it as sslrootcert in the URL"
    } else {
        "renew it on the server"
    };
    format!("{said}; {advice}")
}

//! The files of the data directory that are not the database's or the sandbox's.

use super::{AppError, VERSION};
use horarium_model::Timestamp;
use horarium_model::schedule::wire;
use serde_json::json;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Shortest admin token accepted, for one an operator wrote.
const MIN_TOKEN_CHARS: usize = 32;
/// Rights that nobody but the owner may have on secrets.
const OTHERS: u32 = 0o077;

pub(super) fn file_error(path: &Path, reason: impl ToString) -> AppError {
    AppError::File {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// Makes the data directory, for its owner only, if it does not exist.
pub(super) fn make_data_dir(path: &Path) -> Result<(), AppError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| file_error(path, format!("cannot be made or used as directory: {e}")))
}

/// Whether a start could make or use the data directory, and read the token in it.
pub(super) fn check_data_dir(path: &Path) -> Result<(), AppError> {
    let there = path.ancestors().find(|ancestor| ancestor.exists());
    let there = there.unwrap_or_else(|| Path::new("."));
    if !there.is_dir() {
        return Err(file_error(there, "is not a directory"));
    }
    let writable = nix::unistd::access(there, nix::unistd::AccessFlags::W_OK);
    writable.map_err(|error| file_error(there, format!("cannot be written: {error}")))?;
    read_token(&path.join("admin-token")).map(|_| ())
}

/// The admin token: read, or made at the first start (256 random bits, for the owner only).
pub(super) fn admin_token(data_dir: &Path) -> Result<String, AppError> {
    let path = data_dir.join("admin-token");
    match read_token(&path)? {
        Some(token) => Ok(token),
        None => make_token(&path),
    }
}

/// The text of a file that nobody but its owner may read; none when there is no such file.
pub(super) fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, AppError> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(path, error)),
    };
    let mode = file.metadata().map_err(|e| file_error(path, e))?.mode();
    if mode & OTHERS != 0 {
        return Err(file_error(
            path,
            format!(
                "has mode {:o}; others may not have it, run chmod 600",
                mode & 0o777
            ),
        ));
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text)
        .map_err(|e| file_error(path, e))?;
    Ok(Some(text))
}

fn read_token(path: &Path) -> Result<Option<String>, AppError> {
    let Some(text) = read_private(path)? else {
        return Ok(None);
    };
    let token = text.trim();
    let fits = token.len() >= MIN_TOKEN_CHARS && token.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err(file_error(
            path,
            format!(
                "must hold one token of at least {MIN_TOKEN_CHARS} visible ASCII characters; delete it and a new one is made"
            ),
        ));
    }
    Ok(Some(token.to_owned()))
}

fn make_token(path: &Path) -> Result<String, AppError> {
    let random: [u8; 32] = rand::random();
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    if write_private(path, &format!("{token}\n"), Exists::Keep)? {
        return Ok(token);
    }
    // Another start was faster.
    read_token(path)?.ok_or_else(|| file_error(path, "vanished while it was read"))
}

/// What to do with a file that exists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Exists {
    /// Leave it.
    Keep,
    /// Put the new one in its place.
    Replace,
}

/// Writes a file for its owner only, aside and then into place, so that half of it is never read. False when
/// it existed and was kept.
pub(super) fn write_private(path: &Path, text: &str, exists: Exists) -> Result<bool, AppError> {
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| match exists {
            Exists::Keep => fs::hard_link(&aside, path),
            Exists::Replace => fs::rename(&aside, path),
        });
    let _ = fs::remove_file(&aside);
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(file_error(path, error)),
    }
}

/// The address clients on this machine use.
pub(super) fn url_of(address: SocketAddr, tls: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

/// Says where the server is, for the verbs on this machine.
pub(super) fn write_server_file(
    data_dir: &Path,
    url: &str,
    now: Timestamp,
) -> Result<(), AppError> {
    let path = data_dir.join("server.json");
    let aside = data_dir.join("server.json.new");
    let text = json!({
        "url": url,
        "pid": std::process::id(),
        "version": VERSION,
        "started_at": wire(now),
    });
    fs::write(&aside, format!("{text}\n"))
        .and_then(|()| fs::rename(&aside, &path))
        .map_err(|e| file_error(&path, e))
}

/// The server is gone; a file that stays would only point nowhere.
pub(super) fn remove_server_file(data_dir: &Path) {
    let path = data_dir.join("server.json");
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_token_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("a/b");
        make_data_dir(&data).expect("made");
        assert_eq!(fs::metadata(&data).expect("there").mode() & 0o777, 0o700);
        let token = admin_token(&data).expect("made");
        assert_eq!(token.len(), 64);
        let file = data.join("admin-token");
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
        assert_eq!(admin_token(&data).expect("read"), token);
        assert_eq!(fs::read_dir(&data).expect("read").count(), 1);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changed");
        let refused = admin_token(&data).expect_err("too open").to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
    }

    #[test]
    fn a_token_that_is_none_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("admin-token");
        for text in [
            "",
            "short",
            "with a space in the middle of a long enough text",
        ] {
            fs::write(&file, text).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
            assert!(admin_token(dir.path()).is_err(), "{text}");
        }
    }

    #[test]
    fn clients_are_sent_to_loopback() {
        for (address, url) in [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("127.0.0.1:7411", "http://127.0.0.1:7411"),
        ] {
            assert_eq!(url_of(address.parse().expect(address), false), url);
            let tls = url.replace("http", "https");
            assert_eq!(url_of(address.parse().expect(address), true), tls);
        }
    }
}

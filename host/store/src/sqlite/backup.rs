//! Copies of a whole database file: taken while a server runs on it, and put back.

use super::file::{DbStatus, Lock, beside, check_header, check_version, opening, refuse};
use super::{db, file};
use horarium_core::store::{StoreError, StoreResult};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What [`restore`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The database as it is now.
    pub status: DbStatus,
    /// Where the one that was there before went.
    pub replaced: Option<PathBuf>,
}

/// Writes a copy of the database as it is at one instant to a new file `to`, compacted, checked for damage and flushed
/// to the disk. A server may run on it meanwhile and is not held up. Secrets stay encrypted: their key is not in it.
///
/// # Errors
/// `Invalid` when `to` exists or the database is not ours; `Unavailable` when either cannot be used. No part of a copy
/// stays behind.
pub async fn backup(path: impl AsRef<Path>, to: impl AsRef<Path>) -> StoreResult<DbStatus> {
    let (path, to) = (path.as_ref(), to.as_ref());
    let source = file::status(path).await?;
    if source.schema_version == 0 {
        return Err(refuse(
            path,
            "holds no Horarium database, so there is nothing to back up",
        ));
    }
    let copy = NewFile::at(to)?;
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(Duration::from_secs(5))
        .connect()
        .await
        .map_err(|error| opening(path, error))?;
    let part = copy.part.to_string_lossy().into_owned();
    let written = sqlx::query("VACUUM INTO ?1")
        .persistent(false)
        .bind(part)
        .execute(&mut connection)
        .await
        .map_err(|error| {
            StoreError::Unavailable(format!("cannot write {}: {error}", to.display()))
        });
    connection.close().await.map_err(db)?;
    written?;
    sound(&copy.part, to).await?;
    copy.keep()?;
    file::status(to).await
}

/// Makes `path` the database that the backup `from` holds. What is there already is refused, or with `replace` moved
/// aside. The backup itself stays as it is.
///
/// # Errors
/// `Invalid` when `from` is no sound Horarium database or a newer one, or when there is a database and `replace` was not
/// said; `Unavailable` when a server runs on it or a file cannot be used. The old database then stays in its place.
pub async fn restore(
    from: impl AsRef<Path>,
    path: impl AsRef<Path>,
    replace: bool,
) -> StoreResult<Restored> {
    let (from, path) = (from.as_ref(), path.as_ref());
    sound(from, from).await?;
    let _lock = Lock::take(path)?;
    let occupied = std::fs::metadata(path).is_ok_and(|found| found.len() > 0);
    if occupied && !replace {
        return Err(refuse(
            path,
            "holds a database already; --replace moves it aside first",
        ));
    }
    let copy = NewFile::beside(path);
    std::fs::copy(from, &copy.part).map_err(|error| unusable(&copy.part, &error))?;
    let replaced = match occupied {
        true => Some(move_aside(path)?),
        false => None,
    };
    copy.keep()?;
    Ok(Restored {
        status: file::status(path).await?,
        replaced,
    })
}

/// Fails unless `file` is a Horarium database this binary knows, without damage. Errors call it `name`.
async fn sound(file: &Path, name: &Path) -> StoreResult<()> {
    if !file.is_file() {
        return Err(refuse(name, "does not exist"));
    }
    check_header(file)?;
    let mut connection = SqliteConnectOptions::new()
        .filename(file)
        // A backup is a file by itself: nobody writes to it, and none of its neighbours belongs to it.
        .immutable(true)
        .read_only(true)
        .connect()
        .await
        .map_err(|error| opening(name, error))?;
    let version = check_version(&mut connection, name).await;
    connection.close().await.map_err(db)?;
    if version? == 0 {
        return Err(refuse(name, "holds no Horarium database"));
    }
    let damage = file::quick_check(file).await?;
    match damage.first() {
        Some(first) => Err(refuse(name, format_args!("is damaged: {first}"))),
        None => Ok(()),
    }
}

/// Moves a database with its write-ahead log to a name that is free.
fn move_aside(path: &Path) -> StoreResult<PathBuf> {
    let mut number = 1;
    let aside = loop {
        let name = beside(path, &format!(".replaced-{number}"));
        if !name.exists() {
            break name;
        }
        number += 1;
    };
    // The log first: without it the database would be one that lost its last commits.
    for ending in ["-wal", "-shm", ""] {
        let (old, new) = (beside(path, ending), beside(&aside, ending));
        match std::fs::rename(&old, &new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unusable(&old, &error));
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// A file that appears whole, or not at all.
struct NewFile {
    part: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// One that must not exist.
    fn at(path: &Path) -> StoreResult<Self> {
        if path.exists() {
            return Err(refuse(path, "exists; choose another file"));
        }
        let folder = folder_of(path);
        if !folder.is_dir() {
            return Err(refuse(folder, "is no folder"));
        }
        Ok(Self::beside(path))
    }

    fn beside(path: &Path) -> Self {
        let part = beside(path, ".part");
        // Of a copy that was killed.
        let _ = std::fs::remove_file(&part);
        Self {
            part,
            path: path.to_owned(),
        }
    }

    /// Flushes it to the disk and gives it its name.
    fn keep(&self) -> StoreResult<()> {
        let failed = |error: std::io::Error| unusable(&self.path, &error);
        let file = File::open(&self.part).map_err(failed)?;
        // It holds everything that tenants keep here.
        file.set_permissions(Permissions::from_mode(0o600))
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        std::fs::rename(&self.part, &self.path).map_err(failed)?;
        File::open(folder_of(&self.path))
            .and_then(|folder| folder.sync_all())
            .map_err(failed)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.part);
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot write {}: {error}", path.display()))
}

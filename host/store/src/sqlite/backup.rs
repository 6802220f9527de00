//! Copies of a whole database file: taken while a server runs on it, and put back.

use super::file::{
    DbStatus, Lock, beside, check_header, check_version, folder_of, opening, refuse, unusable,
};
use super::{db, file};
use horarium_core::store::{StoreError, StoreResult};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
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
    if from.is_file() && holds_something(&beside(from, "-wal")) {
        return Err(refuse(
            from,
            format_args!(
                "has a write-ahead log beside it, so it is no backup but a database that was in use; \
                 `horarium db backup --database-url sqlite:{} FILE` makes a backup of both",
                from.display()
            ),
        ));
    }
    sound(from, from).await?;
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).map_err(|error| unusable(folder, &error))?;
    let _lock = Lock::take(path)?;
    let occupied = holds_something(path) || holds_something(&beside(path, "-wal"));
    if occupied && !replace {
        return Err(refuse(
            path,
            "holds a database already; --replace moves it aside first",
        ));
    }
    let copy = NewFile::beside(path)?;
    let mut source = File::open(from).map_err(|error| unusable(from, &error))?;
    let mut part = copy.open()?;
    std::io::copy(&mut source, &mut part).map_err(|error| unusable(&copy.part, &error))?;
    copy.flush()?;
    let replaced = match occupied {
        true => Some(move_aside(path).await?),
        false => None,
    };
    copy.keep()?;
    Ok(Restored {
        status: file::status(path).await?,
        replaced,
    })
}

fn holds_something(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.len() > 0)
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

/// Gives a database a second name that is free, and takes its write-ahead log from the first one, which the
/// restored file is about to get: there is no moment without a database.
async fn move_aside(path: &Path) -> StoreResult<PathBuf> {
    // Whoever closes a database last moves its log into it. A damaged one keeps it, and takes it along.
    if let Ok(connection) = SqliteConnectOptions::new().filename(path).connect().await {
        let mut connection = connection;
        let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .persistent(false)
            .execute(&mut connection)
            .await;
        let _ = connection.close().await;
    }
    let mut number = 1;
    let aside = loop {
        let name = beside(path, &format!(".replaced-{number}"));
        if !name.exists() && !beside(&name, "-wal").exists() {
            break name;
        }
        number += 1;
    };
    // A log may be all that is left of it.
    unless_missing(&aside, std::fs::hard_link(path, &aside))?;
    for ending in ["-wal", "-shm"] {
        let old = beside(path, ending);
        unless_missing(&old, std::fs::rename(&old, beside(&aside, ending)))?;
    }
    Ok(aside)
}

/// A file that appears whole, or not at all. It is its owner's alone: it holds everything that tenants keep here.
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
        Self::beside(path)
    }

    fn beside(path: &Path) -> StoreResult<Self> {
        let part = beside(path, ".part");
        // Of a copy that was killed.
        let _ = std::fs::remove_file(&part);
        let new = Self {
            part,
            path: path.to_owned(),
        };
        new.open()?;
        Ok(new)
    }

    fn open(&self) -> StoreResult<File> {
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let opened = options.open(&self.part);
        opened.map_err(|error| unusable(&self.part, &error))
    }

    /// Flushes it to the disk.
    fn flush(&self) -> StoreResult<()> {
        let synced = File::open(&self.part).and_then(|file| file.sync_all());
        synced.map_err(|error| unusable(&self.part, &error))
    }

    /// Gives it its name.
    fn keep(&self) -> StoreResult<()> {
        self.flush()?;
        let failed = |error: std::io::Error| unusable(&self.path, &error);
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

fn unless_missing(path: &Path, done: std::io::Result<()>) -> StoreResult<()> {
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(path, &error)),
        _ => Ok(()),
    }
}

//! Compiled components on disk, so that a restart compiles nothing. What lies here is machine code:
//! the directory is private, and each file carries a keyed hash that is checked before it is loaded.

use crate::artifact::{Artifact, Landing};
use crate::settings::SandboxError;
use horarium_core::clock::Clock;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

const MAGIC: &[u8; 8] = b"HRMAOT1\n";
const MAC_BYTES: usize = 32;
/// Bytes read at a time: they are hashed and put where they run while the processor still has them.
const PART: usize = 256 * 1024;
const KEY_FILE: &str = "mac.key";
const EXTENSION: &str = "aot";

/// The store of compiled components of one engine.
pub(crate) struct AotStore {
    place: Place,
    compatibility: String,
    clock: Arc<dyn Clock>,
}

enum Place {
    Directory {
        path: PathBuf,
        key: [u8; 32],
        max_bytes: u64,
        writing: Mutex<()>,
    },
    Memory(Mutex<HashMap<String, Arc<Vec<u8>>>>),
}

/// What the store holds under a digest.
pub(crate) enum Stored {
    /// The unchanged output of our own compiler.
    Artifact(Artifact),
    /// Nothing.
    Missing,
    /// Something that is not what was written, and was removed; or that cannot be read.
    Damaged(String),
}

impl AotStore {
    /// A store in memory, for processes that end soon.
    pub(crate) fn in_memory(compatibility: String, clock: Arc<dyn Clock>) -> Self {
        Self {
            place: Place::Memory(Mutex::default()),
            compatibility,
            clock,
        }
    }

    /// Opens the store in `path`, makes it private, and removes what other engines left.
    pub(crate) fn open(
        path: &Path,
        max_bytes: u64,
        compatibility: String,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SandboxError> {
        let failed = |error: io::Error| SandboxError::AotStore {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        make_private(path).map_err(failed)?;
        let key = read_or_make_key(&path.join(KEY_FILE)).map_err(failed)?;
        purge(path, &compatibility).map_err(failed)?;
        let place = Place::Directory {
            path: path.to_owned(),
            key,
            max_bytes,
            writing: Mutex::new(()),
        };
        Ok(Self {
            place,
            compatibility,
            clock,
        })
    }

    /// Whether there is something under `digest`; it is not read.
    pub(crate) fn contains(&self, digest: &str) -> bool {
        match &self.place {
            Place::Directory { path, .. } => path.join(self.file_name(digest)).is_file(),
            Place::Memory(map) => lock(map).contains_key(digest),
        }
    }

    /// Tries whether something can be written.
    pub(crate) fn check(&self) -> io::Result<()> {
        match &self.place {
            Place::Memory(_) => Ok(()),
            Place::Directory { path, .. } => {
                let tried = tempfile::tempfile_in(path).and_then(|mut file| file.write_all(MAGIC));
                tried.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
            }
        }
    }

    /// Keeps an artifact: written beside, flushed, renamed. Then evicts what was unused longest.
    pub(crate) fn put(&self, digest: &str, artifact: &Arc<Vec<u8>>) -> io::Result<()> {
        match &self.place {
            Place::Memory(map) => {
                lock(map).insert(digest.to_owned(), artifact.clone());
                Ok(())
            }
            Place::Directory {
                path,
                key,
                max_bytes,
                writing,
            } => {
                let _one_at_a_time = lock(writing);
                let mut file = tempfile::Builder::new().suffix(".tmp").tempfile_in(path)?;
                file.write_all(MAGIC)?;
                let mac = self.hasher(key, digest).update(artifact).finalize();
                file.write_all(mac.as_bytes())?;
                file.write_all(artifact)?;
                file.as_file().sync_all()?;
                let target = path.join(self.file_name(digest));
                file.persist(&target).map_err(|error| error.error)?;
                File::open(path)?.sync_all()?;
                evict(path, *max_bytes, &target)
            }
        }
    }

    /// Reads an artifact and checks that it is what was written.
    pub(crate) fn get(&self, digest: &str) -> Stored {
        match &self.place {
            Place::Memory(map) => lock(map).get(digest).map_or(Stored::Missing, |artifact| {
                Stored::Artifact(Artifact::Bytes(artifact.clone()))
            }),
            Place::Directory { path, key, .. } => {
                let path = path.join(self.file_name(digest));
                match self.read(&path, key, digest) {
                    Ok(artifact) => Stored::Artifact(artifact),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::Missing,
                    Err(error) => {
                        // What could not be read may be good.
                        if is_damage(&error) {
                            let _ = fs::remove_file(&path);
                        }
                        Stored::Damaged(format!("{}: {error}", path.display()))
                    }
                }
            }
        }
    }

    fn read(&self, path: &Path, key: &[u8; 32], digest: &str) -> io::Result<Artifact> {
        let size = usize::try_from(fs::metadata(path)?.len()).map_err(io::Error::other)?;
        match self.read_to(Landing::new(size), path, key, digest) {
            // Where it was to be put there may be no room for it, or no leave to protect it.
            Err(error) if !is_damage(&error) => {
                self.read_to(Landing::buffer(size), path, key, digest)
            }
            read => read,
        }
    }

    fn read_to(
        &self,
        mut landing: Landing,
        path: &Path,
        key: &[u8; 32],
        digest: &str,
    ) -> io::Result<Artifact> {
        let mut file = File::open(path)?;
        let mut head = [0; MAGIC.len() + MAC_BYTES];
        file.read_exact(&mut head)?;
        let mut hasher = self.hasher(key, digest);
        let mut part = vec![0; PART];
        loop {
            let count = match file.read(&mut part) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&part[..count]);
            landing.write_all(&part[..count])?;
        }
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&head[MAGIC.len()..]);
        // blake3 compares hashes in constant time.
        if &head[..MAGIC.len()] != MAGIC || hasher.finalize() != blake3::Hash::from(mac) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not what was written",
            ));
        }
        // The time of last use, for eviction; a failure only makes it look older.
        let _ = file.set_modified(SystemTime::from(self.clock.now()));
        landing.finish()
    }

    /// What hashes an artifact, which is to follow.
    fn hasher(&self, key: &[u8; 32], digest: &str) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(key);
        for part in [self.compatibility.as_bytes(), digest.as_bytes()] {
            hasher
                .update(&(part.len() as u64).to_le_bytes())
                .update(part);
        }
        hasher
    }

    fn file_name(&self, digest: &str) -> String {
        // Digests are hexadecimal after their scheme; anything else is hashed into that form.
        let hex = match digest.strip_prefix("blake3:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                hex.to_owned()
            }
            _ => blake3::hash(digest.as_bytes()).to_hex().to_string(),
        };
        format!("{}-{hex}.{EXTENSION}", self.compatibility)
    }
}

/// Whether what was read is not what was written: too short, or other bytes.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn read_or_make_key(path: &Path) -> io::Result<[u8; 32]> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let key: [u8; 32] = rand::random();
            file.write_all(&key)?;
            file.sync_all()?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let bytes = fs::read(path)?;
            bytes.try_into().or_else(|_| {
                // A crash between create and write: nothing was signed with it yet, or all of it is void.
                fs::remove_file(path)?;
                read_or_make_key(path)
            })
        }
        Err(error) => Err(error),
    }
}

/// Removes artifacts of other engines and files that were never finished.
fn purge(path: &Path, compatibility: &str) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let foreign = name.ends_with(".aot") && !name.starts_with(&format!("{compatibility}-"));
        if foreign || name.ends_with(".tmp") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes the longest unused artifacts, never the one just written, until the rest fits.
fn evict(path: &Path, max_bytes: u64, keep: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    let mut total = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let path = entry.path();
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            let metadata = entry.metadata()?;
            total += metadata.len();
            files.push((metadata.modified()?, metadata.len(), path));
        }
    }
    files.sort();
    for (_, size, path) in files {
        if total <= max_bytes {
            break;
        }
        if path != keep {
            fs::remove_file(&path)?;
            total -= size;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_core::clock::SystemClock;

    fn open(path: &Path, max_bytes: u64, compatibility: &str) -> AotStore {
        let clock = Arc::new(SystemClock::new());
        AotStore::open(path, max_bytes, compatibility.to_owned(), clock).expect("opens")
    }

    fn artifact(store: &AotStore, digest: &str) -> Option<Vec<u8>> {
        match store.get(digest) {
            Stored::Artifact(artifact) => Some(match artifact {
                Artifact::Bytes(bytes) => bytes.to_vec(),
                #[cfg(target_os = "linux")]
                Artifact::Sealed(sealed) => fs::read(sealed.path()).expect("reads"),
            }),
            Stored::Missing | Stored::Damaged(_) => None,
        }
    }

    #[test]
    fn artifacts_survive_a_restart_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aot");
        open(&path, 1 << 20, "e1")
            .put("d1", &Arc::new(b"code".to_vec()))
            .unwrap();
        let store = open(&path, 1 << 20, "e1");
        assert_eq!(artifact(&store, "d1"), Some(b"code".to_vec()));
        assert!(store.contains("d1") && !store.contains("d2"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for entry in fs::read_dir(&path).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }

    #[test]
    fn a_flipped_byte_is_found_and_the_file_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1 << 20, "e1");
        store.put("d1", &Arc::new(vec![7; 1000])).unwrap();
        let path = dir.path().join(store.file_name("d1"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[500] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(store.get("d1"), Stored::Damaged(_)));
        assert!(matches!(store.get("d1"), Stored::Missing));
    }

    #[test]
    fn what_is_short_is_damaged_and_what_cannot_be_read_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1 << 20, "e1");
        let path = dir.path().join(store.file_name("d1"));
        for length in [0, 20, 40, 500] {
            store.put("d1", &Arc::new(vec![7; 1000])).unwrap();
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(length).unwrap();
            assert!(matches!(store.get("d1"), Stored::Damaged(_)), "{length}");
            assert!(!path.exists(), "{length}");
        }
        // What it names opens and cannot be read.
        std::os::unix::fs::symlink(dir.path(), &path).unwrap();
        assert!(matches!(store.get("d1"), Stored::Damaged(_)));
        assert!(path.exists());
    }

    #[test]
    fn an_artifact_under_another_name_or_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1 << 20, "e1");
        store.put("d1", &Arc::new(b"one".to_vec())).unwrap();
        let (one, two) = (store.file_name("d1"), store.file_name("d2"));
        fs::rename(dir.path().join(one), dir.path().join(two)).unwrap();
        assert!(matches!(store.get("d2"), Stored::Damaged(_)));
        store.put("d1", &Arc::new(b"one".to_vec())).unwrap();
        fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
        assert!(matches!(
            open(dir.path(), 1 << 20, "e1").get("d1"),
            Stored::Damaged(_)
        ));
    }

    #[test]
    fn other_engines_are_purged_and_the_oldest_evicted() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), 1 << 20, "e1")
            .put("d1", &Arc::new(b"code".to_vec()))
            .unwrap();
        let store = open(dir.path(), 2500, "e2");
        assert!(
            !dir.path()
                .join(open(dir.path(), 1, "e1").file_name("d1"))
                .exists()
        );
        for (digest, age) in [("a", 30), ("b", 20)] {
            store.put(digest, &Arc::new(vec![0; 1000])).unwrap();
            let file = File::open(dir.path().join(store.file_name(digest))).unwrap();
            let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age);
            file.set_modified(then).unwrap();
        }
        store.put("c", &Arc::new(vec![0; 1000])).unwrap();
        assert!(!store.contains("a") && store.contains("b") && store.contains("c"));
    }
}

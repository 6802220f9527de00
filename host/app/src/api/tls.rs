//! TLS by certificate files, read again when they change.

use arc_swap::ArcSwap;
use horarium_core::clock::Clock;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(5);

/// The certificate in use.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
    /// Hash of the files as last tried, good or not.
    tried: Mutex<blake3::Hash>,
}

impl Tls {
    /// Reads a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, String> {
        let (chain, secret) = (read(certificate)?, read(key)?);
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            config: ArcSwap::from_pointee(configured(certificate, &chain, key, &secret)?),
            tried: Mutex::new(hash(&chain, &secret)),
        })
    }

    /// What greets the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Reads the files again. True: they changed and are in use for connections to come.
    ///
    /// # Errors
    /// What is wrong with them, once for each change; what was in use stays.
    pub fn reload(&self) -> Result<bool, String> {
        let (chain, secret) = (read(&self.certificate)?, read(&self.key)?);
        let found = hash(&chain, &secret);
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *tried, found) == found {
            return Ok(false);
        }
        let config = configured(&self.certificate, &chain, &self.key, &secret)?;
        self.config.store(Arc::new(config));
        Ok(true)
    }

    /// Looks at the files now and then, until `shutdown`.
    pub async fn watch(&self, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = clock.sleep(LOOK) => {}
            }
            match self.reload() {
                Ok(true) => tracing::info!("the TLS certificate was read again"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        error,
                        "the TLS certificate changed and cannot be used; the one before stays"
                    );
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn hash(chain: &[u8], secret: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(chain.len() as u64).to_le_bytes());
    hasher.update(chain);
    hasher.update(secret);
    hasher.finalize()
}

fn configured(
    certificate: &Path,
    chain: &[u8],
    key: &Path,
    secret: &[u8],
) -> Result<ServerConfig, String> {
    let wrong = |path: &Path, detail: String| format!("{}: {detail}", path.display());
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(certificate, format!("is no PEM: {error}")))?;
    if chain.is_empty() {
        let detail =
            "holds no certificate; it must be PEM, the server's first, then those up to the CA";
        return Err(wrong(certificate, detail.into()));
    }
    let secret = PrivateKeyDer::from_pem_slice(secret)
        .map_err(|error| wrong(key, format!("holds no private key in PEM: {error}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| {
            let files = format!("{} and {}", certificate.display(), key.display());
            format!("{files} cannot be used together: {error}")
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str) -> rcgen::CertifiedKey<rcgen::KeyPair> {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("made");
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("written");
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
        made
    }

    #[test]
    fn files_are_read_again_when_they_change_and_bad_ones_left_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        write(folder.path(), "one.example");
        let tls = Tls::load(&cert, &key).expect("loads");
        assert_eq!(tls.reload(), Ok(false));
        let before = tls.config.load_full();
        write(folder.path(), "two.example");
        assert_eq!(tls.reload(), Ok(true));
        assert!(!Arc::ptr_eq(&before, &tls.config.load_full()));
        let before = tls.config.load_full();
        std::fs::write(&key, "nothing").expect("written");
        let error = tls.reload().expect_err("no key");
        assert!(error.contains("key.pem: holds no private key"), "{error}");
        assert_eq!(tls.reload(), Ok(false), "told once");
        assert!(Arc::ptr_eq(&before, &tls.config.load_full()));
        std::fs::remove_file(&key).expect("removed");
        assert!(tls.reload().is_err());
        write(folder.path(), "three.example");
        assert_eq!(tls.reload(), Ok(true));
    }

    #[test]
    fn wrong_files_say_what_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        let load = || Tls::load(&cert, &key).err().expect("refused");
        assert!(load().contains("cert.pem: No such file"), "{}", load());
        write(folder.path(), "a.example");
        std::fs::write(&cert, "").expect("written");
        assert!(load().contains("holds no certificate"), "{}", load());
        let other = write(folder.path(), "b.example");
        write(folder.path(), "c.example");
        std::fs::write(&cert, other.cert.pem()).expect("written");
        assert!(load().contains("cannot be used together"), "{}", load());
    }
}

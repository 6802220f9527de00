//! TLS of outgoing connections.

use super::{ConnectError, Stream, Target};
use crate::settings::SandboxError;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(super) struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    pub(super) fn new(extra_roots: &[Vec<u8>]) -> Result<Self, SandboxError> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        };
        for (index, der) in extra_roots.iter().enumerate() {
            roots
                .add(CertificateDer::from(der.clone()))
                .map_err(|error| SandboxError::RootCertificate {
                    index,
                    reason: error.to_string(),
                })?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SandboxError::Engine(format!("TLS: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would let a server link runs of different tenants.
        config.resumption = Resumption::disabled();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(super) async fn handshake(
        &self,
        target: &Target,
        stream: TcpStream,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        let failed = |error| ConnectError::Tls(target.authority(), error);
        let name = match target.literal() {
            Some(address) => ServerName::from(address),
            None => ServerName::try_from(target.host().to_owned())
                .map_err(|error| failed(std::io::Error::other(error)))?,
        };
        let stream = self.0.connect(name, stream).await.map_err(failed)?;
        Ok(Box::new(stream))
    }
}

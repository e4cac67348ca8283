//! TLS settings per set of trusted CAs, parsed once: parsing a bundle of 145 CAs per flow cost 30–42 ms (research 05 §2.4).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::model::probe::Knock;

/// Most sets kept at once: 64 × ~150 KiB for a system-sized bundle = 10 MiB at worst. Past it all are dropped and those in
/// use are parsed again; a rotated CA must not stay for ever.
const MAX_SETS: usize = 64;

/// Why there is nothing to verify a certificate with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TrustError {
    #[error("the CA bundle holds no certificate; give PEM blocks that begin with BEGIN CERTIFICATE")]
    NoCertificate,
    #[error("the CA bundle is not valid: its certificate number {number} cannot be read")]
    Broken { number: usize },
    #[error("this image holds no system CAs; give the probe a CA bundle, or mount one and set SSL_CERT_FILE")]
    NoSystem,
    #[error("TLS could not be set up")]
    Setup,
}

/// By PEM bundle; the empty one stands for the system's.
#[derive(Default)]
pub(super) struct Trust {
    sets: Mutex<HashMap<Vec<u8>, Arc<ClientConfig>>>,
}

impl Trust {
    /// The settings for this bundle. The first call for a bundle parses it, away from the async threads.
    pub(super) async fn config(&self, pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, TrustError> {
        let key = pem.unwrap_or_default();
        if let Some(config) = self.sets.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Ok(config.clone());
        }
        let owned = pem.map(<[u8]>::to_vec);
        let parse = move || client(owned.as_deref().map_or_else(system, bundle)?);
        let config = tokio::task::spawn_blocking(parse).await.map_err(|_| TrustError::Setup)??;
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= MAX_SETS {
            sets.clear();
        }
        sets.insert(key.to_vec(), config.clone());
        Ok(config)
    }
}

/// The same settings for a check that speaks something else than HTTP/1.1.
pub(super) fn speaking(config: Arc<ClientConfig>, knock: Option<&Knock>) -> Arc<ClientConfig> {
    let protocols = match knock {
        None => return config,
        // Whoever listens may know no protocol by name, and refuse one that is.
        Some(Knock::Tcp) => Vec::new(),
        Some(Knock::Grpc { .. }) => vec![b"h2".to_vec()],
    };
    let mut config = (*config).clone();
    config.alpn_protocols = protocols;
    Arc::new(config)
}

fn bundle(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let broken = TrustError::Broken { number: index + 1 };
        let certificate = certificate.map_err(|_| broken.clone())?;
        roots.add(certificate).map_err(|_| broken)?;
    }
    if roots.is_empty() { Err(TrustError::NoCertificate) } else { Ok(roots) }
}

/// As OpenSSL finds them, with `SSL_CERT_FILE` and `SSL_CERT_DIR`. Read at first use; a change needs a restart.
fn system() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is no reason to distrust the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TrustError::NoSystem) } else { Ok(roots) }
}

fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, TrustError> {
    // Named, never the process's default: another crate may have installed one, or none.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(|_| TrustError::Setup)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Every flow verifies the certificate anew, and a canary's handshake costs what stable's does.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bundle_is_parsed_once_and_the_store_is_bounded() {
        let trust = Trust::default();
        let pem = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert.pem().into_bytes();
        let first = pem("a");
        let config = trust.config(Some(&first)).await.unwrap();
        assert!(Arc::ptr_eq(&config, &trust.config(Some(&first)).await.unwrap()));
        for index in 0..MAX_SETS {
            trust.config(Some(&pem(&format!("b{index}")))).await.unwrap();
        }
        assert!(trust.sets.lock().unwrap().len() <= MAX_SETS);
    }

    #[tokio::test]
    async fn a_bundle_that_is_none_is_told() {
        let trust = Trust::default();
        assert_eq!(trust.config(Some(b"hello")).await.err(), Some(TrustError::NoCertificate));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(trust.config(Some(broken)).await.err(), Some(TrustError::Broken { number: 1 }));
    }
}

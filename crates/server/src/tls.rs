//! TLS through rustls.

use embral_types::{Error, ErrorKind, Result};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{path::Path, sync::Arc};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring::default_provider},
};

/// What accepts TLS with a chain of certificates and their key, both in PEM, for one protocol by its name in ALPN.
pub(crate) fn acceptor(cert: &Path, key: &Path, protocol: &str) -> Result<TlsAcceptor> {
    let wrong = |path: &Path, what: &str, e: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Malformed, format!("expected {what} in PEM: {e}")).in_file(path)
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| wrong(cert, "a chain of certificates", &e))?;
    if chain.is_empty() {
        return Err(wrong(cert, "a chain of certificates", &"there is none"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, "a private key", &e))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|e| wrong(cert, "a certificate that goes with the key", &e))?;
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

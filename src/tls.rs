//! Whom a peer's certificate has to come from: the part of TLS that is the same towards registrars and towards the cache.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem},
};

/// The authorities of a PEM file; there may be none.
///
/// # Errors
/// What is wrong with the first certificate that cannot be used.
pub fn authorities(
    certificates: impl Iterator<Item = Result<CertificateDer<'static>, pem::Error>>,
) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// The authorities of the system, and how many of them are of no use.
pub fn system() -> (RootCertStore, usize) {
    let mut roots = RootCertStore::empty();
    let (_, ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    (roots, ignored)
}

/// A client that trusts these, and shows no certificate of its own.
///
/// # Errors
/// In rustls' words; with its own choice of versions there is none.
pub fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

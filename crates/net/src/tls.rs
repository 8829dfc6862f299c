//! TLS towards all that are connected to: whose certificates are trusted, which certificate is shown, and why
//! it failed.
//!
//! * [`cause`] has the words for a failure;
//! * [`followed`] follows the files that a connection needs;
//! * [`served`] follows the files of a server's own TLS;
//! * [`sip`] has the authorities for each SIP domain, and [`sip_names`] the names in certificates of SIP
//!   servers (RFC 5922);
//! * [`noticed`] records that a peer asks for a client certificate.

pub mod cause;
pub mod followed;
pub mod noticed;
pub mod served;
pub mod sip;
pub mod sip_names;

use std::sync::{Arc, LazyLock};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::WantsClientCert,
    pki_types::{CertificateDer, pem},
};

pub use self::{
    followed::{Followed, TlsFileError, TlsFiles, TlsSettings},
    noticed::Noticed,
    served::{ServedFiles, ServedTls},
    sip::SipTls,
};

/// Names in a peer's certificate that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Names {
    /// Host names and IP addresses.
    #[default]
    Host,
    /// SIP domains too (RFC 5922 §7.1).
    SipDomain,
}

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

/// The authorities of the system, and how many of them cannot be used. Read once.
pub fn system() -> (Arc<RootCertStore>, usize) {
    static SYSTEM: LazyLock<(Arc<RootCertStore>, usize)> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        let (_, ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        (Arc::new(roots), ignored)
    });
    SYSTEM.clone()
}

/// A client that trusts these authorities, without a word on its own certificate yet.
fn trusting(
    roots: Arc<RootCertStore>,
    names: Names,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    Ok(match names {
        Names::Host => builder.with_root_certificates(roots),
        // Everything but the name is verified as above.
        Names::SipDomain => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(sip_names::Verifier::new(roots, &provider))),
    })
}

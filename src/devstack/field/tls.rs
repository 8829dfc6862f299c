//! The certificates of TLS nodes, made at the start of a play.

use std::{net::IpAddr, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

/// Oddities of a certificate: the `tls` of a case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Certificate {
    /// The names and addresses in it; those of the node, and localhost, where it is absent.
    pub names: Vec<String>,
    /// Signer of the certificate.
    pub issuer: Issuer,
    /// Validity of the certificate.
    pub valid: Valid,
    /// True when the client must show a certificate.
    pub client_certificate: bool,
}

/// Signer of a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Issuer {
    /// The authority of the play.
    #[default]
    Known,
    /// Another one.
    Unknown,
    /// Itself.
    Own,
}

/// Validity of a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Valid {
    /// Valid for long.
    #[default]
    Now,
    /// Valid from the year 2150 on.
    NotYet,
    /// Valid until the year 2001.
    Expired,
}

/// Files that a client needs to trust the nodes, and to be trusted by them. PEM.
#[derive(Clone)]
pub struct Identities {
    /// The authority.
    pub authority: String,
    /// A certificate for a client, and its key.
    pub client: (String, String),
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identities")
    }
}

/// Reason that there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The certificate cannot be served.
    #[error("cannot serve the certificate: {0}")]
    Server(#[from] rustls::Error),
    /// Client certificates cannot be checked.
    #[error("cannot check client certificates: {0}")]
    Client(#[from] rustls::server::VerifierBuilderError),
}

/// Makes certificates. The authority lives as long as this.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    other: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Result<Self, TlsError> {
        Ok(Self { issuer: issuer("devstack")?, other: issuer("devstack: unknown")? })
    }

    pub fn identities(&self) -> Result<Identities, TlsError> {
        let mut params = CertificateParams::new(["client.devstack.test".to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let client = (certificate.pem(), key.serialize_pem());
        Ok(Identities { authority: self.issuer.as_ref().pem(), client })
    }

    /// Returns what serves a node at that address.
    pub fn acceptor(&self, wanted: &Certificate, address: IpAddr) -> Result<TlsAcceptor, TlsError> {
        let names = match wanted.names.as_slice() {
            [] => vec![address.to_string(), "localhost".to_owned()],
            names => names.to_vec(),
        };
        let mut params = CertificateParams::new(names)?;
        match wanted.valid {
            Valid::Now => {}
            Valid::NotYet => params.not_before = date_time_ymd(2150, 1, 1),
            Valid::Expired => {
                (params.not_before, params.not_after) =
                    (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
            }
        }
        let key = KeyPair::generate()?;
        let certificate = match wanted.issuer {
            Issuer::Known => params.signed_by(&key, &self.issuer)?,
            Issuer::Unknown => params.signed_by(&key, &self.other)?,
            Issuer::Own => params.self_signed(&key)?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let config = if wanted.client_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.as_ref().der().clone())?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            config.with_client_cert_verifier(verifier)
        } else {
            config.with_no_client_auth()
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = config.with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn issuer(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, TlsError> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

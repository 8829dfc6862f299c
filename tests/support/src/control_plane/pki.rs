//! The keys and certificates of one control plane, made again for each: ECDSA, signed by an authority of its
//! own.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, crypto};
use tokio_rustls::TlsAcceptor;

/// Names of the files in the folder that [`write()`] fills.
pub const CA: &str = "ca.crt";
pub const SERVER_CERTIFICATE: &str = "server.crt";
pub const SERVER_KEY: &str = "server.key";
/// Signs the tokens of ServiceAccounts.
pub const ACCOUNTS_KEY: &str = "accounts.key";
/// Public key by which a token is checked.
pub const ACCOUNTS_PUBLIC_KEY: &str = "accounts.pub";

/// Accepts TLS with the server's certificate in the folder that [`write()`] has filled.
pub fn acceptor(folder: &Path) -> TlsAcceptor {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(folder.join(SERVER_CERTIFICATE)).expect("the certificate").collect();
    let key = PrivateKeyDer::from_pem_file(folder.join(SERVER_KEY)).expect("the key");
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(certificates.expect("a certificate"), key)
        .expect("a server's configuration");
    TlsAcceptor::from(Arc::new(config))
}

/// Writes the authority, the server's certificate and, for each of `clients` (file name, user, group), a
/// certificate and key as `NAME.crt` and `NAME.key`.
pub fn write(folder: &Path, clients: &[(&str, &str, Option<&str>)]) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "control plane of a test");
    let ca = CertifiedIssuer::self_signed(params, key()).expect("an authority");
    let save =
        |name: &str, text: String| fs::write(folder.join(name), text).expect("write a key or certificate");
    save(CA, ca.pem());
    let accounts = key();
    save(ACCOUNTS_KEY, accounts.serialize_pem());
    save(ACCOUNTS_PUBLIC_KEY, accounts.public_key_pem());

    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let params = CertificateParams::new(names).expect("names of the server");
    let signed = |mut params: CertificateParams, purpose, name: &str| {
        params.extended_key_usages = vec![purpose];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = key();
        let certificate = params.signed_by(&key, &ca).expect("a certificate");
        save(&format!("{name}.crt"), certificate.pem());
        save(&format!("{name}.key"), key.serialize_pem());
    };
    signed(params, ExtendedKeyUsagePurpose::ServerAuth, "server");
    for (name, user, group) in clients {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, *user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        signed(params, ExtendedKeyUsagePurpose::ClientAuth, name);
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

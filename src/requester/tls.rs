//! Trust in the certificates of registrars.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::Error;
use routr_net::tls;

/// TLS towards registrars: certificates are checked against the authorities of `ca_file` (PEM), or else
/// against the system's.
///
/// # Errors
/// The file cannot be read, is not PEM, or holds no certificate that can be used.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let roots = match ca_file {
        Some(path) => Arc::new(read(path)?),
        None => system(),
    };
    tls::client_config(roots).map_err(|error| Error::Tls(error.to_string()))
}

fn read(path: &Path) -> Result<RootCertStore, Error> {
    let fail = |problem: String| Error::CaFile { path: path.to_owned(), problem };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))?;
    let roots = tls::authorities(certificates).map_err(fail)?;
    if roots.is_empty() {
        return Err(fail("no certificate in it; expected PEM with at least one".into()));
    }
    Ok(roots)
}

/// A machine without any authority can still register over UDP and TCP: that is a warning, and TLS fails
/// later with a reason of its own.
fn system() -> Arc<RootCertStore> {
    let (roots, ignored) = tls::system();
    if roots.is_empty() {
        tracing::warn!(
            ignored,
            "no certificate authorities on this system: TLS to registrars will fail; install them, or name a file by --ca-file"
        );
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_missing_or_empty_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.pem");
        let text = client_config(Some(&missing)).unwrap_err().to_string();
        assert!(text.contains("missing.pem"), "{text}");

        let empty = directory.path().join("empty.pem");
        std::fs::write(&empty, "nothing here\n").unwrap();
        let text = client_config(Some(&empty)).unwrap_err().to_string();
        assert!(text.contains("empty.pem") && text.contains("no certificate"), "{text}");
    }

    #[test]
    fn a_ca_file_with_a_certificate_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        std::fs::write(&path, certificate.cert.pem()).unwrap();
        assert!(client_config(Some(&path)).is_ok());
    }
}

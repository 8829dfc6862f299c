//! TLS towards registrars, by the flags that name its files.

use std::sync::Arc;

use super::Error;
use routr_net::tls::{
    self, SipTls, TlsFiles,
    sip::{DomainAuthorities, SipTlsSettings},
};

/// The flags that name the files.
const FLAGS: SipTlsSettings = SipTlsSettings {
    authorities: "--ca-file",
    domain_authorities: "--sip-tls-ca",
    certificate: "--sip-tls-cert",
    key: "--sip-tls-key",
};

/// TLS towards registrars: certificates are checked against the authorities of `files`, or else the system's;
/// those of `domains` against authorities of their own. The files are followed.
///
/// # Errors
/// A file cannot be read or used, or a domain comes twice.
pub fn sip_tls(files: TlsFiles, domains: &[DomainAuthorities]) -> Result<Arc<SipTls>, Error> {
    if files.authorities.is_none() {
        warn_without_authorities();
    }
    Ok(Arc::new(SipTls::new(files, domains, FLAGS)?))
}

/// A machine without any authority can still register over UDP and TCP: that is a warning, and TLS fails
/// later with a reason of its own.
fn warn_without_authorities() {
    let (roots, ignored) = tls::system();
    if roots.is_empty() {
        tracing::warn!(
            ignored,
            "no certificate authorities on this system: TLS to registrars will fail; install them, or name a file by --ca-file"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_missing_or_empty_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let with = |name: &str| {
            let files = TlsFiles { authorities: Some(directory.path().join(name)), certificate: None };
            sip_tls(files, &[]).unwrap_err().to_string()
        };
        let text = with("missing.pem");
        assert!(text.starts_with("--ca-file: ") && text.contains("missing.pem"), "{text}");

        std::fs::write(directory.path().join("empty.pem"), "nothing here\n").unwrap();
        let text = with("empty.pem");
        assert!(text.contains("empty.pem") && text.contains("no BEGIN CERTIFICATE"), "{text}");
    }
}

//! TLS to registrars: whom it trusts, and the certificate that it shows.

use clap::Args;
use std::{path::PathBuf, sync::Arc};

use crate::requester::{
    Error,
    check::{self, shown},
    tls::sip_tls,
};
use routr_net::tls::{
    SipTls, TlsFiles,
    followed::ClientCertificate,
    sip::{DomainAuthorities, spelling},
};

/// Heading of the help.
const TLS: &str = "TLS to registrars";

/// Files of TLS to registrars. All of them are read again when they change.
#[derive(Args, Clone, Debug, Default)]
pub struct SipTlsArgs {
    /// PEM file with the certificate authorities to trust for TLS to registrars. Reread when it changes
    /// [default: the system's].
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub ca_file: Option<PathBuf>,

    /// PEM file with the certificate authorities to trust for one domain, and no others for it: the host of
    /// trunks, or their outbound proxy; *.example.com for all names below; may be repeated. Reread when it
    /// changes.
    #[arg(long, value_name = "DOMAIN=FILE", value_parser = domain_authorities, help_heading = TLS)]
    pub sip_tls_ca: Vec<DomainAuthorities>,

    /// PEM file with the certificate for registrars that ask for one. Reread when it changes [default: none].
    #[arg(long, value_name = "FILE", requires = "sip_tls_key", help_heading = TLS)]
    pub sip_tls_cert: Option<PathBuf>,

    /// PEM file with the private key of --sip-tls-cert.
    #[arg(long, value_name = "FILE", requires = "sip_tls_cert", help_heading = TLS)]
    pub sip_tls_key: Option<PathBuf>,
}

impl SipTlsArgs {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read or used, or a domain comes twice.
    pub fn load(&self) -> Result<Arc<SipTls>, Error> {
        let pair = self.sip_tls_cert.clone().zip(self.sip_tls_key.clone());
        let files = TlsFiles {
            authorities: self.ca_file.clone(),
            certificate: pair.map(|(certificate, key)| ClientCertificate { certificate, key }),
        };
        sip_tls(files, &self.sip_tls_ca)
    }
}

/// Reads `DOMAIN=FILE`.
fn domain_authorities(given: &str) -> Result<DomainAuthorities, String> {
    let bad = || {
        format!(
            "{}; expected DOMAIN=FILE, such as example.com=ca.pem or *.example.com=ca.pem; for all domains it is --ca-file",
            shown(given)
        )
    };
    let (domain, file) = given.split_once('=').ok_or_else(bad)?;
    let (domain, file) = (domain.trim(), file.trim());
    let (below, host) = match domain.strip_prefix("*.") {
        Some(host) => ("*.", host),
        None => ("", domain),
    };
    let host = check::host("DOMAIN", host).map_err(|_| bad())?;
    if file.is_empty() {
        return Err(bad());
    }
    Ok(DomainAuthorities { domain: format!("{below}{}", spelling(&host)), file: file.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n8_a_domain_and_its_file_are_read_as_people_write_them() {
        for (text, domain, file) in [
            ("example.com=ca.pem", "example.com", "ca.pem"),
            ("Example.COM.=/etc/a=b.pem", "example.com", "/etc/a=b.pem"),
            ("*.example.com = ca.pem", "*.example.com", "ca.pem"),
            ("192.0.2.1=ca.pem", "192.0.2.1", "ca.pem"),
            ("[2001:DB8:0::1]=ca.pem", "2001:db8::1", "ca.pem"),
        ] {
            let read = domain_authorities(text).unwrap();
            assert_eq!((read.domain.as_str(), read.file.to_str().unwrap()), (domain, file), "{text}");
        }
        for bad in ["", "ca.pem", "=ca.pem", "example.com=", "a b=ca.pem", "*=ca.pem", "a.*.b=ca.pem"] {
            let text = domain_authorities(bad).unwrap_err();
            assert!(text.contains("expected DOMAIN=FILE"), "{bad}: {text}");
        }
    }
}

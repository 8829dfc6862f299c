//! TLS towards SIP servers: the authorities to trust for each domain.

use std::{collections::HashSet, fmt, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls::ClientConfig;

use super::{Followed, Names, TlsFileError, TlsFiles, TlsSettings, followed::ClientCertificate};

/// Shortest time between two looks at the files: a thousand connections at once read them once.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// A domain, and the file with the authorities to trust for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainAuthorities {
    /// Host of the server as it is addressed, as [`spelling`] has it; `*.` before it stands for all names
    /// below.
    pub domain: String,
    /// PEM file with the authorities.
    pub file: PathBuf,
}

/// Names of the settings of [`SipTls`].
#[derive(Clone, Copy, Debug)]
pub struct SipTlsSettings {
    /// The setting for the authorities of all domains.
    pub authorities: &'static str,
    /// The setting for those of one domain.
    pub domain_authorities: &'static str,
    /// The setting for the client certificate.
    pub certificate: &'static str,
    /// The setting for its key.
    pub key: &'static str,
}

/// TLS towards SIP servers. The files are followed: changes count from the next connection on.
pub struct SipTls {
    others: Source,
    /// Domains with authorities of their own.
    domains: Vec<(String, Followed)>,
}

enum Source {
    Followed(Box<Followed>),
    Fixed(Arc<ClientConfig>),
}

impl SipTls {
    /// Reads the files: `files` for all domains, but for those that have authorities of their own. The client
    /// certificate is shown to any server that asks for one.
    ///
    /// # Errors
    /// A file cannot be read or used; [`SipTlsError::Twice`] for a domain that comes twice.
    pub fn new(
        files: TlsFiles,
        domains: &[DomainAuthorities],
        names: SipTlsSettings,
    ) -> Result<Self, SipTlsError> {
        let settings = |title: String, authorities: String| TlsSettings {
            title,
            authorities,
            certificate: names.certificate.to_owned(),
            key: names.key.to_owned(),
            protocols: Vec::new(),
            names: Names::SipDomain,
            look_period: LOOK_PERIOD,
        };
        let certificate: Option<ClientCertificate> = files.certificate.clone();
        let mut seen = HashSet::new();
        let mut own = Vec::with_capacity(domains.len());
        for DomainAuthorities { domain, file } in domains {
            let setting = names.domain_authorities;
            if !seen.insert(domain) {
                return Err(SipTlsError::Twice { setting, domain: domain.clone() });
            }
            let files = TlsFiles { authorities: Some(file.clone()), certificate: certificate.clone() };
            let name = format!("{setting} {domain}");
            own.push((domain.clone(), Followed::with(files, settings(format!("TLS to {domain}"), name))?));
        }
        let others = settings("TLS to registrars".to_owned(), names.authorities.to_owned());
        Ok(Self { others: Source::Followed(Box::new(Followed::with(files, others)?)), domains: own })
    }

    /// This configuration, whatever the domain.
    pub fn fixed(config: Arc<ClientConfig>) -> Self {
        Self { others: Source::Fixed(config), domains: Vec::new() }
    }

    /// Returns the configuration for a new connection to a host, which the certificate has to name.
    /// Authorities that are given for a domain are trusted for that domain alone, and no others for it; the
    /// longest of several domains decides.
    pub fn config(&self, host: &str) -> Arc<ClientConfig> {
        let host = spelling(host);
        let own = self.domains.iter().filter(|(domain, _)| covers(domain, &host));
        let longest = own.max_by_key(|(domain, _)| (!domain.starts_with("*."), domain.len()));
        match (longest, &self.others) {
            (Some((_, own)), _) => own.config(),
            (None, Source::Followed(others)) => others.config(),
            (None, Source::Fixed(config)) => config.clone(),
        }
    }
}

impl fmt::Debug for SipTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domains: Vec<&str> = self.domains.iter().map(|(domain, _)| domain.as_str()).collect();
        f.debug_struct("SipTls").field("domains", &domains).finish_non_exhaustive()
    }
}

/// Reason that TLS to SIP servers cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SipTlsError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] TlsFileError),
    /// A domain comes twice.
    #[error("{setting}: {domain} comes twice; put all of its CA certificates into one file")]
    Twice {
        /// The setting.
        setting: &'static str,
        /// The domain.
        domain: String,
    },
}

/// Returns the one spelling of a host that is compared: in lower case, without a dot at the end.
pub fn spelling(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |address| address.to_string())
}

/// Returns whether a domain, or all names below it (`*.example.com`), contains a host.
fn covers(domain: &str, host: &str) -> bool {
    match domain.strip_prefix('*') {
        Some(below) => host.len() > below.len() && host.ends_with(below),
        None => domain == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: SipTlsSettings = SipTlsSettings {
        authorities: "--ca-file",
        domain_authorities: "--sip-tls-ca",
        certificate: "--sip-tls-cert",
        key: "--sip-tls-key",
    };

    #[test]
    fn n8_authorities_of_a_domain_are_for_that_domain_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            let path = folder.path().join(name);
            std::fs::write(&path, made.cert.pem()).unwrap();
            path
        };
        let of = |domain: &str, file| DomainAuthorities { domain: domain.to_owned(), file };
        let domains = [
            of("example.com", file("exact")),
            of("*.example.com", file("below")),
            of("*.deep.example.com", file("deep")),
            of("2001:db8::1", file("address")),
        ];
        let files = TlsFiles { authorities: Some(file("others")), certificate: None };
        let tls = SipTls::new(files.clone(), &domains, SETTINGS).unwrap();
        let own = |number: usize| tls.domains[number].1.config();
        for (host, number) in [
            ("example.com", Some(0)),
            ("EXAMPLE.com.", Some(0)),
            ("sip.example.com", Some(1)),
            ("a.deep.example.com", Some(2)),
            ("deep.example.com", Some(1)),
            ("badexample.com", None),
            ("example.com.evil.test", None),
            ("2001:DB8:0::1", Some(3)),
        ] {
            let config = tls.config(host);
            match number {
                Some(number) => assert!(Arc::ptr_eq(&config, &own(number)), "{host}"),
                None => assert!((0..4).all(|number| !Arc::ptr_eq(&config, &own(number))), "{host}"),
            }
        }
        let twice = [domains[0].clone(), domains[0].clone()];
        let text = SipTls::new(files.clone(), &twice, SETTINGS).unwrap_err().to_string();
        assert!(text.starts_with("--sip-tls-ca: example.com comes twice"), "{text}");
        let missing = [of("example.com", folder.path().join("missing"))];
        let text = SipTls::new(files, &missing, SETTINGS).unwrap_err().to_string();
        assert!(text.starts_with("--sip-tls-ca example.com: ") && text.contains("missing"), "{text}");
    }
}

//! Names in the certificates of SIP servers (RFC 5922 §7).

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, DnsName, ServerName, UnixTime},
    server::ParsedCertificate,
};
use webpki::EndEntityCert;

/// Verifies a SIP server's certificate: as rustls does, but for the name of a domain.
///
/// A `sip:` URI without a user part in subjectAltName is a SIP domain. Where there is one, DNS names do not
/// count (RFC 5922 §7.1); without one they count as for any server, wildcards included. IP addresses are
/// compared as for any server.
#[derive(Debug)]
pub struct Verifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A certificate whose DNS names would do, if it had no SIP domains.
#[derive(Debug, thiserror::Error)]
#[error("its DNS names do not count beside a sip: URI (RFC 5922 §7.1)")]
pub struct OnlyByDnsName {
    /// The SIP domains that it has, as URIs.
    pub domains: Vec<String>,
}

impl Verifier {
    /// Trusts these authorities.
    pub fn new(roots: Arc<RootCertStore>, provider: &CryptoProvider) -> Self {
        Self { roots, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        let by_host_name = || verify_server_name(&certificate, server_name);
        let ServerName::DnsName(wanted) = server_name else {
            by_host_name()?;
            return Ok(ServerCertVerified::assertion());
        };
        let read = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let domains: Vec<&str> = read.valid_uri_names().filter_map(sip_domain).collect();
        if domains.is_empty() {
            by_host_name()?;
        } else if !domains.iter().any(|domain| same(domain, wanted.as_ref())) {
            return Err(mismatch(&domains, server_name, by_host_name().is_ok()).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Returns the SIP domain that a URI of subjectAltName stands for (RFC 5922 §7.1): that of a `sip:` URI
/// without a user part. A `sips:` URI, one with a user, an IP address or a wildcard stands for none.
fn sip_domain(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") || rest.contains('@') {
        return None;
    }
    let host = rest.split([';', '?', ':']).next()?;
    DnsName::try_from(host).ok().and(Some(host))
}

/// Compares whole names without case (RFC 5922 §7.2); a dot at the end is no difference.
fn same(a: &str, b: &str) -> bool {
    let bare = |name| -> &str { str::strip_suffix(name, ".").unwrap_or(name) };
    bare(a).eq_ignore_ascii_case(bare(b))
}

/// Returns the error for a certificate that has these SIP domains, and not the one that is wanted. What comes
/// after a domain in a URI is not shown: it may be anything.
fn mismatch(domains: &[&str], wanted: &ServerName<'_>, by_dns_name: bool) -> CertificateError {
    let uris: Vec<String> = domains.iter().map(|domain| format!("sip:{domain}")).collect();
    match by_dns_name {
        true => CertificateError::Other(OtherError(Arc::new(OnlyByDnsName { domains: uris }))),
        false => CertificateError::NotValidForNameContext { expected: wanted.to_owned(), presented: uris },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sip_uri_without_a_user_is_a_domain() {
        for (uri, domain) in [
            ("sip:example.com", Some("example.com")),
            ("SIP:Example.COM", Some("Example.COM")),
            ("sip:example.com:5061;transport=tls", Some("example.com")),
            ("sips:example.com", None),
            ("sip:alice@example.com", None),
            ("sip:*.example.com", None),
            ("sip:192.0.2.1", None),
            ("sip:[2001:db8::1]", None),
            ("sip:", None),
            ("https://example.com", None),
            ("example.com", None),
        ] {
            assert_eq!(sip_domain(uri), domain, "{uri}");
        }
        assert!(same("Example.com.", "example.COM") && !same("sip.example.com", "example.com"));
    }
}

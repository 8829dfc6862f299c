//! Explains TLS failures in plain words, the reason first.

use std::io;

use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible,
    pki_types::UnixTime,
};

use super::sip_names::OnlyByDnsName;

/// Most names of a certificate that are listed.
const MAX_NAMES: usize = 3;

/// Request of a peer for the client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It did not ask.
    Nothing,
    /// It asked, and there is none.
    None,
    /// It asked, and got one.
    Shown,
}

/// The settings that the words name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Names the file with authorities.
    pub authorities: &'static str,
    /// Instruction that sets up a client certificate, as the end of a sentence.
    pub certificate: &'static str,
}

impl Settings {
    /// Those of the Requester.
    pub const REQUESTER: Self = Self {
        authorities: "--ca-file, or by --sip-tls-ca for its domain alone",
        certificate: "; name one by --sip-tls-cert and --sip-tls-key",
    };
    /// Those of a registry's gRPC dependencies.
    pub const GRPC: Self = Self {
        authorities: "spec.tls.caFile",
        certificate: "; name one by spec.tls.certFile and spec.tls.keyFile",
    };

    fn demanded(&self, happened: &str) -> String {
        format!("client certificate demanded, and none is set up ({happened}){}", self.certificate)
    }
}

/// Returns the words for an error of the stream that comes from TLS; `None` for one that does not.
pub fn of(error: &io::Error, asked: Asked, host: &str, settings: &Settings) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::AlertReceived(alert) => alert_words(*alert, asked, settings),
        Error::InvalidCertificate(error) => certificate_words(error, host, settings),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        )
        | Error::InappropriateMessage { .. } => {
            "the peer does not speak TLS on this port: what came is no TLS".to_owned()
        }
        Error::PeerIncompatible(error) => incompatible_words(error),
        Error::NoCertificatesPresented => "the peer shows no certificate".to_owned(),
        other => format!("TLS failed: {other}"),
    })
}

/// Returns the words for a peer that ended or never finished the handshake without saying why.
pub fn handshake_words(happened: &str, asked: Asked, settings: &Settings) -> String {
    match asked {
        Asked::None => settings.demanded(happened),
        Asked::Shown => format!("{happened}, after it was shown the client certificate"),
        Asked::Nothing => format!("{happened}; does the peer speak TLS on this port?"),
    }
}

fn certificate_words(error: &CertificateError, host: &str, settings: &Settings) -> String {
    use CertificateError as E;
    match error {
        E::NotValidForNameContext { presented, .. } => {
            format!("certificate is for {}, not {host}", names(presented))
        }
        E::NotValidForName => format!("certificate is not for {host}"),
        E::ExpiredContext { time, not_after } => {
            format!("certificate expired on {}; here it is {}", date(*not_after), date(*time))
        }
        E::Expired => "certificate expired".to_owned(),
        E::NotValidYetContext { time, not_before } => {
            format!("certificate is not valid before {}; here it is {}", date(*not_before), date(*time))
        }
        E::NotValidYet => "certificate is not valid yet".to_owned(),
        E::UnknownIssuer => {
            format!(
                "certificate is signed by an unknown authority, or by itself; name that authority's file by {}",
                settings.authorities
            )
        }
        E::BadSignature => {
            "certificate is signed by an unknown authority, with the name of a trusted one but another key"
                .to_owned()
        }
        E::Revoked => "certificate is revoked".to_owned(),
        E::BadEncoding => "certificate cannot be read".to_owned(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "certificate is not one for servers".to_owned()
        }
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "certificate is signed by an algorithm that is not supported here".to_owned()
        }
        E::Other(other) => other_words(other, host),
        other => format!("certificate is not accepted: {other}"),
    }
}

fn other_words(error: &OtherError, host: &str) -> String {
    if let Some(error) = error.0.downcast_ref::<OnlyByDnsName>() {
        return format!("certificate is for {}, not {host}; {error}", names(&error.domains));
    }
    // webpki's: an authority's own certificate, as `openssl req -x509` makes them.
    if error.to_string().contains("CaUsedAsEndEntity") {
        return "certificate is an authority's own, self-signed as a rule; a server needs another one"
            .to_owned();
    }
    format!("certificate is not accepted: {error}")
}

/// The names of a certificate, which webpki writes as `DnsName("sip.example.com")`.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| -> String {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        inner.trim_matches('"').to_owned()
    };
    let mut names: Vec<String> = presented.iter().take(MAX_NAMES).map(plain).collect();
    match presented.len().checked_sub(MAX_NAMES) {
        Some(more @ 1..) => names.push(format!("{more} more")),
        _ if names.is_empty() => return "no name at all (it has no subjectAltName)".to_owned(),
        _ => {}
    }
    names.join(", ")
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => "a time beyond the calendar".to_owned(),
    }
}

fn alert_words(alert: AlertDescription, asked: Asked, settings: &Settings) -> String {
    use AlertDescription as A;
    let said = format!("TLS alert {alert:?}");
    let certificate = matches!(
        alert,
        A::CertificateRequired
            | A::NoCertificate
            | A::BadCertificate
            | A::HandshakeFailure
            | A::CertificateUnknown
            | A::UnsupportedCertificate
            | A::AccessDenied
    );
    match alert {
        A::CertificateRequired => settings.demanded(&said),
        _ if certificate && asked == Asked::None => settings.demanded(&said),
        // Each of them is said of what was shown: our own verification of the peer ends a handshake by
        // itself.
        A::UnknownCA
        | A::CertificateExpired
        | A::CertificateRevoked
        | A::DecryptError
        | A::BadCertificate
        | A::CertificateUnknown
        | A::UnsupportedCertificate
        | A::AccessDenied
            if asked == Asked::Shown =>
        {
            format!("the peer does not accept the client certificate ({said})")
        }
        A::HandshakeFailure | A::InsufficientSecurity => {
            format!(
                "the peer refused the TLS handshake: no cipher in common, or a policy of its own ({said})"
            )
        }
        A::ProtocolVersion => format!("no TLS version in common; here are 1.2 and 1.3 ({said})"),
        A::UnrecognisedName => format!("the peer has no certificate for that host name ({said})"),
        _ => format!("the peer ended TLS ({said})"),
    }
}

fn incompatible_words(error: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    match error {
        P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig
        | P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled => {
            format!("no TLS version in common; here are 1.2 and 1.3 ({error:?})")
        }
        P::NoCipherSuitesInCommon | P::NoKxGroupsInCommon | P::NoSignatureSchemesInCommon => {
            format!("no TLS cipher in common ({error:?})")
        }
        other => format!("the peer's TLS does not fit ({other:?})"),
    }
}

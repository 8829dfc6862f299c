//! `extended`: what a trunk says beyond the fields of Routr's contract. Keys that are not known here are left
//! alone: others may use them.

use prost_types::{Struct, Value, value::Kind};

use super::{malformed, shown};
use crate::proto::trunks as pb;
use routr_registration::trunk::{OutboundProxy, TlsUriScheme, TrunkProblem, TrunkUri};
use routr_sip::uri::SipUri;
use routr_types::{
    digest_minimum::DigestMinimum,
    host::{Transport, is_host},
    text,
};

/// Characters of a key that an error shows.
const MAX_SHOWN: usize = 60;

/// Settings in the `extended` of a trunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    /// Region of its EdgePort.
    pub region: Option<Box<str>>,
    /// Minimum that a digest challenge has to offer.
    pub digest: DigestMinimum,
    /// Scheme of URIs over TLS.
    pub tls_uri_scheme: Option<TlsUriScheme>,
    /// Host that requests go to in place of the registrar.
    pub outbound_proxy: Option<OutboundProxy>,
}

impl Extended {
    /// Reads what is known here.
    ///
    /// # Errors
    /// A value that cannot be understood, with the name of its field: a setting that is passed over leaves
    /// the trunk failing without a reason, or its password less protected than was asked for.
    pub fn read(trunk: &pb::Trunk) -> Result<Self, TrunkProblem> {
        let Some(extended) = &trunk.extended else { return Ok(Self::default()) };
        Ok(Self {
            region: region(extended),
            digest: digest(extended)?,
            tls_uri_scheme: tls_uri_scheme(extended)?,
            outbound_proxy: outbound_proxy(extended)?,
        })
    }
}

fn kind<'a>(extended: &'a Struct, key: &str) -> Option<&'a Kind> {
    match extended.fields.get(key) {
        None | Some(Value { kind: None | Some(Kind::NullValue(_)) }) => None,
        Some(Value { kind }) => kind.as_ref(),
    }
}

fn region(extended: &Struct) -> Option<Box<str>> {
    match kind(extended, "region")? {
        Kind::StringValue(region) if !region.is_empty() => Some(region.as_str().into()),
        _ => None,
    }
}

/// `digest`: a mapping with `minAlgorithm` (`MD5` or `SHA-256`) and `requireQop`. A value that cannot be
/// understood is an error, for a minimum that is passed over protects no password.
fn digest(extended: &Struct) -> Result<DigestMinimum, TrunkProblem> {
    let right = "a mapping such as {minAlgorithm: SHA-256, requireQop: true} is needed";
    let fields = match kind(extended, "digest") {
        None => return Ok(DigestMinimum::default()),
        Some(Kind::StructValue(given)) => &given.fields,
        Some(_) => return Err(malformed(format!("extended.digest: it is not a mapping; {right}"))),
    };
    let mut minimum = DigestMinimum::default();
    for (key, value) in fields {
        match (key.as_str(), value.kind.as_ref()) {
            (_, None | Some(Kind::NullValue(_))) => {}
            ("minAlgorithm", Some(Kind::StringValue(name))) if name.eq_ignore_ascii_case("SHA-256") => {
                minimum.sha256 = true;
            }
            ("minAlgorithm", Some(Kind::StringValue(name))) if name.eq_ignore_ascii_case("MD5") => {}
            ("requireQop", Some(Kind::BoolValue(required))) => minimum.qop = *required,
            (key, _) => {
                return Err(malformed(format!("extended.digest.{}: {right}", text::clean(key, MAX_SHOWN))));
            }
        }
    }
    Ok(minimum)
}

/// `tlsUriScheme`: `sips` or `sip`, with or without a colon.
fn tls_uri_scheme(extended: &Struct) -> Result<Option<TlsUriScheme>, TrunkProblem> {
    let wrong = |what: &str| Err(malformed(format!("extended.tlsUriScheme: {what}; sips or sip is needed")));
    let given = match kind(extended, "tlsUriScheme") {
        None => return Ok(None),
        Some(Kind::StringValue(given)) => given.trim(),
        Some(_) => return wrong("it is not a text"),
    };
    match given.trim_end_matches(':').to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "sips" => Ok(Some(TlsUriScheme::Sips)),
        "sip" => Ok(Some(TlsUriScheme::Sip)),
        _ => wrong(&format!("{} is neither", shown(given))),
    }
}

/// `outboundProxy`: a host, `host:port` or a SIP URI, in angle brackets or not; its `transport` is that to the
/// proxy. What else a URI may have (`lr`, the user) says nothing of where to send.
fn outbound_proxy(extended: &Struct) -> Result<Option<OutboundProxy>, TrunkProblem> {
    let wrong = |what: &str| {
        let right = "a host, host:port or sip:host:port;transport=tls is needed";
        malformed(format!("extended.outboundProxy: {what}; {right}"))
    };
    let given = match kind(extended, "outboundProxy") {
        None => return Ok(None),
        Some(Kind::StringValue(given)) => given.trim(),
        Some(_) => return Err(wrong("it is not a text")),
    };
    if given.is_empty() {
        return Ok(None);
    }
    // A user may have a password behind it.
    let unreadable = || match given.contains('@') {
        true => wrong("it cannot be read"),
        false => wrong(&format!("{} cannot be read", shown(given))),
    };
    let uri = given.strip_prefix('<').map_or(given, |rest| rest.split('>').next().unwrap_or(rest)).trim();
    let has_scheme = |scheme: &str| uri.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
    let read = match has_scheme("sip:") || has_scheme("sips:") {
        true => SipUri::parse(&uri.replacen("://", ":", 1)),
        false => SipUri::parse(&format!("sip:{uri}")),
    };
    let uri = read.map_err(|_| unreadable())?;
    if !is_host(&uri.host) {
        return Err(unreadable());
    }
    let named = match uri.param("transport").map(Option::unwrap_or_default) {
        None => None,
        Some(name) => Some(Transport::parse(name).ok_or_else(|| {
            let names = "one of udp, tcp, tls, sctp, ws, wss is needed";
            malformed(format!("extended.outboundProxy: transport {} is unknown; {names}", shown(name)))
        })?),
    };
    let transport = match named {
        // RFC 3261 §26.2.2: TLS over what is named.
        None | Some(Transport::Tcp) if uri.secure => Some(Transport::Tls),
        Some(insecure) if uri.secure && !insecure.is_secure() => {
            return Err(wrong(&format!("sips: does not go with transport={}", insecure.parameter())));
        }
        named => named,
    };
    Ok(Some(OutboundProxy { host: uri.host.to_ascii_lowercase().into(), port: uri.port, transport }))
}

/// Checks that an outbound proxy takes no URI off TLS.
///
/// # Errors
/// It does so for one of them.
pub(super) fn keeps_tls(proxy: &OutboundProxy, uris: &[TrunkUri]) -> Result<(), TrunkProblem> {
    let Some(transport) = proxy.transport.filter(|transport| !transport.is_secure()) else { return Ok(()) };
    match uris.iter().find(|uri| uri.transport.is_secure()) {
        None => Ok(()),
        Some(uri) => Err(malformed(format!(
            "extended.outboundProxy: transport={} would take {} off {}; transport=tls, or none, is needed",
            transport.parameter(),
            uri.registrar,
            uri.transport
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{parse, tests::sample},
        *,
    };
    use routr_registration::trunk::Trunk;

    fn with(key: &str, kind: Kind) -> Result<Trunk, TrunkProblem> {
        let fields = [(key.to_owned(), Value { kind: Some(kind) })].into();
        parse(pb::Trunk { extended: Some(Struct { fields }), ..sample() })
    }

    fn text(text: &str) -> Kind {
        Kind::StringValue(text.to_owned())
    }

    #[test]
    fn n7_the_scheme_over_tls_is_in_extended() {
        for (given, scheme) in [
            ("sip", Some(TlsUriScheme::Sip)),
            (" SIP: ", Some(TlsUriScheme::Sip)),
            ("sips", Some(TlsUriScheme::Sips)),
            ("", None),
        ] {
            assert_eq!(with("tlsUriScheme", text(given)).unwrap().tls_uri_scheme, scheme, "{given}");
        }
        assert_eq!(with("tlsUriScheme", Kind::NullValue(0)).unwrap().tls_uri_scheme, None);
        for bad in [text("https"), Kind::BoolValue(true)] {
            let error = with("tlsUriScheme", bad).unwrap_err().to_string();
            assert!(error.starts_with("extended.tlsUriScheme: "), "{error}");
            assert!(error.ends_with("sips or sip is needed"), "{error}");
        }
    }

    #[test]
    fn n9_an_outbound_proxy_is_read_as_people_write_it() {
        let tls = Some(Transport::Tls);
        for (given, host, port, transport) in [
            ("proxy.example.com", "proxy.example.com", None, None),
            (" Proxy.Example.com:5070 ", "proxy.example.com", Some(5070), None),
            ("sip:proxy.example.com:5061;transport=tls", "proxy.example.com", Some(5061), tls),
            ("<sip:proxy.example.com;lr;transport=TLS>", "proxy.example.com", None, tls),
            ("SIPS:proxy.example.com", "proxy.example.com", None, tls),
            ("sips:proxy.example.com;transport=tcp", "proxy.example.com", None, tls),
            ("sip://proxy.example.com", "proxy.example.com", None, None),
            ("proxy.example.com;transport=tls", "proxy.example.com", None, tls),
            ("sip:user:hunter2@proxy.example.com", "proxy.example.com", None, None),
            ("192.0.2.7:5080", "192.0.2.7", Some(5080), None),
            ("[2001:DB8::1]:5080", "2001:db8::1", Some(5080), None),
            ("2001:db8::1", "2001:db8::1", None, None),
            ("proxy.example.com:0", "proxy.example.com", None, None),
        ] {
            let read = with("outboundProxy", text(given)).unwrap().outbound_proxy.unwrap();
            assert_eq!((&*read.host, read.port, read.transport), (host, port, transport), "{given}");
        }
        for none in [text(""), text("  "), Kind::NullValue(0)] {
            assert_eq!(with("outboundProxy", none).unwrap().outbound_proxy, None);
        }
    }

    #[test]
    fn n9_an_outbound_proxy_that_cannot_be_used_names_the_field() {
        for (given, words) in [
            (text("a b"), "\"a b\" cannot be read"),
            (text("proxy:99999"), "cannot be read"),
            (text("http://proxy.example.com/"), "cannot be read"),
            (text("sip:user:hunter2@"), "it cannot be read"),
            (text("proxy;transport=pigeon"), "\"pigeon\" is unknown"),
            (text("sips:proxy;transport=udp"), "sips: does not go with transport=udp"),
            (Kind::NumberValue(5060.0), "it is not a text"),
            // The sample's URI is over TLS.
            (text("proxy;transport=tcp"), "transport=tcp would take sip.example.com:5061 off TLS"),
        ] {
            let error = with("outboundProxy", given).unwrap_err().to_string();
            assert!(error.starts_with("extended.outboundProxy: ") && error.contains(words), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_region_is_in_extended() {
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("eu".into())) };
        let fields = [("region".to_owned(), value)].into();
        let trunk = pb::Trunk { extended: Some(prost_types::Struct { fields }), ..sample() };
        assert_eq!(parse(trunk).unwrap().region.as_deref(), Some("eu"));
    }

    #[test]
    fn a_minimum_for_digest_is_in_extended() {
        let value = |kind| Value { kind: Some(kind) };
        let with = |fields: Vec<(&str, Kind)>| {
            let fields = fields.into_iter().map(|(key, kind)| (key.to_owned(), value(kind))).collect();
            let digest = value(Kind::StructValue(Struct { fields }));
            let extended = Some(Struct { fields: [("digest".to_owned(), digest)].into() });
            parse(pb::Trunk { extended, ..sample() })
        };
        let text = |text: &str| Kind::StringValue(text.to_owned());
        let strict = with(vec![("minAlgorithm", text("sha-256")), ("requireQop", Kind::BoolValue(true))]);
        assert_eq!(strict.unwrap().digest, DigestMinimum { sha256: true, qop: true });
        assert_eq!(with(vec![("minAlgorithm", text("MD5"))]).unwrap().digest, DigestMinimum::default());
        for (key, kind) in [
            ("minAlgorithm", text("SHA-1")),
            ("requireQop", text("yes")),
            ("minAlgoritm", Kind::BoolValue(true)),
        ] {
            let error = with(vec![(key, kind)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("extended.digest.{key}: ")), "{error}");
        }
    }
}

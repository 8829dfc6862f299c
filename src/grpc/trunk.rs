//! One trunk: protobuf -> domain. Parsed, not validated: what cannot be used is reported with the field at
//! fault.

use prost::Message;

use super::wire;
use crate::proto::trunks as pb;
use routr_registration::trunk::{Credentials, MAX_URIS, Trunk, TrunkProblem, TrunkUri};
use routr_sip::uri::unescape;
use routr_types::{
    digest_minimum::DigestMinimum,
    host::{HostPort, MAX_HOST, Transport, is_host},
    secret::Secret,
    text,
};

/// Bytes of a name that are kept.
const MAX_NAME: usize = 512;
/// Characters of a value that an error shows.
const MAX_SHOWN: usize = 60;
/// Messages within messages that a trunk may have; each level of `extended` takes three.
const MAX_DEPTH: usize = 64;
/// Bytes that stand for one field: a trunk with all that it can have needs more for each.
const BYTES_PER_FIELD: usize = 32;

/// Reads a trunk from its protobuf encoding, of `most` bytes and a field for each 32 of them at most.
///
/// # Errors
/// What makes the trunk as a whole unusable.
pub fn decode(bytes: &[u8], most: usize) -> Result<Trunk, TrunkProblem> {
    let limits = wire::Limits { bytes: most, fields: most / BYTES_PER_FIELD, depth: MAX_DEPTH };
    wire::check(bytes, &wire::TRUNK, &limits).map_err(|excess| too_large(&excess))?;
    let trunk = pb::Trunk::decode(bytes)
        .map_err(|error| malformed(format!("the trunk is not a valid protobuf message: {error}")))?;
    parse(trunk)
}

/// Makes a trunk of a protobuf message.
///
/// # Errors
/// What makes the trunk as a whole unusable.
pub fn parse(trunk: pb::Trunk) -> Result<Trunk, TrunkProblem> {
    if trunk.uris.is_empty() {
        let right = "a trunk with sendRegister needs at least one with host, port, transport and user";
        return Err(malformed(format!("uris: there are none; {right}")));
    }
    let region = region(&trunk);
    let digest = digest(&trunk)?;
    let credentials = credentials(trunk.outbound_credentials)?;
    let enabled = trunk.uris.iter().take(MAX_URIS).enumerate().filter(|(_, uri)| uri.enabled);
    let (mut uris, mut problems, mut any) = (Vec::new(), Vec::new(), false);
    if trunk.uris.len() > MAX_URIS {
        problems.push(format!("uris: there are {}; only the first {MAX_URIS} are used", trunk.uris.len()));
    }
    for (position, entry) in enabled {
        any = true;
        match uri(entry) {
            Ok(parsed) => uris.push(parsed),
            Err(problem) => problems.push(format!("uris[{position}].{problem}")),
        }
    }
    if !any {
        return Err(TrunkProblem::AllDisabled);
    }
    if uris.is_empty() {
        return Err(malformed(problems.join("; ")));
    }
    let problem = (!problems.is_empty()).then(|| problems.join("; ").into());
    let updated_at_s = u32::try_from(trunk.updated_at).unwrap_or(0);
    // A ref is a key, and stays as it is; a name is only shown.
    let (reference, name) = (trunk.r#ref.into(), text::clean(&trunk.name, MAX_NAME).into());
    Ok(Trunk { reference, name, region, uris, credentials, digest, problem, updated_at_s })
}

/// A trunk that is not decoded, because of its size.
fn too_large(excess: &wire::Excess) -> TrunkProblem {
    let right = match excess {
        wire::Excess::Bytes { .. } => "spec.sync.maxTrunkBytes sets the bound",
        wire::Excess::Fields { .. } => "spec.sync.maxTrunkBytes allows one field for each 32 of its bytes",
        wire::Excess::Depth { .. } => "check the content of extended",
    };
    malformed(format!("the trunk is too large: {excess}; {right}"))
}

/// Describes a trunk of more bytes than the bound allows, which is not decoded.
pub(super) fn oversize(found: usize, most: usize) -> TrunkProblem {
    too_large(&wire::Excess::Bytes { found, most })
}

/// The longest user, in bytes: no account has a longer one, and a REGISTER has to fit into a datagram.
const MAX_USER: usize = 256;

fn malformed(message: String) -> TrunkProblem {
    TrunkProblem::Malformed { message: message.into() }
}

fn uri(uri: &pb::TrunkUri) -> Result<TrunkUri, String> {
    let host = uri.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&uri.host);
    if host.is_empty() {
        return Err("host: it is empty; a host name or an IP address is needed".to_owned());
    }
    if host.len() > MAX_HOST {
        return Err(format!("host: it has {} characters; at most {MAX_HOST} are allowed", host.len()));
    }
    if !is_host(host) {
        return Err(format!("host: {} is neither a host name nor an IP address", shown(host)));
    }
    let transport = match uri.transport.as_str() {
        "" => Transport::Udp,
        name => Transport::parse(name).ok_or_else(|| {
            format!("transport: {} is unknown; one of UDP, TCP, TLS, SCTP, WS, WSS is needed", shown(name))
        })?,
    };
    // -1 is how the Java side says «not set».
    let names_port = !matches!(uri.port, 0 | -1);
    let port = match uri.port {
        0 | -1 => transport.default_port(),
        port => u16::try_from(port).map_err(|_| {
            format!("port: {port} is not a port; 1 to 65535, or 0 for the transport's default, is needed")
        })?,
    };
    let user = user(&uri.user).map_err(|problem| format!("user: {problem}"))?;
    Ok(TrunkUri {
        user: user.into(),
        registrar: HostPort::new(host, port),
        names_port,
        transport,
        priority: uri.priority,
        weight: u16::try_from(uri.weight.clamp(0, i32::from(u16::MAX))).unwrap_or(0),
    })
}

/// The user of the address of record: given plain, or escaped as in a URI (`a%40b` is `a@b`; a `%` that
/// begins no escape is one). Plain from here on: it is escaped where a URI is written.
fn user(given: &str) -> Result<String, String> {
    if given.is_empty() {
        return Err("it is empty; the user of the address of record is needed".to_owned());
    }
    let user = unescape(given)
        .ok_or_else(|| format!("{} has escapes of what is not UTF-8; UTF-8 is needed", shown(given)))?;
    if user.chars().any(char::is_control) {
        return Err(format!("{} has control characters, which no SIP user can have", shown(given)));
    }
    if user.len() > MAX_USER {
        return Err(format!("it has {} bytes; at most {MAX_USER} are allowed", user.len()));
    }
    Ok(user)
}

fn credentials(
    credentials: Option<crate::proto::credentials::Credentials>,
) -> Result<Option<Credentials>, TrunkProblem> {
    let Some(credentials) = credentials else { return Ok(None) };
    let username = credentials.username;
    let password = Secret::new(credentials.password);
    if username.is_empty() && password.expose().is_empty() {
        return Ok(None);
    }
    // X-Gateway-Auth is base64 of username:password, so the first colon ends the username.
    if username.is_empty() || username.chars().any(|c| c.is_control() || c == ':') {
        let right = "it must not be empty and must have neither colons nor control characters";
        return Err(malformed(format!("outboundCredentials.username: {}; {right}", shown(&username))));
    }
    if password.expose().chars().any(char::is_control) {
        let problem = "outboundCredentials.password: it has control characters, which no digest can carry";
        return Err(malformed(problem.to_owned()));
    }
    Ok(Some(Credentials { username: username.into(), password }))
}

fn region(trunk: &pb::Trunk) -> Option<Box<str>> {
    match &trunk.extended.as_ref()?.fields.get("region")?.kind {
        Some(prost_types::value::Kind::StringValue(region)) if !region.is_empty() => {
            Some(region.as_str().into())
        }
        _ => None,
    }
}

/// `extended.digest`: a mapping with `minAlgorithm` (`MD5` or `SHA-256`) and `requireQop`. A value that
/// cannot be understood is an error, for a minimum that is passed over protects no password.
fn digest(trunk: &pb::Trunk) -> Result<DigestMinimum, TrunkProblem> {
    use prost_types::value::Kind;
    let given = trunk.extended.as_ref().and_then(|extended| extended.fields.get("digest"));
    let right = "a mapping such as {minAlgorithm: SHA-256, requireQop: true} is needed";
    let fields = match given.and_then(|given| given.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => return Ok(DigestMinimum::default()),
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

/// A value as an error message shows it.
fn shown(value: &str) -> String {
    text::quoted(value, MAX_SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::credentials as pbc;

    fn sample() -> pb::Trunk {
        pb::Trunk {
            r#ref: "t1".into(),
            name: "One".into(),
            send_register: true,
            uris: vec![sample_uri()],
            outbound_credentials: Some(pbc::Credentials {
                username: "bob".into(),
                password: "swordfish-77".into(),
                ..pbc::Credentials::default()
            }),
            ..pb::Trunk::default()
        }
    }

    fn sample_uri() -> pb::TrunkUri {
        pb::TrunkUri {
            host: "sip.Example.com".into(),
            port: 0,
            transport: "tls".into(),
            user: "alice".into(),
            weight: 7,
            priority: 3,
            enabled: true,
        }
    }

    fn with_uri(change: impl FnOnce(&mut pb::TrunkUri)) -> Result<Trunk, TrunkProblem> {
        let mut trunk = sample();
        change(&mut trunk.uris[0]);
        parse(trunk)
    }

    #[test]
    fn a_good_trunk() {
        let trunk = parse(sample()).unwrap();
        let uri = &trunk.uris[0];
        assert_eq!(uri.registrar.to_string(), "sip.example.com:5061");
        assert_eq!((uri.transport, uri.priority, uri.weight), (Transport::Tls, 3, 7));
        let credentials = trunk.credentials.clone().unwrap();
        assert_eq!((&*credentials.username, credentials.password.expose()), ("bob", "swordfish-77"));
        assert!(!format!("{trunk:?}").contains("swordfish"));
        let v6 = with_uri(|uri| uri.host = "[2001:db8::1]".into()).unwrap();
        assert_eq!(v6.uris[0].registrar.to_string(), "[2001:db8::1]:5061");
        assert_eq!(with_uri(|uri| uri.port = -1).unwrap().uris[0].registrar.port, 5061);
        assert_eq!(with_uri(|uri| uri.transport = String::new()).unwrap().uris[0].transport, Transport::Udp);
        assert_eq!(parse(pb::Trunk { outbound_credentials: None, ..sample() }).unwrap().credentials, None);
    }

    #[test]
    fn n11_a_user_is_plain_or_escaped() {
        for (given, user) in [
            ("a@b", "a@b"),
            ("a%40b", "a@b"),
            ("a b", "a b"),
            ("a%20b;c?d/e<>\"", "a b;c?d/e<>\""),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("bj\u{f8}rn", "bj\u{f8}rn"),
            ("bj%C3%B8rn", "bj\u{f8}rn"),
            ("%2540", "%40"),
            ("a:b", "a:b"),
        ] {
            let trunk = with_uri(|uri| uri.user = given.into()).unwrap();
            assert_eq!(&*trunk.uris[0].user, user, "{given}");
        }
        assert_eq!(with_uri(|uri| uri.user = "%40".repeat(256)).unwrap().uris[0].user.len(), 256);
    }

    #[test]
    fn the_field_at_fault_is_named() {
        type Change = fn(&mut pb::TrunkUri);
        let cases: [(Change, &str); 11] = [
            (|uri| uri.host = String::new(), "uris[0].host: it is empty"),
            (|uri| uri.host = "a b".into(), "uris[0].host: \"a b\" is neither"),
            (|uri| uri.host = "1::2::3".into(), "uris[0].host: \"1::2::3\" is neither"),
            (|uri| uri.port = 70_000, "uris[0].port: 70000 is not a port; 1 to 65535"),
            (|uri| uri.port = -7, "uris[0].port: -7 is not a port"),
            (
                |uri| uri.transport = "carrier-pigeon".into(),
                "uris[0].transport: \"carrier-pigeon\" is unknown; one of UDP",
            ),
            (|uri| uri.user = String::new(), "uris[0].user: it is empty"),
            (
                |uri| uri.user = "a\r\nEvil: 1".into(),
                "uris[0].user: \"a\\r\\nEvil: 1\" has control characters",
            ),
            (|uri| uri.user = "a%0d%0ab".into(), "uris[0].user: \"a%0d%0ab\" has control characters"),
            (|uri| uri.user = "%E9".into(), "uris[0].user: \"%E9\" has escapes of what is not UTF-8"),
            (|uri| uri.user = "%40".repeat(257), "uris[0].user: it has 257 bytes; at most 256"),
        ];
        for (change, expected) in cases {
            let message = with_uri(change).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        let none = parse(pb::Trunk { uris: vec![], ..sample() }).unwrap_err();
        assert!(none.to_string().starts_with("uris: there are none"));
        assert_eq!(with_uri(|uri| uri.enabled = false).unwrap_err(), TrunkProblem::AllDisabled);
    }

    #[test]
    fn credentials_that_cannot_be_sent_are_reported_without_the_password() {
        for (username, password) in [("a:b", "swordfish-77"), ("", "swordfish-77"), ("a", "swordfish-77\n")] {
            let mut trunk = sample();
            let credentials = trunk.outbound_credentials.as_mut().unwrap();
            (credentials.username, credentials.password) = (username.into(), password.into());
            let message = parse(trunk).unwrap_err().to_string();
            assert!(message.starts_with("outboundCredentials."), "{message}");
            assert!(!message.contains("swordfish"), "{message}");
        }
    }

    #[test]
    fn one_bad_uri_does_not_stop_the_others() {
        let mut trunk = sample();
        trunk.uris.push(pb::TrunkUri { port: 99_999, ..sample_uri() });
        let parsed = parse(trunk).unwrap();
        assert_eq!(parsed.uris.len(), 1);
        assert!(parsed.problem.unwrap().starts_with("uris[1].port: 99999"));
    }

    #[test]
    fn too_many_uris_are_reported() {
        let trunk = pb::Trunk { uris: vec![sample_uri(); 33], ..sample() };
        let parsed = parse(trunk).unwrap();
        assert_eq!(parsed.uris.len(), 32);
        assert_eq!(parsed.problem.as_deref(), Some("uris: there are 33; only the first 32 are used"));
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
        use prost_types::{Struct, Value, value::Kind};
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

    #[test]
    fn garbage_is_reported() {
        assert!(decode(&[0xff; 9], 1_024).unwrap_err().to_string().contains("not a valid protobuf message"));
    }
}

//! One trunk: protobuf -> domain. Parsed, not validated: what cannot be used is reported with the field at
//! fault.

use prost::Message;

mod extended;

use self::extended::Extended;
use super::wire;
use crate::proto::trunks as pb;
use routr_registration::trunk::{Credentials, MAX_URIS, Trunk, TrunkProblem, TrunkUri};
use routr_sip::uri::unescape;
use routr_types::{
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
    let extended = Extended::read(&trunk)?;
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
    let Extended { region, digest, tls_uri_scheme, outbound_proxy } = extended;
    if let Some(proxy) = &outbound_proxy {
        extended::keeps_tls(proxy, &uris)?;
    }
    Ok(Trunk {
        reference,
        name,
        region,
        uris,
        credentials,
        digest,
        tls_uri_scheme,
        outbound_proxy,
        problem,
        updated_at_s,
    })
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

/// A value as an error message shows it.
fn shown(value: &str) -> String {
    text::quoted(value, MAX_SHOWN)
}

#[cfg(test)]
mod tests;

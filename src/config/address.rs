//! Addresses as a configuration has them: a host, a port, and what may stand before them.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::trunk::HostPort;

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("empty")]
    Empty,
    /// Something else than `http://`, `https://` or `sip:` before it.
    #[error("begins with a scheme that has no meaning here")]
    Scheme,
    /// `user@` or `user:password@`.
    #[error("has a user before the host")]
    User,
    /// A path, a query or parameters.
    #[error("has more than a host and a port")]
    Rest,
    /// IPv6 without brackets.
    #[error("an IPv6 address without brackets, or more than one port")]
    Brackets,
    /// Not an IPv6 address in the brackets.
    #[error("not an IPv6 address in the brackets")]
    V6,
    /// Digits and dots that are no IPv4 address.
    #[error("not an IPv4 address")]
    V4,
    /// Not a host name (RFC 1123 §2.1; underscores are let through, since container networks have them).
    #[error("not a host name")]
    Host,
    /// Not a port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

/// Reads the address of a gRPC service, with or without `http://` or `https://`; the flag says whether TLS is wanted.
///
/// # Errors
/// See [`AddressError`].
pub fn service(text: &str, default_port: u16) -> Result<(HostPort, bool), AddressError> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (String::new(), text),
    };
    let tls = match scheme.as_str() {
        "https" => true,
        "http" => false,
        "" if rest.len() == text.len() => false,
        _ => return Err(AddressError::Scheme),
    };
    let bare = if scheme.is_empty() { rest } else { rest.strip_suffix('/').unwrap_or(rest) };
    Ok((host_port(bare, default_port)?, tls))
}

/// Reads a SIP address, with or without `sip:`; the default port is 5060.
///
/// # Errors
/// See [`AddressError`].
pub fn sip(text: &str) -> Result<HostPort, AddressError> {
    if text.contains("://") || text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("sips:")) {
        return Err(AddressError::Scheme);
    }
    let rest = match text.get(..4) {
        // `sip:5060` is a host named sip and its port, `sip:10.0.0.1` is not.
        Some(start) if start.eq_ignore_ascii_case("sip:") && text[4..].parse::<u16>().is_err() => &text[4..],
        _ => text,
    };
    host_port(rest, 5060)
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
///
/// # Errors
/// See [`AddressError`].
pub fn host_port(text: &str, default_port: u16) -> Result<HostPort, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.contains('@') {
        return Err(AddressError::User);
    }
    if text.contains(['/', '?', '#', ';']) {
        return Err(AddressError::Rest);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or(AddressError::Brackets)?;
        let ip: Ipv6Addr = inside.parse().map_err(|_| AddressError::V6)?;
        let port = match after.strip_prefix(':') {
            Some(given) => port(given)?,
            None if after.is_empty() => default_port,
            None => return Err(AddressError::Rest),
        };
        return Ok(HostPort::new(&ip.to_string(), port));
    }
    let (name, port) = match text.split_once(':') {
        Some((_, after)) if after.contains(':') => return Err(AddressError::Brackets),
        Some((name, given)) => (name, port(given)?),
        None => (text, default_port),
    };
    host(name)?;
    Ok(HostPort::new(name, port))
}

fn port(text: &str) -> Result<u16, AddressError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number: u16 = if digits { text.parse().map_err(|_| AddressError::Port)? } else { 0 };
    if number == 0 { Err(AddressError::Port) } else { Ok(number) }
}

fn host(name: &str) -> Result<(), AddressError> {
    if name.is_empty() {
        return Err(AddressError::Host);
    }
    if name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return name.parse::<Ipv4Addr>().map(|_| ()).map_err(|_| AddressError::V4);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label_is_good) { Ok(()) } else { Err(AddressError::Host) }
}

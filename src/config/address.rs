//! Addresses as a configuration has them: a host, a port, and what may stand before them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use routr_types::host::HostPort;

/// Most bytes of a unix socket's path (`sun_path`, less the zero at its end).
const MAX_SOCKET_PATH: usize = 107;

/// Address that a gRPC dependency listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host, at all its addresses.
    Host(HostPort),
    /// IP addresses of one service; at least one.
    Addresses(Vec<SocketAddr>),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Addresses(all) => {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                let scheme = if self.is_v4() { "ipv4" } else { "ipv6" };
                write!(f, "{scheme}:{}", all.join(","))
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Target {
    fn is_v4(&self) -> bool {
        matches!(self, Self::Addresses(all) if all.iter().all(SocketAddr::is_ipv4))
    }
}

impl From<HostPort> for Target {
    fn from(host: HostPort) -> Self {
        Self::Host(host)
    }
}

/// Problem with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("empty")]
    Empty,
    /// Something else than `http://`, `https://` or `sip:` before it.
    #[error("starts with a scheme that is not supported here")]
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
    /// `dns://server/host`.
    #[error("names a DNS server, and only the system's are used; write dns:///host:port")]
    NameServer,
    /// `unix:` without a path that can be used.
    #[error("not the path of a unix socket (1 to 107 bytes, without a host before it)")]
    Socket,
    /// `unix-abstract:`.
    #[error("an abstract unix socket, which is not supported; write unix: and a path")]
    Abstract,
    /// A name, or an address of the other family, after `ipv4:` or `ipv6:`.
    #[error("not a list of IP addresses of that family")]
    Family,
    /// Not a port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

/// Reads the address of a gRPC service: a host, with or without `http://` or `https://`, or a target as gRPC
/// writes them (<https://github.com/grpc/grpc/blob/master/doc/naming.md>): `dns:`, `unix:`, `ipv4:`, `ipv6:`.
/// The flag says whether TLS is wanted.
///
/// # Errors
/// See [`AddressError`].
pub fn service(text: &str, default_port: u16) -> Result<(Target, bool), AddressError> {
    let (scheme, rest) = match text.split_once(':') {
        // `unix:51907` is a host with that name, and its port.
        Some((scheme, rest)) if rest.parse::<u16>().is_err() => (scheme.to_ascii_lowercase(), rest),
        _ => (String::new(), text),
    };
    let host = |rest| host_port(rest, default_port).map(Target::Host);
    let target = match scheme.as_str() {
        "http" | "https" if rest.starts_with("//") => {
            let rest = &rest[2..];
            host(rest.strip_suffix('/').unwrap_or(rest))?
        }
        "dns" => match rest.strip_prefix("//") {
            Some(rest) => host(rest.strip_prefix('/').ok_or(AddressError::NameServer)?)?,
            None => host(rest.strip_prefix('/').unwrap_or(rest))?,
        },
        "unix" => socket(rest)?,
        "unix-abstract" => return Err(AddressError::Abstract),
        "ipv4" | "ipv6" => {
            let rest = rest.strip_prefix("///").unwrap_or(rest);
            let read = |part: &str| address_of(part, scheme == "ipv4", default_port);
            Target::Addresses(rest.split(',').map(read).collect::<Result<_, _>>()?)
        }
        _ if text.contains("://") => return Err(AddressError::Scheme),
        _ => host(text)?,
    };
    Ok((target, scheme == "https"))
}

/// `path`, `/path` or `///path`.
fn socket(rest: &str) -> Result<Target, AddressError> {
    let path = match rest.strip_prefix("//") {
        Some(absolute) if !absolute.starts_with('/') => return Err(AddressError::Socket),
        Some(absolute) => absolute,
        None => rest,
    };
    let fits = (1..=MAX_SOCKET_PATH).contains(&path.len()) && !path.contains(char::is_control);
    if fits { Ok(Target::Unix(path.into())) } else { Err(AddressError::Socket) }
}

/// One address of `ipv4:` or `ipv6:`, whose brackets may be escaped.
fn address_of(text: &str, is_v4: bool, default_port: u16) -> Result<SocketAddr, AddressError> {
    let text = text.replace("%5B", "[").replace("%5b", "[").replace("%5D", "]").replace("%5d", "]");
    let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, default_port));
    let address = bare.or_else(|_| {
        let HostPort { host, port } = host_port(&text, default_port)?;
        host.parse().map(|ip| SocketAddr::new(ip, port)).map_err(|_| AddressError::Family)
    })?;
    if address.is_ipv4() == is_v4 { Ok(address) } else { Err(AddressError::Family) }
}

/// Reads a SIP address, with or without `sip:`.
///
/// # Errors
/// See [`AddressError`].
pub fn sip(text: &str, default_port: u16) -> Result<HostPort, AddressError> {
    if text.contains("://") || text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("sips:")) {
        return Err(AddressError::Scheme);
    }
    let rest = match text.get(..4) {
        // `sip:5060` is a host named sip and its port, `sip:10.0.0.1` is not.
        Some(start) if start.eq_ignore_ascii_case("sip:") && text[4..].parse::<u16>().is_err() => &text[4..],
        _ => text,
    };
    host_port(rest, default_port)
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

//! Header extensions by which our Requester passes to the registry what Routr's `SIPMessage` has no field
//! for.
//!
//! Routr's own services ignore them, and its Java Requester sends none: each is optional for the reader. A
//! header field of one of these names in a registrar's response is dropped by the Requester, so that no one
//! else can speak for it.

use std::fmt;

/// The response was made up by the Requester: see [`Local`].
pub const LOCAL: &str = "X-Routr-Local";
/// Status code and reason phrase as the registrar sent them: `439 First Hop Lacks Outbound Support`.
pub const STATUS: &str = "X-Routr-Status";
/// The expiry of each Contact of a 2xx, in order: see [`write_bindings`].
pub const BINDINGS: &str = "X-Routr-Bindings";
/// A Contact of a 3xx; once for each, in the order to try them (RFC 3261 §8.1.3.4): see [`Target`].
pub const TARGET: &str = "X-Routr-Target";
/// Outcome of the challenge, on a 401, 403 or 407: see [`Authentication`].
pub const AUTHENTICATION: &str = "X-Routr-Authentication";

/// Minimum that a digest challenge must offer to be answered, in a request: see
/// [`crate::digest_minimum::DigestMinimum`]. It is not sent on.
pub const DIGEST: &str = "X-Routr-Digest";

/// In a request: host and port that Contact is to name, where the EdgePort hears calls. It is not sent on.
pub const CONTACT: &str = "X-Routr-Contact";

/// All of them.
pub const ALL: [&str; 7] = [LOCAL, STATUS, BINDINGS, TARGET, AUTHENTICATION, DIGEST, CONTACT];

/// Features that a Requester understands beyond Routr's contract. Only such a Requester is sent any of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// [`CONTACT`].
    pub contact: bool,
    /// A target without a port: the DNS names it (RFC 3263).
    pub srv: bool,
    /// [`DIGEST`].
    pub digest: bool,
}

impl Features {
    /// All that there are.
    pub const ALL: Self = Self { contact: true, srv: true, digest: true };

    /// Reads the words that a Requester says; unknown ones are left out.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut features = Self::default();
        for word in words {
            match word {
                "contact" => features.contact = true,
                "srv" => features.srv = true,
                "digest" => features.digest = true,
                _ => {}
            }
        }
        features
    }

    /// Returns the words for them.
    pub fn words(self) -> Vec<&'static str> {
        let all = [("contact", self.contact), ("srv", self.srv), ("digest", self.digest)];
        all.into_iter().filter(|(_, has)| *has).map(|(word, _)| word).collect()
    }
}

/// Reason that there is no response of a registrar. Written as `KIND` or `KIND;at=PART`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// Kind of the failure.
    pub kind: LocalKind,
    /// Next hop that the request was sent to, where the Requester says so.
    pub at: Option<Hop>,
}

/// Failure of a request that got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalKind {
    /// No final response within Timer F.
    Timeout,
    /// The connection could not be made, or broke.
    Transport,
    /// The TLS handshake failed: wrong name, unknown issuer, expired certificate.
    Tls,
    /// The host name has no address, or cannot be looked up.
    UnknownHost,
}

/// The next hop of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The registrar itself (direct mode).
    Registrar,
    /// An EdgePort (proxied mode).
    EdgePort,
}

impl LocalKind {
    const ALL: [Self; 4] = [Self::Timeout, Self::Transport, Self::Tls, Self::UnknownHost];

    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Transport => "transport-error",
            Self::Tls => "tls-error",
            Self::UnknownHost => "unknown-host",
        }
    }
}

impl Hop {
    fn name(self) -> &'static str {
        match self {
            Self::Registrar => "registrar",
            Self::EdgePort => "edge-port",
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        self.at.map_or(Ok(()), |at| write!(f, ";at={}", at.name()))
    }
}

impl Local {
    /// Reads a value. An unknown kind counts as a transport error: a later Requester may have more words.
    pub fn parse(value: &str) -> Self {
        let mut parts = value.split(';').map(str::trim);
        let word = parts.next().unwrap_or_default();
        let kind = LocalKind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(word));
        let at = parts.find_map(|part| part.strip_prefix("at=")).and_then(|at| {
            [Hop::Registrar, Hop::EdgePort].into_iter().find(|hop| hop.name().eq_ignore_ascii_case(at))
        });
        Self { kind: kind.unwrap_or(LocalKind::Transport), at }
    }
}

/// One Contact of a 2xx to a REGISTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedBinding {
    /// Its expiry in seconds: its own `expires`, else the Expires header field; `None` where there is
    /// neither.
    pub expires: Option<u32>,
    /// It is the Contact that was sent: host, port, user and transport are equal.
    pub own: bool,
}

/// Writes the expiries of the Contacts of a 2xx, in order: `3600, 60;own`, with `-` for one that has none.
pub fn write_bindings(bindings: &[ReportedBinding]) -> String {
    let one = |binding: &ReportedBinding| {
        let expires = binding.expires.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string());
        if binding.own { expires + ";own" } else { expires }
    };
    bindings.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Reads what [`write_bindings`] wrote; entries that it did not write are left out.
pub fn parse_bindings(value: &str) -> Vec<ReportedBinding> {
    let one = |entry: &str| {
        let (expires, own) = match entry.trim().split_once(';') {
            Some((expires, mark)) => (expires.trim(), mark.trim().eq_ignore_ascii_case("own")),
            None => (entry.trim(), false),
        };
        let expires = if expires == "-" { None } else { Some(expires.parse().ok()?) };
        Some(ReportedBinding { expires, own })
    };
    value.split(',').filter_map(one).collect()
}

/// One Contact of a 3xx: `HOST[:PORT][;transport=NAME][;expires=SECONDS]`, an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port, where the URI names one.
    pub port: Option<u16>,
    /// Transport as a URI parameter, in lower case; `tls` for a `sips:` URI that names none.
    pub transport: Option<String>,
    /// Its `expires`, in seconds.
    pub expires: Option<u32>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if let Some(transport) = &self.transport {
            write!(f, ";transport={transport}")?;
        }
        self.expires.map_or(Ok(()), |expires| write!(f, ";expires={expires}"))
    }
}

impl Target {
    /// Reads a value; `None` where it names no host. The host is not checked.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let place = parts.next()?;
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                (host, after.strip_prefix(':'))
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let mut target = Self {
            host: host.to_owned(),
            port: port.and_then(|port| port.parse().ok()).filter(|port| *port > 0),
            transport: None,
            expires: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("transport", name)) => target.transport = Some(name.to_ascii_lowercase()),
                Some(("expires", seconds)) => target.expires = seconds.parse().ok(),
                _ => {}
            }
        }
        (!target.host.is_empty()).then_some(target)
    }
}

/// Outcome of a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Credentials were sent, and refused: `sent`.
    Refused,
    /// Credentials were sent, and the registrar says again and again that only the nonce was too old:
    /// `stale`.
    Stale,
    /// None were sent; the words say what was asked for, or that nothing was: `not-sent;WORDS`.
    NotSent(String),
    /// The challenge offers less than is demanded, so none were sent to it; the words say what it offers:
    /// `too-weak;WORDS`.
    TooWeak(String),
}

impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("sent"),
            Self::Stale => f.write_str("stale"),
            Self::NotSent(asked) => write!(f, "not-sent;{asked}"),
            Self::TooWeak(offered) => write!(f, "too-weak;{offered}"),
        }
    }
}

impl Authentication {
    /// Reads a value; `None` for a word that is not known.
    pub fn parse(value: &str) -> Option<Self> {
        let (word, rest) = value.split_once(';').unwrap_or((value, ""));
        match word.trim() {
            "sent" => Some(Self::Refused),
            "stale" => Some(Self::Stale),
            "not-sent" => Some(Self::NotSent(rest.trim().to_owned())),
            "too-weak" => Some(Self::TooWeak(rest.trim().to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_failures_are_read_as_written() {
        for kind in LocalKind::ALL {
            for at in [None, Some(Hop::Registrar), Some(Hop::EdgePort)] {
                let local = Local { kind, at };
                assert_eq!(Local::parse(&local.to_string()), local);
            }
        }
        assert_eq!(Local::parse("Timeout ; at=moon").to_string(), "timeout");
        assert_eq!(Local::parse("quantum-error").kind, LocalKind::Transport);
    }

    #[test]
    fn bindings_are_read_as_written() {
        let all = [(Some(3600), false), (Some(60), true), (None, false), (Some(0), true)];
        let all = all.map(|(expires, own)| ReportedBinding { expires, own });
        assert_eq!(write_bindings(&all), "3600, 60;own, -, 0;own");
        assert_eq!(parse_bindings(&write_bindings(&all)), all);
        assert_eq!(parse_bindings("x, 5 ; OWN,, -1"), [ReportedBinding { expires: Some(5), own: true }]);
        assert_eq!(parse_bindings(""), []);
    }

    #[test]
    fn targets_are_read_as_written() {
        for text in
            ["a.example", "a.example:5070;transport=tcp;expires=60", "[2001:db8::1]:5061;transport=tls"]
        {
            assert_eq!(Target::parse(text).map(|target| target.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Target::parse("[::1]").and_then(|target| target.port), None);
        assert_eq!(Target::parse("a:99999").and_then(|target| target.port), None);
        for nothing in ["", ";transport=udp", "[::1", "[]:5060"] {
            assert_eq!(Target::parse(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn authentication_is_read_as_written() {
        for all in [
            Authentication::Refused,
            Authentication::Stale,
            Authentication::NotSent("Digest algorithm \"X; y\"".to_owned()),
            Authentication::NotSent(String::new()),
            Authentication::TooWeak("Digest with MD5 without qop".to_owned()),
        ] {
            assert_eq!(Authentication::parse(&all.to_string()), Some(all));
        }
        assert_eq!(Authentication::parse("maybe"), None);
    }
}

//! One Via value (RFC 3261 §20.42, RFC 3581 for `rport`).

use std::fmt;

use super::{
    grammar::{self, Params, ParseError, find_param},
    uri::parse_host_port,
};
use routr_types::host::UriHost;

/// Prefix of every branch that is unique over space and time (RFC 3261 §8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";

/// One value of the Via header field: a hop of the message (RFC 3261 §20.42).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP`, ...: as it was written.
    pub transport: String,
    /// Host of sent-by, without brackets.
    pub host: String,
    /// Port of sent-by.
    pub port: Option<u16>,
    /// `branch`, `rport`, `received`, ...
    pub params: Params,
}

impl Via {
    /// Reads one value, not a list. Parameters that are malformed are passed over.
    ///
    /// # Errors
    /// When protocol or host are malformed.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let malformed = || ParseError::malformed("Via", text, "SIP/2.0/UDP host:port;branch=...");
        let (protocol, params) = text.find(';').map_or((text, ""), |at| text.split_at(at));
        // White space may stand on either side of each slash, and after the host too.
        let mut parts = protocol.splitn(3, '/').map(str::trim);
        let (name, version, rest) = (parts.next(), parts.next(), parts.next());
        let sip = name.is_some_and(|n| n.eq_ignore_ascii_case("SIP")) && version == Some("2.0");
        let (transport, sent_by) =
            rest.filter(|_| sip).and_then(|rest| rest.split_once([' ', '\t'])).ok_or_else(malformed)?;
        if !grammar::is_token(transport) {
            return Err(malformed());
        }
        let sent_by: String = sent_by.split_ascii_whitespace().collect();
        let (host, port) = parse_host_port(&sent_by)?;
        Ok(Self { transport: transport.to_owned(), host, port, params: grammar::header_params(params) })
    }

    /// The value of a parameter by name: `None` where it is missing, `Some(None)` where it has no value.
    pub fn param(&self, name: &str) -> Option<Option<&str>> {
        find_param(&self.params, name)
    }

    /// The branch of a value whose other parts may be anything: a response is found by it alone.
    pub(super) fn branch_of(text: &str) -> Option<String> {
        find_param(&grammar::header_params(text), "branch").flatten().map(str::to_owned)
    }

    /// The `branch` parameter.
    pub fn branch(&self) -> Option<&str> {
        self.param("branch").flatten()
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, UriHost(&self.host))?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        grammar::write_header_params(f, &self.params)
    }
}

//! The Contact that names the Requester itself.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use crate::requester::check;
use routr_types::host::UriHost;

/// A host and perhaps a port, as Contact shows them: `HOST`, `HOST:PORT`, an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedContact {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// The port; `None` leaves it to the transport's default.
    pub port: Option<u16>,
}

impl FromStr for AdvertisedContact {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?}; expected HOST or HOST:PORT, an IPv6 address in brackets");
        let (host, port) = match text.parse::<Ipv6Addr>() {
            Ok(_) => return Err(bad()),
            Err(_) if text.ends_with(']') => (text, None),
            Err(_) => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let host = check::host("host", host).map_err(|_| bad())?;
        let port =
            port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)).transpose()?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for AdvertisedContact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", UriHost(&self.host))?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

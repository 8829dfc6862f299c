//! One rule: how it is written, and what it matches.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};

const ALL_PORTS: RangeInclusive<u16> = 0..=u16::MAX;

/// A network and ports, or `any` for the networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRule {
    /// `None`: both families.
    network: Option<IpNet>,
    ports: RangeInclusive<u16>,
}

impl AddressRule {
    /// Of a whole network.
    pub(super) fn of(network: IpNet) -> Self {
        Self { network: Some(network), ports: ALL_PORTS }
    }

    pub(super) fn matches(&self, address: SocketAddr) -> bool {
        self.ports.contains(&address.port()) && self.network.is_none_or(|n| n.contains(&address.ip()))
    }

    /// The greater, the narrower. IPv4 and IPv6 networks are never compared: an address is of one family.
    pub(super) fn narrowness(&self) -> (Option<u8>, u16) {
        let ports = self.ports.end() - self.ports.start();
        (self.network.map(|network| network.prefix_len()), u16::MAX - ports)
    }
}

impl FromStr for AddressRule {
    type Err = String;

    /// Reads `NETWORK` or `NETWORK:PORT` or `NETWORK:PORT-PORT`; a network is `any`, an address, or an
    /// address, `/` and the length of its prefix, with brackets around IPv6 where a port follows.
    ///
    /// # Errors
    /// The text, and what is expected.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |problem: &str| {
            format!(
                "{text:?} {problem}; expected a network and perhaps ports, such as 10.0.0.0/8, 192.0.2.7:5060, \
                 [2001:db8::/32]:5060-5070 or any:25"
            )
        };
        let trimmed = text.trim();
        let (network, ports) = match trimmed.strip_prefix('[') {
            Some(rest) => {
                let (inner, after) = rest.split_once(']').ok_or_else(|| bad("has no closing bracket"))?;
                // Both [2001:db8::/32]:5060 and [2001:db8::]/32:5060 are seen.
                let (prefix, ports) = match after.rsplit_once(':') {
                    Some((prefix, ports)) => (prefix, Some(ports)),
                    None => (after, None),
                };
                (format!("{inner}{prefix}"), ports)
            }
            None if trimmed.parse::<IpAddr>().is_ok() || trimmed.parse::<IpNet>().is_ok() => {
                (trimmed.to_owned(), None)
            }
            None => match trimmed.rsplit_once(':') {
                Some((network, ports)) => (network.to_owned(), Some(ports)),
                None => (trimmed.to_owned(), None),
            },
        };
        let network = match network.as_str() {
            "any" | "all" | "*" => None,
            one => Some(read_network(one).ok_or_else(|| {
                bad("is no network (names are no rules: what counts is the address that a name resolves to)")
            })?),
        };
        let ports = match ports {
            None | Some("*") => ALL_PORTS,
            Some(ports) => read_ports(ports).ok_or_else(|| bad("has no ports from 1 to 65535 after it"))?,
        };
        Ok(Self { network, ports })
    }
}

fn read_network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().ok().or_else(|| text.parse().ok().map(IpAddr::into))?;
    // An IPv4-mapped network is the IPv4 network: addresses are compared so, too.
    Some(
        match network {
            IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
                Some(mapped) => Ipv4Net::new(mapped, v6.prefix_len() - 96).ok()?.into(),
                None => network,
            },
            _ => network,
        }
        .trunc(),
    )
}

fn read_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let one = |text: &str| text.trim().parse().ok().filter(|port| *port != 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (one(first)?, one(last)?);
    (first <= last).then_some(first..=last)
}

impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.ports != ALL_PORTS;
        match self.network {
            None => f.write_str("any")?,
            Some(IpNet::V6(network)) if ports => write!(f, "[{network}]")?,
            Some(network) => write!(f, "{network}")?,
        }
        match (self.ports.start(), self.ports.end()) {
            _ if !ports => Ok(()),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

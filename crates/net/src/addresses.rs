//! Rules for the addresses that may be connected to, enforced on the address itself, after name resolution.
//!
//! A rule is a network and perhaps ports: `10.0.0.0/8`, `192.0.2.7:5060`, `[2001:db8::/32]:5060-5070`,
//! `any:25`. Where several rules match an address, the narrowest decides: the longest prefix, then the fewest
//! ports; of two that are alike, the one that denies. An address that no rule matches is allowed. So `any`
//! denied and `203.0.113.0/24:5060` allowed leaves that network at that port, and nothing else.
//!
//! An address has several spellings, and each must pass: an IPv6 address that holds an IPv4 address
//! (IPv4-mapped or -compatible, NAT64, 6to4) is checked as that one, too, and the unspecified address, which
//! Linux connects to itself, as loopback.

mod rule;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use self::rule::AddressRule;

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(first: u16, second: u16, third: u16, last: u16, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, last), prefix))
}

/// Networks that nothing here has a reason to connect to, and why: denied unless a rule as narrow allows
/// them.
pub const NEVER: &[(IpNet, &str)] = &[
    (v4(169, 254, 169, 254, 32), "a cloud's metadata service"),
    (v4(100, 100, 100, 200, 32), "a cloud's metadata service"),
    (v4(192, 0, 0, 192, 32), "a cloud's metadata service"),
    (v4(168, 63, 129, 16, 32), "a cloud's metadata service"),
    (v6(0xfd00, 0xec2, 0, 0x254, 128), "a cloud's metadata service"),
    (v6(0xfd00, 0xec2, 0, 0x23, 128), "a cloud's metadata service"),
    (v6(0xfd20, 0xce, 0, 0x254, 128), "a cloud's metadata service"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v6(0xfe80, 0, 0, 0, 10), "link-local"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v6(0xff00, 0, 0, 0, 8), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
    (v4(0, 0, 0, 0, 8), "no address of a host"),
    (v6(0, 0, 0, 0, 128), "no address of a host"),
    (v6(0x64, 0xff9b, 1, 0, 48), "a translator's own network"),
    (v6(0x2001, 0, 0, 0, 32), "a Teredo tunnel"),
];

/// The machine itself.
pub const LOOPBACK: &[(IpNet, &str)] =
    &[(v4(127, 0, 0, 0, 8), "loopback"), (v6(0, 0, 0, 1, 128), "loopback")];

/// Reason that an address is not connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is denied: {}", match (spelt, why) {
    (Some(spelt), Some(why)) => format!("it leads to {spelt}, which is in {rule} ({why})"),
    (Some(spelt), None) => format!("it leads to {spelt}, which is in {rule}"),
    (None, Some(why)) => format!("it is in {rule} ({why})"),
    (None, None) => format!("it is in {rule}"),
})]
pub struct DeniedAddress {
    /// The address.
    pub address: SocketAddr,
    /// The address that it leads to, where that is what is denied.
    pub spelt: Option<IpAddr>,
    /// The rule that denies it.
    pub rule: AddressRule,
    /// Description of the network, where it is denied by default.
    pub why: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    rule: AddressRule,
    /// The greatest wins among rules as narrow: default, allowed, denied.
    rank: Rank,
    why: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    DeniedByDefault,
    Allowed,
    Denied,
}

/// The addresses that may be connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Narrowest first.
    entries: Vec<Entry>,
}

impl AddressPolicy {
    /// Makes a policy of networks that are denied by default, such as [`NEVER`], and of rules. A rule that
    /// allows an address goes before a default as narrow.
    pub fn new<'a>(
        defaults: impl IntoIterator<Item = &'a (IpNet, &'static str)>,
        allowed: impl IntoIterator<Item = AddressRule>,
        denied: impl IntoIterator<Item = AddressRule>,
    ) -> Self {
        let by_default = defaults.into_iter().map(|(network, why)| Entry {
            rule: AddressRule::of(*network),
            rank: Rank::DeniedByDefault,
            why: Some(why),
        });
        let allowed = allowed.into_iter().map(|rule| Entry { rule, rank: Rank::Allowed, why: None });
        let denied = denied.into_iter().map(|rule| Entry { rule, rank: Rank::Denied, why: None });
        let mut entries: Vec<Entry> = by_default.chain(allowed).chain(denied).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.rule.narrowness(), entry.rank)));
        Self { entries }
    }

    /// Returns whether an address may be connected to.
    pub fn permits(&self, address: SocketAddr) -> bool {
        self.check(address).is_ok()
    }

    /// Checks an address in all its spellings.
    ///
    /// # Errors
    /// The rule that denies it.
    pub fn check(&self, address: SocketAddr) -> Result<(), DeniedAddress> {
        let plain = address.ip().to_canonical();
        for spelling in std::iter::once(plain).chain(leads_to(plain)) {
            let at = SocketAddr::new(spelling, address.port());
            let decisive = self.entries.iter().find(|entry| entry.rule.matches(at));
            if let Some(entry) = decisive.filter(|entry| entry.rank != Rank::Allowed) {
                let spelt = (spelling != plain).then_some(spelling);
                return Err(DeniedAddress { address, spelt, rule: entry.rule.clone(), why: entry.why });
            }
        }
        Ok(())
    }
}

/// The address that a connection to this one may end at, where it is another one.
fn leads_to(address: IpAddr) -> Option<IpAddr> {
    let address = match address {
        IpAddr::V4(v4) => return v4.is_unspecified().then_some(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(v6) if v6.is_unspecified() => return Some(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V6(v6) if v6.is_loopback() => return None,
        IpAddr::V6(v6) => v6,
    };
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d).into())
    };
    match address.segments() {
        // IPv4-compatible, IPv4-translated (SIIT), NAT64, 6to4, ISATAP.
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
        | [.., 0 | 0x200, 0x5efe, high, low] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

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

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const ALL_PORTS: RangeInclusive<u16> = 0..=u16::MAX;

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

/// A network and ports, or `any` for the networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRule {
    /// `None`: both families.
    network: Option<IpNet>,
    ports: RangeInclusive<u16>,
}

impl AddressRule {
    fn matches(&self, address: SocketAddr) -> bool {
        self.ports.contains(&address.port()) && self.network.is_none_or(|n| n.contains(&address.ip()))
    }

    /// The greater, the narrower. IPv4 and IPv6 networks are never compared: an address is of one family.
    fn narrowness(&self) -> (Option<u8>, u16) {
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
            rule: AddressRule { network: Some(*network), ports: ALL_PORTS },
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
mod tests {
    use super::*;

    fn rule(text: &str) -> AddressRule {
        text.parse().unwrap()
    }

    fn policy(allowed: &[&str], denied: &[&str]) -> AddressPolicy {
        let rules = |texts: &[&str]| texts.iter().map(|text| rule(text)).collect::<Vec<_>>();
        AddressPolicy::new(NEVER, rules(allowed), rules(denied))
    }

    fn permits(policy: &AddressPolicy, address: &str) -> bool {
        policy.permits(address.parse().unwrap())
    }

    #[test]
    fn rules_are_read_as_people_write_them() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            (" 192.0.2.7 ", "192.0.2.7/32"),
            ("192.0.2.7:5060", "192.0.2.7/32:5060"),
            ("10.0.0.0/8:5060-5070", "10.0.0.0/8:5060-5070"),
            ("fd00::/8", "fd00::/8"),
            ("fd00::1", "fd00::1/128"),
            ("[fd00::1]", "fd00::1/128"),
            ("[fd00::/8]:25", "[fd00::/8]:25"),
            ("[fd00::]/8:25", "[fd00::/8]:25"),
            ("fd00::/8:25", "[fd00::/8]:25"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("any", "any"),
            ("*:25", "any:25"),
            ("any:*", "any"),
        ] {
            assert_eq!(rule(text).to_string(), shown);
            assert_eq!(rule(shown), rule(text));
        }
        for bad in [
            "",
            "registrar.example.com",
            "10.0.0.0/33",
            "10.0.0:5060",
            "10.0.0.1:0",
            "10.0.0.1:",
            "[::1",
            "any:6-5",
        ] {
            let text = bad.parse::<AddressRule>().unwrap_err();
            assert!(text.contains(&format!("{bad:?}")) && text.contains("expected a network"), "{text}");
        }
    }

    #[test]
    fn the_narrowest_rule_decides() {
        let policy = policy(
            &["203.0.113.0/24:5060", "10.96.1.0/24", "any:7000", "10.0.0.9:22"],
            &["any", "10.0.0.0/8", "10.96.1.7", "203.0.113.9", "10.0.0.9:22"],
        );
        for (address, permitted) in [
            ("203.0.113.1:5060", true),
            ("203.0.113.1:5061", false),
            ("203.0.113.9:5060", false),
            ("198.51.100.1:5060", false),
            ("198.51.100.1:7000", true),
            ("10.1.1.1:7000", false),
            ("10.96.1.6:5060", true),
            ("10.96.1.7:5060", false),
            ("10.0.0.9:22", false),
            ("[2001:db8::1]:5060", false),
            ("[2001:db8::1]:7000", true),
        ] {
            assert_eq!(permits(&policy, address), permitted, "{address}");
        }
    }

    #[test]
    fn what_is_never_a_target_is_denied_by_default_in_all_spellings() {
        let policy = policy(&["any"], &["127.0.0.0/8"]);
        for denied in [
            "169.254.169.254",
            "[::ffff:169.254.169.254]",
            "[::169.254.169.254]",
            "[::ffff:0:169.254.169.254]",
            "[64:ff9b::169.254.169.254]",
            "[64:ff9b:1::1]",
            "[2002:a9fe:a9fe::1]",
            "[2001:db8::200:5efe:a9fe:a9fe]",
            "[2001:0:1:2::3]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "[::]",
            "[::ffff:0.0.0.0]",
            "224.0.1.75",
            "[ff02::1]",
            "255.255.255.255",
            "240.0.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "[::ffff:127.0.0.1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
        ] {
            let address = format!("{denied}:5060");
            assert!(!permits(&policy, &address), "{address}");
        }
        for permitted in
            ["192.0.2.7", "10.0.0.1", "[2001:db8::1]", "[::1]", "[64:ff9b::c000:207]", "[fd00::1]"]
        {
            let address = format!("{permitted}:5060");
            assert!(permits(&policy, &address), "{address}");
        }
        assert!(AddressPolicy::default().permits("169.254.169.254:80".parse().unwrap()), "no rules");
    }

    #[test]
    fn a_default_yields_to_a_rule_as_narrow_and_to_no_wider_one() {
        let by = |allowed: &[&str], address: &str| permits(&policy(allowed, &[]), address);
        assert!(by(&["169.254.0.0/16"], "169.254.1.1:5060"));
        assert!(!by(&["169.254.0.0/16"], "169.254.169.254:80"));
        assert!(by(&["169.254.169.254:80"], "169.254.169.254:80"));
        assert!(!by(&["169.254.169.254:80"], "169.254.169.254:81"));
        let everything = AddressPolicy::new(NEVER.iter().chain(LOOPBACK), [], []);
        for address in ["127.0.0.1:1", "[::1]:1", "[::]:1", "0.0.0.0:1", "[::ffff:127.0.0.1]:1"] {
            assert!(!permits(&everything, address), "{address}");
        }
    }

    #[test]
    fn a_refusal_names_the_address_the_rule_and_why() {
        let text = |address: &str, denied: &[&str]| {
            policy(&[], denied).check(address.parse().unwrap()).unwrap_err().to_string()
        };
        assert_eq!(text("10.1.2.3:22", &["any:22"]), "10.1.2.3:22 is denied: it is in any:22");
        assert_eq!(
            text("169.254.1.2:5060", &[]),
            "169.254.1.2:5060 is denied: it is in 169.254.0.0/16 (link-local)"
        );
        assert_eq!(
            text("[64:ff9b::7f00:1]:5060", &["127.0.0.0/8"]),
            "[64:ff9b::7f00:1]:5060 is denied: it leads to 127.0.0.1, which is in 127.0.0.0/8"
        );
    }
}

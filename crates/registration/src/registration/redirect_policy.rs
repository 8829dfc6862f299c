//! Policy of redirections: which are followed, for how long, and where the credentials may go along.
//!
//! A redirection stays within the provider where it leads to the same host, or to a name of the same
//! registrable domain (`sip.example.com` and `backup.example.com` are both of `example.com`, by the Public
//! Suffix List). An IP address is a domain of its own. Whatever leads elsewhere may be forged, and is
//! followed only where the configuration allows it.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

/// Default of the longest time that a redirection holds, in seconds.
pub const DEFAULT_MAX_S: u32 = 3_600;

/// Redirections that are allowed beyond the registrar's own domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectPolicy {
    /// Domains that redirections may lead to, beside the registrar's own.
    pub domains: Vec<RedirectDomain>,
    /// Set where the credentials are offered there.
    pub credentials: bool,
    /// Longest time that a redirection holds, in seconds; then the configured registrar is asked again.
    pub max_s: u32,
}

/// Domain that redirections may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectDomain {
    /// Anywhere: `*`.
    Any,
    /// This name, in lower case, and all names below it.
    Name(Box<str>),
    /// These IP addresses.
    Net(IpNet),
}

/// Permission for one target of a redirection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Follow it; the credentials may be offered there.
    Follow,
    /// Follow it, without credentials.
    WithoutCredentials,
    /// Do not follow it.
    Refuse,
}

impl Default for RedirectPolicy {
    /// Nothing beyond the registrar's own domain, for [`DEFAULT_MAX_S`].
    fn default() -> Self {
        Self { domains: Vec::new(), credentials: false, max_s: DEFAULT_MAX_S }
    }
}

impl RedirectPolicy {
    /// Returns what may be done with a redirection of a trunk's registrar `from` to the host `to`. Both are
    /// hosts without brackets.
    pub fn permission(&self, from: &str, to: &str) -> Permission {
        if same_provider(from, to) {
            return Permission::Follow;
        }
        match (self.domains.iter().any(|domain| domain.contains(to)), self.credentials) {
            (false, _) => Permission::Refuse,
            (true, false) => Permission::WithoutCredentials,
            (true, true) => Permission::Follow,
        }
    }
}

impl RedirectDomain {
    /// Reads `*`, an IP address, a network such as `192.0.2.0/24`, or a domain name, with or without `*.`
    /// before it. `None` where it is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "*" {
            return Some(Self::Any);
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Some(net) = bare.parse::<IpNet>().ok().or_else(|| bare.parse::<IpAddr>().ok().map(IpNet::from))
        {
            return Some(Self::Net(net.trunc()));
        }
        let name = normalized(text.strip_prefix("*.").unwrap_or(text));
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let is_name = name.len() <= routr_types::host::MAX_HOST && name.split('.').all(is_label);
        // A number at the end is an address with a slip in it.
        (is_name && !is_numeric(&name)).then(|| Self::Name(name.into()))
    }

    fn contains(&self, host: &str) -> bool {
        match (self, address(host)) {
            (Self::Any, _) => true,
            (Self::Net(net), Some(address)) => net.contains(&address),
            (Self::Name(domain), None) => {
                let host = normalized(host);
                host.strip_suffix(&**domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

impl fmt::Display for RedirectDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => f.write_str(name),
            Self::Net(net) => net.fmt(f),
        }
    }
}

/// Returns whether two hosts belong to one provider: they are the same, or names of one registrable domain.
fn same_provider(one: &str, other: &str) -> bool {
    match (address(one), address(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => {
            let (one, other) = (normalized(one), normalized(other));
            one == other || registrable(&one).is_some_and(|domain| registrable(&other) == Some(domain))
        }
        _ => false,
    }
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// In lower case, without the dot at the end.
fn normalized(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Returns whether the last label is a number: resolvers read such a name as an IPv4 address.
fn is_numeric(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal =
        last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit())
}

/// The registrable domain of a name in lower case; `None` where it has none, as a public suffix or a single
/// label.
fn registrable(name: &str) -> Option<&str> {
    if is_numeric(name) {
        return None;
    }
    // A Service of Kubernetes belongs to its namespace: SERVICE.NAMESPACE.svc[.CLUSTER-DOMAIN].
    let service = name.find(".svc.").or_else(|| name.ends_with(".svc").then(|| name.len() - ".svc".len()));
    match service {
        Some(at) => Some(name.get(name[..at].rfind('.')? + 1..).unwrap_or(name)),
        None => psl::domain_str(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(list: &[&str], from: &str, to: &str) -> bool {
        let domains = list.iter().map(|text| RedirectDomain::parse(text).unwrap()).collect();
        let policy = RedirectPolicy { domains, ..RedirectPolicy::default() };
        policy.permission(from, to) != Permission::Refuse
    }

    #[test]
    fn a_redirection_within_the_registrable_domain_is_followed() {
        for (from, to) in [
            ("sip.example.com", "backup.example.com"),
            ("sip.example.com", "example.com"),
            ("Sip.Example.com.", "a.b.c.EXAMPLE.com"),
            ("a.example.co.uk", "b.example.co.uk"),
            ("registrar", "registrar"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "::ffff:192.0.2.1"),
            ("2001:db8::1", "[2001:db8:0::1]"),
            ("sip.telephony.svc.cluster.local", "sip-1.sip.telephony.svc.cluster.local"),
            ("sip.telephony.svc", "spare.telephony.svc"),
        ] {
            assert_eq!(RedirectPolicy::default().permission(from, to), Permission::Follow, "{from} -> {to}");
        }
    }

    #[test]
    fn a_redirection_to_another_registrable_domain_is_refused() {
        for (from, to) in [
            ("sip.example.com", "sip.example.net"),
            ("sip.example.com", "sip.example.com.attacker.net"),
            ("sip.example.com", "notexample.com"),
            // Two customers of one public suffix.
            ("a.co.uk", "b.co.uk"),
            ("a.github.io", "b.github.io"),
            ("registrar", "other"),
            ("com", "example.com"),
            ("sip.example.com", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.2"),
            ("192.0.2.1", "sip.example.com"),
            ("2001:db8::1", "2001:db8::2"),
            // Numbers that a resolver takes for addresses.
            ("1.127.1", "2.127.1"),
            ("a.0x7f", "b.0x7f"),
            // Pods of another namespace.
            ("sip.telephony.svc.cluster.local", "sip.evil.svc.cluster.local"),
            ("sip.telephony.svc", "sip.evil.svc"),
        ] {
            assert_eq!(RedirectPolicy::default().permission(from, to), Permission::Refuse, "{from} -> {to}");
        }
    }

    #[test]
    fn what_is_allowed_is_followed_without_credentials_unless_they_are_allowed_too() {
        let from = "sip.example.com";
        assert!(
            allows(&["example.net"], from, "sip.example.net")
                && allows(&["*.example.net"], from, "Example.NET.")
        );
        assert!(!allows(&["example.net"], from, "notexample.net"));
        assert!(allows(&["192.0.2.7"], from, "192.0.2.7") && !allows(&["192.0.2.7"], from, "192.0.2.8"));
        assert!(
            allows(&["192.0.2.9/24"], from, "192.0.2.8") && allows(&["2001:db8::/32"], from, "2001:db8::8")
        );
        assert!(allows(&["*"], from, "anything") && allows(&["*"], from, "192.0.2.8"));
        let mut policy = RedirectPolicy { domains: vec![RedirectDomain::Any], ..RedirectPolicy::default() };
        assert_eq!(policy.permission(from, "evil.net"), Permission::WithoutCredentials);
        assert_eq!(policy.permission(from, "b.example.com"), Permission::Follow);
        policy.credentials = true;
        assert_eq!(policy.permission(from, "evil.net"), Permission::Follow);
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for bad in [
            "",
            ".",
            "a b",
            "a..b",
            "sip:example.com",
            "example.com:5060",
            "192.0.2.300",
            "192.0.2.0/33",
            "*.*",
        ] {
            assert_eq!(RedirectDomain::parse(bad), None, "{bad:?}");
        }
    }
}

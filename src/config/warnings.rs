//! Warnings of what is allowed in a configuration, and most likely wrong.

use std::net::IpAddr;

use super::Config;
use routr_registration::model::EdgePort;
use routr_types::text;

/// Bytes of an EdgePort's host within the advice for a status.
const MAX_HOST_BYTES: usize = 80;

/// Top-level names that no public DNS has (RFC 6761, RFC 6762, RFC 8375), and those of clusters.
const INTERNAL_ENDINGS: [&str; 7] =
    [".local", ".localhost", ".internal", ".svc", ".lan", ".home.arpa", ".test"];

impl Config {
    /// Warnings, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.edge_ports.iter().enumerate().filter_map(|(at, edge_port)| internal(at, edge_port)).collect()
    }

    /// The same of EdgePorts, short enough for a status: the first one, and how many more there are. `None`
    /// without a warning.
    pub fn edge_port_advice(&self) -> Option<String> {
        let all = self.edge_ports.iter().enumerate();
        let mut internal = all.filter_map(|(at, edge_port)| Some((at, edge_port, why_internal(edge_port)?)));
        let (at, edge_port, why) = internal.next()?;
        let host = text::clean(&edge_port.address.host, MAX_HOST_BYTES);
        let more = match internal.count() {
            0 => String::new(),
            1 => "; the same for 1 more EdgePort".to_owned(),
            n => format!("; the same for {n} more EdgePorts"),
        };
        Some(format!(
            "Contact names the EdgePort {host}, {why}: if providers cannot reach it, set \
             spec.edgePorts[{at}].publicAddress{more}"
        ))
    }
}

/// An EdgePort without a public address, whose own address providers can hardly reach.
fn internal(at: usize, edge_port: &EdgePort) -> Option<String> {
    let (host, why) = (&edge_port.address.host, why_internal(edge_port)?);
    Some(format!(
        "spec.edgePorts[{at}].address: {host} is {why}, and Contact names it: calls do not arrive unless the provider \
         can reach it; set spec.edgePorts[{at}].publicAddress to the address at which providers reach this EdgePort"
    ))
}

/// Returns the kind of an EdgePort's address that providers can hardly reach; `None` for any other, and with
/// a public address.
fn why_internal(edge_port: &EdgePort) -> Option<&'static str> {
    if edge_port.public.udp.is_some() || edge_port.public.tcp.is_some() || edge_port.public.tls.is_some() {
        return None;
    }
    let host = &*edge_port.address.host;
    match host.parse::<IpAddr>() {
        Ok(address) => is_private(address.to_canonical()).then_some("a private address"),
        Err(_) if !host.trim_end_matches('.').contains('.') => Some("a name without a dot"),
        Err(_) => is_internal(host).then_some("an internal name"),
    }
}

fn is_internal(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    INTERNAL_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// RFC 1918, RFC 6598, RFC 4193, loopback and link-local.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let shared = first == 100 && (64..128).contains(&second);
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || shared
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use routr_registration::model::PublicAddresses;
    use routr_types::host::HostPort;

    fn edge_port(host: &str) -> EdgePort {
        let public = PublicAddresses::default();
        EdgePort { address: HostPort::new(host, 5060), region: None, public }
    }

    #[test]
    fn w1_an_edge_port_that_no_provider_can_reach_is_named() {
        for (host, why) in [
            ("edgeport", "a name without a dot"),
            ("routr-edgeport.", "a name without a dot"),
            ("edge.default.svc", "an internal name"),
            ("edge.default.svc.cluster.local", "an internal name"),
            ("10.0.0.1", "a private address"),
            ("172.16.3.4", "a private address"),
            ("192.168.1.1", "a private address"),
            ("100.64.0.1", "a private address"),
            ("169.254.1.1", "a private address"),
            ("127.0.0.1", "a private address"),
            ("fd00::1", "a private address"),
            ("fe80::1", "a private address"),
            ("::ffff:10.0.0.1", "a private address"),
        ] {
            let warning = internal(1, &edge_port(host)).unwrap_or_else(|| panic!("{host}"));
            assert!(warning.starts_with("spec.edgePorts[1].address: ") && warning.contains(why), "{warning}");
        }
        for fine in ["sip.example.com", "203.0.113.5", "2001:db8::5", "172.32.0.1", "sip01.edgeport.net"] {
            assert_eq!(internal(0, &edge_port(fine)), None, "{fine}");
        }
    }

    #[test]
    fn w1_the_advice_names_the_first_and_counts_the_others() {
        let advice = |hosts: &[&str]| {
            let yaml = "kind: Registry\napiVersion: v2beta1\nspec: {requesterAddr: a, apiAddr: b, edgePorts: \
                        [{address: c}]}";
            let mut config = crate::config::parse(yaml, crate::config::Format::Yaml).unwrap();
            config.edge_ports = hosts.iter().map(|host| edge_port(host)).collect();
            config.edge_port_advice()
        };
        assert_eq!(advice(&["203.0.113.5"]), None);
        let one = "Contact names the EdgePort 10.0.0.1, a private address: if providers cannot reach it, set \
                   spec.edgePorts[1].publicAddress";
        assert_eq!(advice(&["203.0.113.5", "10.0.0.1"]).as_deref(), Some(one));
        let more = advice(&["203.0.113.5", "10.0.0.1", "edge"]).unwrap();
        assert_eq!(more, format!("{one}; the same for 1 more EdgePort"));
        let more = advice(&["sip.example.com", "10.0.0.1", "edge", "edge.svc"]).unwrap();
        assert_eq!(more, format!("{one}; the same for 2 more EdgePorts"));
        let long = advice(&[&format!("{}.svc", "x".repeat(63))]).unwrap();
        assert!(long.len() < 250, "{long}");
        let cut = advice(&[&format!("{0}.{0}.{0}.svc", "x".repeat(63))]).unwrap();
        assert!(cut.len() < 250 && cut.contains("... (cut), an internal name: "), "{cut}");
    }

    #[test]
    fn w1_a_public_address_silences_it() {
        let mut edge = edge_port("10.0.0.1");
        edge.public.tls = Some(HostPort::new("sip.example.com", 5061));
        assert_eq!(internal(0, &edge), None);
        assert_eq!(why_internal(&edge), None);
    }
}

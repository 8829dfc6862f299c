//! Trunk -> REGISTER: what one attempt looks like on the wire, but for what is the same for all of them.

use super::{Attempt, identity::RegistryId};
use crate::{
    model::{PublicAddresses, RegisterRequest},
    trunk::{Credentials, TlsUriScheme},
};
use routr_types::{
    digest_minimum::DigestMinimum,
    host::{HostPort, Transport},
};
use serde::{Deserialize, Serialize};

/// The URI that an attempt goes to, as a trunk has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UriView<'a> {
    /// User of the address of record.
    pub user: &'a str,
    /// Registrar host, also the registrar domain.
    pub host: &'a str,
    /// Registrar port.
    pub port: u16,
    /// The trunk names the port.
    pub names_port: bool,
    /// Transport to the registrar.
    pub transport: Transport,
    /// Host that requests go to in place of the registrar.
    pub proxy: Option<ProxyView<'a>>,
}

/// The outbound proxy of a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyView<'a> {
    /// Host.
    pub host: &'a str,
    /// Port, where the trunk names one.
    pub port: Option<u16>,
    /// Transport, where it is another than that of the URI.
    pub transport: Option<Transport>,
}

impl<'a> UriView<'a> {
    /// Host and port that its requests are sent to: the outbound proxy, else the registrar. Budgets and
    /// outages count by them.
    pub fn next_hop(&self) -> (&'a str, u16) {
        match self.proxy {
            Some(proxy) => (proxy.host, proxy.port.unwrap_or(self.hop_transport().default_port())),
            None => (self.host, self.port),
        }
    }

    /// Transport to the next hop.
    fn hop_transport(&self) -> Transport {
        self.proxy.and_then(|proxy| proxy.transport).unwrap_or(self.transport)
    }

    /// Returns whether the trunk names the port of the next hop.
    fn names_hop_port(&self) -> bool {
        self.proxy.map_or(self.names_port, |proxy| proxy.port.is_some())
    }
}

/// The REGISTER of an attempt.
///
/// To, From, Call-ID and the registrar domain stay those of the trunk's URI when the attempt is redirected;
/// only the Request-URI and the target follow the redirection (RFC 3261 §8.1.3.4). An outbound proxy changes
/// the target alone; the target of a redirection is asked without it.
pub fn register(
    registry: &RegistryId,
    trunk: &str,
    (uri, scheme): (UriView<'_>, TlsUriScheme),
    (credentials, digest): (Option<Credentials>, DigestMinimum),
    (edge_port, public): (HostPort, &PublicAddresses),
    attempt: &Attempt,
    tag: u64,
) -> RegisterRequest {
    let (target, transport) = match &attempt.redirect {
        Some(to) => (to.address.clone(), to.transport.unwrap_or(uri.transport)),
        None => {
            let (host, port) = uri.next_hop();
            (HostPort { host: host.into(), port }, uri.hop_transport())
        }
    };
    let (request_host, request_port, request_transport) = match &attempt.redirect {
        Some(_) => (target.host.clone(), target.port, transport),
        None => (uri.host.into(), uri.port, uri.transport),
    };
    let names_port = uri.names_hop_port() || attempt.redirect.is_some();
    RegisterRequest {
        request_host,
        request_port,
        request_transport,
        target,
        names_port,
        transport,
        user: uri.user.into(),
        domain: uri.host.into(),
        secure: uri.transport.is_secure() && scheme == TlsUriScheme::Sips,
        from_tag: format!("{tag:016x}").into(),
        call_id: registry.call_id(trunk, uri.host, uri.user).into(),
        cseq: attempt.cseq,
        expires: attempt.expires,
        edge_port,
        contact: public.of(transport).cloned(),
        without_tags: attempt.without_tags,
        credentials: credentials.filter(|_| !attempt.without_credentials),
        digest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::RedirectTarget,
        registration::{EdgePortRank, Purpose, UriChoice, UriRank},
    };

    fn attempt(redirect: Option<RedirectTarget>) -> Attempt {
        let uri = UriChoice::Rank(UriRank(0));
        Attempt {
            purpose: Purpose::Register,
            uri,
            edge: EdgePortRank::FIRST,
            bound_edge: None,
            redirect,
            without_credentials: false,
            expires: 600,
            cseq: 7,
            without_tags: 2,
        }
    }

    fn build(transport: Transport, redirect: Option<RedirectTarget>) -> RegisterRequest {
        build_by(transport, redirect, None, TlsUriScheme::Sips)
    }

    fn build_by(
        transport: Transport,
        redirect: Option<RedirectTarget>,
        proxy: Option<ProxyView<'_>>,
        scheme: TlsUriScheme,
    ) -> RegisterRequest {
        let uri = UriView {
            user: "alice",
            host: "sip.example.com",
            port: 5070,
            names_port: true,
            transport,
            proxy,
        };
        let edge = HostPort::new("10.0.0.1", 5060);
        register(
            &RegistryId::new("r"),
            "t1",
            (uri, scheme),
            (None, DigestMinimum::default()),
            (edge, &PublicAddresses::default()),
            &attempt(redirect),
            0xabc,
        )
    }

    #[test]
    fn a_plain_register() {
        let request = build(Transport::Udp, None);
        assert_eq!(request.target.to_string(), "sip.example.com:5070");
        assert_eq!(
            (&*request.request_host, &*request.domain, &*request.user),
            ("sip.example.com", "sip.example.com", "alice")
        );
        assert_eq!((request.cseq, request.expires, request.without_tags), (7, 600, 2));
        assert_eq!(&*request.from_tag, "0000000000000abc");
        assert!(!request.secure);
        assert!(build(Transport::Tls, None).secure);
    }

    #[test]
    fn n7_the_scheme_over_tls_is_settable() {
        let request = build_by(Transport::Tls, None, None, TlsUriScheme::Sip);
        assert_eq!((request.secure, request.transport), (false, Transport::Tls));
        assert!(!build_by(Transport::Udp, None, None, TlsUriScheme::Sips).secure);
    }

    #[test]
    fn n9_an_outbound_proxy_moves_the_target_alone() {
        let proxy = |port, transport| Some(ProxyView { host: "proxy.example.net", port, transport });
        let through = |proxy| build_by(Transport::Tcp, None, proxy, TlsUriScheme::Sips);
        let plain = build(Transport::Tcp, None);
        for (given, target, names_port, transport) in [
            (proxy(None, None), "proxy.example.net:5060", false, Transport::Tcp),
            (proxy(Some(5070), None), "proxy.example.net:5070", true, Transport::Tcp),
            (proxy(None, Some(Transport::Tls)), "proxy.example.net:5061", false, Transport::Tls),
        ] {
            let request = through(given);
            assert_eq!((request.target.to_string().as_str(), request.names_port), (target, names_port));
            assert_eq!((request.transport, request.request_transport), (transport, Transport::Tcp));
            assert_eq!((&request.request_host, request.request_port), (&plain.request_host, 5070));
            assert_eq!((&request.domain, &request.call_id), (&plain.domain, &plain.call_id));
            assert!(!request.secure);
        }
        let to = RedirectTarget { address: HostPort::new("other.example.net", 5080), transport: None };
        let redirected = build_by(Transport::Tcp, Some(to), proxy(None, None), TlsUriScheme::Sips);
        assert_eq!((&*redirected.request_host, redirected.request_port), ("other.example.net", 5080));
        assert_eq!(redirected.target.to_string(), "other.example.net:5080");
    }

    #[test]
    fn credentials_stay_at_home_where_they_may_not_be_offered() {
        let credentials =
            Credentials { username: "a".into(), password: routr_types::secret::Secret::new("b") };
        let transport = Transport::Udp;
        let uri = UriView {
            user: "alice",
            host: "sip.example.com",
            port: 5070,
            names_port: true,
            transport,
            proxy: None,
        };
        for without_credentials in [false, true] {
            let attempt = Attempt { without_credentials, ..attempt(None) };
            let offered = (Some(credentials.clone()), DigestMinimum::default());
            let edge = HostPort::new("10.0.0.1", 5060);
            let edge = (edge, &PublicAddresses::default());
            let uri = (uri, TlsUriScheme::Sips);
            let request = register(&RegistryId::new("r"), "t1", uri, offered, edge, &attempt, 1);
            assert_eq!(request.credentials.is_none(), without_credentials);
        }
    }

    #[test]
    fn a_redirection_moves_the_target_and_keeps_the_identity() {
        let to = RedirectTarget {
            address: HostPort::new("Other.example.net", 5080),
            transport: Some(Transport::Tcp),
        };
        let (plain, redirected) = (build(Transport::Udp, None), build(Transport::Udp, Some(to)));
        assert_eq!(redirected.target.to_string(), "other.example.net:5080");
        assert_eq!(&*redirected.request_host, "other.example.net");
        assert_eq!(redirected.transport, Transport::Tcp);
        assert_eq!(redirected.call_id, plain.call_id);
        assert_eq!(redirected.domain, plain.domain);
    }
}

//! Trunk -> REGISTER: what one attempt looks like on the wire, but for what is the same for all of them.

use super::{Attempt, identity::RegistryId};
use crate::{
    model::{PublicAddresses, RegisterRequest},
    trunk::Credentials,
};
use routr_types::{
    digest_minimum::DigestMinimum,
    host::{HostPort, Transport},
};

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
}

/// The REGISTER of an attempt.
///
/// To, From, Call-ID and the registrar domain stay those of the trunk's URI when the attempt is redirected;
/// only the Request-URI and the target follow the redirection (RFC 3261 §8.1.3.4).
pub fn register(
    registry: &RegistryId,
    trunk: &str,
    uri: UriView<'_>,
    (credentials, digest): (Option<Credentials>, DigestMinimum),
    (edge_port, public): (HostPort, &PublicAddresses),
    attempt: &Attempt,
    tag: u64,
) -> RegisterRequest {
    let (target, transport) = match &attempt.redirect {
        Some(to) => (to.address.clone(), to.transport.unwrap_or(uri.transport)),
        None => (HostPort { host: uri.host.into(), port: uri.port }, uri.transport),
    };
    let names_port = uri.names_port || attempt.redirect.is_some();
    RegisterRequest {
        request_host: target.host.clone(),
        target,
        names_port,
        transport,
        user: uri.user.into(),
        domain: uri.host.into(),
        secure: uri.transport.is_secure(),
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
        let uri = UriView { user: "alice", host: "sip.example.com", port: 5070, names_port: true, transport };
        let edge = HostPort::new("10.0.0.1", 5060);
        register(
            &RegistryId::new("r"),
            "t1",
            uri,
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
    fn credentials_stay_at_home_where_they_may_not_be_offered() {
        let credentials =
            Credentials { username: "a".into(), password: routr_types::secret::Secret::new("b") };
        let transport = Transport::Udp;
        let uri = UriView { user: "alice", host: "sip.example.com", port: 5070, names_port: true, transport };
        for without_credentials in [false, true] {
            let attempt = Attempt { without_credentials, ..attempt(None) };
            let offered = (Some(credentials.clone()), DigestMinimum::default());
            let edge = HostPort::new("10.0.0.1", 5060);
            let edge = (edge, &PublicAddresses::default());
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

//! A trunk in one allocation: a million of them have to fit into memory.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{
    registration::{
        UriIndex, UriSet,
        request::{ProxyView, UriView},
        target::{UriOrder, UriPreference, uri_order},
    },
    trunk::{Credentials, MAX_URIS, TlsUriScheme, Trunk},
};
use routr_types::{digest_minimum::DigestMinimum, host::Transport, secret::Secret};

/// A [`Trunk`], packed. Cleared when dropped, for it holds the password.
#[derive(Clone)]
pub struct PackedTrunk(Box<[u8]>);

#[derive(Default, Serialize, Deserialize)]
struct Layout<'a> {
    /// First, so that it can be read alone.
    reference: &'a str,
    name: &'a str,
    #[serde(borrow)]
    uris: Vec<UriLayout<'a>>,
    #[serde(borrow)]
    credentials: CredentialsLayout<'a>,
    #[serde(borrow)]
    optional: Option<OptionalFields<'a>>,
}

/// The username is most often the user of the first URI.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum CredentialsLayout<'a> {
    #[default]
    None,
    OfUser {
        password: &'a str,
    },
    Of {
        username: &'a str,
        password: &'a str,
    },
}

/// Fields that most trunks do not have.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct OptionalFields<'a> {
    region: Option<&'a str>,
    problem: Option<&'a str>,
    digest: DigestMinimum,
    tls_uri_scheme: Option<TlsUriScheme>,
    #[serde(borrow)]
    proxy: Option<ProxyView<'a>>,
}

impl OptionalFields<'_> {
    /// `None` where the trunk has none of them.
    fn if_any(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct UriLayout<'a> {
    user: &'a str,
    host: &'a str,
    /// 0 where the trunk names none: the transport's default.
    port: u16,
    transport: Transport,
    priority: i32,
    weight: u16,
}

impl UriLayout<'_> {
    fn port(&self) -> u16 {
        if self.port == 0 { self.transport.default_port() } else { self.port }
    }
}

/// A packed trunk, opened: everything borrowed but the list of URIs.
pub struct PackedTrunkRef<'a>(Layout<'a>);

/// Key that tells a URI from the others of its trunk, when their order has changed.
#[derive(Clone, Debug)]
pub(super) struct UriKey {
    pub user: Box<str>,
    pub host: Box<str>,
    pub port: u16,
    transport: Transport,
}

impl UriKey {
    pub fn of(uri: UriView<'_>) -> Self {
        Self { user: uri.user.into(), host: uri.host.into(), port: uri.port, transport: uri.transport }
    }

    /// Returns where it is in a trunk; else the first URI of the same address of record.
    pub fn locate(&self, trunk: &PackedTrunkRef<'_>) -> Option<UriIndex> {
        let same = |uri: UriView<'_>| uri.port == self.port && uri.transport == self.transport;
        let at = |uri: UriView<'_>| uri.user == &*self.user && uri.host == &*self.host && same(uri);
        let exactly = trunk.indices().find(|index| trunk.uri(*index).is_some_and(at));
        exactly.or_else(|| trunk.index_of(&self.user, &self.host))
    }
}

impl PackedTrunk {
    /// Packs a trunk.
    pub fn new(trunk: &Trunk) -> Self {
        let uris: Vec<_> = trunk
            .uris
            .iter()
            .take(MAX_URIS)
            .map(|uri| UriLayout {
                user: &uri.user,
                host: &uri.registrar.host,
                port: if uri.names_port { uri.registrar.port } else { 0 },
                transport: uri.transport,
                priority: uri.priority,
                weight: uri.weight,
            })
            .collect();
        let credentials = match &trunk.credentials {
            None => CredentialsLayout::None,
            Some(Credentials { username, password }) => match uris.first() {
                Some(first) if first.user == &**username => {
                    CredentialsLayout::OfUser { password: password.expose() }
                }
                _ => CredentialsLayout::Of { username, password: password.expose() },
            },
        };
        Self::pack(&Layout {
            reference: &trunk.reference,
            name: &trunk.name,
            uris,
            credentials,
            optional: OptionalFields {
                region: trunk.region.as_deref(),
                problem: trunk.problem.as_deref(),
                digest: trunk.digest,
                tls_uri_scheme: trunk.tls_uri_scheme,
                proxy: trunk.outbound_proxy.as_ref().map(|proxy| ProxyView {
                    host: &proxy.host,
                    port: proxy.port,
                    transport: proxy.transport,
                }),
            }
            .if_any(),
        })
    }

    /// Packs what is known of a trunk that cannot be used.
    pub fn unusable(reference: &str, name: &str, problem: &str) -> Self {
        let optional = OptionalFields { problem: Some(problem), ..OptionalFields::default() }.if_any();
        Self::pack(&Layout { reference, name, optional, ..Layout::default() })
    }

    /// The same trunk with another word on what is wrong with it.
    pub fn with_problem(&self, problem: Option<&str>) -> Self {
        let mut layout = self.view().0;
        let optional = layout.optional.unwrap_or_default();
        layout.optional = OptionalFields { problem, ..optional }.if_any();
        Self::pack(&layout)
    }

    fn pack(layout: &Layout<'_>) -> Self {
        // Serialising strings and numbers into memory has no way to fail.
        Self(postcard::to_allocvec(layout).unwrap_or_default().into_boxed_slice())
    }

    /// Its bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Opens it.
    pub fn view(&self) -> PackedTrunkRef<'_> {
        PackedTrunkRef(postcard::from_bytes(&self.0).unwrap_or_default())
    }

    /// The trunk's ref, without opening the rest.
    pub fn reference(&self) -> &str {
        postcard::take_from_bytes::<&str>(&self.0).map_or("", |(reference, _)| reference)
    }
}

impl Drop for PackedTrunk {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PackedTrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PackedTrunk").field(&self.reference()).finish()
    }
}

impl<'a> PackedTrunkRef<'a> {
    /// The trunk's ref.
    pub fn reference(&self) -> &'a str {
        self.0.reference
    }

    /// The trunk's name.
    pub fn name(&self) -> &'a str {
        self.0.name
    }

    /// The trunk's region.
    pub fn region(&self) -> Option<&'a str> {
        self.0.optional?.region
    }

    /// Returns what is wrong with it, or with some of its URIs.
    pub fn problem(&self) -> Option<&'a str> {
        self.0.optional?.problem
    }

    /// Returns what a digest challenge has to offer at least.
    pub fn digest(&self) -> DigestMinimum {
        self.0.optional.map_or_else(DigestMinimum::default, |optional| optional.digest)
    }

    /// Scheme of URIs over TLS, where the trunk says it.
    pub fn tls_uri_scheme(&self) -> Option<TlsUriScheme> {
        self.0.optional?.tls_uri_scheme
    }

    fn proxy(&self) -> Option<ProxyView<'a>> {
        self.0.optional?.proxy
    }

    /// Returns how many URIs there are, [`MAX_URIS`] at most.
    pub fn uris(&self) -> u8 {
        u8::try_from(self.0.uris.len()).unwrap_or(u8::MAX)
    }

    /// The indices of its URIs.
    pub fn indices(&self) -> impl Iterator<Item = UriIndex> + Clone + use<> {
        UriIndex::first(self.uris())
    }

    /// Its URIs, as configured.
    pub fn all_uris(&self) -> impl Iterator<Item = UriView<'a>> {
        self.indices().filter_map(|index| self.uri(index))
    }

    /// The URI at an index.
    pub fn uri(&self, index: UriIndex) -> Option<UriView<'a>> {
        self.0.uris.get(usize::from(index)).map(|uri| UriView {
            user: uri.user,
            host: uri.host,
            port: uri.port(),
            names_port: uri.port != 0,
            transport: uri.transport,
            proxy: self.proxy(),
        })
    }

    /// Its URIs in the order of preference.
    pub fn order(&self) -> UriOrder {
        let preferences =
            self.0.uris.iter().map(|uri| UriPreference { priority: uri.priority, weight: uri.weight });
        uri_order(self.0.reference, preferences)
    }

    /// The index of the URI with this address of record.
    pub fn index_of(&self, user: &str, host: &str) -> Option<UriIndex> {
        let found =
            self.0.uris.iter().position(|uri| uri.user == user && uri.host.eq_ignore_ascii_case(host))?;
        u8::try_from(found).ok().map(UriIndex)
    }

    /// The indices of all URIs with the address of record of the one at this index.
    pub fn same_as(&self, index: UriIndex) -> UriSet {
        let Some(uri) = self.uri(index) else { return UriSet::default() };
        let same = |other: UriView<'_>| uri.user == other.user && uri.host.eq_ignore_ascii_case(other.host);
        self.indices().filter(|index| self.uri(*index).is_some_and(same)).collect()
    }

    /// For the digest challenge.
    pub fn credentials(&self) -> Option<Credentials> {
        let (username, password) = self.username_and_password()?;
        Some(Credentials { username: username.into(), password: Secret::new(password) })
    }

    /// Returns whether there is a username and a password.
    pub fn has_credentials(&self) -> bool {
        self.0.credentials != CredentialsLayout::None
    }

    /// Returns whether the same username and password would be offered.
    pub fn offers_the_same(&self, other: &Self) -> bool {
        self.username_and_password() == other.username_and_password()
    }

    /// For the digest challenge, without the password.
    pub fn username(&self) -> Option<&'a str> {
        self.username_and_password().map(|(username, _)| username)
    }

    fn username_and_password(&self) -> Option<(&'a str, &'a str)> {
        match self.0.credentials {
            CredentialsLayout::None => None,
            CredentialsLayout::OfUser { password } => self.0.uris.first().map(|first| (first.user, password)),
            CredentialsLayout::Of { username, password } => Some((username, password)),
        }
    }

    /// Returns whether a registration of the one would look different from a registration of the other.
    pub fn registers_as(&self, other: &Self) -> bool {
        let same_uri = |(a, b): (&UriLayout<'_>, &UriLayout<'_>)| {
            (a.user, a.host, a.port, a.transport, a.priority, a.weight)
                == (b.user, b.host, b.port, b.transport, b.priority, b.weight)
        };
        self.0.uris.len() == other.0.uris.len()
            && self.0.uris.iter().zip(&other.0.uris).all(same_uri)
            && self.username_and_password() == other.username_and_password()
            && self.region() == other.region()
            && self.digest() == other.digest()
            && self.tls_uri_scheme() == other.tls_uri_scheme()
            && self.proxy() == other.proxy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trunk::{OutboundProxy, TrunkUri};
    use routr_types::host::HostPort;

    pub(crate) fn sample() -> Trunk {
        Trunk {
            reference: "trunk-1".into(),
            name: "Größe".into(),
            region: Some("eu".into()),
            uris: vec![TrunkUri {
                user: "alice".into(),
                registrar: HostPort::new("sip.example.com", 5060),
                names_port: true,
                transport: Transport::Tcp,
                priority: -3,
                weight: 9,
            }],
            credentials: Some(Credentials { username: "a".into(), password: Secret::new("swordfish-77") }),
            digest: DigestMinimum::default(),
            tls_uri_scheme: None,
            outbound_proxy: None,
            problem: None,
            updated_at_s: 0,
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let packed = PackedTrunk::new(&sample());
        let open = packed.view();
        assert_eq!((packed.reference(), open.reference(), open.name()), ("trunk-1", "trunk-1", "Größe"));
        assert_eq!((open.region(), open.uris(), open.problem()), (Some("eu"), 1, None));
        let uri = UriView {
            user: "alice",
            host: "sip.example.com",
            port: 5060,
            names_port: true,
            transport: Transport::Tcp,
            proxy: None,
        };
        assert_eq!(open.uri(UriIndex(0)), Some(uri));
        assert_eq!(open.uri(UriIndex(1)), None);
        assert_eq!(open.credentials(), sample().credentials);
        let same = |username: &str| {
            let credentials =
                Credentials { username: username.into(), password: Secret::new("swordfish-77") };
            Trunk { credentials: Some(credentials), ..sample() }
        };
        let (alice, bob) = (PackedTrunk::new(&same("alice")), PackedTrunk::new(&same("bob")));
        assert_eq!(alice.view().credentials(), same("alice").credentials);
        assert!(alice.0.len() < bob.0.len() && !alice.view().registers_as(&bob.view()));
        assert_eq!(open.index_of("alice", "SIP.example.com"), Some(UriIndex(0)));
        assert!(packed.0.len() < 80, "a small trunk takes {} bytes", packed.0.len());
    }

    #[test]
    fn only_what_matters_for_registering_counts_as_a_change() {
        let packed = PackedTrunk::new(&sample());
        let renamed = PackedTrunk::new(&Trunk { name: "Other".into(), ..sample() });
        assert!(packed.view().registers_as(&renamed.view()));
        let moved = PackedTrunk::new(&Trunk { region: None, ..sample() });
        assert!(!packed.view().registers_as(&moved.view()));
        let plain = PackedTrunk::new(&Trunk { tls_uri_scheme: Some(TlsUriScheme::Sip), ..sample() });
        assert!(!packed.view().registers_as(&plain.view()));
        let proxy = OutboundProxy { host: "p".into(), port: Some(5070), transport: None };
        let proxied = PackedTrunk::new(&Trunk { outbound_proxy: Some(proxy), ..sample() });
        assert!(!packed.view().registers_as(&proxied.view()));
        assert_eq!(proxied.with_problem(None).view().uri(UriIndex(0)).unwrap().next_hop(), ("p", 5070));
        let silent = PackedTrunk::new(&Trunk { credentials: None, ..sample() });
        assert!(!packed.view().registers_as(&silent.view()));
    }

    #[test]
    fn a_uri_is_found_again_by_all_that_it_is() {
        let mut trunk = sample();
        let udp = TrunkUri { transport: Transport::Udp, ..trunk.uris[0].clone() };
        trunk.uris.insert(0, udp);
        let packed = PackedTrunk::new(&trunk);
        let open = packed.view();
        let tcp = UriKey::of(open.uri(UriIndex(1)).unwrap());
        assert_eq!(tcp.locate(&open), Some(UriIndex(1)));
        trunk.uris.swap(0, 1);
        assert_eq!(tcp.locate(&PackedTrunk::new(&trunk).view()), Some(UriIndex(0)));
        trunk.uris.remove(0);
        assert_eq!(
            tcp.locate(&PackedTrunk::new(&trunk).view()),
            Some(UriIndex(0)),
            "the same address of record"
        );
        trunk.uris[0].user = "bob".into();
        assert_eq!(tcp.locate(&PackedTrunk::new(&trunk).view()), None);
    }

    #[test]
    fn debug_shows_no_password() {
        assert_eq!(format!("{:?}", PackedTrunk::new(&sample())), "PackedTrunk(\"trunk-1\")");
    }
}

//! A trunk as the API server encodes it, up to the REGISTERs that are sent for it: what is taken in can be
//! sent.

use prost::Message as _;
use routr_registration::{
    engine::packed_trunk::PackedTrunk,
    model::{PublicAddresses, RegisterRequest},
    registration::{
        Attempt, EdgePortRank, Purpose, UriChoice, UriIndex, UriRank, identity::RegistryId, request,
    },
    trunk::{MAX_URIS, Trunk},
};
use routr_registry::{
    grpc::{register::Template, trunk},
    proto::requester::SendMessageRequest,
    requester::{ContactHost, Mode, outgoing_request::OutgoingRequest},
};
use routr_sip::message::Message;
use routr_types::{
    extension::Features,
    host::{HostPort, Transport, is_host},
};

use super::support::{assert_presentable, is_distinct};

pub fn run(data: &[u8]) {
    let decoded = trunk::decode(data, 1 << 20);
    let password = password(data);
    let secret = password.as_deref().filter(|password| is_distinct(data, password));
    let unseen = |text: &str| assert!(secret.is_none_or(|secret| !text.contains(secret)), "{text}");
    match decoded {
        Err(problem) => {
            let said = problem.to_string();
            assert!(!said.is_empty() && said.len() < 64 * 500, "{} bytes", said.len());
            assert!(!said.contains(char::is_control), "{said:?}");
            unseen(&said);
            unseen(&format!("{problem:?}"));
        }
        Ok(trunk) => {
            unseen(&format!("{trunk:?}"));
            if let Some(problem) = &trunk.problem {
                unseen(problem);
            }
            assert_usable(&trunk);
            assert_packs(&trunk);
            for position in 0..u8::try_from(trunk.uris.len()).unwrap() {
                assert_sendable(&trunk, position);
            }
        }
    }
}

fn password(data: &[u8]) -> Option<String> {
    let trunk = routr_registry::proto::trunks::Trunk::decode(data).ok()?;
    Some(trunk.outbound_credentials?.password)
}

fn assert_usable(trunk: &Trunk) {
    assert!((1..=MAX_URIS).contains(&trunk.uris.len()));
    if let Some(proxy) = &trunk.outbound_proxy {
        assert!(is_host(&proxy.host) && proxy.port != Some(0), "{proxy:?}");
    }
    for uri in &trunk.uris {
        assert!(!uri.user.is_empty() && !uri.registrar.host.is_empty() && uri.registrar.port > 0);
        assert_eq!(*uri.registrar.host, *uri.registrar.host.to_ascii_lowercase());
    }
}

/// A packed trunk says what the trunk says.
fn assert_packs(trunk: &Trunk) {
    let packed = PackedTrunk::new(trunk);
    let open = packed.view();
    assert_eq!((packed.reference(), open.reference()), (&*trunk.reference, &*trunk.reference));
    assert_eq!((open.name(), open.region()), (&*trunk.name, trunk.region.as_deref()));
    assert_eq!((open.problem(), open.credentials()), (trunk.problem.as_deref(), trunk.credentials.clone()));
    assert_eq!(usize::from(open.uris()), trunk.uris.len());
    for (position, uri) in (0..).zip(&trunk.uris) {
        let packed = open.uri(UriIndex(position)).unwrap();
        assert_eq!(
            (packed.user, packed.host, packed.port),
            (&*uri.user, &*uri.registrar.host, uri.registrar.port)
        );
        assert_eq!(packed.transport, uri.transport);
        let proxy = packed.proxy.map(|proxy| (proxy.host, proxy.port, proxy.transport));
        let given = trunk.outbound_proxy.as_ref();
        assert_eq!(proxy, given.map(|given| (&*given.host, given.port, given.transport)));
    }
    let mut order: Vec<UriIndex> = open.order().iter().collect();
    order.sort_unstable();
    assert!(order.into_iter().eq(open.indices()), "each URI is in the order once");
    assert!(open.registers_as(&packed.with_problem(Some("x")).view()));
}

/// The Requester takes the REGISTER for that URI, and what it would send is read again as what was meant.
fn assert_sendable(trunk: &Trunk, position: u8) {
    let packed = PackedTrunk::new(trunk);
    let open = packed.view();
    let attempt = Attempt {
        purpose: Purpose::Register,
        uri: UriChoice::Rank(UriRank::FIRST),
        edge: EdgePortRank::FIRST,
        bound_edge: None,
        redirect: None,
        without_credentials: false,
        expires: 600,
        cseq: 7,
        without_tags: 0,
    };
    let uri = open.uri(UriIndex(position)).unwrap();
    let (id, public) = (RegistryId::new("r"), PublicAddresses::default());
    let edge = (HostPort::new("10.0.0.1", 5060), &public);
    let (uri, offered) =
        ((uri, open.tls_uri_scheme().unwrap_or_default()), (open.credentials(), open.digest()));
    let register = request::register(&id, open.reference(), uri, offered, edge, &attempt, 1);
    let template = Template::new(&["INVITE".into()], "Routr Connect v2", &["gin".into()]);
    let request =
        SendMessageRequest::decode(template.encode(&register, Features::ALL)).expect("it is a message");
    for mode in [Mode::Direct, Mode::Proxied] {
        match (OutgoingRequest::read(&request, mode, ContactHost::default()), mode, register.transport) {
            (Ok(draft), ..) => assert_says(&draft, &register, mode),
            // The EdgePort, which answers challenges then, knows no minimum.
            (Err(error), Mode::Proxied, _) if !open.digest().is_none() => {
                assert_presentable(&error);
            }
            (Err(error), Mode::Direct, Transport::Sctp | Transport::Ws | Transport::Wss)
            | (Err(error), Mode::Proxied, Transport::Sctp | Transport::Ws | Transport::Wss) => {
                assert_presentable(&error);
            }
            (Err(error), ..) => panic!("a trunk that was taken in cannot be sent: {error}"),
        }
    }
}

fn assert_says(draft: &OutgoingRequest, register: &RegisterRequest, mode: Mode) {
    let bytes = draft.request.to_bytes().expect("a REGISTER fits into a message");
    let Ok(Message::Request(read)) = Message::parse_datagram(&bytes) else { panic!("it is read again") };
    assert_eq!((read.method.as_str(), read.headers.cseq()), ("REGISTER", Some((7, "REGISTER"))));
    assert_eq!((&*read.uri.host, &read.uri.user), (&*register.request_host, &None));
    assert_eq!((read.uri.port, read.uri.secure), (Some(register.request_port), register.secure));
    if mode == Mode::Direct {
        assert_eq!(draft.destination.host, *register.target.host);
    }
    assert_eq!(read.headers.call_id(), Some(&*register.call_id));
    assert_eq!(
        (read.headers.expires(), read.headers.from_tag().as_deref()),
        (Some(600), Some(&*register.from_tag))
    );
    for name in ["From", "To"] {
        let address = routr_sip::uri::NameAddr::parse(read.headers.get(name).unwrap()).unwrap();
        assert_eq!(address.uri.user.as_deref(), Some(&*register.user));
        assert_eq!((&*address.uri.host, address.uri.secure), (&*register.domain, register.secure));
    }
    if mode == Mode::Direct {
        assert_eq!(draft.credentials, register.credentials);
        assert_eq!(read.headers.get("X-Gateway-Auth"), None);
    } else {
        assert_eq!(read.headers.get("X-Gateway-Auth").is_some(), register.credentials.is_some());
    }
}

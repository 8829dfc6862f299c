//! Requests of a caller to the Requester: refused with the field at fault, or a SIP request that says just
//! that.

use prost::Message as _;
use routr_registry::{
    proto::requester::SendMessageRequest,
    requester::{
        ContactHost, Mode,
        outgoing_request::{ContactPlan, OutgoingRequest},
    },
};
use routr_sip::{
    headers::BuildError,
    message::{MAX_MESSAGE, Message},
    uri::{NameAddr, SipUri, unescape},
};

use super::support::{assert_presentable, is_distinct, is_one_line, shows};

pub fn run(data: &[u8]) {
    let Ok(request) = SendMessageRequest::decode(data) else { return };
    let secrets = secrets(&request);
    let shown: Vec<&str> = secrets.into_iter().filter(|secret| is_distinct(data, secret)).collect();
    let other = with_other_secrets(&request);
    let unseen = |text: &str, other: &str| {
        assert!(!shown.iter().any(|secret| shows(text, secret, [other])), "{text}");
    };
    unseen(&format!("{request:?}"), &format!("{other:?}"));
    for mode in [Mode::Direct, Mode::Proxied] {
        let other = OutgoingRequest::read(&other, mode, ContactHost::default());
        match OutgoingRequest::read(&request, mode, ContactHost::default()) {
            Err(error) => {
                let other = other.err().map_or_else(String::new, |error| error.to_string());
                unseen(&assert_presentable(&error), &other);
            }
            Ok(draft) => {
                unseen(&format!("{draft:?}"), &format!("{other:?}"));
                assert_says(&draft, &request, mode);
            }
        }
    }
}

/// Returns the secrets of a request; of many a few, since each is searched for.
fn secrets(request: &SendMessageRequest) -> Vec<&str> {
    let Some(message) = &request.message else { return Vec::new() };
    let extensions = message.extensions.iter();
    let auth = extensions.filter(|extension| routr_sip::headers::is_secret(&extension.name));
    auth.map(|extension| extension.value.as_str())
        .chain(message.authorization.iter().map(|authorization| authorization.response.as_str()))
        .take(8)
        .collect()
}

/// The same, with other secrets.
fn with_other_secrets(request: &SendMessageRequest) -> SendMessageRequest {
    let mut other = request.clone();
    let Some(message) = &mut other.message else { return other };
    for extension in &mut message.extensions {
        if routr_sip::headers::is_secret(&extension.name) {
            extension.value = "another".into();
        }
    }
    if let Some(authorization) = &mut message.authorization {
        authorization.response = "another".into();
    }
    other
}

/// Asserts that the request which goes out is read again as it was asked for: nothing of it ended its field
/// early.
fn assert_says(draft: &OutgoingRequest, request: &SendMessageRequest, mode: Mode) {
    let message = request.message.as_ref().unwrap();
    let written = match draft.request.to_bytes() {
        Ok(written) => written,
        Err(error) => {
            return assert!(matches!(error, BuildError::TooLarge(size) if size > MAX_MESSAGE), "{error}");
        }
    };
    let read = match Message::parse_datagram(&written) {
        Ok(Message::Request(read)) => read,
        other => panic!("{other:?}"),
    };
    // Content-Length is one field more than the list may have: it takes the place of another.
    if draft.request.headers.len() == 256 {
        return;
    }
    assert_eq!(
        (&read.method, &read.uri, &read.body),
        (&draft.request.method, &draft.request.uri, &draft.request.body)
    );
    let mut fields: Vec<(&str, &str)> = read.headers.iter().collect();
    assert_eq!(fields.pop().map(|(name, _)| name), Some("Content-Length"));
    let drafted: Vec<(&str, &str)> =
        draft.request.headers.iter().map(|(name, value)| (name, value.trim_matches([' ', '\t']))).collect();
    assert_eq!(fields, drafted);

    let own = |name: &str| read.headers.get_all(name).count();
    assert_eq!(["From", "To", "Call-ID", "CSeq", "Max-Forwards"].map(own), [1; 5]);
    assert!(own("X-Gateway-Auth") == 0 || mode == Mode::Proxied, "the password goes to an EdgePort only");
    assert_eq!(read.headers.cseq().map(|(number, _)| number), Some(draft.cseq));
    assert_eq!(read.headers.call_id(), message.call_id.as_ref().map(|id| id.call_id.as_str()));
    let (from, to) = (message.from.as_ref().unwrap(), message.to.as_ref().unwrap());
    for (name, address, tag) in [("From", &from.address, &from.tag), ("To", &to.address, &to.tag)] {
        let read = NameAddr::parse(read.headers.get(name).unwrap()).expect("an address is read again");
        let asked = address.as_ref().unwrap();
        let uri = asked.uri.as_ref().unwrap();
        let user = unescape(&uri.user).expect("what is taken is UTF-8");
        assert_eq!(read.uri.user.as_deref().unwrap_or_default(), user);
        assert_eq!(read.uri.host, uri.host.trim_matches(['[', ']']));
        assert_eq!(read.display_name.unwrap_or_default(), asked.display_name);
        assert_eq!(
            read.params.iter().filter(|(name, _)| name.eq_ignore_ascii_case("tag")).count(),
            usize::from(!tag.is_empty())
        );
    }
    let routes = read.headers.list("Route").count();
    assert_eq!(routes, if mode == Mode::Proxied { message.route.len() } else { 0 });
    if let ContactPlan::Given(uri) = &draft.contact {
        let written = NameAddr::new(uri.clone()).to_string();
        assert!(is_one_line(&written));
        assert_eq!(NameAddr::parse(&written).map(|address| address.uri).as_ref(), Ok(uri));
    }
    let destination = &draft.destination;
    assert!(destination.port != Some(0));
    let uri = SipUri { port: destination.port, ..SipUri::new(&destination.host) };
    assert_eq!(SipUri::parse(&uri.to_string()), Ok(uri), "the destination is a host and a port");
}

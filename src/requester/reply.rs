//! From a SIP response to Routr's `SIPMessage`.

use super::{address, challenge, local, response_type};
use crate::{
    proto::sipmessage as proto,
    sip::{
        message::Response,
        uri::{NameAddr, SipUri},
        via::Via,
    },
    trunk::Transport,
};

/// Header fields that have a field of their own in `SIPMessage`, and so are no extensions.
const MAPPED: [&str; 10] = [
    "Via",
    "From",
    "To",
    "Call-ID",
    "Contact",
    "Expires",
    "Max-Forwards",
    "Content-Length",
    "Route",
    "Record-Route",
];

/// Writes a final response. Of several Contacts the one comes back that equals `sent`, the Contact of the request, else
/// the first.
pub fn write(response: &Response, sent: Option<&SipUri>) -> proto::SipMessage {
    let headers = &response.headers;
    let address = |name: &str| headers.get(name).and_then(|value| NameAddr::parse(value).ok());
    let (www_authenticate, mut extensions) = (challenge::write(response), Vec::new());
    let challenge_at = www_authenticate.as_ref().map(|(at, _)| *at);
    for (at, (name, value)) in headers.iter().enumerate() {
        let mapped = MAPPED.iter().any(|m| m.eq_ignore_ascii_case(name)) || Some(at) == challenge_at;
        // Only this service may say of a reply that it was made up here.
        if !mapped && !name.eq_ignore_ascii_case(local::HEADER) {
            extensions.push(proto::Extension { name: name.to_owned(), value: value.to_owned() });
        }
    }
    let (response_type, reason_phrase) = match response_type::exact(response.code) {
        Some(exact) => (exact, response.reason.clone()),
        None => {
            let phrase = format!("{} {}", response.code, response.reason);
            (response_type::class(response.code), phrase.trim_end().to_owned())
        }
    };
    proto::SipMessage {
        message_type: Some(proto::sip_message::MessageType::ResponseType(response_type.into())),
        from: address("From").map(|from| proto::From {
            address: Some(address::write(&from)),
            tag: from.tag().unwrap_or_default().to_owned(),
            parameters: address::write_parameters(&from),
        }),
        to: address("To").map(|to| proto::To {
            address: Some(address::write(&to)),
            tag: to.tag().unwrap_or_default().to_owned(),
            parameters: address::write_parameters(&to),
        }),
        contact: contact(response, sent),
        call_id: headers.call_id().map(|id| proto::CallId { call_id: id.to_owned() }),
        content_length: Some(proto::ContentLength { content_length: number(response.body.len()) }),
        expires: headers.expires().map(|seconds| proto::Expires { expires: number(seconds) }),
        www_authenticate: www_authenticate.map(|(_, challenge)| challenge),
        max_forwards: headers
            .get("Max-Forwards")
            .and_then(|hops| hops.trim().parse::<u8>().ok())
            .map(|hops| proto::MaxForwards { max_forwards: hops.into() }),
        authorization: None,
        extensions,
        via: headers
            .list("Via")
            .filter_map(|value| Via::parse(value).ok())
            .map(|via| write_via(&via))
            .collect(),
        route: headers
            .list("Route")
            .filter_map(|value| NameAddr::parse(value).ok())
            .map(|route| proto::Route {
                address: Some(address::write(&route)),
                parameters: address::write_parameters(&route),
            })
            .collect(),
        record_route: headers
            .list("Record-Route")
            .filter_map(|value| NameAddr::parse(value).ok())
            .map(|route| proto::RecordRoute {
                address: Some(address::write(&route)),
                parameters: address::write_parameters(&route),
            })
            .collect(),
        reason_phrase,
        body: String::from_utf8_lossy(&response.body).into_owned(),
    }
}

/// What does not fit becomes the greatest number that does.
fn number(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

fn contact(response: &Response, sent: Option<&SipUri>) -> Option<proto::Contact> {
    if response.headers.get("Contact").is_some_and(|value| value.trim() == "*") {
        let address = proto::Address { wildcard: true, ..proto::Address::default() };
        return Some(proto::Contact { address: Some(address), expires: -1, q_value: -1.0 });
    }
    // One by one, so that a malformed binding of somebody else hides none of the others.
    let contacts: Vec<NameAddr> =
        response.headers.list("Contact").filter_map(|value| NameAddr::parse(value).ok()).collect();
    let own = contacts.iter().find(|contact| sent.is_some_and(|sent| same(&contact.uri, sent)));
    own.or(contacts.first()).map(|chosen| proto::Contact {
        address: Some(address::write(chosen)),
        expires: chosen.param("expires").flatten().and_then(seconds).unwrap_or(-1),
        q_value: chosen.param("q").flatten().and_then(|q| q.trim().parse().ok()).unwrap_or(-1.0),
    })
}

fn seconds(text: &str) -> Option<i32> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(i32::MAX))
}

/// Whether two Contacts name the same place. More lenient than RFC 3261 §19.1.4, as registrars rewrite what they store:
/// a default port equals none, and a transport that one of them leaves out is no difference.
fn same(a: &SipUri, b: &SipUri) -> bool {
    let transport = |uri: &SipUri| uri.param("transport").flatten().and_then(Transport::parse);
    let (ours, theirs) = (transport(a), transport(b));
    let default =
        if a.secure { Transport::Tls } else { ours.or(theirs).unwrap_or(Transport::Udp) }.default_port();
    a.secure == b.secure
        && a.user == b.user
        && a.host.eq_ignore_ascii_case(&b.host)
        && a.port.unwrap_or(default) == b.port.unwrap_or(default)
        && (ours.is_none() || theirs.is_none() || ours == theirs)
}

fn write_via(via: &Via) -> proto::Via {
    let text = |name: &str| via.param(name).flatten().unwrap_or_default().to_owned();
    let port =
        |name: &str| via.param(name).flatten().and_then(|p| p.parse::<u16>().ok()).map_or(-1, i32::from);
    proto::Via {
        host: via.host.clone(),
        port: via.port.map_or(-1, i32::from),
        branch: text("branch"),
        transport: via.transport.clone(),
        r_port_flag: via.param("rport").is_some(),
        r_port: port("rport"),
        received: text("received"),
        m_addr: text("maddr"),
        ttl: via.param("ttl").flatten().and_then(|t| t.parse::<u8>().ok()).map_or(-1, i32::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> SipUri {
        SipUri::parse(text).unwrap()
    }

    #[test]
    fn a_contact_is_recognised_after_the_registrar_rewrote_it() {
        let sent = uri("sip:alice@Edge.example.com:5060;transport=udp");
        for same_place in [
            "sip:alice@edge.example.com:5060;transport=udp",
            "sip:alice@edge.example.com;transport=UDP",
            "sip:alice@edge.example.com:5060",
            "sip:alice@edge.example.com;ob",
        ] {
            assert!(same(&uri(same_place), &sent), "{same_place}");
        }
        for other in [
            "sip:bob@edge.example.com:5060;transport=udp",
            "sip:edge.example.com:5060;transport=udp",
            "sip:alice@edge.example.com:5061;transport=udp",
            "sip:alice@edge2.example.com:5060;transport=udp",
            "sip:alice@edge.example.com:5060;transport=tcp",
            "sips:alice@edge.example.com:5060;transport=udp",
        ] {
            assert!(!same(&uri(other), &sent), "{other}");
        }
    }

    #[test]
    fn an_absurd_expiry_is_cut_and_a_broken_one_is_absent() {
        assert_eq!(seconds("99999999999999"), Some(i32::MAX));
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds("-5"), None);
        assert_eq!(seconds(""), None);
        assert_eq!(seconds("3600.5"), None);
    }
}

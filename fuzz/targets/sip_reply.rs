//! A registrar's response on its path through the Requester and back into the registry: SIP -> protobuf ->
//! outcome.

use prost::Message as _;
use routr_registration::registration::{
    classify::{RequestContext, classify},
    outcome::Outcome,
};
use routr_registry::{
    grpc::requester::decode,
    proto::sipmessage::SipMessage,
    requester::{
        LOCAL_REPLY,
        response::{self, Sent},
    },
};
use routr_sip::{
    message::{Message, Response},
    uri::SipUri,
};
use routr_types::extension::{self, Authentication};

use super::support::assert_presentable;

pub fn run(data: &[u8]) {
    let Ok(Message::Response(response)) = Message::parse_datagram(data) else { return };
    let sent = SipUri { user: Some("alice".into()), port: Some(5060), ..SipUri::new("edge.example.com") };
    for contact in [None, Some(&sent)] {
        let authentication = Some(Authentication::NotSent("no challenge".to_owned()));
        let written = response::write_final(&response, &Sent { register: true, contact, authentication });
        let encoded = written.encode_to_vec();
        let read = SipMessage::decode(&encoded[..]).expect("what is written is read");
        assert_eq!(read, written);
        assert_means(&response, read, data.len());
    }
}

fn assert_means(response: &Response, message: SipMessage, received: usize) {
    let headers = &response.headers;
    assert_eq!(message.call_id.as_ref().map(|id| id.call_id.as_str()), headers.call_id());
    assert!(!message.extensions.iter().any(|extension| extension.name.eq_ignore_ascii_case(LOCAL_REPLY)));
    // Each of ours is of our making: a status, and a few more.
    let ours =
        |name: &str| message.extensions.iter().filter(|one| one.name.eq_ignore_ascii_case(name)).count();
    assert_eq!(ours(extension::STATUS), 1);
    assert!(ours(extension::BINDINGS) <= usize::from(response.code / 100 == 2));
    assert_eq!(ours(extension::AUTHENTICATION), usize::from(matches!(response.code, 401 | 403 | 407)));
    assert!(ours(extension::TARGET) <= if response.code / 100 == 3 { 16 } else { 0 });
    // A byte that is no UTF-8 becomes U+FFFD, which is three bytes long, a control character `\u{10}`.
    for extension in &message.extensions {
        assert!(!extension.value.contains(['\r', '\n', '\0']), "{}", extension.name);
        assert!(extension.value.len() <= 6 * received, "{}: {} bytes", extension.name, extension.value.len());
    }
    assert!(message.extensions.len() <= headers.len() + 256 + 17);
    let reply = decode(message);
    let code = reply.code.expect("a response has a code");
    assert_eq!(code, response.code);
    assert!(reply.local.is_none(), "only the Requester says so");
    for (read, sent) in
        [(reply.min_expires, headers.min_expires()), (reply.retry_after, headers.retry_after())]
    {
        assert!(sent.is_none() || read == sent, "{read:?} for {sent:?}");
    }
    assert_eq!(reply.cseq, headers.get("CSeq").map(|_| reply.cseq).unwrap_or_default());
    if let Some((number, _)) = headers.cseq() {
        assert_eq!(reply.cseq, Some(number));
    }
    if let (Some(read), Some(sent)) = (reply.expires, headers.expires()) {
        assert_eq!(read, i32::try_from(sent).unwrap_or(i32::MAX));
    }
    assert!(reply.contact_expires.is_none_or(|seconds| seconds >= 0), "{:?}", reply.contact_expires);
    let tags = ["gin".to_owned(), "path".to_owned()];
    for expires in [0, 600, 86_400] {
        let asked = RequestContext { expires, tags: &tags, ..RequestContext::default() };
        let (verdict, cause) = classify(&Ok(reply.clone()), asked);
        assert_presentable(&cause.message);
        match verdict {
            Outcome::Registered { expires_s } => {
                assert!(response.code / 100 == 2 && expires_s <= expires && (expires_s > 0 || expires == 0));
            }
            Outcome::IntervalTooBrief { ask, .. } => assert!(ask > expires && ask <= 86_400),
            Outcome::BadExtension { tags, .. } => assert!(tags <= 3),
            _ => assert!(!(response.code / 100 == 2 && expires == 0), "a removal that succeeded has"),
        }
    }
}

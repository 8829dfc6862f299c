//! Calls that come slowly, and texts that would end a header field early.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tonic::Code;

use super::{
    super::{AccessOptions, ContactHost, Mode, check, outgoing_request::OutgoingRequest},
    peer::Peer,
    setup::*,
};
use crate::proto::{
    requester::SendMessageRequest,
    sipmessage::{Authorization, Contact, RecordRoute, Via, WwwAuthenticate},
};

const PATH: &str = "/fonoster.routr.requester.v2beta1.Requester/SendMessage";

#[tokio::test]
async fn a_call_whose_message_does_not_come_keeps_its_place_for_a_moment_only() {
    let peer = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let mut options = options(Mode::Direct);
    options.access = AccessOptions { patience: Duration::from_millis(500), ..AccessOptions::default() };
    let client = options.client();
    let service = start_client(options, client, 1).await;
    let stream = tokio::net::TcpStream::connect(service.address).await.unwrap();
    let (mut h2, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}{PATH}", service.address);
    let request = http::Request::post(uri).header("content-type", "application/grpc").body(()).unwrap();
    let (response, mut body) = h2.send_request(request, false).unwrap();
    // The prefix says 100 bytes, of which one comes.
    body.send_data(Bytes::from_static(&[0, 0, 0, 0, 100, 1]), false).unwrap();
    let target = peer.address.to_string();
    let taken = async { while service.client.clone().send_message(register(&target)).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), taken).await.expect("the one place was never taken");
    let response = tokio::time::timeout(Duration::from_secs(20), response).await.unwrap().unwrap();
    assert_eq!(response.headers()["grpc-status"], (Code::DeadlineExceeded as i32).to_string());
    assert!(service.client.clone().send_message(register(&target)).await.is_ok(), "the place is free again");
}

const MARK: &str = "mark";

/// A request with that mark in all texts that may hold any.
fn marked() -> SendMessageRequest {
    let mut request = register("127.0.0.1:5060");
    let mark = || MARK.to_owned();
    let message = edit(&mut request);
    let mut address = message.from.clone().unwrap().address.unwrap();
    address.display_name = mark();
    let uri = address.uri.as_mut().unwrap();
    (uri.user, uri.host, uri.user_param, uri.m_addr_param) = (mark(), mark(), mark(), mark());
    let parameters = std::collections::HashMap::from([(mark(), mark())]);
    let from = message.from.as_mut().unwrap();
    (from.address, from.tag, from.parameters) = (Some(address.clone()), mark(), parameters.clone());
    let to = message.to.as_mut().unwrap();
    (to.address, to.tag, to.parameters) = (Some(address.clone()), mark(), parameters.clone());
    message.route[0].address = Some(address.clone());
    message.route[0].parameters = parameters.clone();
    message.contact = Some(Contact { address: Some(address.clone()), ..Contact::default() });
    message.record_route = vec![RecordRoute { address: Some(address.clone()), parameters }];
    message.call_id.as_mut().unwrap().call_id = mark();
    message.message_type =
        Some(crate::proto::sipmessage::sip_message::MessageType::RequestUri(address.uri.unwrap()));
    message.reason_phrase = mark();
    message.via =
        vec![Via { host: mark(), branch: mark(), received: mark(), m_addr: mark(), ..Via::default() }];
    message.www_authenticate =
        Some(WwwAuthenticate { realm: mark(), nonce: mark(), opaque: mark(), ..WwwAuthenticate::default() });
    message.authorization = Some(Authorization {
        realm: mark(),
        scheme: mark(),
        c_nonce: mark(),
        nonce: mark(),
        algorithm: mark(),
        qop: mark(),
        opaque: mark(),
        response: mark(),
        username: mark(),
        uri: mark(),
        method: mark(),
        nonce_count: 1,
    });
    message.extensions.push(extension(MARK, MARK));
    message.extensions.push(extension("X-A", "a mark"));
    request
}

/// Each text in its turn holds a line break, on the wire, so that none is forgotten: the request is refused,
/// or has no such line.
#[test]
fn no_text_of_a_request_ends_a_header_field_early() {
    let wire = marked().encode_to_vec();
    let places: Vec<usize> = (0..wire.len() - 4).filter(|at| &wire[*at..at + 4] == MARK.as_bytes()).collect();
    assert!(places.len() > 60, "{}", places.len());
    let injections: [&[u8]; 4] = [b"\r\nX:", b"a\nX:", b"a\rX:", b"a\0X:"];
    for mode in [Mode::Direct, Mode::Proxied] {
        let read = |wire: &[u8]| -> Result<OutgoingRequest, check::RequestError> {
            OutgoingRequest::read(&SendMessageRequest::decode(wire).unwrap(), mode, ContactHost::default())
        };
        read(&wire).expect("it is good without an injection");
        let mut refused = 0;
        for (place, injection) in
            places.iter().flat_map(|place| injections.map(|injection| (*place, injection)))
        {
            let mut wire = wire.clone();
            wire[place..place + 4].copy_from_slice(injection);
            match read(&wire) {
                Ok(draft) => {
                    let text = String::from_utf8(draft.request.to_bytes().unwrap()).unwrap();
                    let head = text.split("\r\n\r\n").next().unwrap();
                    let plain = head
                        .split("\r\n")
                        .all(|line| !line.contains(['\r', '\n', '\0']) && !line.starts_with("X:"));
                    assert!(plain, "{text:?}");
                    assert!(!format!("{:?}", draft.contact).contains(r"X:"), "{:?}", draft.contact);
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().contains(['\r', '\n', '\0']), "{error:?}");
                }
            }
        }
        assert!(refused > 100, "{refused}");
    }
}

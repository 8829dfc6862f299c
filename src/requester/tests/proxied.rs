//! Proxied mode: what the Java Requester does.

use super::{
    super::{AdvertisedContact, ContactHost, Mode},
    peer::Peer,
    setup::*,
};
use crate::proto::sipmessage::ResponseType;
use routr_types::extension::CONTACT;

#[tokio::test]
async fn the_edge_port_gets_everything() {
    let registrar = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let edge = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let service = start(Mode::Proxied).await;
    let mut request = register(&registrar.address.to_string());
    edit(&mut request).route = vec![route("127.0.0.1", edge.address.port().into()), route("second.test", -1)];
    let reply = service.send(request).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
    assert_eq!(reply.contact.unwrap().expires, 300);

    assert_eq!(registrar.received(), 0);
    let raw = &edge.requests()[0];
    assert_eq!(raw.start_line(), "REGISTER sip:registrar.test:5060;transport=udp SIP/2.0");
    let first = format!("<sip:127.0.0.1:{};transport=udp;lr>", edge.address.port());
    assert_eq!(raw.headers("Route"), [first.as_str(), "<sip:second.test;transport=udp;lr>"]);
    assert_eq!(raw.header("X-Gateway-Auth"), gateway_auth(PASSWORD));
    assert!(raw.headers("Authorization").is_empty());
    let edge = format!("<sip:alice@127.0.0.1:{};transport=udp>", edge.address.port());
    assert_eq!(raw.header("Contact"), edge, "where calls are heard");
}

#[tokio::test]
async fn contact_can_name_the_requester_as_routrs_does() {
    let edge = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let mut options = options(Mode::Proxied);
    options.proxied_contact = ContactHost::Requester;
    let service = start_with(options, Default::default()).await;
    let mut request = register("registrar.test:5060");
    edit(&mut request).route = vec![route("127.0.0.1", edge.address.port().into())];
    edit(&mut request).extensions.push(extension(CONTACT, "sip.example.com:5060"));
    service.send(request).await;
    let raw = &edge.requests()[0];
    let sent_by = raw.header("Via").split([' ', ';']).nth(1).unwrap();
    assert_eq!(raw.header("Contact"), format!("<sip:{sent_by};transport=udp;bnc>"));
    assert!(raw.headers(CONTACT).is_empty());
}

#[tokio::test]
async fn contact_names_the_public_address_of_the_edge_port() {
    let edge = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let service = start(Mode::Proxied).await;
    let mut request = register("registrar.test:5060");
    edit(&mut request).route = vec![route("127.0.0.1", edge.address.port().into())];
    edit(&mut request).extensions.push(extension(CONTACT, "sip.example.com:5070"));
    service.send(request).await;
    let raw = &edge.requests()[0];
    assert_eq!(raw.header("Contact"), "<sip:alice@sip.example.com:5070;transport=udp>");
    assert!(raw.headers(CONTACT).is_empty());
}

#[tokio::test]
async fn a_challenge_is_not_answered_here() {
    let challenge = r#"WWW-Authenticate: Digest realm="r", nonce="n""#;
    let edge = Peer::udp(move |raw, _| vec![raw.reply("401 Unauthorized", &[challenge])]).await;
    let service = start(Mode::Proxied).await;
    let mut request = register("registrar.test:5060");
    edit(&mut request).route = vec![route("127.0.0.1", edge.address.port().into())];
    assert_eq!(response_type(&service.send(request).await), ResponseType::Unauthorized);
    assert_eq!(edge.requests().len(), 1);
}

#[tokio::test]
async fn contact_is_what_is_advertised() {
    let edge = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let mut options = options(Mode::Proxied);
    options.contact = Some(AdvertisedContact { host: "requester.test".into(), port: None });
    let service = start_with(options, Default::default()).await;
    let mut request = register("registrar.test:5060");
    edit(&mut request).route = vec![route("127.0.0.1", edge.address.port().into())];
    service.send(request).await;
    assert_eq!(edge.requests()[0].header("Contact"), "<sip:requester.test;transport=udp;bnc>");
}

#[tokio::test]
async fn credentials_never_go_straight_to_the_registrar() {
    let registrar = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let service = start(Mode::Proxied).await;
    let mut request = register(&registrar.address.to_string());
    edit(&mut request).route.clear();
    let refused = service.refused(request.clone()).await;
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().starts_with("message.route: "), "{refused:?}");
    assert_eq!(registrar.received(), 0);

    drop_extension(&mut request, "X-Gateway-Auth");
    assert_eq!(response_type(&service.send(request).await), ResponseType::Ok);
    assert_eq!(registrar.requests().len(), 1);
}

#[tokio::test]
async fn a_minimum_for_digest_that_the_edge_port_cannot_keep_is_refused() {
    let edge = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let service = start(Mode::Proxied).await;
    let mut request = register("registrar.test:5060");
    edit(&mut request).route = vec![route("127.0.0.1", edge.address.port().into())];
    edit(&mut request).extensions.push(extension(routr_types::extension::DIGEST, "sha-256, qop"));
    let status = service.refused(request.clone()).await;
    assert_eq!(status.code(), tonic::Code::Unimplemented, "{status:?}");
    assert!(status.message().contains("--mode direct"), "{status:?}");
    assert_eq!(edge.received(), 0);
    drop_extension(&mut request, routr_types::extension::DIGEST);
    assert_eq!(response_type(&service.send(request).await), ResponseType::Ok);
}

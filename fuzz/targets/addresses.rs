//! Addresses and durations as a configuration or a command line has them, and as they are passed on.

use routr_registry::{
    config::address,
    proto::{
        common, processor, requester::SendMessageRequest, sipmessage as sip,
        sipmessage::sip_message::MessageType,
    },
    requester::{AdvertisedContact, ContactHost, Mode, outgoing_request::OutgoingRequest},
    spec::duration,
};
use routr_types::host::{HostPort, Transport};

use super::support::{assert_presentable, text};

pub fn run(data: &[u8]) {
    let text = text(data);
    match address::service(&text, 7) {
        Ok((read, _)) => assert_eq!(address::service(&read.to_string(), 1), Ok((read, false))),
        Err(error) => drop(assert_presentable(&error)),
    }
    for read in [address::host_port(&text, 7), address::sip(&text, 7)] {
        match read {
            Ok(read) => {
                assert_eq!(address::host_port(&read.to_string(), 1).as_ref(), Ok(&read));
                assert_eq!(address::sip(&format!("sip:{read}"), 7).as_ref(), Ok(&read));
                assert_eq!(address::service(&format!("https://{read}/"), 1), Ok((read.clone().into(), true)));
                assert_taken_by_the_requester(&read);
            }
            Err(error) => drop(assert_presentable(&error)),
        }
    }
    match text.parse::<AdvertisedContact>() {
        Ok(contact) => {
            assert!(contact.port != Some(0) && !contact.host.is_empty());
            assert_eq!(contact.to_string().parse(), Ok(contact));
        }
        // It quotes what was given, which a person has typed.
        Err(error) => assert!(error.contains("expected HOST") && !error.contains('\n'), "{error}"),
    }
    match duration::parse(&text) {
        // Beyond what a bound lets through, the printer may need more than the parser takes.
        Ok(read) if read.as_secs() <= 86_400 => assert_eq!(duration::parse(&duration::show(read)), Ok(read)),
        Ok(_) => {}
        Err(error) => drop(assert_presentable(&error)),
    }
    if let Some(transport) = Transport::parse(&text) {
        assert_eq!(Transport::parse(transport.parameter()), Some(transport));
    }
}

/// An EdgePort that the configuration lets through can be sent to.
fn assert_taken_by_the_requester(edge_port: &HostPort) {
    let uri = |host: &str, port: i32| sip::SipUri { host: host.to_owned(), port, ..sip::SipUri::default() };
    let address = |uri| Some(sip::Address { uri: Some(uri), ..sip::Address::default() });
    let message = sip::SipMessage {
        message_type: Some(MessageType::RequestUri(uri("example.com", -1))),
        from: Some(sip::From {
            address: address(uri("example.com", -1)),
            tag: "1".into(),
            ..Default::default()
        }),
        to: Some(sip::To { address: address(uri("example.com", -1)), ..Default::default() }),
        call_id: Some(sip::CallId { call_id: "1".into() }),
        extensions: vec![sip::Extension { name: "CSeq".into(), value: "1 REGISTER".into() }],
        route: vec![sip::Route {
            address: address(uri(&edge_port.host, i32::from(edge_port.port))),
            ..Default::default()
        }],
        ..Default::default()
    };
    let request = SendMessageRequest {
        target: edge_port.to_string(),
        method: processor::Method::Register.into(),
        transport: common::Transport::Udp.into(),
        message: Some(message),
    };
    for mode in [Mode::Direct, Mode::Proxied] {
        let draft = OutgoingRequest::read(&request, mode, ContactHost::default())
            .expect("an address of the configuration is one for the Requester");
        assert_eq!(
            (draft.destination.host.as_str(), draft.destination.port),
            (&*edge_port.host, Some(edge_port.port))
        );
    }
}

//! Many at once.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use futures_util::future::join_all;

use super::{super::Mode, peer::Peer, setup::*};
use crate::proto::{common::Transport, sipmessage::ResponseType};

async fn five_hundred(transport: Transport) {
    let script = |raw: &super::peer::Raw, _: usize| {
        if raw.headers("Authorization").is_empty() {
            return vec![raw.reply(
                "401 Unauthorized",
                &[r#"WWW-Authenticate: Digest realm="r", nonce="n", qop="auth""#],
            )];
        }
        // The expiry shows whose response it is.
        let number = raw.header("Call-ID").strip_prefix("call-").unwrap().to_owned();
        let contact = format!("Contact: {};expires={number}", raw.header("Contact"));
        vec![raw.reply("200 OK", &[&contact])]
    };
    let peer = match transport {
        Transport::Tcp => Peer::tcp(script).await,
        _ => Peer::udp(script).await,
    };
    let service = start(Mode::Direct).await;
    let calls = (1..=500).map(|number| {
        let mut request = register(&peer.address.to_string());
        request.transport = transport.into();
        edit(&mut request).call_id.as_mut().unwrap().call_id = format!("call-{number}");
        let service = &service;
        async move {
            let reply = service.send(request).await;
            assert_eq!(response_type(&reply), ResponseType::Ok);
            assert_eq!(reply.contact.unwrap().expires, number);
        }
    });
    tokio::time::timeout(Duration::from_secs(60), join_all(calls)).await.unwrap();
    let branches: HashSet<String> = peer.requests().iter().map(|raw| raw.branch()).collect();
    // One that is late begins with the nonce of those that are done.
    assert!((501..=1000).contains(&branches.len()), "{}", branches.len());
}

#[tokio::test]
async fn five_hundred_over_udp() {
    five_hundred(Transport::Udp).await;
}

#[tokio::test]
async fn five_hundred_over_tcp() {
    five_hundred(Transport::Tcp).await;
}

#[tokio::test]
async fn two_with_one_call_id_get_each_its_own_reply() {
    let first = Mutex::new(None);
    // Keeps the first until the second is there, then responds to the second before it.
    let peer = Peer::udp(move |raw, number| {
        let reply = |raw: &super::peer::Raw| {
            let phrase = format!("200 {}", raw.header("CSeq"));
            raw.reply(&phrase, &[])
        };
        match number {
            0 => {
                first.lock().unwrap().get_or_insert(reply(raw));
                vec![]
            }
            _ => vec![reply(raw), first.lock().unwrap().clone().unwrap()],
        }
    })
    .await;
    let service = start(Mode::Direct).await;
    let call = |cseq: &str| {
        let mut request = register(&peer.address.to_string());
        drop_extension(&mut request, "CSeq");
        edit(&mut request).extensions.push(extension("CSeq", cseq));
        service.send(request)
    };
    let (a, b) = tokio::join!(call("21 REGISTER"), call("22 REGISTER"));
    assert_eq!((a.reason_phrase.as_str(), b.reason_phrase.as_str()), ("21 REGISTER", "22 REGISTER"));
}

#[tokio::test]
async fn a_caller_that_goes_away_does_no_harm() {
    let peer = Peer::udp(|raw, _| match raw.header("Call-ID") {
        "call-1@test" => vec![raw.ok()],
        _ => vec![],
    })
    .await;
    let service = start(Mode::Direct).await;
    let calls = (0..50).map(|number| {
        let mut request = register(&peer.address.to_string());
        edit(&mut request).call_id.as_mut().unwrap().call_id = format!("abandoned-{number}");
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_millis(300));
        let mut client = service.client.clone();
        async move { client.send_message(request).await.unwrap_err().code() }
    });
    let codes = join_all(calls).await;
    let expected = [tonic::Code::DeadlineExceeded, tonic::Code::Cancelled];
    assert!(codes.iter().all(|code| expected.contains(code)), "{codes:?}");
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
}

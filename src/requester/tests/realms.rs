//! Number of attempts for a challenge, and the peer that they go to: D4 to D6 of the field cases.

use super::{
    super::Mode,
    digest::*,
    peer::{Peer, Raw},
    setup::*,
};
use crate::proto::{common::Transport, sipmessage::ResponseType};

#[tokio::test]
async fn d4_stale_nonces_without_end_are_bounded() {
    let peer = Peer::udp(|raw, number| {
        let challenge =
            format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"n{number}\", qop=\"auth\", stale=true");
        vec![raw.reply("401 Unauthorized", &[&challenge])]
    })
    .await;
    let reply = sent(&peer).await;
    assert_eq!(authentication(&reply), "stale");
    assert!(reply.www_authenticate.unwrap().stale);
    let requests = peer.requests();
    assert_eq!(requests.len(), 4);
    for (number, raw) in requests.iter().enumerate().skip(1) {
        let credentials = Credentials::one(raw, "Authorization");
        assert_eq!(credentials.need("nonce"), format!("n{}", number - 1));
        assert_eq!(credentials.need("nc"), "00000001");
        ALICE.check(&credentials, raw);
    }
    assert_eq!(requests[3].header("CSeq"), "10 REGISTER");
}

/// Credentials are kept by realm and side: two proxies, then the registrar, whose realm has a proxy's name.
#[tokio::test]
async fn d5_each_realm_is_answered_and_stays_answered() {
    let peer = Peer::udp(|raw, number| match number {
        0 => vec![raw.reply(
            "407 First",
            &["Proxy-Authenticate: Digest realm=\"p1\", nonce=\"a\", qop=auth, algorithm=MD5-sess"],
        )],
        1 => vec![raw.reply("407 Second", &["Proxy-Authenticate: Digest realm=\"p2\", nonce=\"b\""])],
        2 => vec![raw.reply(
            "401 Registrar",
            &["WWW-Authenticate: Digest realm=\"p1\", nonce=\"c\", algorithm=SHA-256"],
        )],
        3 => {
            vec![raw.reply("401 Stale", &["WWW-Authenticate: Digest realm=\"p1\", nonce=\"d\", stale=true"])]
        }
        _ => vec![raw.ok()],
    })
    .await;
    let reply = sent(&peer).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
    assert_eq!(extensions(&reply, "CSeq"), ["11 REGISTER"]);
    let requests = peer.requests();
    assert_eq!(requests.len(), 5);
    let last = &requests[4];
    let proxies = Credentials::all(last, "Proxy-Authorization");
    let said: Vec<_> = proxies.iter().map(|one| (one.need("realm"), one.need("nonce"))).collect();
    assert_eq!(said, [("p1".into(), "a".into()), ("p2".into(), "b".into())]);
    assert_eq!(proxies[0].need("nc"), "00000004");
    Expected { realm: b"p1", algorithm: "MD5-sess", ..ALICE }.check(&proxies[0], last);
    Expected { realm: b"p2", ..ALICE }.check(&proxies[1], last);
    let registrar = Credentials::one(last, "Authorization");
    assert_eq!(registrar.need("nonce"), "d");
    Expected { realm: b"p1", ..ALICE }.check(&registrar, last);
    assert_eq!(Credentials::one(&requests[1], "Proxy-Authorization").need("nc"), "00000001");
    assert!(requests[2].headers("Authorization").is_empty());
}

/// Several realms in one response are answered at once.
#[tokio::test]
async fn d5_two_realms_in_one_response() {
    let text = "Proxy-Authenticate: Digest realm=\"p1\", nonce=\"a\"\nProxy-Authenticate: Digest realm=\"p2\", nonce=\"b\"
        WWW-Authenticate: Digest realm=\"r\", nonce=\"c\"";
    let peer = challenging("407 Proxies", text).await;
    assert_eq!(response_type(&sent(&peer).await), ResponseType::Ok);
    let raw = &peer.requests()[1];
    assert_eq!(Credentials::all(raw, "Proxy-Authorization").len(), 2);
    ALICE.check(&Credentials::one(raw, "Authorization"), raw);
}

#[tokio::test]
async fn d5_a_realm_that_asks_again_is_not_answered_again() {
    // The registrar lets no one in: each of the others was answered once.
    let peer = Peer::udp(|raw, number| match number {
        0 | 2 => vec![raw.reply("407 Proxy", &["Proxy-Authenticate: Digest realm=\"p\", nonce=\"a\""])],
        _ => vec![raw.reply("401 Registrar", &["WWW-Authenticate: Digest realm=\"r\", nonce=\"b\""])],
    })
    .await;
    assert_eq!(authentication(&sent(&peer).await), "sent");
    assert_eq!(peer.requests().len(), 3);
    // A proxy has what it asked for, the registrar asks for what cannot be given.
    let peer = Peer::udp(|raw, number| match number {
        0 => vec![raw.reply("407 Proxy", &["Proxy-Authenticate: Digest realm=\"p\", nonce=\"a\""])],
        _ => vec![raw.reply("401 Registrar", &["WWW-Authenticate: Basic realm=\"r\""])],
    })
    .await;
    assert_eq!(authentication(&sent(&peer).await), "not-sent;Basic");
    assert_eq!(peer.requests().len(), 2);
}

#[tokio::test]
async fn d5_realms_without_end_are_bounded() {
    let peer =
        Peer::udp(|raw, number| {
            vec![raw.reply(
                "407 Proxy",
                &[&format!("Proxy-Authenticate: Digest realm=\"p{number}\", nonce=\"a\"")],
            )]
        })
        .await;
    assert_eq!(authentication(&sent(&peer).await), "not-sent;the credentials of more than 5 realms");
    assert_eq!(peer.requests().len(), 6);
    assert_eq!(peer.requests()[5].headers("Proxy-Authorization").len(), 5);
}

/// Over TCP the credentials go over the connection that was challenged; where that is closed, over a new one.
#[tokio::test]
async fn d6_over_tcp_the_answer_goes_to_who_challenged() {
    for closes in [false, true] {
        let peer = Peer::tcp(move |raw, number| match number {
            0 => {
                let challenge =
                    raw.reply("401 Unauthorized", &["WWW-Authenticate: Digest realm=\"r\", nonce=\"n\""]);
                if closes { vec![challenge, String::new()] } else { vec![challenge] }
            }
            _ => vec![raw.ok()],
        })
        .await;
        let mut request = register(&peer.address.to_string());
        request.transport = Transport::Tcp.into();
        let reply = start(Mode::Direct).await.send(request).await;
        assert_eq!(response_type(&reply), ResponseType::Ok, "{closes}");
        assert_eq!(peer.requests().len(), 2);
        assert_eq!(peer.connections(), if closes { 2 } else { 1 });
    }
}

/// Two servers behind one name, each with nonces of its own: the credentials go to the one that challenged.
#[tokio::test]
async fn d6_behind_one_name_the_answer_goes_to_who_challenged() {
    // The order in which the addresses of a name are tried is not ours to say: anyone who is asked first
    // challenges.
    let server = |raw: &Raw, number: usize| match number {
        0 => {
            let nonce = raw.branch();
            vec![raw.reply(
                "401 Unauthorized",
                &[&format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\"")],
            )]
        }
        _ => vec![raw.ok()],
    };
    for _ in 0..4 {
        let one = Peer::udp_at("127.0.0.1:0", server).await;
        let other = Peer::udp_at(&format!("127.0.0.2:{}", one.address.port()), server).await;
        let hosts = "127.0.0.1 two.test\n127.0.0.2 two.test\n";
        let service = start_with_hosts(options(Mode::Direct), hosts).await;
        let reply = service.send(register(&format!("two.test:{}", one.address.port()))).await;
        assert_eq!(response_type(&reply), ResponseType::Ok);
        let (asked, idle) = if one.received() > 0 { (one, other) } else { (other, one) };
        assert_eq!((asked.requests().len(), idle.received()), (2, 0));
        let requests = asked.requests();
        let credentials = Credentials::one(&requests[1], "Authorization");
        assert_eq!(credentials.need("nonce"), requests[0].branch());
    }
}

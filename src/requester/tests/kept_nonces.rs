//! Refreshes that begin with the nonce of before: row D7.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    super::Mode,
    digest::{ALICE, Credentials},
    peer::{Peer, Raw},
    setup::*,
};
use crate::proto::sipmessage::ResponseType;

/// A registrar: how often it was asked, and the nonce that it takes.
#[derive(Default)]
struct Registrar {
    nonce: AtomicU64,
    last_nc: AtomicU32,
}

impl Registrar {
    fn nonce(&self) -> String {
        format!("nonce-{}", self.nonce.load(Ordering::Relaxed))
    }

    fn renew(&self) {
        self.nonce.fetch_add(1, Ordering::Relaxed);
        self.last_nc.store(0, Ordering::Relaxed);
    }

    fn challenge(&self, raw: &Raw, more: &str) -> String {
        let challenge =
            format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{}\", qop=\"auth\"{more}", self.nonce());
        raw.reply("401 Unauthorized", &[&challenge])
    }

    /// Returns whether a request has the right credentials with the current nonce, nc rising.
    fn takes(&self, raw: &Raw) -> bool {
        let all = Credentials::all(raw, "Authorization");
        let Some(credentials) = all.first().filter(|given| given.need("nonce") == self.nonce()) else {
            return false;
        };
        ALICE.check(credentials, raw);
        let nc = u32::from_str_radix(&credentials.need("nc"), 16).unwrap();
        nc > self.last_nc.swap(nc, Ordering::Relaxed)
    }
}

/// A registrar that takes a nonce as long as it is that of now; `info` is a further header field of its 200.
async fn registrar(info: Option<&'static str>) -> (Arc<Registrar>, Peer) {
    let registrar = Arc::new(Registrar::default());
    let shared = registrar.clone();
    let peer = Peer::udp(move |raw, _| match shared.takes(raw) {
        true => {
            if info.is_some() {
                shared.renew();
            }
            let info = info.map(|name| format!("{name}: nextnonce=\"{}\"", shared.nonce()));
            let fields: Vec<&str> = ["Contact: <sip:alice@edge.test:5066>;expires=300"]
                .into_iter()
                .chain(info.as_deref())
                .collect();
            vec![raw.reply("200 OK", &fields)]
        }
        false => vec![shared.challenge(raw, "")],
    })
    .await;
    (registrar, peer)
}

async fn registers(service: &Service, peer: &Peer) -> usize {
    let before = peer.requests().len();
    let reply = service.send(register(&peer.address.to_string())).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
    peer.requests().len() - before
}

#[tokio::test]
async fn d7_a_refresh_is_one_transaction_with_nc_rising() {
    let (registrar, peer) = registrar(None).await;
    let service = start(Mode::Direct).await;
    assert_eq!(registers(&service, &peer).await, 2);
    for _ in 0..5 {
        assert_eq!(registers(&service, &peer).await, 1);
    }
    // The nonce is too old: one more, once.
    registrar.renew();
    assert_eq!(registers(&service, &peer).await, 2);
    assert_eq!(registers(&service, &peer).await, 1);
    let last = peer.requests().pop().unwrap();
    assert_eq!(Credentials::all(&last, "Authorization")[0].need("nc"), "00000002");
}

#[tokio::test]
async fn d7_the_next_nonce_is_used() {
    for (name, first) in [("Authentication-Info", 1), ("X-Other", 2)] {
        let (_, peer) = registrar(Some(name)).await;
        let service = start(Mode::Direct).await;
        assert_eq!(registers(&service, &peer).await, 2);
        for _ in 0..3 {
            assert_eq!(registers(&service, &peer).await, first, "{name}");
        }
        let last = peer.requests().pop().unwrap();
        assert_eq!(Credentials::all(&last, "Authorization")[0].need("nc"), "00000001");
    }
}

#[tokio::test]
async fn a_kept_nonce_is_not_used_with_another_password_or_user() {
    let peer = Peer::udp(|raw, _| match Credentials::all(raw, "Authorization").is_empty() {
        true => vec![
            raw.reply("401 Unauthorized", &[r#"WWW-Authenticate: Digest realm="r", nonce="n", qop="auth""#]),
        ],
        false => vec![raw.ok()],
    })
    .await;
    let service = start(Mode::Direct).await;
    for (login, requests) in [
        ("alice-auth:correct:horse/battery", 2),
        ("alice-auth:correct:horse/battery", 1),
        ("alice-auth:another", 2),
        ("alice-auth:another", 1),
        ("bob:correct:horse/battery", 2),
        ("alice-auth:another", 1),
    ] {
        let before = peer.requests().len();
        let mut request = register(&peer.address.to_string());
        drop_extension(&mut request, "X-Gateway-Auth");
        edit(&mut request).extensions.push(extension("X-Gateway-Auth", &STANDARD.encode(login)));
        assert_eq!(response_type(&service.send(request).await), ResponseType::Ok);
        assert_eq!(peer.requests().len() - before, requests, "{login}");
    }
}

/// A registrar that does not say what is wrong with a nonce that it does not know.
#[tokio::test]
async fn a_registrar_that_refuses_a_kept_nonce_in_its_own_way_costs_one_request_more() {
    for refusal in ["400 Bad Request", "403 Forbidden", "401 Unauthorized"] {
        let registrar = Arc::new(Registrar::default());
        let shared = registrar.clone();
        let peer = Peer::udp(move |raw, _| {
            if shared.takes(raw) {
                vec![raw.ok()]
            } else if raw.headers("Authorization").is_empty() {
                vec![shared.challenge(raw, "")]
            } else {
                vec![raw.reply(refusal, &[])]
            }
        })
        .await;
        let service = start(Mode::Direct).await;
        assert_eq!(registers(&service, &peer).await, 2);
        assert_eq!(registers(&service, &peer).await, 1);
        registrar.renew();
        assert_eq!(registers(&service, &peer).await, 3, "{refusal}");
        assert_eq!(registers(&service, &peer).await, 1, "{refusal}");
    }
}

/// Each nonce once: after two tries the registrar is challenged first, as before.
#[tokio::test]
async fn a_registrar_that_takes_each_nonce_once_is_noticed() {
    let registrar = Arc::new(Registrar::default());
    let shared = registrar.clone();
    let peer = Peer::udp(move |raw, _| {
        let taken = shared.takes(raw);
        shared.renew();
        vec![if taken { raw.ok() } else { shared.challenge(raw, "") }]
    })
    .await;
    let service = start(Mode::Direct).await;
    for _ in 0..6 {
        assert_eq!(registers(&service, &peer).await, 2);
    }
    let begun =
        peer.requests().iter().step_by(2).filter(|raw| !raw.headers("Authorization").is_empty()).count();
    assert_eq!(begun, 2);
}

#[tokio::test]
async fn wrong_credentials_are_offered_once_and_not_kept() {
    let registrar = Arc::new(Registrar::default());
    let shared = registrar.clone();
    let peer = Peer::udp(move |raw, _| vec![shared.challenge(raw, "")]).await;
    let service = start(Mode::Direct).await;
    for _ in 0..2 {
        let before = peer.requests().len();
        let reply = service.send(register(&peer.address.to_string())).await;
        assert_eq!(response_type(&reply), ResponseType::Unauthorized);
        assert_eq!(extensions(&reply, "X-Routr-Authentication"), ["sent"]);
        assert_eq!(peer.requests().len() - before, 2);
    }
}

/// Refreshes of many trunks with one account at a time: each has a count of its own.
#[tokio::test]
async fn requests_at_the_same_time_share_a_nonce_and_no_count() {
    let peer = Peer::udp(|raw, _| match Credentials::all(raw, "Authorization").is_empty() {
        true => vec![
            raw.reply("401 Unauthorized", &[r#"WWW-Authenticate: Digest realm="r", nonce="n", qop="auth""#]),
        ],
        false => vec![raw.ok()],
    })
    .await;
    let service = start(Mode::Direct).await;
    assert_eq!(registers(&service, &peer).await, 2);
    let all = (0..20).map(|_| service.send(register(&peer.address.to_string())));
    futures_util::future::join_all(all).await;
    let mut counts: Vec<String> = peer
        .requests()
        .iter()
        .flat_map(|raw| Credentials::all(raw, "Authorization"))
        .map(|credentials| credentials.need("nc"))
        .collect();
    counts.sort();
    counts.dedup();
    assert_eq!((peer.requests().len(), counts.len()), (22, 21));
}

//! The trace of a Requester at work, over its HTTP port.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    super::{Health, Mode, Options, health, trace::Trace},
    peer::Peer,
    setup::*,
};
use routr_sip::client::{Client, ClientOptions};

async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn the_trace_shows_both_transactions_of_a_challenge_and_no_secret() {
    let challenge = "WWW-Authenticate: Digest realm=\"here\", nonce=\"secret-nonce-1\", qop=\"auth\", opaque=\"0paque-1\"";
    let peer = Peer::udp(move |raw, number| match number {
        0 => vec![raw.reply("401 Unauthorized", &[challenge])],
        _ => vec![raw.ok()],
    })
    .await;
    let trace = Trace::default();
    let service = start_with(
        Options { trace: Some(trace.clone()), ..options(Mode::Direct) },
        routr_sip::transaction::Timers::default(),
    )
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (http, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let _end = shutdown.clone().drop_guard();
    let client = Client::start(ClientOptions::default()).unwrap();
    tokio::spawn(health::serve(listener, Health::default(), client, Some(trace), false, shutdown));

    // Someone who waits is shown the first message as soon as it is there.
    let waiting = tokio::spawn(async move { get(http, "/trace?since=0&wait=20").await });
    service.send(register(&peer.address.to_string())).await;
    let (status, first) = waiting.await.unwrap();
    assert!(status == 200 && first.contains("\"kind\":\"sent\""), "{status} {first}");

    let (status, text) = get(http, "/trace?user=alice&registrar=127.0.0.1").await;
    assert_eq!(status, 200, "{text}");
    let page: serde_json::Value = serde_json::from_str(&text).unwrap();
    let messages = page["messages"].as_array().unwrap();
    let kinds: Vec<_> = messages.iter().map(|message| message["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["sent", "received", "sent", "received"]);
    let lines: Vec<_> = messages.iter().map(|message| message["text"].as_str().unwrap()).collect();
    assert!(
        lines[1].starts_with("SIP/2.0 401 Unauthorized\n") && lines[3].starts_with("SIP/2.0 200 OK\n"),
        "{text}"
    );
    assert!(lines[2].contains("Authorization: Digest realm=\"here\""), "{text}");
    let requests = peer.requests();
    let digest = |part| requests[1].auth("Authorization", part).unwrap();
    for secret in [
        "secret-nonce-1".to_owned(),
        "0paque-1".to_owned(),
        PASSWORD.to_owned(),
        digest("response"),
        digest("cnonce"),
    ] {
        assert!(!text.contains(&secret), "{secret} in {text}");
    }
    assert_eq!(get(http, "/trace?user=bob").await.1, "{\"newest\":4,\"messages\":[]}");
    assert_eq!(get(http, "/trace?since=soon").await.0, 400);
}

//! No secret in what is logged, at the finest level.

use std::{io, net::TcpListener, sync::Mutex};

use routr_environment::testing::CapturedLog;

use super::{super::Mode, peer::Peer, setup::*};
use crate::proto::common::Transport;

/// All tasks of this test run on its one thread, so that a subscriber of the thread sees everything.
#[tokio::test(flavor = "current_thread")]
async fn a_search_through_the_trace_finds_no_password() {
    // With one subscriber alone, a log line that another thread reaches first would be taken for one that no
    // one wants (tracing-core asks the subscriber of that thread, and it has none). With two, all are asked.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    let captured = CapturedLog::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(captured.writer());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let answered = std::sync::Arc::new(Mutex::new(Vec::new()));

    let digests = answered.clone();
    let peer = Peer::udp(move |raw, number| {
        let challenge = r#"WWW-Authenticate: Digest realm="r", nonce="n", qop="auth", stale=true"#;
        if number > 0 {
            digests.lock().unwrap().push(raw.auth("Authorization", "response").unwrap());
        }
        vec![raw.reply("401 Unauthorized", &[challenge])]
    })
    .await;
    let edge = Peer::udp(|raw, _| vec![raw.ok()]).await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();

    let service = start(Mode::Direct).await;
    service.send(register(&peer.address.to_string())).await;
    service.send(register("nowhere.invalid:5060")).await;
    let mut request = register(&closed.to_string());
    request.transport = Transport::Tcp.into();
    service.send(request).await;
    let mut request = register("127.0.0.1:5060");
    edit(&mut request).extensions.push(extension("X-Bad", &format!("{PASSWORD}\r\n")));
    service.refused(request).await;

    let proxied = start(Mode::Proxied).await;
    let mut request = register("registrar.test:5060");
    edit(&mut request).route = vec![route("127.0.0.1", edge.address.port().into())];
    proxied.send(request).await;
    assert_eq!(edge.requests()[0].header("X-Gateway-Auth"), gateway_auth(PASSWORD));

    let text = captured.text();
    // The capture works: it holds our own lines, the finest of them, and those of the libraries below.
    assert!(
        text.contains("answered") && text.contains("TRACE") && text.contains("h2::"),
        "the capture does not work"
    );
    let digests = answered.lock().unwrap().clone();
    assert!(digests.len() >= 2);
    for secret in [PASSWORD.to_owned(), gateway_auth(PASSWORD)].iter().chain(&digests) {
        assert!(!text.contains(secret.as_str()), "found {secret:?}");
    }
}

/// A registrar that cannot prove that it knows the password: one warning for its host, and its response
/// counts.
#[tokio::test(flavor = "current_thread")]
async fn d2_a_wrong_rspauth_is_warned_about_once() {
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    let captured = CapturedLog::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(captured.writer());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let service = start(Mode::Direct).await;
    // Right, missing, wrong, of another nonce count, and of a proxy that was not answered.
    for (info, warnings) in [
        ("Authentication-Info: qop=auth, rspauth=\"RIGHT\", cnonce=\"CNONCE\", nc=COUNT", 0),
        ("Authentication-Info: nextnonce=\"x\"", 0),
        ("Proxy-Authentication-Info: rspauth=\"00\"", 0),
        ("Authentication-Info: rspauth=\"00112233445566778899aabbccddeeff\"", 1),
        ("Authentication-Info: rspauth=\"RIGHT\", nc=00000002", 1),
    ] {
        let peer = Peer::udp(move |raw, _| {
            if raw.headers("Authorization").is_empty() {
                let challenge = r#"WWW-Authenticate: Digest realm="r", nonce="n", qop="auth""#;
                return vec![raw.reply("401 Unauthorized", &[challenge])];
            }
            let get = |name| raw.auth("Authorization", name).unwrap();
            let (nc, cnonce, uri) = (get("nc"), get("cnonce"), get("uri"));
            let key = md5(&format!("alice-auth:r:{PASSWORD}"));
            let right = md5(&format!("{key}:n:{nc}:{cnonce}:auth:{}", md5(&format!(":{uri}"))));
            vec![raw.reply(
                "200 OK",
                &[&info.replace("RIGHT", &right).replace("CNONCE", &cnonce).replace("COUNT", &nc)],
            )]
        })
        .await;
        for _ in 0..3 {
            let reply = service.send(register(&peer.address.to_string())).await;
            assert_eq!(extensions(&reply, "X-Routr-Status"), ["200 OK"]);
            let passed_on = reply.extensions.iter().any(|one| info.starts_with(&format!("{}: ", one.name)));
            assert!(passed_on, "{reply:?}");
        }
        assert_eq!(captured.text().matches("rspauth").count(), warnings, "{info}: {}", captured.text());
    }
    assert!(captured.text().contains("127.0.0.1") && !captured.text().contains(PASSWORD));
}

//! Choice of the challenges that are answered, and their credentials: D1 to D3 of the field cases.

use super::{
    super::Mode,
    digest::*,
    peer::{Peer, Raw},
    setup::*,
};
use crate::proto::sipmessage::ResponseType;

#[tokio::test]
async fn d1_d2_every_algorithm_and_qop_is_answered() {
    for algorithm in ["MD5", "md5-sess", "SHA-256", "SHA-256-sess", "\"SHA-512-256\"", "Sha-512-256-Sess"] {
        for (offered, used) in [
            ("", None),
            ("qop=\"auth\"", Some("auth")),
            ("qop=auth", Some("auth")),
            ("qop=\"auth-int\"", Some("auth-int")),
            ("qop=\"auth,auth-int\"", Some("auth")),
            ("qop=\" AUTH-INT , auth , token\"", Some("auth")),
            ("qop=auth-int,auth", Some("auth")),
        ] {
            let challenge = format!(
                "WWW-Authenticate: Digest realm=\"r\", algorithm={algorithm}, nonce=\"n\", {offered}"
            );
            let peer = challenging("401 Unauthorized", &challenge).await;
            let reply = sent(&peer).await;
            assert_eq!(response_type(&reply), ResponseType::Ok, "{challenge}");
            assert_eq!(authentication(&reply), "");
            let requests = peer.requests();
            let credentials = Credentials::one(&requests[1], "Authorization");
            assert_eq!(credentials.get("qop").as_deref(), used, "{challenge}");
            assert_eq!(credentials.need("algorithm"), algorithm.trim_matches('"'));
            Expected { algorithm: algorithm.trim_matches('"'), ..ALICE }.check(&credentials, &requests[1]);
        }
    }
}

#[tokio::test]
async fn d2_auth_int_protects_the_body() {
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"";
    let peer = challenging("401 Unauthorized", challenge).await;
    let mut request = register(&peer.address.to_string());
    edit(&mut request).body = "caf\u{e9}".into();
    start(Mode::Direct).await.send(request).await;
    let raw = &peer.requests()[1];
    let credentials = Credentials::one(raw, "Authorization");
    let md5 = |text: String| hash("MD5", text.as_bytes());
    let (key, uri) = (ALICE.key(&credentials), credentials.need("uri"));
    let request = md5(format!("REGISTER:{uri}:{}", md5("caf\u{e9}".to_owned())));
    let expected = md5(format!("{key}:n:00000001:{}:auth-int:{request}", credentials.need("cnonce")));
    assert_eq!(credentials.need("response"), expected);
}

/// The strongest of several that can be answered, in one line or in many, among others (RFC 8760).
#[tokio::test]
async fn d1_the_strongest_of_several_challenges_is_answered() {
    let md5 = r#"Digest realm="r", nonce="md5", algorithm=MD5, qop="auth""#;
    let sha = r#"Digest realm="r", nonce="sha", algorithm=SHA-256, qop="auth""#;
    let session = r#"digest nonce="sess", realm="r", algorithm=SHA-256-sess, qop=auth"#;
    let longest = r#"Digest realm="r", nonce="long", algorithm=SHA-512-256, qop="auth""#;
    let unknown = r#"Digest realm="r", nonce="x", algorithm=SHA3-256, qop="auth""#;
    let token = r#"Digest realm="r", nonce="x", algorithm=SHA-512-256, qop="token""#;
    let others = [r#"Basic realm="r""#, "NTLM", "Bearer realm=\"r\", scope=\"a, b\"", "Negotiate YII="];
    for (challenges, nonce, algorithm) in [
        (vec![md5, sha], "sha", "SHA-256"),
        (vec![sha, session, md5], "sha", "SHA-256"),
        (vec![session, sha, md5], "sess", "SHA-256-sess"),
        (vec![md5, longest, sha], "long", "SHA-512-256"),
        (vec![unknown, token, md5], "md5", "MD5"),
        ([&others[..], &[md5, sha], &others[..]].concat(), "sha", "SHA-256"),
    ] {
        let apart: String = challenges.iter().map(|c| format!("WWW-Authenticate: {c}\n")).collect();
        let together = format!("WWW-Authenticate: {}", challenges.join(", "));
        for text in [apart, together] {
            let peer = challenging("401 Unauthorized", &text).await;
            assert_eq!(response_type(&sent(&peer).await), ResponseType::Ok, "{text}");
            let requests = peer.requests();
            let credentials = Credentials::one(&requests[1], "Authorization");
            assert_eq!(credentials.need("nonce"), nonce, "{text}");
            Expected { algorithm, ..ALICE }.check(&credentials, &requests[1]);
        }
    }
}

/// In Latin-1 and with escapes: the bytes between the quotes are sent back, and hashed as the registrar does.
#[tokio::test]
async fn d1_a_realm_is_used_byte_by_byte() {
    let realms: [(&[u8], &[u8]); 7] = [
        (b"T\xe9l\xe9com", b"T\xe9l\xe9com"),
        ("T\u{e9}l\u{e9}com".as_bytes(), "T\u{e9}l\u{e9}com".as_bytes()),
        (b"\xff\xfe; x", b"\xff\xfe; x"),
        // Hashed as what it says, or as it is written.
        (b"a \\\"b\\\" c", b"a \"b\" c"),
        (b"a \\\"b\\\" c", b"a \\\"b\\\" c"),
        (b"T\xe9l\\\\com", b"T\xe9l\\com"),
        (b"a\\b", b"a\\b"),
    ];
    for (written, hashed) in realms {
        let shown = String::from_utf8_lossy(written).into_owned();
        let peer = Peer::udp(move |raw, number| {
            let expected = Expected { realm: hashed, ..ALICE };
            let right = |raw: &Raw| {
                let credentials = Credentials::one(raw, "Authorization");
                credentials.need("response") == expected.response(&credentials, "REGISTER")
            };
            if number > 0 && right(raw) {
                return vec![raw.ok().into_bytes()];
            }
            let reply = raw.reply("401 Unauthorized", &[]);
            let (start, rest) = reply.split_once("\r\n").unwrap();
            let challenge = [b"WWW-Authenticate: Digest realm=\"", written, b"\", nonce=\"n\""].concat();
            vec![[start.as_bytes(), b"\r\n", &challenge, b"\r\n", rest.as_bytes()].concat()]
        })
        .await;
        assert_eq!(response_type(&sent(&peer).await), ResponseType::Ok, "{shown}");
        let requests = peer.requests();
        let kept = written.contains(&b'\\') && written == hashed;
        assert_eq!(requests.len(), if kept { 3 } else { 2 }, "{shown}");
        // The peer shows what is not UTF-8 byte by byte.
        let text: String = match std::str::from_utf8(written) {
            Ok(text) => text.to_owned(),
            Err(_) => written.iter().map(|byte| char::from(*byte)).collect(),
        };
        for raw in &requests[1..] {
            assert!(raw.header("Authorization").contains(&format!("realm=\"{text}\"")), "{shown}");
        }
    }
}

/// Both readings of an escaped realm are tried, and no more.
#[tokio::test]
async fn d1_an_escaped_realm_is_answered_twice_at_most() {
    let peer = Peer::udp(|raw, _| {
        vec![raw.reply("401 Unauthorized", &[r#"WWW-Authenticate: Digest realm="a\"b", nonce="n""#])]
    })
    .await;
    assert_eq!(authentication(&sent(&peer).await), "sent");
    assert_eq!(peer.requests().len(), 3);
}

#[tokio::test]
async fn d1_userhash_is_answered_with_a_hash() {
    let challenge =
        "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=auth, userhash=true, charset=UTF-8";
    let peer = challenging("401 Unauthorized", challenge).await;
    sent(&peer).await;
    let raw = &peer.requests()[1];
    let credentials = Credentials::one(raw, "Authorization");
    assert_eq!(credentials.need("username"), hash("MD5", b"alice-auth:r"));
    assert_eq!(credentials.need("userhash"), "true");
    ALICE.check(&credentials, raw);
}

/// Quotes and more in username and password: escaped where they are written, plain where they are hashed.
#[tokio::test]
async fn n11_odd_usernames_and_passwords() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let (username, password) = ("a\"b\\c@d e;\u{e9}", "p\"w\\:\u{e9} ");
    let peer =
        challenging("401 Unauthorized", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=auth").await;
    let mut request = register(&peer.address.to_string());
    drop_extension(&mut request, "X-Gateway-Auth");
    let auth = STANDARD.encode(format!("{username}:{password}"));
    edit(&mut request).extensions.push(extension("X-Gateway-Auth", &auth));
    edit(&mut request).to.as_mut().unwrap().address.as_mut().unwrap().uri.as_mut().unwrap().user =
        "a%40b c".into();
    let reply = start(Mode::Direct).await.send(request).await;
    assert_eq!(response_type(&reply), ResponseType::Ok);
    assert_eq!(extensions(&reply, "X-Routr-Bindings"), ["300;own"]);
    assert_eq!(reply.to.unwrap().address.unwrap().uri.unwrap().user, "a%40b%20c");
    let raw = &peer.requests()[1];
    assert_eq!(raw.header("To"), "<sip:a%40b%20c@registrar.test>");
    assert_eq!(raw.header("Contact"), "<sip:a%40b%20c@edge.test:5066;transport=udp>");
    assert!(raw.header("Authorization").contains("username=\"a\\\"b\\\\c@d e;\u{e9}\""), "{raw:?}");
    let credentials = Credentials::one(raw, "Authorization");
    Expected { username, password, ..ALICE }.check(&credentials, raw);
}

/// A challenge that cannot be answered is named, and the credentials are not offered.
#[tokio::test]
async fn d3_what_cannot_be_answered_is_named() {
    let cases = [
        (
            "401",
            "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA3-256",
            "Digest with algorithm SHA3-256",
        ),
        (
            "401",
            "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=AKAv1-MD5",
            "Digest with algorithm AKAv1-MD5",
        ),
        ("401", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"token\"", "Digest with qop token"),
        ("401", "WWW-Authenticate: Digest realm=\"r\"", "Digest without a nonce"),
        ("401", "WWW-Authenticate: Digest nonce=\"n\"", "Digest without a realm"),
        ("401", "WWW-Authenticate: Basic realm=\"r\"", "Basic"),
        ("401", "WWW-Authenticate: NTLM\nWWW-Authenticate: Bearer realm=\"r\"", "NTLM, Bearer"),
        ("401", "WWW-Authenticate: realm=\"r\", nonce=\"n\"", "a challenge without a scheme"),
        ("401", "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\"", "Proxy-Authenticate on a 401"),
        ("407", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"", "WWW-Authenticate on a 407"),
        ("401", "", "no challenge"),
        ("401", "WWW-Authenticate:", "no challenge"),
        ("407", "Server: x", "no challenge"),
        ("403", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"", "no challenge"),
        ("403", "", "no challenge"),
    ];
    for (code, text, words) in cases {
        let status: &'static str = ["401 Unauthorized", "403 Forbidden", "407 Proxy Authentication Required"]
            .into_iter()
            .find(|status| status.starts_with(code))
            .unwrap();
        let peer = challenging(status, text).await;
        let reply = sent(&peer).await;
        assert_eq!(extensions(&reply, "X-Routr-Status"), [status], "{text}");
        assert_eq!(authentication(&reply), format!("not-sent;{words}"), "{text}");
        assert_eq!(peer.received(), 1, "{text}");
    }
}

/// A parameter that says nothing makes no difference where the rest can be understood.
#[tokio::test]
async fn d3_sloppy_challenges_are_answered() {
    for challenge in [
        "Digest realm=\"r\", stale, nonce=\"n\", qop=\"auth\"",
        "Digest realm=\"r\" nonce=\"n\" qop=\"auth\"",
        "Digest realm=r,nonce=n,qop=auth,",
        "Digest ,, realm=\"r\",,nonce=\"n\", qop=\"auth\", future=\"x, y\"",
        "DIGEST\trealm = \"r\", nonce = \"n\", qop = \"auth\", stale=\"TRUE\"",
        "Digest realm=\"r\", nonce=\"n\", domain=\"sip:r\", opaque=\"\", qop=\"auth",
    ] {
        let peer = challenging("401 Unauthorized", &format!("WWW-Authenticate: {challenge}")).await;
        assert_eq!(response_type(&sent(&peer).await), ResponseType::Ok, "{challenge}");
        let raw = &peer.requests()[1];
        ALICE.check(&Credentials::one(raw, "Authorization"), raw);
    }
    let peer = challenging("401 Unauthorized", "WWW-Authenticate: Digest realm=\"r\", nonce=\"\"").await;
    assert_eq!(response_type(&sent(&peer).await), ResponseType::Ok);
}

#[tokio::test]
async fn d3_without_credentials_nothing_is_answered() {
    for (status, line) in [
        ("401 Unauthorized", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\""),
        ("407 Proxy", "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\""),
    ] {
        let peer = challenging(status, line).await;
        let mut request = register(&peer.address.to_string());
        drop_extension(&mut request, "X-Gateway-Auth");
        let reply = start(Mode::Direct).await.send(request).await;
        assert_eq!(authentication(&reply), "not-sent;the trunk has no credentials");
        assert_eq!(peer.received(), 1);
    }
}

/// Once they were sent, it is the credentials that are refused; of other codes nothing is said.
#[tokio::test]
async fn d3_credentials_that_were_sent_are_refused() {
    for status in ["401 Again", "403 Forbidden", "404 Not Found", "500 Oops"] {
        let peer = Peer::udp(move |raw, number| {
            let challenge = format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"n{number}\"");
            vec![raw.reply(if number == 0 { "401 Unauthorized" } else { status }, &[&challenge])]
        })
        .await;
        let reply = sent(&peer).await;
        assert_eq!(peer.requests().len(), 2, "{status}");
        let said = if status.starts_with("40") && !status.starts_with("404") { "sent" } else { "" };
        assert_eq!(authentication(&reply), said, "{status}");
    }
    // A challenge that cannot be answered, or none, after credentials were sent for that side.
    for line in [
        "Server: x",
        "WWW-Authenticate: Basic realm=\"r\"",
        "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\"",
    ] {
        let peer = Peer::udp(move |raw, number| {
            let first = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"";
            vec![raw.reply("401 Unauthorized", &[if number == 0 { first } else { line }])]
        })
        .await;
        assert_eq!(authentication(&sent(&peer).await), "sent", "{line}");
        assert_eq!(peer.requests().len(), 2, "{line}");
    }
}

#[tokio::test]
async fn d3_in_proxied_mode_nothing_is_said_of_challenges() {
    for status in ["401 Unauthorized", "403 Forbidden", "407 Proxy"] {
        let edge = Peer::udp(move |raw, _| vec![raw.reply(status, &[])]).await;
        let mut request = register("registrar.test:5060");
        edit(&mut request).route = vec![route("127.0.0.1", edge.address.port().into())];
        let reply = start(Mode::Proxied).await.send(request).await;
        assert_eq!(extensions(&reply, "X-Routr-Status"), [status]);
        assert_eq!(authentication(&reply), "");
    }
}

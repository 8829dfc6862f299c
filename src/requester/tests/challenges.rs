//! Challenges, D1 to D6 of the field cases, with digests by our own arithmetic.

use sha2::Digest as _;

use super::{
    super::Mode,
    peer::{Peer, Raw},
    setup::*,
};
use crate::proto::{
    common::Transport,
    sipmessage::{ResponseType, SipMessage},
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn hash(algorithm: &str, bytes: &[u8]) -> String {
    match algorithm.to_ascii_uppercase().trim_end_matches("-SESS") {
        "MD5" => hex(&md5::Md5::digest(bytes)),
        "SHA-256" => hex(&sha2::Sha256::digest(bytes)),
        "SHA-512-256" => hex(&sha2::Sha512_256::digest(bytes)),
        other => panic!("{other}"),
    }
}

/// What the response in a set of credentials has to be, for a request without a body.
struct Expected<'a> {
    algorithm: &'a str,
    username: &'a str,
    realm: &'a [u8],
    password: &'a str,
}

impl Expected<'_> {
    /// H(A1), by what the credentials say of nonce and cnonce.
    fn key(&self, credentials: &Credentials) -> String {
        let Self { algorithm, username, realm, password } = self;
        let plain = [username.as_bytes(), b":", realm, b":", password.as_bytes()].concat();
        let key = hash(algorithm, &plain);
        if !algorithm.to_ascii_lowercase().ends_with("-sess") {
            return key;
        }
        hash(
            algorithm,
            format!("{key}:{}:{}", credentials.need("nonce"), credentials.need("cnonce")).as_bytes(),
        )
    }

    fn response(&self, credentials: &Credentials, method: &str) -> String {
        let hash = |text: String| hash(self.algorithm, text.as_bytes());
        let (key, nonce, uri) = (self.key(credentials), credentials.need("nonce"), credentials.need("uri"));
        let qop = credentials.get("qop");
        let request = match qop.as_deref() {
            Some("auth-int") => hash(format!("{method}:{uri}:{}", hash(String::new()))),
            _ => hash(format!("{method}:{uri}")),
        };
        match qop {
            None => hash(format!("{key}:{nonce}:{request}")),
            Some(qop) => {
                let (nc, cnonce) = (credentials.need("nc"), credentials.need("cnonce"));
                hash(format!("{key}:{nonce}:{nc}:{cnonce}:{qop}:{request}"))
            }
        }
    }

    fn check(&self, credentials: &Credentials, raw: &Raw) {
        let uri = raw.start_line().split(' ').nth(1).unwrap();
        assert_eq!(credentials.need("uri"), uri);
        assert_eq!(credentials.need("response"), self.response(credentials, "REGISTER"), "{raw:?}");
    }
}

const ALICE: Expected<'static> =
    Expected { algorithm: "MD5", username: "alice-auth", realm: b"r", password: PASSWORD };

/// The value of an Authorization or Proxy-Authorization.
#[derive(Debug)]
struct Credentials(String);

impl Credentials {
    fn all(raw: &Raw, name: &str) -> Vec<Self> {
        raw.headers(name)
            .into_iter()
            .map(|value| Self(value.strip_prefix("Digest ").unwrap().to_owned()))
            .collect()
    }

    fn one(raw: &Raw, name: &str) -> Self {
        let mut all = Self::all(raw, name);
        assert_eq!(all.len(), 1, "{raw:?}");
        all.remove(0)
    }

    fn get(&self, name: &str) -> Option<String> {
        let found = self.0.split(", ").find_map(|item| item.strip_prefix(&format!("{name}=")))?;
        let inside = found.strip_prefix('"').and_then(|found| found.strip_suffix('"'));
        Some(inside.unwrap_or(found).to_owned())
    }

    fn need(&self, name: &str) -> String {
        self.get(name).unwrap_or_else(|| panic!("{name} in {self:?}"))
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// A peer that answers the first request with that status and these lines, and the next with 200.
async fn challenging(status: &'static str, text: &str) -> Peer {
    let lines = lines(text);
    Peer::udp(move |raw, number| match number {
        0 => vec![raw.reply(status, &lines.iter().map(String::as_str).collect::<Vec<_>>())],
        _ => vec![raw.ok()],
    })
    .await
}

async fn sent(peer: &Peer) -> SipMessage {
    start(Mode::Direct).await.send(register(&peer.address.to_string())).await
}

fn authentication(reply: &SipMessage) -> String {
    let said = extensions(reply, "X-Routr-Authentication");
    assert!(said.len() <= 1);
    said.concat()
}

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

/// In Latin-1 and with escapes: the bytes between the quotes are hashed and sent back.
#[tokio::test]
async fn d1_a_realm_is_used_byte_by_byte() {
    let realms: [&[u8]; 5] =
        [b"T\xe9l\xe9com", b"a \\\"b\\\" c", b"a\\b", "T\u{e9}l\u{e9}com".as_bytes(), b"\xff\xfe; x"];
    for realm in realms {
        let peer = Peer::udp(move |raw, number| {
            if number > 0 {
                return vec![raw.ok().into_bytes()];
            }
            let reply = raw.reply("401 Unauthorized", &[]);
            let (start, rest) = reply.split_once("\r\n").unwrap();
            let challenge = [b"WWW-Authenticate: Digest realm=\"", realm, b"\", nonce=\"n\""].concat();
            vec![[start.as_bytes(), b"\r\n", &challenge, b"\r\n", rest.as_bytes()].concat()]
        })
        .await;
        let shown = String::from_utf8_lossy(realm).into_owned();
        assert_eq!(response_type(&sent(&peer).await), ResponseType::Ok, "{shown}");
        let raw = &peer.requests()[1];
        // The peer shows what is not UTF-8 byte by byte.
        let text: String = match std::str::from_utf8(realm) {
            Ok(text) => text.to_owned(),
            Err(_) => realm.iter().map(|byte| char::from(*byte)).collect(),
        };
        assert!(raw.header("Authorization").contains(&format!("realm=\"{text}\"")), "{shown}");
        let credentials = Credentials::one(raw, "Authorization");
        Expected { realm, ..ALICE }.check(&credentials, raw);
    }
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

/// What cannot be answered is named, and the credentials are not offered.
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

/// Answers are kept by realm and side: two proxies, then the registrar, whose realm has a proxy's name.
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
    // The registrar lets nobody in: each of the others was answered once.
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

/// Over TCP the answer goes over the connection that was challenged; where that is closed, over a new one.
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

/// Two servers behind one name, each with nonces of its own: the answer goes to the one that challenged.
#[tokio::test]
async fn d6_behind_one_name_the_answer_goes_to_who_challenged() {
    // The order in which the addresses of a name are tried is not ours to say: whoever is asked first challenges.
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

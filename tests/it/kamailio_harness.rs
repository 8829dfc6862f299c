//! Proves the Kamailio of `support` with REGISTERs written by hand, so that the suites on top of it can trust
//! what it says. Nothing of the product's own SIP is used here.

use std::time::Duration;

use md5::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::kamailio::{Algorithm, Challenge, Counts, Kamailio, Options, User};
use crate::support::wait::{PATIENCE, wait_for, wait_until};

const SOON: Duration = PATIENCE;

enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A user agent that writes REGISTERs as text.
struct Client {
    wire: Wire,
    user: &'static str,
    call_id: &'static str,
    cseq: u32,
    expires: u32,
    contact_parameters: &'static str,
    headers: &'static str,
    sha256: bool,
}

/// A response as text.
struct Reply(String);

impl Reply {
    fn code(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn parameter(&self, header: &str, name: &str) -> Option<&str> {
        let (_, rest) = self.header(header)?.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0)
    }
}

impl Client {
    async fn udp(kamailio: &Kamailio, user: &'static str, call_id: &'static str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(("127.0.0.1", kamailio.udp_port())).await.unwrap();
        Self::over(Wire::Udp(socket), user, call_id)
    }

    async fn tcp(kamailio: &Kamailio, user: &'static str, call_id: &'static str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", kamailio.tcp_port())).await.unwrap();
        Self::over(Wire::Tcp(stream), user, call_id)
    }

    fn over(wire: Wire, user: &'static str, call_id: &'static str) -> Self {
        Self {
            wire,
            user,
            call_id,
            cseq: 0,
            expires: 300,
            contact_parameters: "",
            headers: "",
            sha256: false,
        }
    }

    /// One REGISTER and its response, without retransmission; an error when none comes in time.
    async fn send(&mut self, authorization: &str) -> Result<Reply, String> {
        self.send_within(SOON, authorization).await
    }

    /// Sends as [`Client::send`] does, with another time.
    async fn send_within(&mut self, deadline: Duration, authorization: &str) -> Result<Reply, String> {
        self.cseq += 1;
        let Self { user, call_id, cseq, expires, contact_parameters, headers, .. } = *self;
        let (via, local) = match &self.wire {
            Wire::Udp(socket) => ("UDP", socket.local_addr().unwrap()),
            Wire::Tcp(stream) => ("TCP", stream.local_addr().unwrap()),
        };
        let request = format!(
            "REGISTER sip:kamailio.test SIP/2.0\r\nVia: SIP/2.0/{via} {local};branch=z9hG4bK{call_id}.{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@kamailio.test>;tag=t{cseq}\r\nTo: <sip:{user}@kamailio.test>\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:{user}@127.0.0.1:5999>{contact_parameters}\r\n\
             Expires: {expires}\r\nUser-Agent: by hand\r\n{headers}{authorization}Content-Length: 0\r\n\r\n"
        );
        let mut reply = vec![0; 65_535];
        let exchange = async {
            match &mut self.wire {
                Wire::Udp(socket) => {
                    socket.send(request.as_bytes()).await?;
                    socket.recv(&mut reply).await
                }
                Wire::Tcp(stream) => {
                    stream.write_all(request.as_bytes()).await?;
                    // Loopback hands over such a small response in one piece.
                    stream.read(&mut reply).await
                }
            }
        };
        let outcome = tokio::time::timeout(deadline, exchange).await.map_err(|_| "silence")?;
        reply.truncate(outcome.map_err(|error| error.to_string())?);
        Ok(Reply(String::from_utf8(reply).unwrap()))
    }

    fn hash(&self, text: &str) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if self.sha256 { hex(&sha2::Sha256::digest(text)) } else { hex(&md5::Md5::digest(text)) }
    }

    /// Returns the header with credentials for `challenge`, a 401 or 407, by RFC 2617 with or without qop.
    fn answer(&self, challenge: &Reply, password: &str) -> String {
        let (header, answer) = match challenge.code() {
            "407" => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => ("WWW-Authenticate", "Authorization"),
        };
        let user = self.user;
        let realm = challenge.parameter(header, "realm").expect("a realm");
        let nonce = challenge.parameter(header, "nonce").expect("a nonce");
        let a1 = self.hash(&format!("{user}:{realm}:{password}"));
        let a2 = self.hash("REGISTER:sip:kamailio.test");
        let (qop, response) = match challenge.parameter(header, "qop") {
            Some(_) => (",qop=auth,nc=00000001,cnonce=\"c\"", format!("{a1}:{nonce}:00000001:c:auth:{a2}")),
            None => ("", format!("{a1}:{nonce}:{a2}")),
        };
        let (response, algorithm) = (self.hash(&response), if self.sha256 { "SHA-256" } else { "MD5" });
        format!(
            "{answer}: Digest username=\"{user}\",realm=\"{realm}\",nonce=\"{nonce}\",uri=\"sip:kamailio.test\",\
             response=\"{response}\",algorithm={algorithm}{qop}\r\n"
        )
    }

    /// A REGISTER without credentials, then one with: both responses.
    async fn register(&mut self, password: &str) -> (Reply, Reply) {
        let challenge = self.send("").await.unwrap();
        let authorization = self.answer(&challenge, password);
        let last = self.send(&authorization).await.unwrap();
        (challenge, last)
    }
}

fn alice() -> Options {
    Options::with_users([User::new("alice", "alices-password")])
}

#[tokio::test]
async fn a_binding_over_udp_is_listed_with_its_call_id_and_cseq() {
    let kamailio = Kamailio::start(alice()).await;
    assert_eq!(kamailio.bindings().await, []);

    let mut client = Client::udp(&kamailio, "alice", "call-1").await;
    let (challenge, last) = client.register("alices-password").await;

    assert_eq!((challenge.code(), last.code()), ("401", "200"));
    let bindings = kamailio.bindings().await;
    assert_eq!(bindings.len(), 1, "{bindings:?}");
    let binding = &bindings[0];
    assert_eq!(binding.aor, "alice@kamailio.test");
    assert_eq!(binding.contact, "sip:alice@127.0.0.1:5999");
    assert_eq!((binding.call_id.as_str(), binding.cseq), ("call-1", 2));
    assert_eq!(binding.user_agent, "by hand");
    assert_eq!(binding.socket, format!("udp:127.0.0.1:{}", kamailio.udp_port()));
    assert!((1..=300).contains(&binding.expires_s), "{binding:?}");
    let counts = kamailio.register_counts().await;
    assert_eq!(counts["alice"], Counts { received: 2, challenged: 1, saved: 1 });
}

#[tokio::test]
async fn a_refresh_keeps_one_binding_and_expires_0_removes_it() {
    let kamailio = Kamailio::start(alice()).await;
    let mut client = Client::tcp(&kamailio, "alice", "call-1").await;
    client.register("alices-password").await;
    let (_, last) = client.register("alices-password").await;
    assert_eq!(last.code(), "200");
    let bindings = kamailio.bindings_of("alice@kamailio.test").await;
    assert_eq!(bindings.len(), 1, "{bindings:?}");
    assert_eq!(bindings[0].cseq, 4);
    assert_eq!(bindings[0].socket, format!("tcp:127.0.0.1:{}", kamailio.tcp_port()));

    client.expires = 0;
    let (_, last) = client.register("alices-password").await;
    assert_eq!(last.code(), "200");
    assert_eq!(kamailio.bindings().await, []);
}

#[tokio::test]
async fn a_binding_expires() {
    let kamailio = Kamailio::start(alice()).await;
    let mut client = Client::udp(&kamailio, "alice", "call-1").await;
    client.expires = 1;
    assert_eq!(client.register("alices-password").await.1.code(), "200");
    wait_until(async || kamailio.bindings().await.is_empty(), SOON, "the binding to expire").await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_never_listed() {
    let kamailio = Kamailio::start(alice()).await;
    let mut client = Client::udp(&kamailio, "alice", "call-1").await;
    for _ in 0..3 {
        assert_eq!(client.register("guessed").await.1.code(), "401");
    }
    let mut nobody = Client::udp(&kamailio, "nobody", "call-2").await;
    assert_eq!(nobody.register("guessed").await.1.code(), "401");

    assert_eq!(kamailio.bindings().await, []);
    let counts = kamailio.register_counts().await;
    assert_eq!(counts["alice"], Counts { received: 6, challenged: 6, saved: 0 });

    kamailio.set_password("alice", "guessed").await;
    assert_eq!(client.register("guessed").await.1.code(), "200");
}

#[tokio::test]
async fn too_short_an_expiry_gets_423_with_the_users_min_expires() {
    let users = [User::new("alice", "a"), User::new("bob", "b").min_expires(900)];
    let kamailio = Kamailio::start(Options { min_expires: 60, ..Options::with_users(users) }).await;
    for (user, password, below, minimum) in [("alice", "a", 59, 60), ("bob", "b", 899, 900)] {
        let mut client = Client::udp(&kamailio, user, user).await;
        client.expires = below;
        let (_, last) = client.register(password).await;
        assert_eq!(last.code(), "423");
        assert_eq!(last.header("Min-Expires"), Some(minimum.to_string().as_str()));
        client.contact_parameters = ";expires=30";
        client.expires = 3_600;
        assert_eq!(client.register(password).await.1.code(), "423", "the Contact's own expires counts");
        client.contact_parameters = "";
        client.expires = minimum;
        assert_eq!(client.register(password).await.1.code(), "200", "{user} asks for the minimum");
        client.expires = 0;
        assert_eq!(client.register(password).await.1.code(), "200", "{user} leaves");
    }
}

#[tokio::test]
async fn the_kinds_of_challenge() {
    for (algorithm, challenge, qop) in [
        (Algorithm::Md5, Challenge::Unauthorized401, false),
        (Algorithm::Md5, Challenge::Proxy407, true),
        (Algorithm::Sha256, Challenge::Unauthorized401, true),
    ] {
        let kamailio = Kamailio::start(Options { algorithm, challenge, qop, ..alice() }).await;
        let mut client = Client::udp(&kamailio, "alice", "call-1").await;
        client.sha256 = algorithm == Algorithm::Sha256;
        let (first, last) = client.register("alices-password").await;
        let expected = if challenge == Challenge::Proxy407 { "407" } else { "401" };
        assert_eq!((first.code(), last.code()), (expected, "200"), "{algorithm:?} {challenge:?} {qop}");
        assert_eq!(first.0.contains("qop="), qop, "{}", first.0);
    }
}

#[tokio::test]
async fn an_old_nonce_is_a_stale_nonce() {
    let kamailio = Kamailio::start(Options { nonce_lifetime: 1, ..alice() }).await;
    let mut client = Client::udp(&kamailio, "alice", "call-1").await;
    let challenge = client.send("").await.unwrap();
    let authorization = client.answer(&challenge, "alices-password");
    let probe = async || {
        let reply = client.send(&authorization).await?;
        if reply.code() == "401" && reply.0.contains("stale=true") { Ok(()) } else { Err(reply.0) }
    };
    wait_for(probe, SOON, "the nonce to grow stale").await;
}

#[tokio::test]
async fn only_the_strict_one_refuses_gin() {
    for (strict, expected) in [(true, "420"), (false, "401")] {
        let kamailio = Kamailio::start(Options { strict, ..alice() }).await;
        let mut client = Client::udp(&kamailio, "alice", "call-1").await;
        client.headers = "Proxy-Require: gin\r\nRequire: gin\r\n";
        let reply = client.send("").await.unwrap();
        assert_eq!(reply.code(), expected);
        assert_eq!(reply.header("Unsupported"), strict.then_some("gin"));
    }
}

#[tokio::test]
async fn one_contact_too_many_is_refused() {
    let kamailio = Kamailio::start(Options { max_contacts: Some(1), ..alice() }).await;
    let mut client = Client::udp(&kamailio, "alice", "call-1").await;
    assert_eq!(client.register("alices-password").await.1.code(), "200");
    client.headers = "Contact: <sip:another@127.0.0.1:5998>\r\n";
    assert_eq!(client.register("alices-password").await.1.code(), "503");
    assert_eq!(kamailio.bindings().await.len(), 1);
}

#[tokio::test]
async fn pause_is_silence_and_a_restart_loses_the_bindings() {
    let mut kamailio = Kamailio::start(alice()).await;
    let mut client = Client::udp(&kamailio, "alice", "call-1").await;
    client.register("alices-password").await;

    kamailio.pause();
    let silence = client.send_within(Duration::from_millis(500), "").await.err();
    assert_eq!(silence.as_deref(), Some("silence"));
    kamailio.resume();
    assert_eq!(kamailio.bindings().await.len(), 1);

    let port = kamailio.udp_port();
    kamailio.restart().await;
    assert_eq!(kamailio.udp_port(), port);
    assert_eq!(kamailio.bindings().await, []);
    assert!(kamailio.register_counts().await.is_empty());
    let mut client = Client::udp(&kamailio, "alice", "call-1").await;
    assert_eq!(client.register("alices-password").await.1.code(), "200");
}

#[tokio::test]
async fn stop_and_kill_leave_nothing_on_the_ports() {
    for graceful in [true, false] {
        let mut kamailio = Kamailio::start(alice()).await;
        if graceful {
            kamailio.stop().await;
        } else {
            kamailio.kill().await;
        }
        assert!(kamailio.try_bindings().await.is_err());
        let mut client = Client::udp(&kamailio, "alice", "call-1").await;
        assert!(client.send_within(Duration::from_millis(500), "").await.is_err());
        kamailio.restart().await;
        assert_eq!(kamailio.bindings().await, []);
    }
}

#[tokio::test]
async fn passwords_may_hold_any_character() {
    let password = r#"p=a$fU"ss\w@rd #1,;"#;
    let kamailio = Kamailio::start(Options::with_users([User::new("alice", password)])).await;
    let mut client = Client::udp(&kamailio, "alice", "call-1").await;
    assert_eq!(client.register(password).await.1.code(), "200", "{}", kamailio.log());
}

#[tokio::test]
async fn a_thousand_users_and_several_registrars_at_once() {
    let users: Vec<User> = (0..1_000).map(|n| User::new(format!("user{n}"), "p")).collect();
    let start = || Kamailio::start(Options::with_users(users.clone()));
    let (one, two, three) = tokio::join!(start(), start(), start());
    let mut client = Client::udp(&two, "", "").await;
    for n in 0..1_000 {
        (client.user, client.call_id) = (format!("user{n}").leak(), format!("call-{n}").leak());
        assert_eq!(client.register("p").await.1.code(), "200");
    }
    let bindings = two.bindings().await;
    assert_eq!(bindings.len(), 1_000);
    for binding in bindings {
        let number =
            binding.aor.strip_prefix("user").and_then(|rest| rest.strip_suffix("@kamailio.test")).unwrap();
        assert_eq!(binding.call_id, format!("call-{number}"));
    }
    assert_eq!(two.register_counts().await.len(), 1_000);
    assert_eq!((one.bindings().await.len(), three.bindings().await.len()), (0, 0));
}

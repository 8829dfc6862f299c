mod user_agent;

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;
use routr_sip::{
    digest::{Algorithm, Challenge, Login, Qop, Signed},
    message::{Message, StreamParser},
};
use user_agent::UserAgent;

const DEADLINE: Duration = Duration::from_secs(120);

async fn start(options: RegistrarOptions) -> (Registrar, CancellationToken) {
    let shutdown = CancellationToken::new();
    (Registrar::start(options, shutdown.clone()).await.unwrap(), shutdown)
}

fn closed() -> RegistrarOptions {
    RegistrarOptions::udp_and_tcp().account("alice", "right").account("bob", "his")
}

/// A registrar open to everybody, that behaves so to alice.
async fn behaving(behaviour: Behaviour) -> (Registrar, UserAgent) {
    let (registrar, _) = start(RegistrarOptions::default()).await;
    registrar.behave("alice", behaviour);
    let phone = UserAgent::new(&registrar, "alice", "").await;
    (registrar, phone)
}

#[tokio::test]
async fn registers_by_digest_over_udp_and_says_what_it_saw() {
    let (registrar, shutdown) = start(closed()).await;
    let mut alice = UserAgent::new(&registrar, "alice", "right").await;
    let first = alice.once().await;
    let challenge = Challenge::from_response(&first).unwrap().unwrap();
    assert_eq!((first.code, challenge.algorithm, challenge.qop), (401, Algorithm::Md5, Some(Qop::Auth)));
    assert!(!challenge.stale && !challenge.proxy);
    let request = alice.answering(&challenge, "UDP");
    alice.send(&request).await;
    let ok = alice.receive().await;
    assert_eq!(ok.code, 200);
    assert_eq!(ok.headers.get("Contact"), Some("<sip:alice@127.0.0.1:9>;expires=600"));
    assert!(ok.headers.to_tag().is_some());
    let via = ok.headers.via().unwrap();
    let port = alice.socket.local_addr().unwrap().port().to_string();
    assert_eq!(via.param("received"), Some(Some("127.0.0.1")));
    assert_eq!(via.param("rport"), Some(Some(port.as_str())));

    let bindings = registrar.bindings();
    let [binding] = bindings["alice@sip.net"].as_slice() else { panic!("one binding") };
    assert_eq!((binding.call_id.as_str(), binding.cseq, binding.granted_s), ("call-alice", 2, 600));
    let log = registrar.log();
    let seen: Vec<_> =
        log.iter().map(|s| (s.user.as_str(), s.call_id.as_str(), s.cseq, s.code, s.authorised)).collect();
    assert_eq!(
        seen,
        [("alice", "call-alice", 1, Some(401), false), ("alice", "call-alice", 2, Some(200), true)]
    );
    assert_eq!((log[0].request_uri.as_str(), log[0].expires), ("sip:sip.net", Some(600)));
    let counters = registrar.counters();
    assert_eq!((counters.registers, counters.of(401), counters.of(200), counters.authorised), (2, 1, 1, 1));
    assert!((1..=2).contains(&registrar.max_rate()));
    registrar.clear_journal();
    assert_eq!((registrar.log(), registrar.counters()), (vec![], Counters::default()));
    shutdown.cancel();
    registrar.stop().await;
}

#[tokio::test]
async fn registers_over_tcp_several_on_one_connection() {
    let (registrar, _) = start(closed()).await;
    let mut stream = TcpStream::connect(registrar.address(Transport::Tcp).unwrap()).await.unwrap();
    assert_eq!(registrar.address(Transport::Tcp), registrar.address(Transport::Udp));
    let mut parser = StreamParser::new();
    let mut next = async |stream: &mut TcpStream| loop {
        if let Some(message) = parser.next().unwrap() {
            let Message::Response(response) = message else { panic!("{message:?}") };
            return response;
        }
        let mut buffer = [0; 1000];
        let length = timeout(DEADLINE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(length > 0, "the connection was closed");
        parser.push(&buffer[..length]);
    };
    let mut alice = UserAgent::new(&registrar, "alice", "right").await;
    let mut bob = UserAgent::new(&registrar, "bob", "his").await;
    // Both in one piece, after a keep-alive.
    let mut bytes = b"\r\n\r\n".to_vec();
    for phone in [&mut alice, &mut bob] {
        bytes.extend(phone.request("TCP").to_bytes().unwrap());
    }
    stream.write_all(&bytes).await.unwrap();
    for phone in [&mut alice, &mut bob] {
        let challenge = Challenge::from_response(&next(&mut stream).await).unwrap().unwrap();
        let request = phone.answering(&challenge, "TCP").to_bytes().unwrap();
        let (head, tail) = request.split_at(40);
        stream.write_all(head).await.unwrap();
        stream.write_all(tail).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(next(&mut stream).await.code, 200);
    }
    assert_eq!(registrar.bindings().len(), 2);
    assert_eq!(registrar.log()[0].transport, Transport::Tcp);
    // A forced disconnect shows over TCP.
    registrar.behave("alice", Behaviour::Disconnect);
    stream.write_all(&alice.request("TCP").to_bytes().unwrap()).await.unwrap();
    assert_eq!(timeout(DEADLINE, stream.read(&mut [0; 100])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn challenges_as_it_is_set_up() {
    for (algorithms, qop_auth, as_proxy) in [
        (vec![Algorithm::Sha256], true, false),
        (vec![Algorithm::Sha256, Algorithm::Md5], false, false),
        (vec![Algorithm::Md5], true, true),
    ] {
        let (registrar, _) =
            start(RegistrarOptions { algorithms: algorithms.clone(), qop_auth, as_proxy, ..closed() }).await;
        let mut alice = UserAgent::new(&registrar, "alice", "right").await;
        let first = alice.once().await;
        assert_eq!(first.code, if as_proxy { 407 } else { 401 });
        let challenge = Challenge::from_response(&first).unwrap().unwrap();
        assert_eq!((challenge.algorithm, challenge.qop.is_some()), (algorithms[0], qop_auth));
        assert_eq!(alice.register().await.code, 200, "{algorithms:?}");
    }
}

#[tokio::test]
async fn wrong_passwords_unknown_accounts_and_logins() {
    let options = closed().account_with_login("carol", Some("login"), "right");
    let (registrar, _) = start(options).await;
    let mut wrong = UserAgent::new(&registrar, "alice", "wrong").await;
    let answer = wrong.register().await;
    assert_eq!(answer.code, 401);
    assert!(!Challenge::from_response(&answer).unwrap().unwrap().stale);
    assert_eq!(registrar.counters().wrong_passwords, 1);
    let mut unknown = UserAgent::new(&registrar, "dave", "right").await;
    assert_eq!(unknown.register().await.code, 404);
    // The right password of another user does not help, nor the address of record in place of the login.
    let mut carol = UserAgent::new(&registrar, "carol", "right").await;
    assert_eq!(carol.register().await.code, 401);
    let challenge = Challenge::from_response(&carol.once().await).unwrap().unwrap();
    let mut request = carol.request("UDP");
    let login = Login { username: "login", password: &Secret::new("right") };
    let signed = Signed { method: "REGISTER", uri: "sip:sip.net", body: b"" };
    let (name, value) = challenge.authorize(login, signed, "cnonce", 1).header();
    request.headers.push(name, value).unwrap();
    carol.send(&request).await;
    assert_eq!(carol.receive().await.code, 200);
    assert_eq!(registrar.bindings().keys().collect::<Vec<_>>(), ["carol@sip.net"]);
    registrar.set_password("alice", "wrong");
    assert_eq!(wrong.register().await.code, 200);
    registrar.remove_account("alice");
    assert_eq!(wrong.register().await.code, 404);

    let (registrar, _) = start(RegistrarOptions { forbid_wrong_passwords: true, ..closed() }).await;
    let mut wrong = UserAgent::new(&registrar, "alice", "wrong").await;
    assert_eq!(wrong.register().await.code, 403);
}

#[tokio::test]
async fn a_stale_nonce_is_said_to_be_and_its_answer_is_still_good() {
    let (registrar, _) = start(closed()).await;
    let mut alice = UserAgent::new(&registrar, "alice", "right").await;
    let old = Challenge::from_response(&alice.once().await).unwrap().unwrap();
    registrar.forget_nonces();
    let request = alice.answering(&old, "UDP");
    alice.send(&request).await;
    let fresh = Challenge::from_response(&alice.receive().await).unwrap().unwrap();
    assert!(fresh.stale && fresh.nonce != old.nonce);
    assert_eq!((registrar.counters().stale_nonces, registrar.counters().wrong_passwords), (1, 0));
    // A wrong password is not stale, however old the nonce.
    alice.password = "wrong";
    let request = alice.answering(&old, "UDP");
    alice.send(&request).await;
    assert!(!Challenge::from_response(&alice.receive().await).unwrap().unwrap().stale);
    alice.password = "right";
    let request = alice.answering(&fresh, "UDP");
    alice.send(&request).await;
    assert_eq!(alice.receive().await.code, 200);
}

#[tokio::test]
async fn an_answer_for_another_uri_is_refused() {
    let (registrar, _) = start(closed()).await;
    let mut alice = UserAgent::new(&registrar, "alice", "right").await;
    let challenge = Challenge::from_response(&alice.once().await).unwrap().unwrap();
    let mut request = alice.request("UDP");
    let login = Login { username: "alice", password: &Secret::new("right") };
    let signed = Signed { method: "REGISTER", uri: "sip:other.net", body: b"" };
    let (name, value) = challenge.authorize(login, signed, "cnonce", 1).header();
    request.headers.push(name, value).unwrap();
    alice.send(&request).await;
    assert_eq!(alice.receive().await.code, 400);
    assert!(registrar.bindings().is_empty());
}

#[tokio::test]
async fn the_cseq_rule_and_retransmissions() {
    let (registrar, _) = start(RegistrarOptions::default()).await;
    let mut alice = UserAgent::new(&registrar, "alice", "").await;
    let request = alice.request("UDP");
    let mut tags = Vec::new();
    for _ in 0..2 {
        alice.send(&request).await;
        let answer = alice.receive().await;
        assert_eq!(answer.code, 200);
        tags.push(answer.headers.to_tag());
    }
    assert_eq!(tags[0], tags[1], "one request, one answer");
    assert_eq!((registrar.counters().retransmissions, registrar.counters().cseq_not_rising), (1, 0));
    alice.cseq = 0;
    assert_eq!(alice.once().await.code, 400);
    assert_eq!(registrar.counters().cseq_not_rising, 1);
    alice.cseq = 7;
    alice.expires = 0;
    let gone = alice.once().await;
    assert_eq!((gone.code, gone.headers.get("Contact")), (200, None));
    assert!(registrar.bindings().is_empty());
}

#[tokio::test]
async fn behaviours_that_answer_something_else() {
    let (_registrar, mut alice) = behaving(Behaviour::Unavailable { retry_after: Some(120) }).await;
    let answer = alice.once().await;
    assert_eq!((answer.code, answer.headers.retry_after()), (503, Some(120)));

    let contact = "sip:127.0.0.1:5099;transport=tcp".to_owned();
    let (registrar, mut alice) =
        behaving(Behaviour::Redirect { code: 302, contact: contact.clone(), expires: Some(60) }).await;
    let answer = alice.once().await;
    assert_eq!(
        (answer.code, answer.headers.get("Contact")),
        (302, Some("<sip:127.0.0.1:5099;transport=tcp>;expires=60"))
    );
    registrar.behave("alice", Behaviour::Redirect { code: 301, contact, expires: None });
    let answer = alice.once().await;
    assert_eq!(
        (answer.code, answer.headers.get("Contact")),
        (301, Some("<sip:127.0.0.1:5099;transport=tcp>"))
    );

    let headers = vec![("X-Why".to_owned(), "because".to_owned())];
    registrar.behave("alice", Behaviour::Code { code: 433, phrase: "Anonymity Disallowed".into(), headers });
    let answer = alice.once().await;
    assert_eq!(
        (answer.code, answer.reason.as_str(), answer.headers.get("X-Why")),
        (433, "Anonymity Disallowed", Some("because"))
    );
    assert!(registrar.bindings().is_empty());
    assert_eq!(registrar.counters().of(433), 1);

    registrar.behave("alice", Behaviour::BadExtension);
    alice.extra = vec![("Require", "gin, path".to_owned())];
    let answer = alice.once().await;
    assert_eq!((answer.code, answer.headers.get("Unsupported")), (420, Some("gin, path")));
    assert_eq!(registrar.log().last().unwrap().require, ["gin", "path"]);
    alice.extra.clear();
    assert_eq!(alice.once().await.code, 200, "nothing is required any more");

    registrar.behave_as_others("alice");
    registrar.behave_all_for(Behaviour::Unavailable { retry_after: None }, 1);
    assert_eq!(alice.once().await.code, 503);
    assert_eq!(alice.once().await.code, 200);
}

#[tokio::test]
async fn a_strict_registrar_refuses_unknown_tags_and_a_user_in_the_request_uri() {
    let (registrar, _) = start(RegistrarOptions { strict: true, ..RegistrarOptions::default() }).await;
    let mut alice = UserAgent::new(&registrar, "alice", "").await;
    alice.extra = vec![("Require", "gin".to_owned()), ("Require", "path".to_owned())];
    let answer = alice.once().await;
    assert_eq!((answer.code, answer.headers.get("Unsupported")), (420, Some("gin")));
    alice.extra = vec![("Require", "path".to_owned())];
    assert_eq!(alice.once().await.code, 200);
    let mut request = alice.request("UDP");
    request.uri.user = Some("alice".to_owned());
    alice.send(&request).await;
    assert_eq!(alice.receive().await.code, 400);
}

#[tokio::test]
async fn min_expires_and_claimed_expiry() {
    let (registrar, mut alice) = behaving(Behaviour::TooBrief { min_expires: 900 }).await;
    let answer = alice.once().await;
    assert_eq!((answer.code, answer.headers.min_expires()), (423, Some(900)));
    alice.expires = 900;
    assert_eq!(alice.once().await.code, 200);
    for claimed in [0, -1, 99_999_999_999] {
        registrar.behave("alice", Behaviour::ClaimExpires(claimed));
        let answer = alice.once().await;
        let contact = format!("<sip:alice@127.0.0.1:9>;expires={claimed}");
        assert_eq!((answer.code, answer.headers.get("Contact")), (200, Some(contact.as_str())));
    }
}

#[tokio::test]
async fn silence_dropping_and_delay() {
    let (registrar, mut alice) = behaving(Behaviour::Silence).await;
    let request = alice.request("UDP");
    alice.send(&request).await;
    // Responses come in order: that of another user is the next one to arrive.
    alice.user = "bob";
    assert_eq!(alice.once().await.headers.call_id(), Some("call-bob"));
    assert_eq!((registrar.counters().silent, registrar.log()[0].code), (1, None));

    registrar.behave("bob", Behaviour::DropNth(2));
    let mut cseqs = Vec::new();
    for _ in 0..3 {
        let request = alice.request("UDP");
        alice.send(&request).await;
    }
    for _ in 0..2 {
        cseqs.push(alice.receive().await.headers.cseq().unwrap().0);
    }
    assert_eq!(cseqs, [3, 5]);

    registrar.behave("bob", Behaviour::TryingFirst(Duration::from_millis(20)));
    let codes = [alice.once().await.code, alice.receive().await.code];
    assert_eq!(codes, [100, 200]);

    registrar.clear_journal();
    registrar.behave("bob", Behaviour::Delay(Duration::from_millis(50)));
    let (first, second) = (alice.request("UDP"), alice.request("UDP"));
    let sent = Instant::now();
    for request in [&first, &first, &second] {
        alice.send(request).await;
    }
    for _ in 0..3 {
        assert_eq!(alice.receive().await.code, 200);
    }
    assert!(sent.elapsed() >= Duration::from_millis(50));
    // The repetition of one request is not a second one in flight.
    assert_eq!((registrar.counters().overlapping, registrar.counters().retransmissions), (1, 1));
}

#[tokio::test]
async fn what_is_not_a_register_is_counted_or_answered() {
    let (registrar, _) = start(RegistrarOptions { log_capacity: 2, ..RegistrarOptions::default() }).await;
    let mut alice = UserAgent::new(&registrar, "alice", "").await;
    for bytes in [&b"\r\n\r\n"[..], b"\0\0", b"hello", b"SIP/2.0 200 OK\r\n\r\n"] {
        alice.socket.send(bytes).await.unwrap();
    }
    for (method, code) in [("OPTIONS", 200), ("INVITE", 405), ("REGISTER", 400)] {
        let mut request = alice.request("UDP");
        request.method = method.to_owned();
        request.headers.set("CSeq", "1 OTHER").unwrap();
        alice.send(&request).await;
        assert_eq!(alice.receive().await.code, code, "{method}");
    }
    assert_eq!(registrar.counters().malformed, 3);
    alice.extra = vec![("X-Gateway-Auth", "c2VjcmV0".to_owned())];
    for _ in 0..3 {
        assert_eq!(alice.once().await.code, 200);
    }
    assert_eq!(registrar.counters().gateway_auth_leaks, 3);
    let log = registrar.log();
    assert_eq!(log.len(), 2, "the log is bounded");
    assert!(!format!("{log:?}").contains("c2VjcmV0"));
}

#[tokio::test]
async fn stops_and_listens_again_with_what_it_knew() {
    let (registrar, _) = start(RegistrarOptions::udp_and_tcp()).await;
    let mut alice = UserAgent::new(&registrar, "alice", "").await;
    assert_eq!(alice.once().await.code, 200);
    registrar.stop().await;
    let address = registrar.address(Transport::Tcp).unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    registrar.resume().await.unwrap();
    assert_eq!(registrar.bindings().len(), 1);
    assert_eq!(alice.once().await.code, 200);
    assert!(TcpStream::connect(address).await.is_ok());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let (registrar, _) = start(RegistrarOptions::default()).await;
    let listen = registrar.addresses().to_vec();
    let options = RegistrarOptions { listen, ..RegistrarOptions::default() };
    let error = Registrar::start(options, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("UDP {}: cannot listen", registrar.addresses()[0].1)), "{error}");
    let listen = vec![(Transport::Ws, options::loopback(0))];
    let options = RegistrarOptions { listen, ..RegistrarOptions::default() };
    let error = Registrar::start(options, CancellationToken::new()).await.unwrap_err().to_string();
    assert_eq!(error, "transport WS: must be UDP or TCP");
}

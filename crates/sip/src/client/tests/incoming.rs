//! Requests that come to where ours came from.

use routr_environment::testing::CapturedLog;
use tokio::net::UdpSocket;

use super::*;

/// Lines of the log that name a source.
fn warnings(log: &CapturedLog) -> usize {
    log.text().lines().filter(|line| line.contains("WARN") && line.contains("the note")).count()
}

/// Returns a request with the parts that a test wants to change.
fn text(method: &str, via: &str, to: &str, more: &str) -> String {
    format!(
        "{method} sip:alice@127.0.0.1 SIP/2.0\r\nVia: {via}\r\nFrom: <sip:p@provider.example>;tag=p1\r\n\
         To: {to}\r\nCall-ID: c1\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

const VIA: &str = "SIP/2.0/UDP provider.example;branch=z9hG4bKabc;rport";
const TO: &str = "<sip:alice@127.0.0.1>";

async fn setup() -> (Client, SocketAddr, UdpSocket) {
    let bind = Ipv4Addr::LOCALHOST.into();
    let options = ClientOptions { bind, incoming_note: "the note", ..ClientOptions::default() };
    let client = Client::start(options).unwrap();
    let to = Destination { host: "127.0.0.1".into(), port: Some(9), transport: Transport::Udp };
    let ours = client.local_address(&to).await.unwrap();
    (client, ours, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
}

async fn receive(socket: &UdpSocket) -> Response {
    let mut buffer = vec![0; 65_536];
    let (length, _) = within(socket.recv_from(&mut buffer)).await.unwrap();
    match Message::parse_datagram(&buffer[..length]) {
        Ok(Message::Response(response)) => response,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn n10_options_are_answered() {
    let (_client, ours, socket) = setup().await;
    let vias = format!("{VIA}, SIP/2.0/TCP before.example;branch=z9hG4bKdef");
    socket.send_to(text("OPTIONS", &vias, TO, "").as_bytes(), ours).await.unwrap();
    let response = receive(&socket).await;
    assert_eq!((response.code, response.reason.as_str()), (200, "OK"));
    let vias: Vec<_> = response.headers.list("Via").collect();
    let port = socket.local_addr().unwrap().port();
    let first = format!("SIP/2.0/UDP provider.example;branch=z9hG4bKabc;received=127.0.0.1;rport={port}");
    assert_eq!(vias, [first.as_str(), "SIP/2.0/TCP before.example;branch=z9hG4bKdef"]);
    assert!(response.headers.to_tag().is_some_and(|tag| !tag.is_empty()));
    assert_eq!(response.headers.from_tag().as_deref(), Some("p1"));
    assert_eq!((response.headers.call_id(), response.headers.cseq()), (Some("c1"), Some((1, "OPTIONS"))));
    assert!(response.headers.get("Allow").is_some_and(|allow| allow.contains("OPTIONS")));
    assert_eq!(response.headers.get("Accept"), Some("application/sdp"));
}

#[tokio::test]
async fn n10_other_requests_get_the_code_that_the_rfc_names() {
    let (client, ours, socket) = setup().await;
    let dialog = "<sip:alice@127.0.0.1>;tag=mine";
    for (method, to, more, code) in [
        ("INVITE", TO, "", 480),
        ("INVITE", dialog, "", 481),
        ("CANCEL", TO, "", 481),
        ("BYE", dialog, "", 481),
        ("NOTIFY", TO, "Event: message-summary\r\n", 481),
        ("SUBSCRIBE", TO, "Event: presence\r\n", 489),
        ("SUBSCRIBE", dialog, "Event: presence\r\n", 481),
        ("PUBLISH", TO, "Event: presence\r\n", 489),
        ("MESSAGE", TO, "", 405),
        ("REFER", TO, "", 405),
        ("REGISTER", TO, "", 405),
        ("BREW", TO, "", 501),
        ("OPTIONS", TO, "Require: gin, foo\r\n", 420),
    ] {
        socket.send_to(text(method, VIA, to, more).as_bytes(), ours).await.unwrap();
        let response = receive(&socket).await;
        assert_eq!(response.code, code, "{method} {to}");
        assert_eq!(response.headers.get("Allow").is_some(), matches!(code, 405 | 501), "{method}");
        let unsupported: Vec<_> = response.headers.list("Unsupported").collect();
        assert_eq!(unsupported, if code == 420 { vec!["gin", "foo"] } else { vec![] });
        assert_eq!(response.headers.to_tag().as_deref() == Some("mine"), to == dialog);
    }
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn n10_one_line_for_each_source_host() {
    // See requester/tests/secrecy.rs: with one subscriber alone, a line that another thread reaches first is
    // lost.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let captured = CapturedLog::default();
    let _guard = tracing::subscriber::set_default(
        tracing_subscriber::fmt().with_ansi(false).with_writer(captured.writer()).finish(),
    );
    let (_client, ours, socket) = setup().await;
    for method in ["OPTIONS", "INVITE", "INVITE", "BYE"] {
        socket.send_to(text(method, VIA, TO, "").as_bytes(), ours).await.unwrap();
        receive(&socket).await;
        assert_eq!(warnings(&captured), usize::from(method != "OPTIONS"));
    }
    let other = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    other.send_to(text("INVITE", VIA, TO, "").as_bytes(), ours).await.unwrap();
    receive(&other).await;
    assert_eq!(warnings(&captured), 2);
}

#[tokio::test]
async fn n10_what_cannot_be_answered_is_not() {
    let (_client, ours, socket) = setup().await;
    let good = text("OPTIONS", VIA, TO, "");
    let silent = [
        text("ACK", VIA, TO, ""),
        good.replace("Via: ", "X-Via: "),
        good.replace(VIA, "nonsense"),
        good.replace("From: ", "X-From: "),
        good.replace("To: ", "X-To: "),
        good.replace("Call-ID: ", "X-Call-ID: "),
        good.replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE"),
        good.replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"),
        "OPTIONS".to_owned(),
        "\r\n\r\n".to_owned(),
        // Not even as a response to be passed on.
        good.replace("OPTIONS sip:alice@127.0.0.1 SIP/2.0", "SIP/2.0 200 OK"),
    ];
    for request in silent {
        socket.send_to(request.as_bytes(), ours).await.unwrap();
    }
    // They are taken in turn: the first response is that to the last request.
    socket.send_to(good.replace("Call-ID: c1", "Call-ID: last").as_bytes(), ours).await.unwrap();
    assert_eq!(receive(&socket).await.headers.call_id(), Some("last"));
}

#[tokio::test]
async fn n10_a_response_never_goes_to_another_host() {
    let (_client, ours, socket) = setup().await;
    let victim = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let at = victim.local_addr().unwrap();
    for via in [
        format!("SIP/2.0/UDP {at};branch=z9hG4bK1;rport"),
        format!("SIP/2.0/UDP {at};branch=z9hG4bK1;rport={};received=127.0.0.2", at.port()),
        "SIP/2.0/UDP 127.0.0.2;maddr=127.0.0.2;received=127.0.0.2;branch=z9hG4bK1".to_owned(),
    ] {
        socket.send_to(text("OPTIONS", &via, TO, "").as_bytes(), ours).await.unwrap();
        let response = receive(&socket).await;
        assert_eq!(response.headers.via().unwrap().param("received"), Some(Some("127.0.0.1")));
    }
    assert!(victim.try_recv(&mut [0; 1]).is_err());
    // Without rport, the port that Via names, on the host that sent it (RFC 3261 §18.2.2).
    let other_port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let via = format!("SIP/2.0/UDP {};branch=z9hG4bK1", other_port.local_addr().unwrap());
    socket.send_to(text("OPTIONS", &via, TO, "").as_bytes(), ours).await.unwrap();
    assert_eq!(receive(&other_port).await.headers.via().unwrap().param("received"), None);
}

#[tokio::test]
async fn n10_responses_are_bounded_for_each_source() {
    let (_client, ours, socket) = setup().await;
    let calm = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let request = text("OPTIONS", VIA, TO, "");
    let began = tokio::time::Instant::now();
    for _ in 0..1000 {
        socket.send_to(request.as_bytes(), ours).await.unwrap();
        tokio::task::yield_now().await;
    }
    // Another source still gets a response, and after that all of the first have been looked at.
    calm.send_to(request.as_bytes(), ours).await.unwrap();
    receive(&calm).await;
    let windows = 2 + began.elapsed().as_secs() as usize;
    let mut answered = 0;
    while socket.try_recv(&mut [0; 2048]).is_ok() {
        answered += 1;
    }
    assert!((1..=100 * windows).contains(&answered), "{answered} in {windows} windows");
}

#[tokio::test]
async fn n10_a_request_over_a_connection_is_answered_there_and_disturbs_nothing() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let server = Server::start(transport, Timers::default()).await;
        let client = server.client();
        let sending = tokio::spawn({
            let (client, to) = (client.clone(), server.to.clone());
            async move { client.send(register(1), &to).await }
        });
        let (mut requests, mut writer) = server.accept().await;
        let asked = requests.next().await.unwrap();
        // With our own branch, Call-ID and CSeq number, before the response.
        let via = asked.headers.get("Via").unwrap().to_owned();
        write(&mut writer, text("OPTIONS", &via, TO, "").as_bytes()).await;
        write(&mut writer, text("ACK", &via, TO, "").as_bytes()).await;
        write(&mut writer, text("INVITE", &via, TO, "").as_bytes()).await;
        let mut buffer = [0; 4096];
        for code in [200, 480] {
            let response = loop {
                match requests.parser.next().unwrap() {
                    Some(Message::Response(response)) => break response,
                    Some(other) => panic!("{other:?}"),
                    None => {
                        let length = within(requests.reader.read(&mut buffer)).await.unwrap();
                        requests.parser.push(&buffer[..length]);
                    }
                }
            };
            assert_eq!(response.code, code);
        }
        write(&mut writer, &answer(&asked, 200)).await;
        assert_eq!(within(sending).await.unwrap().unwrap().0.code, 200);
    }
}

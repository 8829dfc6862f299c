use tokio::net::UdpSocket;

use super::*;

async fn socket() -> (UdpSocket, Destination) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = destination(socket.local_addr().unwrap(), Transport::Udp);
    (socket, to)
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (length, from) = within(socket.recv_from(&mut buffer)).await.unwrap();
    buffer.truncate(length);
    (buffer, from)
}

#[tokio::test]
async fn a_provisional_response_is_awaited_and_never_returned() {
    let (socket, to) = socket().await;
    let client = client(Timers::default());
    let sending = tokio::spawn({
        let client = client.clone();
        async move { client.send(register(1), &to).await }
    });
    let (bytes, from) = receive(&socket).await;
    let asked = request(&bytes);
    let via = asked.headers.via().unwrap();
    assert_eq!(
        (via.host.as_str(), via.port, via.transport.as_str()),
        ("127.0.0.1", Some(from.port()), "UDP")
    );
    assert!(via.param("rport") == Some(None) && via.branch().unwrap().starts_with("z9hG4bK"));
    assert_eq!(asked.headers.get_all("Via").count(), 1);
    // Messages that are no response to this request: noise, another branch, another method, no Via at all.
    let other_branch = String::from_utf8(answer(&asked, 500)).unwrap().replace("z9hG4bK", "z9hG4bKf");
    let other_method = String::from_utf8(answer(&asked, 500)).unwrap().replace("1 REGISTER", "1 OPTIONS");
    let noise: [&[u8]; 6] = [
        b"\r\n\r\n",
        b"\xff\x00nonsense",
        other_branch.as_bytes(),
        other_method.as_bytes(),
        b"SIP/2.0 500 No\r\nCSeq: 1 REGISTER\r\n\r\n",
        &bytes,
    ];
    for datagram in noise {
        socket.send_to(datagram, from).await.unwrap();
    }
    for code in [100, 180, 200, 200, 500] {
        socket.send_to(&answer(&asked, code), from).await.unwrap();
    }
    assert_eq!(within(sending).await.unwrap().unwrap().0.code, 200);
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn a_lost_request_is_sent_again_unchanged() {
    let (socket, to) = socket().await;
    let sending = tokio::spawn(async move { client(quick()).send(register(1), &to).await });
    let (first, _) = receive(&socket).await;
    let (second, _) = receive(&socket).await;
    let (third, from) = receive(&socket).await;
    assert!(first == second && second == third);
    socket.send_to(&answer(&request(&third), 401), from).await.unwrap();
    assert_eq!(within(sending).await.unwrap().unwrap().0.code, 401);
}

#[tokio::test]
async fn silence_ends_with_timer_f() {
    let (socket, to) = socket().await;
    let client = client(quick());
    let began = tokio::time::Instant::now();
    assert_eq!(within(client.send(register(1), &to)).await, Err(ClientError::Timeout));
    assert!(began.elapsed() >= quick().f());
    assert_eq!(client.in_flight(), 0);
    let mut buffer = [0; 2048];
    let mut sent = 0;
    while socket.try_recv(&mut buffer).is_ok() {
        sent += 1;
    }
    // E: 20, 60, 140, 220 ... ms: 1 + 17 in 1,280 ms; a busy machine leaves some out.
    assert!((5..=18).contains(&sent), "{sent}");
}

#[tokio::test]
async fn giving_up_forgets_the_transaction() {
    let (socket, to) = socket().await;
    let client = client(Timers::default());
    let sending = tokio::spawn({
        let client = client.clone();
        async move { client.send(register(1), &to).await }
    });
    let (bytes, from) = receive(&socket).await;
    assert_eq!(client.in_flight(), 1);
    sending.abort();
    assert!(within(sending).await.unwrap_err().is_cancelled());
    assert_eq!(client.in_flight(), 0);
    socket.send_to(&answer(&request(&bytes), 200), from).await.unwrap();
}

#[tokio::test]
async fn two_thousand_in_flight_are_all_answered() {
    let (socket, to) = socket().await;
    let client = client(quick());
    tokio::spawn(async move {
        // The whole crowd waits before the first gets its response; what the kernel drops is sent again.
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&answer(&request(&buffer[..length]), 200), from).await.unwrap();
        }
    });
    let all = (0..2000).map(|number| client.send(register(number), &to));
    for (number, outcome) in within(futures_util::future::join_all(all)).await.into_iter().enumerate() {
        assert_eq!(outcome.unwrap().0.headers.call_id(), Some(format!("call-{number}").as_str()));
    }
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn a_client_that_is_dropped_leaves_nothing_behind() {
    let (socket, to) = socket().await;
    let client = client(quick());
    let port = client.local_address(&to).await.unwrap().port();
    drop(client);
    within(async {
        // The port is free again once the tasks have ended.
        while UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(socket);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused() {
    let (_socket, to) = socket().await;
    let client = client(quick());
    let mut large = register(1);
    large.body = vec![b'x'; MAX_DATAGRAM];
    assert!(matches!(client.send(large, &to).await, Err(ClientError::TooLarge { limit: MAX_DATAGRAM, .. })));
    let mut larger = register(1);
    larger.body = vec![b'x'; 70_000];
    assert!(matches!(client.send(larger, &to).await, Err(ClientError::TooLarge { limit: 65_536, .. })));
    let mut broken = register(1);
    broken.method = "REGISTER sip:x SIP/2.0\r\nX:".into();
    assert!(matches!(client.send(broken, &to).await, Err(ClientError::Invalid(_))));
    for transport in [Transport::Sctp, Transport::Ws, Transport::Wss, Transport::Tls] {
        let to = Destination { transport, ..to.clone() };
        assert_eq!(client.send(register(1), &to).await, Err(ClientError::UnsupportedTransport(transport)));
    }
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn host_names_are_looked_up() {
    let (socket, mut to) = socket().await;
    let client = client(Timers::default());
    to.host = "no-such-host.invalid".into();
    let error = within(client.send(register(1), &to)).await.unwrap_err();
    assert_eq!(error, ClientError::Resolve("unknown to the DNS".into()));
    to.host = "not a host name".into();
    assert!(matches!(within(client.send(register(1), &to)).await, Err(ClientError::Resolve(_))));
    // This socket is bound to IPv4.
    to.host = "::1".into();
    assert!(matches!(within(client.send(register(1), &to)).await, Err(ClientError::Resolve(_))));
    to.host = "localhost".into();
    let sending = tokio::spawn(async move { client.send(register(2), &to).await });
    let (bytes, from) = receive(&socket).await;
    socket.send_to(&answer(&request(&bytes), 200), from).await.unwrap();
    assert_eq!(within(sending).await.unwrap().unwrap().0.code, 200);
}

#[tokio::test]
async fn our_own_address_is_that_of_the_route() {
    let client = Client::start(ClientOptions::default()).unwrap();
    let to = Destination { host: "127.0.0.1".into(), port: Some(5060), transport: Transport::Udp };
    let udp = client.local_address(&to).await.unwrap();
    assert_eq!(udp.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    let tcp = client.local_address(&Destination { transport: Transport::Tcp, ..to }).await.unwrap();
    assert_eq!(udp, tcp);
    let taken = ClientOptions { udp_port: udp.port(), ..ClientOptions::default() };
    assert!(matches!(Client::start(taken), Err(ClientError::Transport(_))));
}

#[tokio::test]
async fn a_response_from_elsewhere_or_for_another_sender_is_dropped_and_counted() {
    for (origin, expected, dropped) in [
        (ResponseOrigin::Registrar, 200, 3),
        (ResponseOrigin::AnyPort, 503, 1),
        (ResponseOrigin::Anywhere, 501, 0),
    ] {
        let (registrar, to) = socket().await;
        let elsewhere = UdpSocket::bind("127.0.0.77:0").await.unwrap();
        let other_port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let bind = Ipv4Addr::LOCALHOST.into();
        let options = ClientOptions { bind, responses_from: origin, ..ClientOptions::default() };
        let client = Client::start(options).unwrap();
        let sending = tokio::spawn({
            let client = client.clone();
            async move { client.send(register(1), &to).await }
        });
        let (bytes, from) = receive(&registrar).await;
        let asked = request(&bytes);
        elsewhere.send_to(&answer(&asked, 501), from).await.unwrap();
        other_port.send_to(&answer(&asked, 503), from).await.unwrap();
        // As if it were meant for another port of this host.
        let ours = format!("127.0.0.1:{}", from.port());
        let foreign = String::from_utf8(answer(&asked, 502)).unwrap().replace(&ours, "127.0.0.1:9");
        registrar.send_to(foreign.as_bytes(), from).await.unwrap();
        registrar.send_to(&answer(&asked, 200), from).await.unwrap();
        let (response, peer) = within(sending).await.unwrap().unwrap();
        assert_eq!((response.code, client.dropped_responses()), (expected, dropped), "{origin:?}");
        assert_eq!(peer.address(), registrar.local_addr().unwrap());
    }
}

#[tokio::test]
async fn a_response_may_come_from_another_address_of_the_name() {
    let registrar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = registrar.local_addr().unwrap().port();
    let other = UdpSocket::bind(("127.0.0.78", port)).await.unwrap();
    let options = ClientOptions { bind: Ipv4Addr::LOCALHOST.into(), ..ClientOptions::default() };
    let hosts = "127.0.0.1 registrar.test\n127.0.0.78 registrar.test\n";
    let client = Client::start_with_hosts(options, hosts).unwrap();
    let to = Destination { host: "registrar.test".to_owned(), port: Some(port), transport: Transport::Udp };
    let sending = tokio::spawn({
        let client = client.clone();
        async move { client.send(register(1), &to).await }
    });
    // Whichever it asks, the other one responds.
    let mut buffer = vec![0; 65_536];
    let (length, from, responds) = {
        let mut second = vec![0; 65_536];
        tokio::select! {
            received = registrar.recv_from(&mut buffer) => {
                let (length, from) = received.unwrap();
                (length, from, &other)
            }
            received = other.recv_from(&mut second) => {
                let (length, from) = received.unwrap();
                buffer[..length].copy_from_slice(&second[..length]);
                (length, from, &registrar)
            }
        }
    };
    responds.send_to(&answer(&request(&buffer[..length]), 200), from).await.unwrap();
    assert_eq!(within(sending).await.unwrap().unwrap().0.code, 200);
    assert_eq!(client.dropped_responses(), 0);
}

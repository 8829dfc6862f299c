use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::client::resolve::Names;

#[tokio::test]
async fn requests_and_responses_go_over_one_connection() {
    let (listener, address) = listen().await;
    let to = destination(address, Transport::Tcp);
    let client = client(Timers::default());
    let serving = tokio::spawn(async move {
        let (stream, peer) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut requests = Requests::new(reader);
        for code in [200, 403] {
            let asked = requests.next().await.unwrap();
            let via = asked.headers.via().unwrap();
            assert_eq!((via.transport.as_str(), via.port), ("TCP", Some(peer.port())));
            // A keep-alive, a request of the server's own, a message that cannot be read, then the responses,
            // byte by byte.
            let mut bytes =
                b"\r\n\r\nOPTIONS sip:x SIP/2.0\r\nContent-Length: 2\r\n\r\nhiNONSENSE\r\nl: 0\r\n\r\n"
                    .to_vec();
            bytes.extend(answer(&asked, 100));
            bytes.extend(answer(&asked, code));
            for byte in bytes {
                writer.write_all(&[byte]).await.unwrap();
            }
        }
        requests.next().await
    });
    for code in [200, 403] {
        assert_eq!(within(client.send(register(1), &to)).await.unwrap().0.code, code);
    }
    drop(client);
    // The connection ends with the client.
    assert_eq!(within(serving).await.unwrap(), None);
}

#[tokio::test]
async fn a_peer_that_closes_fails_its_transactions_at_once_and_the_next_request_reconnects() {
    let (listener, address) = listen().await;
    let to = destination(address, Transport::Tcp);
    let client = client(Timers::default());
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut requests = Requests::new(stream);
        for _ in 0..3 {
            requests.next().await.unwrap();
        }
        drop(requests);
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let asked = Requests::new(reader).next().await.unwrap();
        writer.write_all(&answer(&asked, 200)).await.unwrap();
    });
    // Timer F would be 32 s.
    let outcomes =
        within(futures_util::future::join_all((0..3).map(|n| client.send(register(n), &to)))).await;
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(error, ClientError::ConnectionLost("the peer closed it".into()));
    }
    assert_eq!(client.in_flight(), 0);
    assert_eq!(within(client.send(register(9), &to)).await.unwrap().0.code, 200);
    within(serving).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_speak_sip_is_said_to_do_so() {
    // The one cannot be taken apart into messages, the other can.
    for banner in
        ["220 mail.example ESMTP\r\nContent-Length: x\r\n\r\n", "NONSENSE\r\nContent-Length: 0\r\n\r\n"]
    {
        let (listener, address) = listen().await;
        let client = client(quick());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(banner.as_bytes()).await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
        match within(client.send(register(1), &destination(address, Transport::Tcp))).await.unwrap_err() {
            ClientError::ConnectionLost(text) => {
                assert!(text.starts_with("cannot parse what the peer sent"), "{text}");
            }
            ClientError::Unreadable(text) => assert!(text.contains("start line"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_thousand_first_requests_make_one_connection() {
    let (listener, address) = listen().await;
    let to = destination(address, Transport::Tcp);
    let client = client(Timers::default());
    let accepted = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let accepted = accepted.clone();
        async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let (reader, mut writer) = stream.into_split();
                    let mut requests = Requests::new(reader);
                    while let Some(asked) = requests.next().await {
                        writer.write_all(&answer(&asked, 200)).await.unwrap();
                    }
                });
            }
        }
    });
    let sends: Vec<_> = (0..1000)
        .map(|number| {
            let (client, to) = (client.clone(), to.clone());
            tokio::spawn(async move { client.send(register(number), &to).await })
        })
        .collect();
    for (number, send) in sends.into_iter().enumerate() {
        let (response, _) = within(send).await.unwrap().unwrap();
        assert_eq!(response.headers.call_id(), Some(format!("call-{number}").as_str()));
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_connection_is_an_error_at_once_for_all_who_wait() {
    let (listener, address) = listen().await;
    drop(listener);
    let (client, to) = (client(Timers::default()), destination(address, Transport::Tcp));
    let outcomes =
        within(futures_util::future::join_all((0..100).map(|n| client.send(register(n), &to)))).await;
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(error, ClientError::Transport("connection refused".into()));
    }
}

#[tokio::test]
async fn a_silent_connection_is_not_used_again() {
    let (listener, address) = listen().await;
    let to = destination(address, Transport::Tcp);
    let client = client(quick());
    let serving = tokio::spawn(async move {
        let (silent, _) = listener.accept().await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let asked = Requests::new(reader).next().await.unwrap();
        writer.write_all(&answer(&asked, 200)).await.unwrap();
        // The silent one is closed in the end, after its one request; the request was sent once only.
        let mut requests = Requests::new(silent);
        let first = requests.next().await.unwrap();
        assert_eq!(requests.next().await, None);
        first
    });
    assert_eq!(within(client.send(register(1), &to)).await, Err(ClientError::Timeout));
    assert_eq!(within(client.send(register(2), &to)).await.unwrap().0.code, 200);
    assert_eq!(within(serving).await.unwrap().headers.call_id(), Some("call-1"));
}

#[tokio::test]
async fn a_peer_that_does_not_read_does_not_hold_a_request_beyond_timer_f() {
    let (listener, address) = listen().await;
    let to = destination(address, Transport::Tcp);
    let client = client(quick());
    let accepting = tokio::spawn(async move { listener.accept().await.unwrap() });
    let sends = (0..3000).map(|number| {
        let mut request = register(number);
        request.body = vec![b'x'; 8_000];
        client.send(request, &to)
    });
    for outcome in within(futures_util::future::join_all(sends)).await {
        assert!(matches!(outcome, Err(ClientError::Timeout | ClientError::Transport(_))), "{outcome:?}");
    }
    assert_eq!(client.in_flight(), 0);
    drop(accepting);
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let (listener, address) = listen().await;
    // Nothing listens at the first address.
    let names = Names::with_hosts("127.0.0.2 two.example\n127.0.0.1 two.example\n").unwrap();
    let client = Client::start_with(ClientOptions::default(), names).unwrap();
    let to =
        Destination { host: "two.example".into(), port: Some(address.port()), transport: Transport::Tcp };
    let sending = tokio::spawn(async move { client.send(register(1), &to).await });
    let (stream, _) = within(listener.accept()).await.unwrap();
    let (reader, mut writer) = stream.into_split();
    let asked = Requests::new(reader).next().await.unwrap();
    writer.write_all(&answer(&asked, 200)).await.unwrap();
    let (response, peer) = within(sending).await.unwrap().unwrap();
    assert_eq!((response.code, peer.address()), (200, address));
}

#[tokio::test]
async fn the_cause_at_each_address_is_in_the_error() {
    let (listener, address) = listen().await;
    drop(listener);
    let names = Names::with_hosts("127.0.0.2 two.example\n127.0.0.1 two.example\n").unwrap();
    let client = Client::start_with(ClientOptions::default(), names).unwrap();
    let port = address.port();
    let to = Destination { host: "two.example".into(), port: Some(port), transport: Transport::Tcp };
    let error = within(client.send(register(1), &to)).await.unwrap_err();
    let text = format!("connection refused, at 127.0.0.2:{port}; connection refused, at 127.0.0.1:{port}");
    assert_eq!(error, ClientError::Transport(text.into()));
}

//! Connections that die, each in its own manner, over TCP and TLS.

use super::*;

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Tls];

/// A server whose first connection has a response to one request and is silent after that; the client has
/// sent that request.
async fn half_open(transport: Transport) -> (Server, Client, Peer, (Reader, Writer)) {
    let server = Server::start(transport, quick()).await;
    let client = server.client();
    let sending = tokio::spawn({
        let (client, to) = (client.clone(), server.to.clone());
        async move { client.send(register(1), &to).await }
    });
    let (mut requests, mut writer) = server.accept().await;
    let asked = requests.next().await.unwrap();
    write(&mut writer, &answer(&asked, 200)).await;
    let (_, peer) = within(sending).await.unwrap().unwrap();
    (server, client, peer, (requests, writer))
}

/// The next request goes over a new connection and gets its response.
async fn assert_heals(server: &Server, client: &Client, old: &Peer) {
    let (response, peer) = tokio::select! {
        sent = within(client.send(register(99), &server.to)) => sent.unwrap(),
        () = server.serve() => panic!("closed"),
    };
    assert_eq!(response.code, 200);
    assert_ne!(&peer, old);
}

#[tokio::test]
async fn n5_after_timer_f_the_next_request_makes_a_new_connection() {
    for transport in BOTH {
        let (server, client, peer, _silent) = half_open(transport).await;
        assert_eq!(within(client.send(register(2), &server.to)).await, Err(ClientError::Timeout));
        until(|| peer.connection().is_none()).await;
        assert_heals(&server, &client, &peer).await;
    }
}

#[tokio::test]
async fn n5_the_request_to_the_same_peer_makes_a_new_connection_too() {
    let (server, client, peer, _silent) = half_open(Transport::Tcp).await;
    let silence = within(client.send_to(register(2), &server.to, &peer)).await;
    assert_eq!(silence, Err(ClientError::Timeout));
    until(|| peer.connection().is_none()).await;
    let (client, to) = (client.clone(), server.to.clone());
    let sending = tokio::spawn(async move { client.send_to(register(3), &to, &peer).await });
    let (mut requests, mut writer) = server.accept().await;
    let asked = requests.next().await.unwrap();
    write(&mut writer, &answer(&asked, 200)).await;
    assert_eq!(within(sending).await.unwrap().unwrap().0.code, 200);
}

#[tokio::test]
async fn n5_a_caller_that_goes_away_does_not_hide_a_dead_connection() {
    for transport in BOTH {
        let (server, client, peer, (mut requests, _writer)) = half_open(transport).await;
        // The outer deadline is a fraction of Timer F, and there are several.
        for number in 2..5 {
            let abandoned = timeout(quick().f() / 16, client.send(register(number), &server.to)).await;
            assert!(abandoned.is_err());
            assert_eq!(requests.next().await.unwrap().headers.call_id(), Some(&*format!("call-{number}")));
        }
        assert_eq!(client.in_flight(), 0);
        until(|| peer.connection().is_none()).await;
        assert_heals(&server, &client, &peer).await;
    }
}

#[tokio::test]
async fn n5_an_outer_deadline_of_exactly_timer_f_does_not_either() {
    let (server, client, peer, _silent) = half_open(Transport::Tcp).await;
    let _ = timeout(quick().f(), client.send(register(2), &server.to)).await;
    until(|| peer.connection().is_none()).await;
    assert_heals(&server, &client, &peer).await;
}

#[tokio::test]
async fn n5_a_late_response_to_an_abandoned_request_keeps_the_connection() {
    let (server, client, peer, (mut requests, mut writer)) = half_open(Transport::Tcp).await;
    assert!(timeout(quick().f() / 16, client.send(register(2), &server.to)).await.is_err());
    let asked = requests.next().await.unwrap();
    write(&mut writer, &answer(&asked, 200)).await;
    let sending = tokio::spawn({
        let (client, to) = (client.clone(), server.to.clone());
        async move { client.send(register(3), &to).await }
    });
    let asked = requests.next().await.unwrap();
    write(&mut writer, &answer(&asked, 200)).await;
    assert_eq!(within(sending).await.unwrap().unwrap().1, peer);
}

#[tokio::test]
async fn n5_a_connection_that_dies_after_it_answered_some_of_a_crowd_is_found_out() {
    for transport in BOTH {
        let (server, client, peer, (mut requests, mut writer)) = half_open(transport).await;
        let crowd: Vec<_> = (2..12)
            .map(|number| {
                let (client, to) = (client.clone(), server.to.clone());
                tokio::spawn(async move { client.send(register(number), &to).await })
            })
            .collect();
        for _ in 0..5 {
            let asked = requests.next().await.unwrap();
            write(&mut writer, &answer(&asked, 200)).await;
        }
        let mut answered = 0;
        for sending in crowd {
            answered += usize::from(within(sending).await.unwrap().is_ok());
        }
        assert_eq!(answered, 5);
        until(|| peer.connection().is_none()).await;
        assert_heals(&server, &client, &peer).await;
    }
}

#[tokio::test]
async fn a_connection_that_answers_others_outlives_one_silent_transaction() {
    let server = Server::start(Transport::Tcp, quick()).await;
    let client = server.client();
    let serving = async {
        let (mut requests, mut writer) = server.accept().await;
        while let Some(asked) = requests.next().await {
            if asked.headers.call_id() != Some("call-1") {
                write(&mut writer, &answer(&asked, 200)).await;
            }
        }
    };
    let sending = async {
        let ignored = tokio::spawn({
            let (client, to) = (client.clone(), server.to.clone());
            async move { client.send(register(1), &to).await }
        });
        let (_, first) = within(client.send(register(2), &server.to)).await.unwrap();
        while !ignored.is_finished() {
            within(client.send(register(3), &server.to)).await.unwrap();
        }
        assert_eq!(ignored.await.unwrap(), Err(ClientError::Timeout));
        assert_eq!(within(client.send(register(4), &server.to)).await.unwrap().1, first);
    };
    tokio::select! {
        () = sending => (),
        () = serving => panic!("the connection was closed"),
    }
}

#[tokio::test]
async fn n5_bytes_that_never_make_a_response_are_silence() {
    for transport in BOTH {
        let (server, client, peer, (mut requests, mut writer)) = half_open(transport).await;
        // Half a response, then keep-alives and a header field that never ends, a byte at a time.
        let trickling = tokio::spawn(async move {
            let asked = requests.next().await.unwrap();
            let whole = answer(&asked, 200);
            write(&mut writer, &whole[..whole.len() - 2]).await;
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            loop {
                pace.tick().await;
                if writer.write_all(b"x").await.is_err() || writer.flush().await.is_err() {
                    return;
                }
            }
        });
        assert_eq!(within(client.send(register(2), &server.to)).await, Err(ClientError::Timeout));
        until(|| peer.connection().is_none()).await;
        assert_heals(&server, &client, &peer).await;
        trickling.abort();
    }
}

#[tokio::test]
async fn only_a_provisional_response_is_said_to_be_that() {
    let server = Server::start(Transport::Tcp, quick()).await;
    let client = server.client();
    let peer = async {
        let (mut requests, mut writer) = server.accept().await;
        let asked = requests.next().await.unwrap();
        write(&mut writer, &answer(&asked, 100)).await;
        requests.next().await
    };
    let outcome = tokio::select! {
        outcome = within(client.send(register(1), &server.to)) => outcome,
        _ = peer => panic!("closed"),
    };
    assert_eq!(outcome, Err(ClientError::OnlyProvisional(100)));
}

#[tokio::test]
async fn n5_a_reset_is_an_error_at_once_and_the_next_request_reconnects() {
    for transport in BOTH {
        let (server, client, peer, (mut requests, writer)) = half_open(transport).await;
        let sending = tokio::spawn({
            let (client, to) = (client.clone(), server.to.clone());
            async move { client.send(register(2), &to).await }
        });
        requests.next().await.unwrap();
        // What was not read when a socket is closed makes the kernel send a reset.
        tokio::spawn({
            let (client, to) = (client.clone(), server.to.clone());
            async move { client.send(register(3), &to).await }
        });
        until(|| client.in_flight() == 2).await;
        drop((requests, writer));
        let error = within(sending).await.unwrap().unwrap_err();
        assert!(matches!(error, ClientError::ConnectionLost(_)), "{error}");
        until(|| peer.connection().is_none()).await;
        assert_heals(&server, &client, &peer).await;
    }
}

#[tokio::test]
async fn n5_what_waits_behind_a_peer_that_does_not_read_goes_over_the_next_connection() {
    let server = Server::start(Transport::Tcp, quick()).await;
    let client = server.client();
    let large = |number| {
        let mut request = register(number);
        request.body = vec![b'x'; 60_000];
        request
    };
    let spawn = |number| {
        let (client, to) = (client.clone(), server.to.clone());
        tokio::spawn(async move { client.send(large(number), &to).await })
    };
    let stuck: Vec<_> = (0..400).map(spawn).collect();
    let (stream, _) = within(server.listener.accept()).await.unwrap();
    until(|| client.in_flight() == 400).await;
    tokio::time::sleep(quick().f() / 2).await;
    // In the queue of the first connection when its time is over, and not written.
    let waiting: Vec<_> = (400..410).map(spawn).collect();
    let serving = tokio::spawn(async move { server.serve().await });
    for sending in waiting {
        assert_eq!(within(sending).await.unwrap().unwrap().0.code, 200);
    }
    // What was written has its time, what was not goes over the next connection as well.
    let mut timed_out = 0;
    for sending in stuck {
        match within(sending).await.unwrap() {
            Ok(_) => {}
            Err(ClientError::Timeout) => timed_out += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(timed_out > 0);
    drop((stream, client));
    within(serving).await.unwrap();
}

#[tokio::test]
async fn a_response_over_another_connection_counts() {
    let server = Server::start(Transport::Tcp, Timers::default()).await;
    let client = server.client();
    let by_name = Destination { host: "localhost".into(), ..server.to.clone() };
    let first = tokio::spawn({
        let (client, to) = (client.clone(), server.to.clone());
        async move { client.send(register(1), &to).await }
    });
    let (mut requests, mut writer) = server.accept().await;
    let asked = requests.next().await.unwrap();
    let second = tokio::spawn(async move { client.send(register(2), &by_name).await });
    let (mut other_requests, mut other_writer) = server.accept().await;
    let other_asked = other_requests.next().await.unwrap();
    write(&mut other_writer, &answer(&asked, 200)).await;
    assert_eq!(within(first).await.unwrap().unwrap().0.code, 200);
    write(&mut writer, &answer(&other_asked, 202)).await;
    assert_eq!(within(second).await.unwrap().unwrap().0.code, 202);
}

#[tokio::test]
async fn r5_a_message_that_cannot_be_read_leaves_the_others_alone() {
    for transport in BOTH {
        let (server, client, peer, (mut requests, mut writer)) = half_open(transport).await;
        let [bad, good] = [2, 3].map(|number| {
            let (client, to) = (client.clone(), server.to.clone());
            tokio::spawn(async move { client.send(register(number), &to).await })
        });
        for _ in 0..2 {
            let asked = requests.next().await.unwrap();
            let mut response = String::from_utf8(answer(&asked, 200)).unwrap();
            if asked.headers.call_id() == Some("call-2") {
                response = response.replacen("SIP/2.0 200", "SIP/2.0 2x0", 1);
            }
            write(&mut writer, response.as_bytes()).await;
        }
        let (response, same) = within(good).await.unwrap().unwrap();
        assert_eq!((response.code, same), (200, peer));
        // A better one could have followed until Timer F.
        let error = within(bad).await.unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Unreadable(_)), "{error}");
    }
}

#[tokio::test]
async fn r5_a_stream_that_cannot_be_taken_apart_fails_only_the_others_and_for_a_retry() {
    for (start, broken) in [
        ("SIP/2.0 200", "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
        ("SIP/2.0 200", "Content-Length: 99999999\r\n\r\n"),
        ("SIP/2.0 2x0", "Content-Length: -1\r\n\r\n"),
    ] {
        let (server, client, peer, (mut requests, mut writer)) = half_open(Transport::Tcp).await;
        let [bad, good] = [2, 3].map(|number| {
            let (client, to) = (client.clone(), server.to.clone());
            tokio::spawn(async move { client.send(register(number), &to).await })
        });
        let mut all = [requests.next().await.unwrap(), requests.next().await.unwrap()];
        all.sort_by_key(|asked| asked.headers.call_id().map(str::to_owned));
        let response = String::from_utf8(answer(&all[0], 200)).unwrap();
        let response =
            response.replacen("SIP/2.0 200", start, 1).replace("Content-Length: 0\r\n\r\n", broken);
        write(&mut writer, response.as_bytes()).await;
        match within(bad).await.unwrap() {
            // What can be read of it counts.
            Ok((response, _)) => assert_eq!((response.code, start), (200, "SIP/2.0 200")),
            Err(error) => {
                assert!(matches!(error, ClientError::Unreadable(_)), "{error}");
                assert_eq!(start, "SIP/2.0 2x0");
            }
        }
        let error = within(good).await.unwrap().unwrap_err();
        assert!(matches!(error, ClientError::ConnectionLost(_)), "{error}");
        until(|| peer.connection().is_none()).await;
        assert_heals(&server, &client, &peer).await;
    }
}

#[tokio::test]
async fn a_message_without_end_ends_the_connection() {
    let (server, client, peer, (mut requests, mut writer)) = half_open(Transport::Tcp).await;
    let sending = tokio::spawn({
        let (client, to) = (client.clone(), server.to.clone());
        async move { client.send(register(2), &to).await }
    });
    requests.next().await.unwrap();
    let endless = tokio::spawn(async move {
        while writer.write_all(&[b'x'; 8192]).await.is_ok() && writer.flush().await.is_ok() {}
    });
    let error = within(sending).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::ConnectionLost(_)), "{error}");
    within(endless).await.unwrap();
    until(|| peer.connection().is_none()).await;
    assert_heals(&server, &client, &peer).await;
}

#[tokio::test]
async fn n5_a_handshake_that_never_ends_is_given_up_and_tried_again() {
    let mut server = Server::start(Transport::Tls, Timers::default()).await;
    server.options.connect_timeout = Duration::from_millis(200);
    let client = server.client();
    let silent = async { server.listener.accept().await.unwrap() };
    let (_silent, outcome) = tokio::join!(silent, within(client.send(register(1), &server.to)));
    let text = "TLS handshake not finished within 0.2 s; does the peer speak TLS on this port?";
    assert_eq!(outcome, Err(ClientError::Tls(text.into())));
    let outcome = tokio::select! {
        outcome = within(client.send(register(2), &server.to)) => outcome,
        () = server.serve() => panic!("closed"),
    };
    assert_eq!(outcome.unwrap().0.code, 200);
}

//! Keep-alives on connections (RFC 5626).

use super::*;
use crate::client::keep_alive::{PING, PONG};

/// Pings after 20 ms; Timer F is 32 s, so that it is never what is seen here.
async fn pinging() -> (Server, Client) {
    let mut server = Server::start(Transport::Tcp, Timers::default()).await;
    let keep_alive = KeepAlive { every: Duration::from_millis(20), pong_within: Duration::from_millis(300) };
    server.options.keep_alive = Some(keep_alive);
    let client = server.client();
    (server, client)
}

/// Sends a request and responds to it on a new connection.
async fn connect(server: &Server, client: &Client) -> (TcpStream, Peer) {
    let sending = tokio::spawn({
        let (client, to) = (client.clone(), server.to.clone());
        async move { client.send(register(1), &to).await }
    });
    let (mut stream, _) = within(server.listener.accept()).await.unwrap();
    let asked = Requests::new(&mut stream).next().await.unwrap();
    stream.write_all(&answer(&asked, 200)).await.unwrap();
    let (_, peer) = within(sending).await.unwrap().unwrap();
    (stream, peer)
}

async fn ping(stream: &mut TcpStream) {
    let mut bytes = [0; PING.len()];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(bytes, PING);
}

#[tokio::test]
async fn n5_pongs_keep_a_connection_and_a_missing_one_ends_its_use() {
    let (server, client) = pinging().await;
    let (mut stream, peer) = connect(&server, &client).await;
    for _ in 0..5 {
        ping(&mut stream).await;
        stream.write_all(PONG).await.unwrap();
    }
    assert!(peer.connection().is_some());
    ping(&mut stream).await;
    until(|| peer.connection().is_none()).await;
    let (_stream, next) = connect(&server, &client).await;
    assert_ne!(next, peer);
}

#[tokio::test]
async fn a_peer_that_never_answers_a_keep_alive_is_not_judged_by_it_for_ever() {
    let (server, client) = pinging().await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (stream, peer) = connect(&server, &client).await;
        until(|| peer.connection().is_none()).await;
        streams.push(stream);
    }
    let (mut stream, peer) = connect(&server, &client).await;
    // Pings go on after the time for the pong of each.
    for _ in 0..4 {
        ping(&mut stream).await;
    }
    assert!(peer.connection().is_some());
}

#[tokio::test]
async fn a_ping_of_the_peer_is_answered() {
    let server = Server::start(Transport::Tcp, Timers::default()).await;
    let client = server.client();
    let (mut stream, peer) = connect(&server, &client).await;
    stream.write_all(PING).await.unwrap();
    let mut bytes = [0; PONG.len()];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(bytes, PONG);
    assert!(peer.connection().is_some());
}

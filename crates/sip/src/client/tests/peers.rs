//! A request goes to the very peer that responded to the one before.

use tokio::{io::AsyncWriteExt as _, net::UdpSocket, task::JoinHandle};

use super::*;
use crate::client::resolve::Names;

/// A client to whom `two.example` has the addresses 127.0.0.1 and 127.0.0.2, in that order.
fn rotating(timers: Timers) -> Client {
    let names = Names::with_hosts("127.0.0.1 two.example\n127.0.0.2 two.example\n").unwrap();
    Client::start_with(ClientOptions { timers, ..ClientOptions::default() }, names).unwrap()
}

fn two(port: u16, transport: Transport) -> Destination {
    Destination { host: "two.example".into(), port: Some(port), transport }
}

async fn udp_server(ip: [u8; 4], port: u16, code: u16) -> SocketAddr {
    let socket = UdpSocket::bind((IpAddr::from(ip), port)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&answer(&request(&buffer[..length]), code), from).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn d6_over_udp_the_next_request_goes_to_the_address_that_answered() {
    let second = udp_server([127, 0, 0, 2], 0, 202).await;
    udp_server([127, 0, 0, 1], second.port(), 201).await;
    let (client, to) = (rotating(Timers::default()), two(second.port(), Transport::Udp));
    let (response, first) = within(client.send(register(1), &to)).await.unwrap();
    assert_eq!((response.code, first.address().ip()), (201, IpAddr::from([127, 0, 0, 1])));
    let (_, peer) = within(client.send(register(2), &destination(second, Transport::Udp))).await.unwrap();
    for number in 3..6 {
        let (response, again) = within(client.send_to(register(number), &to, &peer)).await.unwrap();
        assert_eq!((response.code, again.address()), (202, second));
    }
    assert_eq!(within(client.send(register(9), &to)).await.unwrap().0.code, 201);
}

/// Responds to `per_connection` requests on each connection, then closes it; returns the number of
/// connections.
fn tcp_server(listener: TcpListener, code: u16, per_connection: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let mut requests = Requests::new(reader);
                for _ in 0..per_connection {
                    let Some(asked) = requests.next().await else { return };
                    writer.write_all(&answer(&asked, code)).await.unwrap();
                }
            });
        }
    })
}

async fn two_listeners() -> (TcpListener, TcpListener, u16) {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    (first, TcpListener::bind(("127.0.0.2", port)).await.unwrap(), port)
}

#[tokio::test]
async fn d6_over_tcp_the_next_request_goes_over_the_connection_that_answered() {
    let (first, second, port) = two_listeners().await;
    tcp_server(first, 201, usize::MAX);
    tcp_server(second, 202, usize::MAX);
    let (client, to) = (rotating(Timers::default()), two(port, Transport::Tcp));
    let (response, peer) = within(client.send(register(1), &to)).await.unwrap();
    assert_eq!(response.code, 201);
    let (response, again) = within(client.send_to(register(2), &to, &peer)).await.unwrap();
    assert_eq!((response.code, &again), (201, &peer), "the same connection");
}

#[tokio::test]
async fn d6_over_tcp_a_closed_connection_is_made_again_to_the_address_that_answered() {
    let (first, second, port) = two_listeners().await;
    // The first address closes after each response, the second is there for whom the pin does not bind.
    let serving = tcp_server(first, 201, 1);
    tcp_server(second, 202, usize::MAX);
    let (client, to) = (rotating(Timers::default()), two(port, Transport::Tcp));
    let (_, peer) = within(client.send(register(1), &to)).await.unwrap();
    within(async {
        while peer.connection().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (response, again) = within(client.send_to(register(2), &to, &peer)).await.unwrap();
    assert_eq!((response.code, again.address()), (201, peer.address()));
    assert_ne!(again, peer);

    // The first address is gone: others go to the second, and the pinned request fails rather than follow
    // them.
    serving.abort();
    within(async {
        while again.connection().is_some() || !serving.is_finished() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(within(client.send(register(3), &to)).await.unwrap().0.code, 202);
    let error = within(client.send_to(register(4), &to, &again)).await.unwrap_err();
    assert!(matches!(&error, ClientError::Transport(text) if text.contains("127.0.0.1")), "{error}");
}

#[tokio::test]
async fn g5_over_tcp_an_address_that_answers_no_syn_holds_nothing_up() {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    tcp_server(listener, 202, 9);
    let _silent = routr_net::testing::Silent::at("127.0.0.1", good.port()).await;
    let client = rotating(Timers::default());
    let (response, peer) = within(client.send(register(1), &two(good.port(), Transport::Tcp))).await.unwrap();
    assert_eq!((response.code, peer.address()), (202, good));
}

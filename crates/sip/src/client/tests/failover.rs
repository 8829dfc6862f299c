//! Fail-over between the addresses of one name, and which of them are passed over: row N2.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;

use super::*;
use crate::client::resolve::Names;

/// A client to whom `two.example` has the addresses 127.0.0.1 and 127.0.0.2, in that order.
fn client_of_two(timers: Timers) -> Client {
    client_of(timers, "127.0.0.1 two.example\n127.0.0.2 two.example\n")
}

fn client_of(timers: Timers, hosts: &str) -> Client {
    let names = Names::with_hosts(hosts).unwrap();
    Client::start_with(ClientOptions { timers, ..ClientOptions::default() }, names).unwrap()
}

fn two(port: u16, transport: Transport) -> Destination {
    Destination { host: "two.example".into(), port: Some(port), transport }
}

/// A server on UDP that does with each request what its number says: responds with that code, or is silent.
async fn server(
    ip: [u8; 4],
    port: u16,
    respond: impl Fn(usize) -> Option<u16> + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind((IpAddr::from(ip), port)).await.unwrap();
    let (address, count) = (socket.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counted = count.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            if let Some(code) = respond(counted.fetch_add(1, Ordering::Relaxed)) {
                socket.send_to(&answer(&request(&buffer[..length]), code), from).await.unwrap();
            }
        }
    });
    (address, count)
}

async fn code(client: &Client, number: u32, to: &Destination) -> u16 {
    within(client.send(register(number), to)).await.unwrap().0.code
}

#[tokio::test]
async fn n2_over_udp_a_silent_address_is_left_and_passed_over() {
    let (second, _) = server([127, 0, 0, 2], 0, |_| Some(202)).await;
    let (_, asked) = server([127, 0, 0, 1], second.port(), |_| None).await;
    let (client, to) = (client_of_two(quick()), two(second.port(), Transport::Udp));
    assert_eq!(code(&client, 1, &to).await, 202);
    let first = asked.load(Ordering::Relaxed);
    assert!(first > 0, "it was asked");
    for number in 2..6 {
        assert_eq!(code(&client, number, &to).await, 202);
    }
    assert_eq!(asked.load(Ordering::Relaxed), first, "and no more");
    assert_eq!(client.in_flight(), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn n2_over_udp_an_address_without_a_listener_is_left_at_once() {
    let (second, _) = server([127, 0, 0, 2], 0, |_| Some(202)).await;
    // With timers so long that silence alone would not end within the time of the test.
    let t1 = Duration::from_secs(300);
    let client = client_of_two(Timers { t1, t2: t1, t4: t1 });
    let to = two(second.port(), Transport::Udp);
    for number in 1..4 {
        assert_eq!(code(&client, number, &to).await, 202);
    }
    // What became of one datagram is not taken for what becomes of another.
    let other = destination(second, Transport::Udp);
    let gone = Destination { host: "127.0.0.3".into(), ..other.clone() };
    for number in 10..40 {
        let lost = tokio::spawn({
            let (client, gone) = (client.clone(), gone.clone());
            async move { client.send(register(1_000 + number), &gone).await.map(drop) }
        });
        assert_eq!(code(&client, number, &other).await, 202);
        lost.abort();
    }
}

#[tokio::test]
async fn n2_over_udp_an_address_without_a_route_is_left_at_once() {
    let (second, _) = server([127, 0, 0, 2], 0, |_| Some(202)).await;
    // A socket of IPv4 has no way to broadcast.
    let client = client_of(Timers::default(), "255.255.255.255 two.example\n127.0.0.2 two.example\n");
    assert_eq!(code(&client, 1, &two(second.port(), Transport::Udp)).await, 202);
}

#[tokio::test]
async fn a_server_that_is_unavailable_is_left_for_the_next() {
    let (second, _) = server([127, 0, 0, 2], 0, |_| Some(200)).await;
    let (_, asked) = server([127, 0, 0, 1], second.port(), |_| Some(503)).await;
    let (client, to) = (client_of_two(Timers::default()), two(second.port(), Transport::Udp));
    for number in 1..4 {
        assert_eq!(code(&client, number, &to).await, 200);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn where_all_are_unavailable_the_response_says_so() {
    let (second, _) = server([127, 0, 0, 2], 0, |_| Some(503)).await;
    server([127, 0, 0, 1], second.port(), |_| Some(503)).await;
    let (client, to) = (client_of_two(Timers::default()), two(second.port(), Transport::Udp));
    for number in 1..4 {
        assert_eq!(code(&client, number, &to).await, 503);
    }
}

#[tokio::test]
async fn where_all_are_silent_it_is_a_timeout() {
    let (second, _) = server([127, 0, 0, 2], 0, |_| None).await;
    server([127, 0, 0, 1], second.port(), |_| None).await;
    let (client, to) = (client_of_two(quick()), two(second.port(), Transport::Udp));
    assert_eq!(within(client.send(register(1), &to)).await.unwrap_err(), ClientError::Timeout);
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn a_late_response_of_the_first_counts_while_the_second_is_asked() {
    // The first responds to what it is sent after the second was asked, which never responds.
    let (second, asked) = server([127, 0, 0, 2], 0, |_| None).await;
    server([127, 0, 0, 1], second.port(), move |_| (asked.load(Ordering::Relaxed) > 0).then_some(201)).await;
    let (client, to) = (client_of_two(quick()), two(second.port(), Transport::Udp));
    assert_eq!(code(&client, 1, &to).await, 201);
}

/// Responds to each request on each connection.
fn tcp_server(listener: TcpListener, code: u16) -> Arc<AtomicUsize> {
    let (count, counted) = {
        let count = Arc::<AtomicUsize>::default();
        (count.clone(), count)
    };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let counted = counted.clone();
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let mut requests = Requests::new(reader);
                while let Some(asked) = requests.next().await {
                    counted.fetch_add(1, Ordering::Relaxed);
                    writer.write_all(&answer(&asked, code)).await.unwrap();
                }
            });
        }
    });
    count
}

#[tokio::test]
async fn over_tcp_a_server_that_is_unavailable_is_left_for_the_next() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let asked = tcp_server(first, 503);
    tcp_server(second, 200);
    let (client, to) = (client_of_two(Timers::default()), two(port, Transport::Tcp));
    for number in 1..4 {
        assert_eq!(code(&client, number, &to).await, 200);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "it is passed over");
}

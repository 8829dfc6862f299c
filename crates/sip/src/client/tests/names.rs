//! Reasons that a host name has no address.

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use tokio::net::UdpSocket;

use super::*;
use crate::client::resolve::Names;

/// A name server that responds to every question with that code and no records; `None`: not at all.
async fn name_server(code: Option<u8>) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let (_, from) = socket.recv_from(&mut buffer).await.unwrap();
            let Some(code) = code else { continue };
            // The header, then the question: labels, their end, type and class.
            let labels = buffer[12..].iter().position(|b| *b == 0).unwrap();
            let mut response = buffer[..12 + labels + 5].to_vec();
            response[2..4].copy_from_slice(&[0x81, 0x80 | code]);
            response[6..12].fill(0);
            socket.send_to(&response, from).await.unwrap();
        }
    });
    address
}

fn asking(servers: &[SocketAddr], search: Option<&str>) -> Client {
    let servers = servers.iter().map(|address| {
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        NameServerConfig::new(address.ip(), true, vec![connection])
    });
    let search = search.map(|name| name.parse().unwrap());
    let config = ResolverConfig::from_parts(None, search.into_iter().collect(), servers.collect());
    let names = Names::with(config, ResolverOpts::default(), Duration::from_millis(500)).unwrap();
    Client::start_with(ClientOptions::default(), names).unwrap()
}

async fn cause(client: &Client) -> String {
    for transport in [Transport::Udp, Transport::Tcp] {
        let to = Destination { host: "sip.example.com".into(), port: Some(5060), transport };
        let error = within(client.send(register(1), &to)).await.unwrap_err();
        if transport == Transport::Tcp {
            let ClientError::Resolve(text) = error else { panic!("{error}") };
            return text.to_string();
        }
        assert!(matches!(error, ClientError::Resolve(_)), "{error}");
    }
    unreachable!()
}

#[tokio::test]
async fn the_cause_of_a_name_without_an_address_comes_first() {
    for (code, expected) in [
        (3, "unknown to the DNS".to_owned()),
        (0, "no address in the DNS (neither an A nor an AAAA record)".to_owned()),
        (2, "cannot be looked up: name server {} answered SERVFAIL".to_owned()),
        (5, "cannot be looked up: name server {} answered REFUSED".to_owned()),
        (4, "cannot be looked up: name server {} answered NOTIMP".to_owned()),
    ] {
        let server = name_server(Some(code)).await;
        let expected = expected.replace("{}", &server.to_string());
        assert_eq!(cause(&asking(&[server], None)).await, expected);
    }
}

#[tokio::test]
async fn a_silent_name_server_is_named() {
    let server = name_server(None).await;
    let expected = format!("cannot be looked up: no response from name server {server} within 0.5 s");
    assert_eq!(cause(&asking(&[server], None)).await, expected);
}

#[tokio::test]
async fn without_a_name_server_that_is_the_cause() {
    let expected = "cannot be looked up: no name server is configured";
    assert_eq!(cause(&asking(&[], None)).await, expected);
}

#[tokio::test]
async fn a_closed_name_server_is_named() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let cause = cause(&asking(&[server], None)).await;
    assert!(cause.starts_with("cannot be looked up: ") && cause.contains(&server.to_string()), "{cause}");
}

#[tokio::test]
async fn a_search_domain_does_not_hide_the_cause() {
    let server = name_server(Some(2)).await;
    let cause = cause(&asking(&[server], Some("cluster.local"))).await;
    assert!(cause.ends_with("answered SERVFAIL"), "{cause}");
}

//! The client against plain responders over real sockets on loopback.

mod peers;
mod streams;
mod tls;
mod udp;

use std::{future::Future, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::TcpListener,
    time::timeout,
};

use super::*;
use crate::sip::{
    message::{Message, StreamParser},
    uri::SipUri,
};

/// Fails the test instead of hanging.
async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("within 20 s")
}

fn client(timers: Timers) -> Client {
    let bind = Ipv4Addr::LOCALHOST.into();
    Client::start(ClientOptions { bind, timers, ..ClientOptions::default() }).unwrap()
}

/// Quick ones: F is 1.28 s.
fn quick() -> Timers {
    Timers { t1: Duration::from_millis(20), t2: Duration::from_millis(80), t4: Duration::from_millis(100) }
}

fn destination(address: SocketAddr, transport: Transport) -> Destination {
    Destination { host: address.ip().to_string(), port: address.port(), transport }
}

fn register(number: u32) -> Request {
    let mut request = Request::new("REGISTER", SipUri::new("registrar.example"));
    let fields = [
        ("From", "<sip:alice@registrar.example>;tag=1".to_owned()),
        ("To", "<sip:alice@registrar.example>".to_owned()),
        ("Call-ID", format!("call-{number}")),
        ("CSeq", format!("{number} REGISTER")),
    ];
    for (name, value) in fields {
        request.headers.push(name, value).unwrap();
    }
    request
}

fn request(bytes: &[u8]) -> Request {
    match Message::parse_datagram(bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn answer(request: &Request, code: u16) -> Vec<u8> {
    Response::to_request(request, code, "Answer").to_bytes().unwrap()
}

/// Reads requests from a connection, one after the other.
struct Requests<R> {
    reader: R,
    parser: StreamParser,
}

impl<R: AsyncRead + Unpin> Requests<R> {
    fn new(reader: R) -> Self {
        Self { reader, parser: StreamParser::new() }
    }

    async fn next(&mut self) -> Option<Request> {
        let mut buffer = [0; 4096];
        loop {
            match self.parser.next().unwrap() {
                Some(Message::Request(request)) => return Some(request),
                Some(other) => panic!("{other:?}"),
                None => match self.reader.read(&mut buffer).await.unwrap() {
                    0 => return None,
                    length => self.parser.push(&buffer[..length]),
                },
            }
        }
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

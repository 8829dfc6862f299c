//! A plain SIP phone over UDP.

use std::time::Duration;

use tokio::{net::UdpSocket, time::timeout};

use crate::devstack::registrar::Registrar;
use routr_sip::{
    digest::{Challenge, Login, Signed},
    message::{Message, Request, Response},
    uri::SipUri,
};
use routr_types::{host::Transport, secret::Secret};

const DEADLINE: Duration = Duration::from_secs(5);

/// A client that sends what a test asks for and shows what comes back.
pub(super) struct UserAgent {
    pub(super) socket: UdpSocket,
    pub(super) user: &'static str,
    pub(super) password: &'static str,
    pub(super) cseq: u32,
    sent: u32,
    /// Header fields on top.
    pub(super) extra: Vec<(&'static str, String)>,
    pub(super) expires: u32,
}

impl UserAgent {
    pub(super) async fn new(registrar: &Registrar, user: &'static str, password: &'static str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(registrar.address(Transport::Udp).unwrap()).await.unwrap();
        Self { socket, user, password, cseq: 0, sent: 0, extra: Vec::new(), expires: 600 }
    }

    /// The next REGISTER, with a risen CSeq.
    pub(super) fn request(&mut self, transport: &str) -> Request {
        self.cseq += 1;
        self.sent += 1;
        let mut request = Request::new("REGISTER", SipUri::new("sip.net"));
        let from = format!("<sip:{}@sip.net>", self.user);
        let via = format!("SIP/2.0/{transport} 127.0.0.1:9;rport;branch=z9hG4bK{}-{}", self.user, self.sent);
        let fields = [
            ("Via", via),
            ("From", format!("{from};tag=1")),
            ("To", from),
            ("Call-ID", format!("call-{}", self.user)),
            ("CSeq", format!("{} REGISTER", self.cseq)),
            ("Contact", format!("<sip:{}@127.0.0.1:9>", self.user)),
            ("Expires", self.expires.to_string()),
        ];
        for (name, value) in fields.into_iter().chain(self.extra.clone()) {
            request.headers.push(name, value).unwrap();
        }
        request
    }

    pub(super) async fn send(&self, request: &Request) {
        self.socket.send(&request.to_bytes().unwrap()).await.unwrap();
    }

    pub(super) async fn receive(&self) -> Response {
        let mut buffer = vec![0; 65_536];
        let length = timeout(DEADLINE, self.socket.recv(&mut buffer)).await.expect("no answer").unwrap();
        match Message::parse_datagram(&buffer[..length]).unwrap() {
            Message::Response(response) => response,
            Message::Request(request) => panic!("{request:?}"),
        }
    }

    /// One REGISTER without credentials.
    pub(super) async fn once(&mut self) -> Response {
        let request = self.request("UDP");
        self.send(&request).await;
        self.receive().await
    }

    /// The same request with credentials for the challenge, and a risen CSeq.
    pub(super) fn answering(&mut self, challenge: &Challenge, transport: &str) -> Request {
        let mut request = self.request(transport);
        let secret = Secret::new(self.password);
        let uri = request.uri.to_string();
        let login = Login { username: self.user, password: &secret };
        let signed = Signed { method: "REGISTER", uri: &uri, body: b"" };
        let (name, value) = challenge.authorize(login, signed, "cnonce", 1).header();
        request.headers.push(name, value).unwrap();
        request
    }

    /// A REGISTER, and once more with credentials where it is challenged.
    pub(super) async fn register(&mut self) -> Response {
        let first = self.once().await;
        let Some(challenge) = Challenge::from_response(&first).unwrap() else { return first };
        let request = self.answering(&challenge, "UDP");
        self.send(&request).await;
        self.receive().await
    }
}

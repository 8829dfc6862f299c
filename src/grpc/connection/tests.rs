//! A Requester's connection, against peers that end it, refuse on it and leave it hanging.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

use super::super::{api::ApiServer, register::tests::register, requester::GrpcRequester};
use crate::{
    config::{self, Endpoint, Format, SyncBounds},
    proto::{
        requester::SendMessageResponse,
        requester_info::GetResponse,
        sipmessage::{ResponseType, SipMessage, sip_message::MessageType},
    },
    runtime::ports::{Requester, TrunkSource},
};
use routr_registration::model::{Link, SendError, SourceError};
use routr_types::host::HostPort;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Treatment of a REGISTER by a peer.
#[derive(Clone, Copy, Debug)]
enum Act {
    Respond,
    /// RST_STREAM with REFUSED_STREAM.
    Refuse,
    /// RST_STREAM with another reason.
    Reset,
    /// Responds, and then ends the connection in order.
    RespondAndEnd,
    /// Closes the connection without a word.
    Break,
    /// Keeps it; also health checks and whatever else comes on that connection get no response any more.
    Hang,
    /// Keeps it, and responds to everything else.
    KeepSilent,
}

#[derive(Clone)]
struct Fake {
    address: SocketAddr,
    registers: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    checks: Arc<AtomicUsize>,
    /// Number of the instance, as it names itself; 0: it does not name itself.
    instance: Arc<AtomicUsize>,
    /// Ends all connections when it changes.
    cut: watch::Sender<()>,
}

impl Fake {
    /// `act` gets the number of the connection and of the REGISTER, each from 0.
    async fn start(act: impl Fn(usize, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Self {
            address: listener.local_addr().unwrap(),
            registers: Arc::default(),
            connections: Arc::default(),
            checks: Arc::default(),
            instance: Arc::default(),
            cut: watch::Sender::new(()),
        };
        let (serving, act) = (peer.clone(), Arc::new(act));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = serving.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serving.clone().serve(stream, number, act.clone()));
            }
        });
        peer
    }

    async fn serve(
        self,
        stream: TcpStream,
        number: usize,
        act: Arc<impl Fn(usize, usize) -> Act + Send + Sync>,
    ) {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        let (mut kept, mut hangs, mut cut) = (Vec::new(), false, self.cut.subscribe());
        loop {
            let (request, mut respond) = tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok(accepted)) => accepted,
                    _ => return,
                },
                _ = cut.changed() => return,
            };
            let path = request.uri().path();
            if hangs {
                kept.push(respond);
            } else if path.ends_with("/SendMessage") {
                match act(number, self.registers.fetch_add(1, Ordering::Relaxed)) {
                    Act::Respond => send(&mut respond, &registered()),
                    Act::RespondAndEnd => {
                        send(&mut respond, &registered());
                        connection.graceful_shutdown();
                    }
                    Act::Refuse => respond.send_reset(h2::Reason::REFUSED_STREAM),
                    Act::Reset => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                    Act::Break => return,
                    Act::KeepSilent => kept.push(respond),
                    Act::Hang => {
                        hangs = true;
                        kept.push(respond);
                    }
                }
            } else {
                let instance = self.instance.load(Ordering::Relaxed);
                if path.ends_with("/Check") {
                    self.checks.fetch_add(1, Ordering::Relaxed);
                }
                if path.ends_with("/Get") && instance > 0 {
                    send(
                        &mut respond,
                        &GetResponse { capacity: 100, instance: instance.to_string(), features: Vec::new() },
                    );
                } else {
                    unimplemented(&mut respond);
                }
            }
        }
    }

    fn requester(&self) -> Arc<GrpcRequester> {
        let text = format!(
            "kind: Registry\napiVersion: v2beta1\nspec:\n  apiAddr: localhost\n  requesterAddr: {}\n  edgePorts: [{{address: \
             10.0.0.1}}]\n",
            self.address
        );
        Arc::new(GrpcRequester::new(&config::parse(&text, Format::Yaml).unwrap()).unwrap())
    }
}

fn head() -> http::response::Builder {
    http::Response::builder().header("content-type", "application/grpc")
}

fn send(respond: &mut h2::server::SendResponse<Bytes>, message: &impl Message) {
    let mut data = vec![0];
    data.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    data.extend(message.encode_to_vec());
    let mut stream = respond.send_response(head().body(()).unwrap(), false).unwrap();
    stream.send_data(data.into(), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
}

fn unimplemented(respond: &mut h2::server::SendResponse<Bytes>) {
    let response = head().header("grpc-status", "12").body(()).unwrap();
    // The connection may be ending.
    let _ = respond.send_response(response, true);
}

fn registered() -> SendMessageResponse {
    let message_type = Some(MessageType::ResponseType(ResponseType::Ok.into()));
    SendMessageResponse { message: Some(SipMessage { message_type, ..SipMessage::default() }) }
}

#[tokio::test]
async fn g3_what_was_refused_unprocessed_is_repeated_at_once() {
    let peer = Fake::start(|_, register| if register % 2 == 0 { Act::Refuse } else { Act::Respond }).await;
    let requester = peer.requester();
    for n in 1..=10 {
        assert_eq!(requester.register(register(), TIMEOUT).await.unwrap().code, Some(200));
        assert_eq!(peer.registers.load(Ordering::Relaxed), 2 * n);
    }
}

#[tokio::test]
async fn one_that_refuses_without_end_is_asked_four_times() {
    let peer = Fake::start(|_, _| Act::Refuse).await;
    let error = peer.requester().register(register(), TIMEOUT).await.unwrap_err();
    assert!(matches!(&error, SendError::Failed(text) if text.contains("REFUSED_STREAM")), "{error}");
    assert_eq!(peer.registers.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn g3_connections_that_end_in_order_are_no_event() {
    let peer = Fake::start(|_, _| Act::RespondAndEnd).await;
    let requester = peer.requester();
    let link = requester.link();
    // Some at a time, so that calls meet with a connection that is ending.
    for _ in 0..50 {
        let calls = (0..4).map(|_| {
            let requester = requester.clone();
            tokio::spawn(async move { requester.register(register(), TIMEOUT).await })
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap().unwrap().code, Some(200));
        }
    }
    assert!(peer.connections.load(Ordering::Relaxed) >= 20);
    assert_eq!(*link.borrow(), Link::default());
}

/// Reads until a frame of HEADERS has come, then says GOAWAY for streams above the `last` one, and closes.
async fn goes_away(mut stream: TcpStream, last: u32) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == 1 {
            break;
        }
    }
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend(last.to_be_bytes());
    frame.extend(0_u32.to_be_bytes());
    stream.write_all(&frame).await.unwrap();
    let mut rest = Vec::new();
    // Until the other side closes, too: a reset would say something else.
    stream.shutdown().await.unwrap();
    let _ = stream.read_to_end(&mut rest).await;
}

/// The first connections go away, the others go to a peer that responds.
async fn going_away_first(last: u32) -> (Fake, Fake) {
    let behind = Fake::start(|_, _| Act::Respond).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = Fake { address: listener.local_addr().unwrap(), ..behind.clone() };
    let target = behind.address;
    tokio::spawn(async move {
        for number in 0.. {
            let (mut near, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                if number < 2 {
                    goes_away(near, last).await;
                } else {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    (front, behind)
}

#[tokio::test]
async fn g3_a_call_above_the_last_stream_of_a_goaway_is_repeated_and_one_below_it_is_not() {
    let (front, behind) = going_away_first(0).await;
    let requester = front.requester();
    for _ in 0..4 {
        assert_eq!(requester.register(register(), TIMEOUT).await.unwrap().code, Some(200));
    }
    assert_eq!(behind.registers.load(Ordering::Relaxed), 4);

    let (front, behind) = going_away_first(u32::MAX >> 1).await;
    let requester = front.requester();
    let mut broken = 0;
    for _ in 0..4 {
        match requester.register(register(), TIMEOUT).await {
            Ok(reply) => assert_eq!(reply.code, Some(200)),
            Err(SendError::Disconnected { .. }) => broken += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(broken >= 1, "it may have been processed");
    assert_eq!(behind.registers.load(Ordering::Relaxed), 4 - broken);
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_call_may_have_carried_it() {
    let peer = Fake::start(|_, register| if register == 0 { Act::Break } else { Act::Respond }).await;
    let requester = peer.requester();
    let error = requester.register(register(), TIMEOUT).await.unwrap_err();
    assert!(matches!(error, SendError::Disconnected { .. }), "{error}");
    assert_eq!(requester.register(register(), TIMEOUT).await.unwrap().code, Some(200));
    assert_eq!(*requester.link().borrow(), Link::default(), "another one could be made");
}

#[tokio::test]
async fn g1_a_stream_that_is_reset_is_that_calls_failure_and_the_connection_stays() {
    let peer = Fake::start(|_, register| if register % 2 == 0 { Act::Reset } else { Act::Respond }).await;
    let requester = peer.requester();
    for n in 0..8 {
        match requester.register(register(), TIMEOUT).await {
            Ok(reply) => assert!(n % 2 == 1 && reply.code == Some(200)),
            Err(error) => assert!(n % 2 == 0 && matches!(error, SendError::Failed(_)), "{error}"),
        }
    }
    assert_eq!((peer.registers.load(Ordering::Relaxed), peer.connections.load(Ordering::Relaxed)), (8, 1));
}

#[tokio::test]
async fn what_speaks_http_1_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Fake { address: listener.local_addr().unwrap(), ..Fake::start(|_, _| Act::Respond).await };
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            // Closed with bytes unread, it would be a reset, which may overtake the response.
            open.push(stream);
        }
    });
    let error = peer.requester().register(register(), TIMEOUT).await.unwrap_err();
    assert!(error.to_string().contains("speaks HTTP/1, and gRPC needs HTTP/2"), "{error}");
    assert!(matches!(error, SendError::Unavailable(_)), "nothing was sent: {error}");
}

#[tokio::test]
async fn g2_a_connection_that_hangs_is_replaced_and_its_calls_end_before_their_deadline() {
    let peer = Fake::start(|connection, _| if connection < 1 { Act::Hang } else { Act::Respond }).await;
    let requester = peer.requester();
    let calls = [(); 4].map(|()| {
        let requester = requester.clone();
        tokio::spawn(async move { requester.register(register(), TIMEOUT * 3).await })
    });
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(&error, SendError::Disconnected { cause, .. } if cause.contains("hung")), "{error}");
    }
    for _ in 0..4 {
        assert_eq!(requester.register(register(), TIMEOUT).await.unwrap().code, Some(200));
    }
    assert_eq!(peer.connections.load(Ordering::Relaxed), 2);
    assert_eq!(*requester.link().borrow(), Link::default(), "no restart, and never out of reach");
}

#[tokio::test]
async fn g2_silent_registrars_are_no_reason_to_replace_a_connection() {
    let peer = Fake::start(|_, _| Act::KeepSilent).await;
    let requester = peer.requester();
    let calls = [(); 4].map(|()| {
        let requester = requester.clone();
        tokio::spawn(async move { requester.register(register(), TIMEOUT).await })
    });
    for call in calls {
        assert_eq!(call.await.unwrap(), Err(SendError::Deadline(TIMEOUT)));
    }
    assert!(peer.checks.load(Ordering::Relaxed) >= 1, "no health check was sent");
    assert_eq!(peer.connections.load(Ordering::Relaxed), 1);
}

/// A client that knows which Requester, the first one, it speaks to.
async fn known(peer: &Fake) -> (Arc<GrpcRequester>, watch::Receiver<Link>) {
    peer.instance.store(1, Ordering::Relaxed);
    let requester = peer.requester();
    let mut link = requester.link();
    requester.register(register(), TIMEOUT).await.unwrap();
    let known = link.wait_for(|link| link.capacity == Some(100));
    tokio::time::timeout(TIMEOUT, known).await.unwrap().unwrap();
    (requester, link)
}

#[tokio::test]
async fn g3_a_requester_has_restarted_when_it_is_another_one() {
    let peer = Fake::start(|_, _| Act::RespondAndEnd).await;
    let (requester, link) = known(&peer).await;
    assert_eq!(link.borrow().restarts, 0);
    peer.instance.store(2, Ordering::Relaxed);
    // It is asked on another connection, but not more than once a second.
    let calls = async {
        while link.borrow().restarts == 0 {
            requester.register(register(), TIMEOUT).await.unwrap();
        }
    };
    tokio::time::timeout(TIMEOUT, calls).await.unwrap();
    assert!(!link.borrow().lost);
}

async fn list(address: SocketAddr) -> Result<(), SourceError> {
    let address = HostPort::new(&address.ip().to_string(), address.port());
    let endpoint = Endpoint::plain(address, TIMEOUT);
    let api = ApiServer::new(&endpoint, SyncBounds::default()).unwrap();
    let (sender, _batches) = mpsc::channel(1);
    api.list(sender).await.map(|_| ())
}

#[tokio::test]
async fn g3_another_requester_is_noticed_while_nothing_is_sent() {
    let peer = Fake::start(|_, _| Act::Respond).await;
    let (_requester, mut link) = known(&peer).await;
    peer.instance.store(2, Ordering::Relaxed);
    peer.cut.send_replace(());
    let noticed = link.wait_for(|link| link.restarts == 1);
    tokio::time::timeout(TIMEOUT, noticed).await.unwrap().unwrap();
    assert!(!link.borrow().lost);
}

#[tokio::test]
async fn g6_what_a_proxy_responds_is_named_by_its_status() {
    for (status, content_type, failed) in [
        (502, "text/html", true),
        (503, "application/grpc", true),
        (504, "text/plain", true),
        (429, "text/html", true),
        (404, "text/html", false),
        (200, "text/html", false),
    ] {
        let respond = move || async move {
            let page = axum::body::Body::from("<html>no</html>");
            axum::response::Response::builder()
                .status(status)
                .header("content-type", content_type)
                .body(page)
                .unwrap()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Fake::start(|_, _| Act::Respond).await;
        let proxy = Fake { address: listener.local_addr().unwrap(), ..peer };
        let routes = tonic::service::Routes::from(axum::Router::new().fallback(respond));
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming));
        let error = proxy.requester().register(register(), TIMEOUT).await.unwrap_err();
        let named = format!("HTTP {status} from the proxy in front of the Requester");
        assert!(error.to_string().contains(&named), "{error}");
        assert_eq!(matches!(error, SendError::Failed(_)), failed, "{error}");
        let error = list(proxy.address).await.unwrap_err();
        let named = format!("HTTP {status} from the proxy in front of the API server");
        assert!(error.to_string().contains(&named), "{error}");
        assert_eq!(matches!(error, SourceError::Unavailable(_)), failed, "{error}");
    }
}

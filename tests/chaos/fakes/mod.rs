//! Someone else in the place of a dependency, who answers what none should.

mod grpc;
mod sip;
mod stream;

use std::net::Ipv4Addr;

use prost::Message;
use routr_registry::proto::trunks::FindByResponse;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::standalone::world::World;
use crate::support::ports;

/// Bytes after which someone endless pauses for good: by then it has shown whether there is a bound, and the
/// machine is to live on.
const ENOUGH: usize = 1 << 30;

/// Content that it sends in response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Random bytes, as soon as someone connects.
    Noise,
    /// The same, without end.
    EndlessNoise,
    /// A web page.
    Web,
    /// gRPC, as far as the framing goes.
    Grpc(Grpc),
    /// An API server that lists these bytes.
    List(&'static [u8]),
    /// Responses that Redis might write, were it mad.
    Resp(Resp),
    /// A registrar, over UDP and TCP.
    Sip(Sip),
}

/// Messages of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grpc {
    /// Messages of random bytes.
    Garbage,
    /// An answer to a REGISTER with a phrase of 64 MiB.
    Giant,
    /// All good trunks, and a field of 64 MiB that no one knows.
    GiantList,
    /// A message that is announced with 4 GiB, and comes.
    Endless,
    /// Groups within groups, ten thousand deep.
    Nested,
    /// Answers to a REGISTER that are malformed: expiries, codes, absent and giant parts.
    Absurd,
}

/// Replies of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resp {
    /// Arrays in arrays, a hundred thousand deep.
    Nested,
    /// A text that is announced with 2 GiB, and comes.
    GiantBulk,
    /// An array that is announced with two thousand million elements.
    GiantArray,
    /// Lengths below zero, and no numbers at all.
    BadLengths,
    /// An error of a megabyte, on one line, for each command.
    GiantError,
    /// OK to everything.
    Agrees,
}

/// Messages of SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sip {
    /// Random bytes, up to the largest datagram.
    Garbage,
    /// 200 for another Call-ID.
    WrongCallId,
    /// 200 with another CSeq, and with another branch.
    WrongCseq,
    /// Hundreds of responses that no one asked for, for each request; over TCP a header without end.
    Flood,
    /// 200 in many broken ways: lengths, expiries, header fields twice, folded, without values.
    Broken,
}

impl Kind {
    /// Returns whether it may say of a trunk that it is registered.
    pub fn lies(self) -> bool {
        matches!(self, Self::Grpc(_) | Self::Sip(_))
    }
}

/// A running one, on a thread and with a runtime of its own: with it all connections end. Ends when it is
/// dropped.
pub struct Fake {
    pub port: u16,
    _end: DropGuard,
}

impl Fake {
    pub async fn start(kind: Kind, world: &World) -> Self {
        let (port, end) = (ports::free(), CancellationToken::new());
        let (ended, sip_port) = (end.clone(), world.requester.sip_port);
        let trunks = match kind {
            Kind::Grpc(Grpc::GiantList) => FindByResponse { items: world.trunks.clone() }.encode_to_vec(),
            Kind::List(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        };
        let (ready, listening) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener =
                    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port of a fake");
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port of a fake");
                ready.send(()).expect("the caller waits for it");
                let run = async {
                    match kind {
                        Kind::Noise | Kind::EndlessNoise | Kind::Web | Kind::Resp(_) => {
                            stream::run(kind, listener).await;
                        }
                        Kind::Grpc(_) | Kind::List(_) => grpc::run(kind, trunks, listener).await,
                        Kind::Sip(sip) => sip::run(sip, listener, socket, sip_port).await,
                    }
                };
                ended.run_until_cancelled(run).await;
            });
        });
        listening.await.expect("the fake starts");
        Self { port, _end: end.drop_guard() }
    }
}

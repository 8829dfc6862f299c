//! gRPC whose messages are not what they should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use prost::Message;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use routr_registry::grpc::codec::RawCodec;
use routr_registry::proto::requester::SendMessageResponse;
use routr_registry::proto::sipmessage::sip_message::MessageType;
use routr_registry::proto::sipmessage::{Address, Contact, Expires, Extension, SipMessage};
use tokio::net::TcpListener;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

use super::{ENOUGH, Grpc, Kind};

/// The text of [`Grpc::Giant`], in bytes.
const GIANT: usize = 64 << 20;

/// `trunks` is what an API server lists.
pub async fn run(kind: Kind, trunks: Vec<u8>, listener: TcpListener) {
    let (turn, trunks) = (Arc::new(AtomicU64::new(0)), Arc::new(trunks));
    let answer = move |request: Request| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let trunks = trunks.clone();
        async move { answer(kind, &trunks, turn, request).await }
    };
    let routes = Routes::from(Router::new().fallback(answer));
    let server = tonic::transport::Server::builder().add_routes(routes);
    // It ends with the fake.
    let _ = server.serve_with_incoming(TcpIncoming::from(listener)).await;
}

async fn answer(kind: Kind, trunks: &[u8], turn: u64, request: Request) -> Response {
    if kind == Kind::Grpc(Grpc::Endless) {
        return endless();
    }
    let message = message(kind, trunks, turn, request.uri());
    let service = tower::service_fn(move |_: tonic::Request<Bytes>| {
        let message = message.clone();
        async move { message.map(|message| tonic::Response::new(Bytes::from(message))) }
    });
    tonic::server::Grpc::new(RawCodec::default()).unary(service, request).await.into_response()
}

/// A message whose head promises 4 GiB.
fn endless() -> Response {
    let head = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]);
    let piece = Bytes::from_static(&[b'x'; 64 << 10]);
    let pieces = stream::repeat(piece).take(ENOUGH >> 16);
    let all = stream::once(async { head }).chain(pieces).chain(stream::pending());
    let body = Body::from_stream(all.map(Ok::<_, std::convert::Infallible>));
    ([("content-type", "application/grpc")], body).into_response()
}

fn message(kind: Kind, trunks: &[u8], turn: u64, uri: &Uri) -> Result<Vec<u8>, Status> {
    let mut rng = SmallRng::seed_from_u64(turn);
    match kind {
        Kind::List(_) | Kind::Grpc(Grpc::GiantList) if !uri.path().ends_with("/FindBy") => {
            Err(Status::unimplemented("files know no pages"))
        }
        Kind::List(_) => Ok(trunks.to_vec()),
        Kind::Grpc(Grpc::GiantList) => {
            let mut bytes = trunks.to_vec();
            prost::encoding::bytes::encode(15, &vec![b'x'; GIANT], &mut bytes);
            Ok(bytes)
        }
        Kind::Grpc(Grpc::Giant) => {
            let message = SipMessage { reason_phrase: "x".repeat(GIANT), ..SipMessage::default() };
            Ok(SendMessageResponse { message: Some(message) }.encode_to_vec())
        }
        Kind::Grpc(Grpc::Nested) => Ok([vec![0x0b; 10_000], vec![0x0c; 10_000]].concat()),
        Kind::Grpc(Grpc::Absurd) => Ok(SendMessageResponse { message: absurd(&mut rng) }.encode_to_vec()),
        _ => {
            let mut bytes = vec![0; rng.random_range(0..100_000)];
            rng.fill_bytes(&mut bytes);
            Ok(bytes)
        }
    }
}

fn absurd(rng: &mut SmallRng) -> Option<SipMessage> {
    let number = |rng: &mut SmallRng| {
        let all = [0, -1, -5, 1, i32::MAX, i32::MIN, rng.random()];
        all[rng.random_range(0..all.len())]
    };
    let text = match rng.random_range(0..4) {
        0 => "x".repeat(1 << 20),
        1 => "\u{1b}]0;owned\u{7}\r\nX: y\u{202e}".to_owned(),
        _ => "Absurd".to_owned(),
    };
    let names = ["Min-Expires", "Retry-After", "Unsupported", "CSeq", "Contact"];
    let extensions = names.map(|name| Extension {
        name: name.to_owned(),
        value: if rng.random() { number(rng).to_string() } else { text.clone() },
    });
    let code = if rng.random() { 7 } else { number(rng) };
    match rng.random_range(0..10) {
        0 => None,
        1 => Some(SipMessage::default()),
        _ => Some(SipMessage {
            message_type: Some(MessageType::ResponseType(code)),
            contact: rng.random::<bool>().then(|| Contact {
                address: Some(Address::default()),
                expires: number(rng),
                ..Contact::default()
            }),
            expires: rng.random::<bool>().then(|| Expires { expires: number(rng) }),
            reason_phrase: text,
            extensions: extensions.to_vec(),
            ..SipMessage::default()
        }),
    }
}

//! Both services, on bare HTTP/2: the backend shares the processors with what is measured, so it does no more
//! than it must.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};

use super::{
    Mode, Settings,
    listing::Listing,
    tally::{Counters, Outcome},
    wire,
};

/// State that all connections share.
pub struct Shared {
    pub settings: Settings,
    pub listing: Listing,
    pub counters: Counters,
}

/// Room for a thousand REGISTERs at a time on each connection.
const WINDOW: u32 = 16 << 20;

pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        // A connection that breaks is the client's concern.
        tokio::spawn(async move { drop(connection(socket, shared).await) });
    }
}

async fn connection(socket: TcpStream, shared: Arc<Shared>) -> Result<(), h2::Error> {
    let _ = socket.set_nodelay(true);
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(1_000_000)
        .handshake::<_, Bytes>(socket)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { drop(call(request, respond, &shared).await) });
    }
    Ok(())
}

async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: &Shared,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut message = Bytes::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        message = if message.is_empty() { chunk } else { [message, chunk].concat().into() };
    }
    let message = message.get(5..).unwrap_or_default();
    let path = head.uri.path();
    let answer = match path.rsplit('/').next().unwrap_or_default() {
        "SendMessage" => register(message, shared),
        "FindBy" => find_by(shared),
        "List" => list(message, shared),
        _ => Err(UNIMPLEMENTED),
    };
    let response = Response::builder().header("content-type", "application/grpc");
    let mut trailers = HeaderMap::with_capacity(2);
    match answer {
        Ok(parts) => {
            let mut stream = respond.send_response(response.body(()).expect("a plain response"), false)?;
            for part in parts {
                stream.send_data(part, false)?;
            }
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            stream.send_trailers(trailers)
        }
        Err((code, message)) => {
            let response = response.header("grpc-status", code).header("grpc-message", message);
            respond.send_response(response.body(()).expect("a plain response"), true).map(drop)
        }
    }
}

type Refusal = (&'static str, &'static str);
const UNIMPLEMENTED: Refusal = ("12", "not here");
const TOO_LARGE: Refusal = ("8", "Sent message larger than max");
const STRANGE: Refusal = ("3", "not a REGISTER of a listed trunk");

fn register(message: &[u8], shared: &Shared) -> Result<Vec<Bytes>, Refusal> {
    let first = |number, asked: u32| match shared.settings.first_grant_s {
        Some(least) if least < asked => {
            least + (super::listing::spread(number) * f64::from(asked - least)) as u32
        }
        _ => asked,
    };
    let answer = match shared.counters.register(message, first).ok_or(STRANGE)? {
        Outcome::Granted(seconds) => wire::answer(seconds),
        Outcome::Refused => wire::refusal(),
    };
    let mut frame = BytesMut::with_capacity(64);
    prefix(&mut frame, answer.encoded_len());
    answer.encode(&mut frame).map_err(|_| STRANGE)?;
    Ok(vec![frame.freeze()])
}

fn find_by(shared: &Shared) -> Result<Vec<Bytes>, Refusal> {
    if shared.settings.mode == Mode::Pages {
        return Err(TOO_LARGE);
    }
    shared.counters.listings.fetch_add(1, Relaxed);
    shared.counters.syncs.fetch_add(1, Relaxed);
    let (items, _) = shared.listing.page(0, usize::MAX);
    let mut frame = BytesMut::new();
    prefix(&mut frame, items.len());
    Ok(vec![frame.freeze(), items])
}

fn list(message: &[u8], shared: &Shared) -> Result<Vec<Bytes>, Refusal> {
    if shared.settings.mode == Mode::AllInOne {
        return Err(UNIMPLEMENTED);
    }
    let (size, from) = wire::page(message);
    let (items, more) = shared.listing.page(from, size);
    shared.counters.listings.fetch_add(1, Relaxed);
    let mut token = BytesMut::new();
    if more {
        let text = (from + size).to_string();
        token.put_u8(18); // field 2, length-delimited
        token.put_u8(u8::try_from(text.len()).expect("a short number"));
        token.put_slice(text.as_bytes());
    } else {
        shared.counters.syncs.fetch_add(1, Relaxed);
    }
    let mut frame = BytesMut::new();
    prefix(&mut frame, items.len() + token.len());
    Ok(vec![frame.freeze(), items, token.freeze()])
}

/// Writes the prefix of a gRPC message: not compressed, and its length.
fn prefix(frame: &mut BytesMut, length: usize) {
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("gRPC messages are below 4 GiB"));
}

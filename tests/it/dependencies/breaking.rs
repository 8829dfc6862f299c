//! A Requester whose connections break after each response.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use routr_registry::proto::requester::SendMessageResponse;
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::codegen::http::{HeaderMap, HeaderValue, Response};

use super::grpc::{all_registered, granting, run_through};
use crate::standalone::fake::ok;
use crate::standalone::test_registry::{listen, told};

/// The way a connection ends.
#[derive(Clone, Copy)]
enum End {
    /// FIN: reading comes to an end.
    Closed,
    /// RST, as load balancers and restarted processes end them.
    Reset,
}

/// Grants each first REGISTER of a connection a minute, and ends the connection, whatever else was sent by
/// it.
async fn breaking(port: u16, end: End, granted: Arc<AtomicUsize>) -> DropGuard {
    let listener = listen(port).await;
    let stop = CancellationToken::new();
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // What waits for an acknowledgement (RFC 896) would be lost with the reset.
            stream.set_nodelay(true).unwrap();
            if matches!(end, End::Reset) {
                stream.set_zero_linger().unwrap();
            }
            tokio::spawn(serve(stream, granted.clone()));
        }
    }));
    stop.drop_guard()
}

async fn serve(stream: TcpStream, granted: Arc<AtomicUsize>) -> Option<()> {
    let mut connection = h2::server::handshake(stream).await.ok()?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request.ok()?;
        let head = |status: &'static str| {
            let builder = Response::builder().header("content-type", "application/grpc");
            builder.header("grpc-status", status).body(()).unwrap()
        };
        if !request.uri().path().ends_with("/SendMessage") {
            // UNIMPLEMENTED.
            respond.send_response(head("12"), true).ok()?;
            continue;
        }
        let message = SendMessageResponse { message: Some(ok(60)) }.encode_to_vec();
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).unwrap());
        framed.put_slice(&message);
        let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut body = respond.send_response(response, false).ok()?;
        body.send_data(Bytes::from(framed), false).ok()?;
        let trailers =
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
        body.send_trailers(trailers).ok()?;
        granted.fetch_add(1, Ordering::Relaxed);
        // Long enough to write it; no other request gets a response.
        let written = tokio::time::sleep(Duration::from_millis(5));
        tokio::select! {
            () = written => {}
            _ = std::future::poll_fn(|context| connection.poll_closed(context)) => {}
        }
        return Some(());
    }
    Some(())
}

async fn used_at_the_usual_pace(end: End) {
    let (stage, _end) = granting(60).await;
    let granted = Arc::new(AtomicUsize::new(0));
    let _requester = breaking(stage.requester_port, end, granted.clone()).await;
    let service = run_through(&stage, stage.requester_port);
    all_registered(&stage, &BTreeSet::new()).await;
    // A trunk whose connection broke has its turn on the next one: some are granted twice, none waits for a
    // back-off.
    assert!((20..=60).contains(&granted.load(Ordering::Relaxed)), "{granted:?}");
    assert_eq!(told(&service, "Requester fails"), Vec::<String>::new());
}

#[tokio::test]
async fn g3_a_requester_whose_connection_breaks_after_each_response_is_used_at_the_usual_pace() {
    used_at_the_usual_pace(End::Closed).await;
}

#[tokio::test]
async fn g3_so_is_one_that_resets_it() {
    used_at_the_usual_pace(End::Reset).await;
}

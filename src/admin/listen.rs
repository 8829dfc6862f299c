//! Accepts connections and serves HTTP/1.1 on them, within bounds: a client that says nothing, or too many of
//! them, must not take the sockets that registrations need.

use std::{collections::VecDeque, io, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use routr_net::descriptors::{self, Reserve};

/// Connections served at one time on one port. One more ends the oldest: an answer takes milliseconds, so
/// anyone who is there for longer has been served, or says nothing; and a probe must not wait behind those.
pub(super) const MAX_CONNECTIONS: usize = 128;

/// How long a client may take to send the head of a request, an idle connection included.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// How long requests under way may take to end after shutdown began.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// How long to wait after an accept failed, for example because no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Serves until `shutdown` is cancelled.
pub(crate) async fn run(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut places = VecDeque::with_capacity(MAX_CONNECTIONS);
    // A probe must be heard when registrations have all other descriptors.
    let mut reserve = Reserve::default();
    loop {
        reserve.fill();
        let next = tokio::select! {
            () = shutdown.cancelled() => break,
            // A connection that has ended gives its descriptor back to the reserve.
            Some(_) = connections.join_next() => continue,
            next = accept(&listener, &mut reserve) => next,
        };
        let stream = match next {
            Ok(stream) => stream,
            Err(problem) if descriptors::is_exhausted(&problem) && end_oldest(&mut places) => {
                // Its descriptor is for the one that waits.
                let _ = tokio::time::timeout(ACCEPT_PAUSE, connections.join_next()).await;
                continue;
            }
            Err(problem) => {
                tracing::warn!(%problem, "cannot accept an HTTP connection; raise the limit on open files if \
                                          it is too low");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        make_room(&mut places);
        places.push_back(connections.spawn(serve_connection(stream, router.clone(), shutdown.clone())));
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, all_ended).await.is_err() {
        tracing::debug!("HTTP connections were cut at shutdown");
    }
}

fn make_room(places: &mut VecDeque<AbortHandle>) {
    if places.len() >= MAX_CONNECTIONS {
        places.retain(|connection| !connection.is_finished());
    }
    if places.len() >= MAX_CONNECTIONS && end_oldest(places) {
        tracing::debug!("too many HTTP connections: closing the oldest");
    }
}

/// Ends the connection that is there for the longest time; `false`: there is none.
fn end_oldest(places: &mut VecDeque<AbortHandle>) -> bool {
    places.retain(|connection| !connection.is_finished());
    let oldest = places.pop_front();
    oldest.inspect(AbortHandle::abort).is_some()
}

async fn accept(listener: &TcpListener, reserve: &mut Reserve) -> io::Result<TcpStream> {
    let mut accepted = listener.accept().await;
    while accepted.as_ref().is_err_and(descriptors::is_exhausted) && reserve.release() {
        accepted = listener.accept().await;
    }
    accepted.map(|(stream, _)| stream)
}

async fn serve_connection(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    // Without it, small answers wait for the peer's delayed ACK.
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(problem) = ended {
        tracing::debug!(problem, "an HTTP connection failed");
    }
}

//! Accepts connections and serves HTTP/1.1 on them, within bounds: a client that says nothing, or too many of
//! them, must not take the sockets that registrations need.

use std::{convert::Infallible, io, net::IpAddr, time::Duration};

use axum::{Router, body::HttpBody as _, http::Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::connections::{Activity, Connections, Noted};
use routr_net::descriptors::{self, Reserve};

/// Time that a client may take to send the head of a request, an idle connection included.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// Between two looks at clients that take nothing.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// Time that requests under way may take to end after shutdown began.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// Pause after an accept failed, for example because no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Extension of each request: the address that it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) IpAddr);

/// Serves until `shutdown` is cancelled.
pub(crate) async fn run(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let (mut tasks, all) = (JoinSet::new(), Connections::default());
    let mut sweep = interval(SWEEP_PERIOD);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A probe must be heard when registrations have all other descriptors.
    let mut reserve = Reserve::default();
    loop {
        reserve.fill();
        let next = tokio::select! {
            () = shutdown.cancelled() => break,
            _ = sweep.tick() => {
                all.sweep();
                continue;
            }
            // A connection that has ended gives its descriptor back to the reserve.
            Some(_) = tasks.join_next() => continue,
            next = accept(&listener, &mut reserve) => next,
        };
        let (stream, from) = match next {
            Ok(accepted) => accepted,
            Err(problem) if descriptors::is_exhausted(&problem) && all.end_one() => {
                // Its descriptor is for the one that waits.
                let _ = tokio::time::timeout(ACCEPT_PAUSE, tasks.join_next()).await;
                continue;
            }
            Err(problem) => {
                tracing::warn!(%problem, "cannot accept an HTTP connection; raise the limit on open files if \
                                          it is too low");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        all.make_room();
        let activity = Activity::new(from);
        let stream = Noted { stream, activity: activity.clone() };
        all.add(
            activity,
            tasks.spawn(serve_connection(
                stream,
                Caller(from),
                router.clone(),
                all.clone(),
                shutdown.clone(),
            )),
        );
    }
    drop(listener);
    let all_ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, all_ended).await.is_err() {
        tracing::debug!("HTTP connections were cut at shutdown");
    }
}

async fn accept(listener: &TcpListener, reserve: &mut Reserve) -> io::Result<(TcpStream, IpAddr)> {
    let mut accepted = listener.accept().await;
    while accepted.as_ref().is_err_and(descriptors::is_exhausted) && reserve.release() {
        accepted = listener.accept().await;
    }
    accepted.map(|(stream, from)| (stream, from.ip()))
}

async fn serve_connection(
    stream: Noted,
    caller: Caller,
    router: Router,
    all: Connections,
    shutdown: CancellationToken,
) {
    // Without it, small answers wait for the peer's delayed ACK.
    let _ = stream.stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let activity = stream.activity.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        let (router, activity, all) = (router.clone(), activity.clone(), all.clone());
        async move {
            activity.begin();
            let response = router.oneshot(request).await?;
            activity.respond(response.body().size_hint().lower());
            all.bound_untaken(&activity);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
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

//! Takes connections, does TLS on them, and hands them to the gRPC server, each with a count of what it does.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::{
    AccessOptions,
    connections::{Connections, Usage},
};
use routr_net::{
    connect::io_cause,
    descriptors::{self, Reserve},
};

/// Pause after an accept failed, or no connection could be ended for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at how many connections are still to end.
const ENDING_PAUSE: Duration = Duration::from_millis(5);
/// Between two looks at what is overdue.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// Connections that wait for the server.
const MAX_QUEUED_CONNECTIONS: usize = 64;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that was let in. It reads as ended once it has to end.
pub(crate) struct Admitted {
    stream: Box<dyn Stream>,
    usage: Arc<Usage>,
    closing: BoxFuture<'static, ()>,
}

impl Admitted {
    fn new(stream: impl Stream + 'static, usage: Arc<Usage>) -> Self {
        let closing = Box::pin(usage.close().clone().cancelled_owned());
        Self { stream: Box::new(stream), usage, closing }
    }
}

impl Connected for Admitted {
    type ConnectInfo = Arc<Usage>;

    fn connect_info(&self) -> Arc<Usage> {
        self.usage.clone()
    }
}

impl AsyncRead for Admitted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.usage.read(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // One that takes nothing would otherwise wait here.
        if this.usage.close().is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(context) {
            Poll::Pending if this.usage.close().is_cancelled() => {
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
            flushed => flushed,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_shutdown(context) {
            // TLS has its last words for one that takes nothing.
            Poll::Pending if this.usage.close().is_cancelled() => Poll::Ready(Ok(())),
            shut => shut,
        }
    }
}

/// Takes connections until `shutdown` is cancelled; they come by the receiver.
pub(crate) fn accept(
    listener: TcpListener,
    access: AccessOptions,
    shutdown: CancellationToken,
) -> mpsc::Receiver<io::Result<Admitted>> {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_CONNECTIONS);
    tokio::spawn(async move {
        let all = Arc::new(Connections::default());
        tokio::select! {
            () = run(&listener, &access, &all, &sender) => (),
            () = shutdown.cancelled() => (),
        }
    });
    receiver
}

async fn run(
    listener: &TcpListener,
    access: &AccessOptions,
    all: &Arc<Connections>,
    sender: &mpsc::Sender<io::Result<Admitted>>,
) {
    let mut sweep = interval(SWEEP_PERIOD.min(access.patience));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Who calls must be heard when registrars have all other descriptors.
    let mut reserve = Reserve::default();
    loop {
        reserve.fill();
        let next = tokio::select! {
            _ = sweep.tick() => {
                all.sweep(access);
                continue;
            }
            // A crowd comes faster than its connections end: then the newcomers wait.
            () = tokio::time::sleep(ENDING_PAUSE), if all.are_ending(access) => continue,
            next = next(listener, &mut reserve), if !all.are_ending(access) => next,
        };
        let (stream, from) = match next {
            Ok(accepted) => accepted,
            Err(problem) => {
                let made_room = descriptors::is_exhausted(&problem) && all.evict(None, access);
                if !made_room {
                    tracing::warn!(%problem, "cannot accept a gRPC connection; raise the limit on open files \
                                              if it is too low");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(usage) = all.admit(from, access) else {
            tracing::debug!(%from, most = access.max_connections, "refused a gRPC connection: all have calls in progress");
            continue;
        };
        tokio::spawn(greet(stream, from, access.clone(), usage, sender.clone()));
    }
}

async fn next(listener: &TcpListener, reserve: &mut Reserve) -> io::Result<(TcpStream, IpAddr)> {
    let mut accepted = listener.accept().await;
    while accepted.as_ref().is_err_and(descriptors::is_exhausted) && reserve.release() {
        accepted = listener.accept().await;
    }
    accepted.map(|(stream, from)| (stream, from.ip()))
}

/// Does TLS, where that is set up, and hands the connection over.
async fn greet(
    stream: TcpStream,
    from: IpAddr,
    access: AccessOptions,
    usage: Arc<Usage>,
    sender: mpsc::Sender<io::Result<Admitted>>,
) {
    // Without it, small responses wait for the peer's delayed ACK.
    let _ = stream.set_nodelay(true);
    let close = usage.close().clone();
    let greeted = async {
        let admitted = match &access.tls {
            None => Admitted::new(stream, usage),
            Some(tls) => {
                let acceptor = TlsAcceptor::from(tls.config());
                let stream = match timeout(access.patience, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        tracing::debug!(%from, error = io_cause(&error), "a TLS handshake of a caller failed");
                        return;
                    }
                    Err(_) => {
                        tracing::debug!(%from, "a TLS handshake of a caller was not finished in time");
                        return;
                    }
                };
                if stream.get_ref().1.peer_certificates().is_some() {
                    usage.is_known();
                }
                Admitted::new(stream, usage)
            }
        };
        // An error means that the server has stopped.
        let _ = sender.send(Ok(admitted)).await;
    };
    tokio::select! { () = greeted => (), () = close.cancelled() => () }
}

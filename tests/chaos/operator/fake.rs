//! Someone else in the place of the API server of Kubernetes, with its certificate.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::control_plane::ControlPlane;
use crate::support::ports;

/// Bytes after which an endless answer pauses for good: by then it has shown whether there is a bound.
const ENOUGH: usize = 1 << 30;

/// Content that it sends in response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To each request something else that is not what was asked for: no JSON, another object, an error
    /// without a body.
    Garbage,
    /// To each request a JSON text that does not end.
    Endless,
}

/// A running one, on a thread and with a runtime of its own: with it all connections end. Ends when it is
/// dropped.
pub struct Fake {
    pub port: u16,
    _end: DropGuard,
}

impl Fake {
    pub async fn start(kind: Kind, plane: &ControlPlane) -> Self {
        let (port, end) = (ports::free(), CancellationToken::new());
        let (ended, acceptor) = (end.clone(), plane.acceptor());
        let (ready, listening) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener =
                    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port of a fake");
                ready.send(()).expect("the caller waits for it");
                ended.run_until_cancelled(run(kind, listener, acceptor)).await;
            });
        });
        listening.await.expect("the fake starts");
        Self { port, _end: end.drop_guard() }
    }
}

async fn run(kind: Kind, listener: TcpListener, acceptor: TlsAcceptor) {
    let mut turn = 0;
    while let Ok((stream, _)) = listener.accept().await {
        turn += 1;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // It ends when the other side has enough.
            if let Ok(stream) = acceptor.accept(stream).await {
                let _ = serve(kind, turn, stream).await;
            }
        });
    }
}

/// An answer for each piece that arrives: requests are small.
async fn serve(kind: Kind, mut turn: u64, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    while stream.read(&mut bytes).await? > 0 {
        if kind == Kind::Endless {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"kind\":\"";
            stream.write_all(head.as_bytes()).await?;
            let piece = vec![b'x'; 64 << 10];
            for _ in 0..ENOUGH / piece.len() {
                stream.write_all(&piece).await?;
            }
            std::future::pending::<()>().await;
        }
        let (status, body) = match turn % 5 {
            0 => ("200 OK", "<html>\u{1b}[31mnothing to see</html>"),
            1 => ("200 OK", "{\"kind\":\"Teapot\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":7}}"),
            2 => ("500 Internal Server Error", ""),
            3 => ("200 OK", "{\"metadata\":"),
            _ => ("200 OK", "[[[[[[[[\u{0}]]]]]]]]"),
        };
        turn += 1;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).await?;
    }
    Ok(())
}

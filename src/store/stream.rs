//! The bytes between here and Redis: TCP or TLS, and an end to responses that have none.

use std::{
    fmt, io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::settings_error::RedisSettingsError;
use crate::{
    config::RedisSettings,
    connect::{self, Resolver},
    quota::sockets::{Held, Payers},
};
use routr_net::{
    addresses::AddressPolicy,
    connect::SocketOptions,
    tls::{Followed, TlsFiles, followed::ClientCertificate},
};
use routr_types::host::HostPort;

/// Bytes that may come between two requests. The largest response that is asked for, 5,000 records and one
/// more bucket, has a million or two. Without a bound, whatever listens in Redis' place could fill the
/// memory: decoded, an empty value of four bytes takes some fifty.
const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// A Redis that acknowledges nothing for this long is gone.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);

/// Address that a server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// TCP address.
    Tcp(HostPort),
    /// Unix socket.
    Socket(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// Connector to the servers of one Redis.
pub(super) struct Dialer {
    tls: Option<Followed>,
    /// The addresses that may be connected to: those that Sentinel and Cluster name as well.
    policy: Arc<AddressPolicy>,
    /// Registries that the sockets count for.
    pub(super) payers: Payers,
}

impl Dialer {
    /// Reads the files, and does nothing else.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, RedisSettingsError> {
        let policy = settings.policy.clone();
        if !settings.secure {
            return Ok(Self { tls: None, policy, payers: Payers::default() });
        }
        server_name(&settings.address).map_err(|cause| RedisSettingsError::Address {
            address: settings.address.clone(),
            cause: cause.to_string().into(),
        })?;
        let certificate = settings.client_certificate.clone();
        let files = TlsFiles {
            authorities: settings.ca_file.clone(),
            certificate: certificate.map(|(certificate, key)| ClientCertificate { certificate, key }),
        };
        let tls = Followed::new(files, "spec.cache.parameters", &[])?;
        Ok(Self { tls: Some(tls), policy, payers: Payers::default() })
    }

    /// A new connection. Takes as long as the network does.
    pub(super) async fn dial(&self, place: &Place) -> io::Result<Bounded> {
        let stream: Box<dyn Stream> = match (place, &self.tls) {
            (Place::Socket(path), _) => {
                let socket = self.payers.socket().map_err(|excess| io::Error::other(excess.to_string()))?;
                Box::new(socket.hold(UnixStream::connect(path).await?))
            }
            (Place::Tcp(address), None) => Box::new(self.tcp(address).await?),
            (Place::Tcp(address), Some(tls)) => {
                let (config, name) = (tls.config(), server_name(address)?);
                Box::new(TlsConnector::from(config).connect(name, self.tcp(address).await?).await?)
            }
        };
        Ok(Bounded { stream, came: 0 })
    }

    async fn tcp(&self, address: &HostPort) -> io::Result<Held<TcpStream>> {
        let options = SocketOptions::within(PEER_TIMEOUT, &self.policy);
        Ok(connect::dial(address, &Resolver::system(), &options, &self.payers).await?)
    }
}

fn server_name(address: &HostPort) -> io::Result<ServerName<'static>> {
    ServerName::try_from(address.host.to_string()).map_err(io::Error::other)
}

/// Parts of a connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// See [`MAX_RESPONSE_BYTES`].
pub(super) struct Bounded {
    stream: Box<dyn Stream>,
    /// Bytes since the last request.
    came: usize,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.came > MAX_RESPONSE_BYTES {
            let problem = format!(
                "a response of more than {} MiB, which Redis has no reason to send",
                MAX_RESPONSE_BYTES >> 20
            );
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, problem)));
        }
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.came += buffer.filled().len() - before;
        done
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.came = 0;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn an_answer_without_end_ends_the_connection_and_one_request_after_the_other_does_not() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let peer = tokio::spawn(async move {
            let mut asked = [0];
            let answer = vec![b'x'; 1 << 20];
            // Much in all, little at a time, and then all at once.
            for _ in 0..100 {
                far.read_exact(&mut asked).await.unwrap();
                far.write_all(&answer).await.unwrap();
            }
            far.read_exact(&mut asked).await.unwrap();
            while far.write_all(&answer).await.is_ok() {}
        });
        let mut stream = Bounded { stream: Box::new(near), came: 0 };
        let mut answer = vec![0; 1 << 20];
        for _ in 0..100 {
            stream.write_all(b"?").await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
        }
        stream.write_all(b"?").await.unwrap();
        let mut came = 0;
        let error = loop {
            match stream.read(&mut answer).await {
                Ok(bytes) => came += bytes,
                Err(error) => break error,
            }
        };
        assert!(came > MAX_RESPONSE_BYTES && came <= MAX_RESPONSE_BYTES + answer.len(), "{came}");
        assert!(error.to_string().contains("more than 8 MiB"), "{error}");
        drop(stream);
        peer.await.unwrap();
    }
}

//! The bytes between here and Redis: TCP or TLS, and an end to responses that have none.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::connection::RedisSettingsError;
use crate::{
    config::RedisSettings,
    connect::{self, Resolver},
    quota::sockets::{Held, Payers},
};
use routr_net::{addresses::AddressPolicy, connect::SocketOptions, tls};
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
    tls: Option<TlsFiles>,
    /// The addresses that may be connected to: those that Sentinel and Cluster name as well.
    policy: Arc<AddressPolicy>,
    /// Registries that the sockets count for.
    pub(super) payers: Payers,
}

/// TLS, with what it is made of: files are read for each connection, so that a certificate that was renewed
/// is used.
struct TlsFiles {
    ca: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
    /// Configuration as it was at the start: for good where there are no files.
    first: Arc<ClientConfig>,
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
        let (ca, client) = (settings.ca_file.clone(), settings.client_certificate.clone());
        let first = client_config(ca.as_deref(), client.as_ref())?;
        Ok(Self { tls: Some(TlsFiles { ca, client, first }), policy, payers: Payers::default() })
    }

    /// A new connection. Takes as long as the network does.
    pub(super) async fn dial(&self, place: &Place) -> io::Result<Bounded> {
        let stream: Box<dyn Stream> = match (place, &self.tls) {
            (Place::Socket(path), _) => {
                let socket = self.payers.socket().map_err(|excess| io::Error::other(excess.to_string()))?;
                Box::new(socket.hold(UnixStream::connect(path).await?))
            }
            (Place::Tcp(address), None) => Box::new(self.tcp(address).await?),
            (Place::Tcp(address), Some(files)) => {
                let (config, name) = (files.config()?, server_name(address)?);
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

impl TlsFiles {
    fn config(&self) -> io::Result<Arc<ClientConfig>> {
        if self.ca.is_none() && self.client.is_none() {
            return Ok(self.first.clone());
        }
        client_config(self.ca.as_deref(), self.client.as_ref()).map_err(io::Error::other)
    }
}

fn server_name(address: &HostPort) -> io::Result<ServerName<'static>> {
    ServerName::try_from(address.host.to_string()).map_err(io::Error::other)
}

fn client_config(
    ca: Option<&Path>,
    client: Option<&(PathBuf, PathBuf)>,
) -> Result<Arc<ClientConfig>, RedisSettingsError> {
    // Where the system has no authority, no certificate is trusted, and each attempt to connect says so.
    let roots = ca.map_or_else(|| Ok(tls::system().0), |file| read_ca(file).map(Arc::new))?;
    let unusable = |path: &Path, cause: String| RedisSettingsError::ClientCertificate {
        path: path.to_owned(),
        cause: cause.into(),
    };
    let builder = tls::trusting(roots).map_err(|error| unusable(Path::new("TLS"), error.to_string()))?;
    let Some((cert, key)) = client else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let read = |path: &Path| routr_net::files::read(path).map_err(|e| unusable(path, e.to_string()));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
    let chain = chain.map_err(|error| unusable(cert, error.to_string()))?;
    let private =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| unusable(key, error.to_string()))?;
    let config = builder.with_client_auth_cert(chain, private);
    config.map(Arc::new).map_err(|error| unusable(cert, error.to_string()))
}

/// Byte stream under a connection.
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

fn read_ca(path: &Path) -> Result<RootCertStore, RedisSettingsError> {
    let pem = routr_net::files::read(path).map_err(|e| RedisSettingsError::UnreadableCa {
        path: path.to_owned(),
        cause: e.to_string().into(),
    })?;
    let bad = |cause: String| RedisSettingsError::BadCa { path: path.to_owned(), cause: cause.into() };
    let roots = tls::authorities(CertificateDer::pem_slice_iter(&pem)).map_err(bad)?;
    if roots.is_empty() {
        return Err(bad("there is no BEGIN CERTIFICATE in it".to_owned()));
    }
    Ok(roots)
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

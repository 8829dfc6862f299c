//! The bytes between here and Redis: TCP or TLS, and an end to answers that have none.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use super::link::RedisSettingsError;
use crate::{
    connect::{self, Resolver, SocketOptions},
    tls,
    trunk::HostPort,
};

/// Bytes that may come between two requests. The largest answer that is asked for, 20,000 records and one more bucket, has
/// some millions. Without a bound, whatever listens in Redis' place could fill the memory.
const MOST: usize = 64 << 20;

/// A Redis that acknowledges nothing for this long is gone.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);

/// How to reach one Redis.
pub(super) struct Dialer {
    address: HostPort,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialer {
    /// Reads the CA file, if there is one, and does nothing else.
    pub(super) fn new(
        address: &HostPort,
        secure: bool,
        ca_file: Option<&Path>,
    ) -> Result<Self, RedisSettingsError> {
        let unusable =
            |cause: String| RedisSettingsError::Address { address: address.clone(), cause: cause.into() };
        let tls = if secure {
            let name = ServerName::try_from(address.host.to_string()).map_err(|e| unusable(e.to_string()))?;
            // Where the system has no authority, no certificate is trusted, and each attempt to connect says so.
            let roots = ca_file.map_or_else(|| Ok(tls::system().0), |file| read_ca(file).map(Arc::new))?;
            let config = tls::client_config(roots).map_err(|e| unusable(e.to_string()))?;
            Some((TlsConnector::from(config), name))
        } else {
            None
        };
        Ok(Self { address: address.clone(), tls })
    }

    /// A new connection. Takes as long as the network does.
    pub(super) async fn dial(&self) -> io::Result<Bounded> {
        let tcp =
            connect::dial(&self.address, &Resolver::system(), &SocketOptions::within(PEER_TIMEOUT)).await?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?),
        };
        Ok(Bounded { stream, came: 0 })
    }
}

/// What a connection is made of.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// See [`MOST`].
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
        if self.came > MOST {
            let problem =
                format!("an answer of more than {} MiB, which Redis has no reason to give", MOST >> 20);
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
    let pem = crate::config::files::read(path).map_err(|e| RedisSettingsError::UnreadableCa {
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
        assert!(came > MOST && came <= MOST + answer.len(), "{came}");
        assert!(error.to_string().contains("more than 64 MiB"), "{error}");
        drop(stream);
        peer.await.unwrap();
    }
}

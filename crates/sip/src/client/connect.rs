//! New connections: TCP, and TLS over it.

use std::{io, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    connection::{Connection, MAX_QUEUED_MESSAGES, Target, drive},
    error::io_cause,
    pool::{Connections, Settings},
};
use routr_net::{
    connect::SocketOptions,
    tls::{Noticed, cause},
};
use routr_types::host::Transport;

/// Reason that there is no connection to one address.
pub(super) enum ConnectError {
    Transport(String),
    Tls(String),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Transport(io_cause(&error))
    }
}

/// A peer that vanished without a word, or a NAT that forgot, is found out between two refreshes; and so is
/// one that acknowledges nothing of what it is sent.
pub(super) fn options(settings: &Settings) -> SocketOptions {
    SocketOptions {
        bind: (!settings.bind.is_unspecified()).then_some(settings.bind),
        keepalive_time: Duration::from_secs(60),
        keepalive_interval: Duration::from_secs(10),
        keepalive_retries: None,
        user_timeout: settings.grace,
        policy: Arc::default(),
    }
}

/// Makes TLS where that is the transport, and starts the connection's task.
pub(super) async fn finish(
    pool: &Arc<Connections>,
    id: u64,
    target: &Target,
    tcp: TcpStream,
    until: Instant,
    within: Duration,
) -> Result<Arc<Connection>, ConnectError> {
    let addresses = (tcp.local_addr()?, tcp.peer_addr()?);
    let (outgoing, queue) = mpsc::channel(MAX_QUEUED_MESSAGES);
    let connection = || Arc::new(Connection::new(id, target.clone(), addresses, outgoing));
    match (target.destination.transport, &pool.settings().tls) {
        (Transport::Tls, Some(trust)) => {
            let asked = Noticed::default();
            let config = trust.config(&target.destination.host);
            let tls = tls(&config, &target.destination.host, tcp, &asked);
            let tls = timeout_at(until, tls).await.unwrap_or_else(|_| {
                let happened = format!("TLS handshake not finished within {} s", within.as_secs_f32());
                Err(ConnectError::Tls(cause::handshake_words(
                    &happened,
                    asked.get(),
                    &cause::Settings::REQUESTER,
                )))
            })?;
            let connection = connection();
            pool.open().add(&connection);
            tokio::spawn(drive(pool.clone(), tls, connection.clone(), queue, Some(asked)));
            Ok(connection)
        }
        _ => {
            let connection = connection();
            pool.open().add(&connection);
            tokio::spawn(drive(pool.clone(), tcp, connection.clone(), queue, None));
            Ok(connection)
        }
    }
}

async fn tls(
    config: &Arc<ClientConfig>,
    host: &str,
    tcp: TcpStream,
    asked: &Noticed,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| ConnectError::Tls(format!("no certificate can match {host}: it is not a DNS name")))?;
    TlsConnector::from(asked.watch(config)).connect(name, tcp).await.map_err(|error| {
        let closed = || {
            let happened = format!("TLS handshake ended: {}", io_cause(&error));
            cause::handshake_words(&happened, asked.get(), &cause::Settings::REQUESTER)
        };
        let words = cause::of(&error, asked.get(), host, &cause::Settings::REQUESTER);
        ConnectError::Tls(words.unwrap_or_else(closed))
    })
}

//! A connection to a gRPC dependency.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

use tokio::{
    net::UnixStream,
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};
use tonic::codegen::http::uri::{Authority, Scheme};

pub use super::balance::Channel;
use super::{
    GrpcError,
    balance::Source,
    peer::{At, Dialing},
};
use crate::{
    config::{Endpoint, Target},
    connect::{self, CONNECT_TIMEOUT, Resolver, SocketOptions},
    environment,
    ports::Link,
    tls::Followed,
    trunk::HostPort,
};

/// Between two attempts to reach a neighbour that was lost.
const RETRY: Duration = Duration::from_millis(500);

/// Looks after the connections to one neighbour: a lost one is made again only for the next call, which may be minutes away.
#[derive(Debug)]
pub struct Monitor {
    lost: Arc<Notify>,
    link: Arc<watch::Sender<Link>>,
    task: JoinHandle<()>,
}

impl Monitor {
    /// Begins, for connections that are yet to be opened.
    pub fn start(endpoint: &Endpoint) -> Self {
        let lost = Arc::new(Notify::new());
        let link = Arc::new(watch::Sender::new(Link::default()));
        let (sender, notified) = (link.clone(), lost.clone());
        let source = source(&endpoint.address, &Resolver::system());
        let task = tokio::spawn(async move {
            loop {
                notified.notified().await;
                sender.send_modify(|link| link.lost = true);
                while !listens(&source).await {
                    tokio::time::sleep(RETRY).await;
                }
                sender.send_modify(|link| (link.lost, link.reconnections) = (false, link.reconnections + 1));
            }
        });
        Self { lost, link, task }
    }

    /// How the connections fare.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Where what is learnt of the other side is to go.
    pub(super) fn sender(&self) -> Arc<watch::Sender<Link>> {
        self.link.clone()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether one of the addresses takes a connection.
async fn listens(source: &Source) -> bool {
    let options = SocketOptions::within(CONNECT_TIMEOUT);
    match source {
        Source::Name(host, resolver) => connect::dial(host, resolver, &options).await.is_ok(),
        Source::Given(all) => {
            let attempt = async |at: &At| match at {
                At::Ip(address) => connect::tcp(*address, &options).await.is_ok(),
                At::Unix(path) => UnixStream::connect(path).await.is_ok(),
            };
            for at in all {
                if timeout(CONNECT_TIMEOUT, attempt(at)).await == Ok(true) {
                    return true;
                }
            }
            false
        }
    }
}

/// Opens a channel that connects at its first call, and again after each loss, which `monitor` hears of.
///
/// # Errors
/// When the address or a file of TLS cannot be used.
pub fn open(endpoint: &Endpoint, monitor: Option<&Monitor>) -> Result<Channel, GrpcError> {
    open_with(endpoint, monitor, &Resolver::system())
}

/// As [`open`], with another way to look names up.
pub(super) fn open_with(
    endpoint: &Endpoint,
    monitor: Option<&Monitor>,
    resolver: &Resolver,
) -> Result<Channel, GrpcError> {
    let wrong = |problem: String| GrpcError::Address { address: endpoint.address.to_string(), problem };
    let scheme = if endpoint.tls { Scheme::HTTPS } else { Scheme::HTTP };
    // The name that the service is asked for by.
    let (authority, host) = match &endpoint.address {
        Target::Host(host) => (host.to_string(), host.host.clone()),
        Target::Addresses(all) => {
            let first = all.first().ok_or_else(|| wrong("no address".to_owned()))?;
            (first.to_string(), first.ip().to_string().into())
        }
        Target::Unix(_) => ("localhost".to_owned(), "localhost".into()),
    };
    let authority = authority.parse::<Authority>().map_err(|error| wrong(error.to_string()))?;
    let tls = match endpoint.tls {
        true => Some((Followed::new(endpoint.files.clone(), "spec.tls", &[b"h2"])?, host)),
        false => None,
    };
    let dialing = Dialing {
        tls,
        lost: monitor.map(|monitor| monitor.lost.clone()),
        open: AtomicUsize::new(0),
        several: AtomicBool::new(false),
        doubtful: AtomicBool::new(false),
    };
    // Many registries must not all begin with the same address.
    let turn = usize::try_from(environment::random() % 1024).unwrap_or_default();
    Ok(Channel::new(source(&endpoint.address, resolver), scheme, authority, dialing, turn))
}

fn source(target: &Target, resolver: &Resolver) -> Source {
    let ip = |host: &HostPort| host.host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, host.port));
    match target {
        Target::Host(host) => match ip(host) {
            Some(address) => Source::Given(vec![At::Ip(address)]),
            None => Source::Name(host.clone(), resolver.clone()),
        },
        Target::Addresses(all) => Source::Given(all.iter().copied().map(At::Ip).collect()),
        Target::Unix(path) => Source::Given(vec![At::Unix(path.clone())]),
    }
}

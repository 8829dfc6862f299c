//! Plays one case: binds its nodes, name servers and EdgePorts, and serves them.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    bindings::Binding,
    case::{Case, Over},
    context::{Node, node_value},
    dialogue::{Dialogue, Sink},
    dns::{self, Dns, Query},
    edge_port::{EdgePort, EdgePortCounts},
    journal::{Received, Seen},
    net::{self, PORT_TRIES, Server, Socket, Tasks},
    script::Script,
    tls::{Authority, Identities, TlsError},
};
use routr_types::secret::Secret;

/// The password that a case demands where none is given.
pub const DEFAULT_PASSWORD: &str = "field-password";

/// Options to play a case with.
#[derive(Clone)]
pub struct PlayOptions {
    /// Address of the first node; port 0 takes a free one. The others follow: on an IPv4 loopback address at
    /// the next addresses and the same port, elsewhere at the next ports.
    pub listen: SocketAddr,
    /// Instead of the transports of the case; empty for those.
    pub transports: Vec<Over>,
    /// The password that is right, whatever the user.
    pub password: Secret,
    /// Address of the first name server, the others at the next ports, or, on port 53 of loopback, at the
    /// next addresses; a free port of `listen`'s address where it is absent.
    pub dns: Option<SocketAddr>,
    /// The same for EdgePorts.
    pub edge_ports: Option<SocketAddr>,
    /// Gets each entry of the dialogue as it happens.
    pub sink: Option<Sink>,
}

impl Default for PlayOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            transports: Vec::new(),
            password: Secret::new(DEFAULT_PASSWORD),
            dns: None,
            edge_ports: None,
            sink: None,
        }
    }
}

impl fmt::Debug for PlayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlayOptions").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// Reason that a case cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// An address is taken, or not of this machine.
    #[error("{what} cannot listen on {address}: {source}")]
    Bind {
        /// Name of the node or server.
        what: String,
        /// Address that cannot be listened on.
        address: SocketAddr,
        /// Error of the system.
        source: io::Error,
    },
    /// TCP and TLS need a port each.
    #[error("transports TCP and TLS cannot share a port; play one of them")]
    Transports,
    /// A DNS entry is no record.
    #[error("dns.records[{at}].data: {problem}")]
    Record {
        /// Place of the entry.
        at: usize,
        /// Problem with the record.
        problem: String,
    },
    /// TLS cannot be served.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
}

/// A case that is being played. Clones share it; it ends with its `shutdown` token, or by [`Player::stop`].
#[derive(Clone, Debug)]
pub struct Player {
    script: Arc<Script>,
    dns: Option<Arc<Dns>>,
    servers: Arc<[(String, SocketAddr)]>,
    edge_ports: Arc<[Arc<EdgePort>]>,
    identities: Option<Identities>,
    transports: Arc<[Over]>,
    dialogue: Dialogue,
    tasks: Tasks,
}

impl Player {
    /// Binds everything and plays until `shutdown` is cancelled.
    ///
    /// # Errors
    /// When an address cannot be bound, TLS cannot be served, or a DNS entry is no record.
    pub async fn start(
        case: &Case,
        options: PlayOptions,
        shutdown: CancellationToken,
    ) -> Result<Self, PlayError> {
        let given = if options.transports.is_empty() { &case.transports } else { &options.transports };
        let transports: Arc<[Over]> = given.clone().into();
        if transports.contains(&Over::Tcp) && transports.contains(&Over::Tls) {
            return Err(PlayError::Transports);
        }
        let dialogue = Dialogue::new(&options.password, options.sink.clone());
        let authority = if transports.contains(&Over::Tls) { Some(Authority::new()?) } else { None };
        let identities = authority.as_ref().map(Authority::identities).transpose()?;
        let tasks = Tasks::new(shutdown.child_token());
        let (nodes, sockets) = bind_nodes(case, &options, &transports, authority.as_ref()).await?;
        let edge_ports = bind_edge_ports(case, &options, &dialogue).await?;
        let (dns, servers) = start_dns(case, &options, &nodes, &dialogue, &tasks).await?;
        let script = Script::new(case.clone(), nodes.into(), options.password, dialogue.clone());
        let script = Arc::new(script);
        for (node, sockets) in sockets.into_iter().enumerate() {
            let server = Server::new(Arc::clone(&script), node, tasks.clone());
            sockets.into_iter().for_each(|(over, socket)| server.serve(over, socket));
        }
        let serve = |(edge, socket): (Arc<EdgePort>, Socket)| {
            match socket {
                Socket::Udp(socket) => edge.serve(&tasks, socket),
                held => tasks.spawn(async move {
                    std::future::pending::<()>().await;
                    drop(held);
                }),
            }
            edge
        };
        let edge_ports = edge_ports.into_iter().map(serve).collect();
        Ok(Self { script, dns, servers: servers.into(), edge_ports, identities, transports, dialogue, tasks })
    }

    /// Ends it, and waits until its ports are free.
    pub async fn stop(&self) {
        self.tasks.end().await;
    }

    /// The nodes by name, and where each listens.
    pub fn nodes(&self) -> Vec<(String, SocketAddr)> {
        self.script.nodes.iter().map(|node| (node.name.clone(), node.address)).collect()
    }

    /// Returns where a node listens.
    pub fn node(&self, name: &str) -> Option<SocketAddr> {
        self.script.nodes.iter().find(|node| node.name == name).map(|node| node.address)
    }

    /// Returns where the first node listens.
    pub fn address(&self) -> SocketAddr {
        let unspecified = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        self.script.nodes.first().map_or(unspecified, |node| node.address)
    }

    /// Returns what is served.
    pub fn transports(&self) -> &[Over] {
        &self.transports
    }

    /// The name servers, and where each listens.
    pub fn name_servers(&self) -> &[(String, SocketAddr)] {
        &self.servers
    }

    /// The EdgePorts, where each listens, and what each has done.
    pub fn edge_ports(&self) -> Vec<(String, SocketAddr, EdgePortCounts)> {
        self.edge_ports.iter().map(|edge| (edge.name().to_owned(), edge.address(), edge.counts())).collect()
    }

    /// Returns what a TLS client needs; `None` without TLS.
    pub fn identities(&self) -> Option<&Identities> {
        self.identities.as_ref()
    }

    /// The requests seen so far, oldest first; only the last ones of many.
    pub fn seen(&self) -> Vec<Seen> {
        self.script.seen()
    }

    /// The client's responses to requests of the nodes.
    pub fn received(&self) -> Vec<Received> {
        self.script.received()
    }

    /// The DNS queries seen so far.
    pub fn queries(&self) -> Vec<Query> {
        self.dns.as_ref().map(|dns| dns.queries()).unwrap_or_default()
    }

    /// The bindings that have not expired, by address of record.
    pub fn bindings(&self) -> BTreeMap<String, Vec<Binding>> {
        self.script.bindings()
    }

    /// The dialogue so far, credentials masked; only the last part of much.
    pub fn dialogue(&self) -> String {
        self.dialogue.text()
    }
}

type Bound = Vec<Vec<(Over, Socket)>>;

/// Returns the address of the node `step` places after `first`.
fn after(first: SocketAddr, step: usize) -> SocketAddr {
    let mut address = first;
    match first.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            let next = u32::from(ip).wrapping_add(u32::try_from(step).unwrap_or_default());
            address.set_ip(Ipv4Addr::from(next).into());
        }
        _ if first.port() != 0 => {
            address.set_port(first.port().saturating_add(u16::try_from(step).unwrap_or_default()));
        }
        _ => {}
    }
    address
}

/// Binds all nodes. Port 0 becomes a port that is free for all of them and all transports, so that several
/// are tried.
async fn bind_nodes(
    case: &Case,
    options: &PlayOptions,
    transports: &[Over],
    authority: Option<&Authority>,
) -> Result<(Vec<Node>, Bound), PlayError> {
    let mut tries = 0;
    loop {
        match bind_once(case, options.listen, transports, authority).await {
            Err(PlayError::Bind { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse
                    && options.listen.port() == 0
                    && tries < PORT_TRIES =>
            {
                tries += 1;
            }
            bound => return bound,
        }
    }
}

async fn bind_once(
    case: &Case,
    mut listen: SocketAddr,
    transports: &[Over],
    authority: Option<&Authority>,
) -> Result<(Vec<Node>, Bound), PlayError> {
    let (mut nodes, mut all) = (Vec::new(), Vec::new());
    for (at, (name, group, closed)) in case.all_nodes().into_iter().enumerate() {
        let (mut address, mut sockets) = (after(listen, at), Vec::new());
        for over in transports {
            let tls = authority.filter(|_| *over == Over::Tls);
            let tls: Option<TlsAcceptor> = tls.map(|a| a.acceptor(&case.tls, address.ip())).transpose()?;
            let failed = |source| PlayError::Bind { what: format!("node {name}"), address, source };
            let (socket, bound) = net::bind(*over, address, closed, tls).await.map_err(failed)?;
            address = bound;
            sockets.push((*over, socket));
        }
        if at == 0 {
            listen = address;
        }
        nodes.push(Node { name, group, closed, address });
        all.push(sockets);
    }
    Ok((nodes, all))
}

async fn bind_edge_ports(
    case: &Case,
    options: &PlayOptions,
    dialogue: &Dialogue,
) -> Result<Vec<(Arc<EdgePort>, Socket)>, PlayError> {
    let mut edge_ports = Vec::new();
    for (at, script) in case.edge_ports.iter().enumerate() {
        let wanted = place(options.edge_ports, options.listen, at);
        let what = format!("EdgePort {}", script.name);
        let failed = |source| PlayError::Bind { what: what.clone(), address: wanted, source };
        let (socket, address) = net::bind(Over::Udp, wanted, script.closed, None).await.map_err(failed)?;
        let edge = EdgePort::new(script.clone(), address, dialogue.clone());
        edge_ports.push((edge, socket));
    }
    Ok(edge_ports)
}

async fn start_dns(
    case: &Case,
    options: &PlayOptions,
    nodes: &[Node],
    dialogue: &Dialogue,
    tasks: &Tasks,
) -> Result<(Option<Arc<Dns>>, Vec<(String, SocketAddr)>), PlayError> {
    let Some(script) = &case.dns else { return Ok((None, Vec::new())) };
    let dns = Dns::new(script, |slot| node_value(nodes, slot));
    let dns = Arc::new(dns.map_err(|(at, problem)| PlayError::Record { at, problem })?);
    let mut servers = Vec::new();
    for (at, name) in script.servers.iter().enumerate() {
        let wanted = place(options.dns, options.listen, at);
        let what = format!("name server {name}");
        let failed = |source| PlayError::Bind { what: what.clone(), address: wanted, source };
        let sockets = dns::bind(wanted).await.map_err(failed)?;
        let address = sockets.0.local_addr().map_err(failed)?;
        dns::serve(tasks, &dns, name, sockets, dialogue);
        servers.push((name.clone(), address));
    }
    Ok((Some(dns), servers))
}

/// Returns where the `at`th of some servers listens: from `given` on, else at a free port beside the nodes.
fn place(given: Option<SocketAddr>, nodes: SocketAddr, at: usize) -> SocketAddr {
    match given {
        // resolv.conf names no port.
        Some(SocketAddr::V4(first)) if first.port() == 53 && first.ip().is_loopback() => {
            let next = first.ip().to_bits().saturating_add(u32::try_from(at).unwrap_or_default());
            SocketAddr::from((Ipv4Addr::from_bits(next), first.port()))
        }
        Some(mut first) if first.port() != 0 => {
            first.set_port(first.port().saturating_add(u16::try_from(at).unwrap_or_default()));
            first
        }
        Some(first) => first,
        None => SocketAddr::new(nodes.ip(), 0),
    }
}

//! The connections over TCP and TLS: one for each destination, made by the first request and shared by all
//! that follow.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, ready},
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    Destination,
    bounds::{ConnectionBounds, Open},
    connect::{self, ConnectError},
    connection::{Connection, Target},
    error::ClientError,
    incoming::Incoming,
    keep_alive::{KeepAlive, Unanswered},
    reachability::Reachability,
    resolve::Names,
    transactions::TransactionLayer,
    udp::Udp,
};
use routr_net::{
    connect::{no_connection_within, race, tcp},
    descriptors,
    tls::SipTls,
};

/// Time that the task of a connection may take to close it.
const DESCRIPTOR_WAIT: Duration = Duration::from_millis(50);

type Connecting = Shared<BoxFuture<'static, Result<Arc<Connection>, ClientError>>>;

/// Connections that are open or being opened, by target.
pub(super) struct Connections {
    slots: Mutex<HashMap<Target, (u64, Connecting)>>,
    last: AtomicU64,
    transactions: Arc<TransactionLayer>,
    incoming: Arc<Incoming>,
    names: Arc<Names>,
    reachability: Arc<Reachability>,
    udp: Arc<Udp>,
    settings: Settings,
    pings: Unanswered,
    open: Arc<Open>,
}

/// Settings for connecting.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) bind: IpAddr,
    pub(super) tls: Option<Arc<SipTls>>,
    /// Time limit for one target with all its addresses, TLS handshake included.
    pub(super) connect_within: Duration,
    /// Time that a connection that is out of use lives on: Timer F.
    pub(super) grace: Duration,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) bounds: ConnectionBounds,
    pub(super) stop: CancellationToken,
}

impl Connections {
    pub(super) fn new(
        transactions: Arc<TransactionLayer>,
        incoming: Arc<Incoming>,
        (names, reachability): (Arc<Names>, Arc<Reachability>),
        udp: Arc<Udp>,
        settings: Settings,
    ) -> Arc<Self> {
        let (slots, last, pings) = (Mutex::default(), AtomicU64::new(0), Unanswered::default());
        let open = Open::new(settings.bounds);
        Arc::new(Self {
            slots,
            last,
            transactions,
            incoming,
            names,
            reachability,
            udp,
            settings,
            pings,
            open,
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn transactions(&self) -> &TransactionLayer {
        &self.transactions
    }

    pub(super) fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    pub(super) fn pings(&self) -> &Unanswered {
        &self.pings
    }

    pub(super) fn open(&self) -> &Open {
        &self.open
    }

    /// Returns whether TLS is set up.
    pub(super) fn has_tls(&self) -> bool {
        self.settings.tls.is_some()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Target, (u64, Connecting)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to a destination, or to one address of it. Callers that come while it is being made
    /// share it, and its failure too; the next one after a failure tries again.
    pub(super) async fn get(
        self: &Arc<Self>,
        destination: &Destination,
        address: Option<SocketAddr>,
        seed: u64,
    ) -> Result<Arc<Connection>, ClientError> {
        let mut target = Target { destination: destination.clone(), pinned: None };
        if let Some(address) = address
            && !self.leads_to(&target, address)
        {
            target.pinned = Some(address);
        }
        let connection = self.connect(&target, seed).await?;
        if connection.is_usable() {
            return Ok(connection);
        }
        // It was closed a moment ago, and is not yet taken out.
        self.remove(&target, connection.id());
        self.connect(&target, seed).await
    }

    /// Returns whether the connection to a target is open, and to that address.
    fn leads_to(&self, target: &Target, address: SocketAddr) -> bool {
        let slots = self.slots();
        let open = slots.get(target).and_then(|(_, connecting)| connecting.peek());
        matches!(open, Some(Ok(connection)) if connection.is_usable() && connection.remote() == address)
    }

    /// Joins those who wait for the connection, or begins to make it.
    fn connect(self: &Arc<Self>, target: &Target, seed: u64) -> Connecting {
        let mut slots = self.slots();
        if let Some((_, connecting)) = slots.get(target) {
            return connecting.clone();
        }
        let Some((place, goes)) = self.open.place() else {
            let most = self.open.bounds().most;
            let text = format!(
                "{most} connections to registrars are in use, which is the Requester's bound (--max-sip-connections)"
            );
            return ready(Err(ClientError::transport(text))).boxed().shared();
        };
        if let Some(goes) = goes
            && slots.get(goes.target()).is_some_and(|(current, _)| *current == goes.id())
        {
            slots.remove(goes.target());
        }
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (this, key) = (self.clone(), target.clone());
        // A task of its own: it goes on when the caller that began it gives up.
        let task = tokio::spawn(async move {
            // From here on, or from when it is open, it counts.
            let _place = place;
            let connected = tokio::select! {
                connected = this.dial(id, &key, seed) => connected,
                () = this.settings.stop.cancelled() => Err(ClientError::stopped()),
            };
            if connected.is_err() {
                this.remove(&key, id);
            }
            connected
        });
        let connecting =
            async move { task.await.unwrap_or_else(|_| Err(ClientError::stopped())) }.boxed().shared();
        slots.insert(target.clone(), (id, connecting.clone()));
        connecting
    }

    pub(super) fn remove(&self, target: &Target, id: u64) {
        let mut slots = self.slots();
        if slots.get(target).is_some_and(|(current, _)| *current == id) {
            slots.remove(target);
        }
    }

    /// A transaction on that connection timed out. Where no response came in the second half of its wait, the
    /// connection is taken for dead and the next request makes another; one with responses to other requests
    /// stays, for then the peer left that one request without a response. Transactions that are open on it
    /// keep their time.
    pub(super) fn on_timeout(&self, connection: &Connection) {
        if connection.is_usable() && connection.unanswered_for(self.settings.grace / 2) {
            tracing::debug!(
                to = %connection.target(),
                "no response over this connection: the next request opens a new one"
            );
            self.retire(connection);
        }
    }

    /// Takes a connection out of use. What is open on it keeps its time.
    pub(super) fn retire(&self, connection: &Connection) {
        self.remove(connection.target(), connection.id());
        connection.drain();
    }

    /// The connection to a destination is no longer used, where it leads to that address. What is open on it
    /// keeps its time.
    pub(super) fn leave(&self, destination: &Destination, address: SocketAddr) {
        let target = Target { destination: destination.clone(), pinned: None };
        let slots = self.slots();
        let open = slots.get(&target).and_then(|(_, connecting)| connecting.peek().cloned());
        drop(slots);
        if let Some(Ok(connection)) = open
            && connection.remote() == address
        {
            self.retire(&connection);
        }
    }

    /// Races the addresses (RFC 8305), with TLS where that is the transport. The error has the cause at each.
    async fn dial(
        self: &Arc<Self>,
        id: u64,
        target: &Target,
        seed: u64,
    ) -> Result<Arc<Connection>, ClientError> {
        let Target { destination, pinned } = target;
        let usable = |address| self.udp.reaches(address);
        let addresses = match pinned {
            Some(address) => vec![*address],
            None => {
                let all = self.names.locate(destination, seed, usable).await?;
                self.reachability.order(all, destination.transport, None)
            }
        };
        let several = addresses.len() > 1;
        let _turn = self.open.turn().await;
        let until = Instant::now() + self.settings.connect_within;
        let attempt = async |address| {
            let since = Instant::now();
            let opened = self.open_address(id, target, address, until).await;
            match &opened {
                Ok(_) if several => self.reachability.responded(address, destination.transport),
                Err(ConnectError::Tls(why) | ConnectError::Transport(why)) if several => {
                    self.reachability.failed(address, destination.transport, since, Duration::ZERO, why);
                }
                _ => {}
            }
            opened
        };
        let errors = match race(&addresses, attempt).await {
            Ok(connection) => return Ok(connection),
            Err(errors) => errors,
        };
        let (mut causes, mut tls) = (Vec::new(), 0);
        for (address, error) in errors {
            // Causes of TLS come first: they are what has to be set right.
            let place = if matches!(error, ConnectError::Tls(_)) { tls } else { causes.len() };
            tls += usize::from(matches!(error, ConnectError::Tls(_)));
            let (ConnectError::Tls(cause) | ConnectError::Transport(cause)) = error;
            // A destination that is an address is named by the caller.
            let named = destination.host.parse::<IpAddr>().is_ok();
            causes.insert(place, if named { cause } else { format!("{cause}, at {address}") });
        }
        let causes = causes.join("; ").into();
        Err(if tls > 0 { ClientError::Tls(causes) } else { ClientError::Transport(causes) })
    }

    async fn open_address(
        self: &Arc<Self>,
        id: u64,
        target: &Target,
        address: SocketAddr,
        until: Instant,
    ) -> Result<Arc<Connection>, ConnectError> {
        let within = self.settings.connect_within;
        let options = connect::options(&self.settings);
        let late = |_| ConnectError::Transport(no_connection_within(within));
        let mut connected = timeout_at(until, tcp(address, &options)).await.map_err(late)?;
        if connected.as_ref().is_err_and(descriptors::is_exhausted) && self.open.close_idle().is_some() {
            // Its descriptor is there in a moment.
            tokio::time::sleep(DESCRIPTOR_WAIT).await;
            connected = timeout_at(until, tcp(address, &options)).await.map_err(late)?;
        }
        let tcp = connected?;
        connect::finish(self, id, target, tcp, until, within).await
    }
}

//! Connections that registries share: all with the same place and the same TLS settings use the same ones.
//!
//! A connection is there for as long as someone uses it. A registry that sends nothing for a while gives it
//! back ([`Shared::rest`]), so that thousands of suspended ones hold none.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, watch};
use tonic::{client::Grpc, codec::CompressionEncoding};

use super::{
    GrpcError, channel,
    connection::{Connection, Peer},
    guard::Events,
    metered::Metered,
    monitor::Monitor,
    requester_status::RequesterStatus,
};
use crate::{
    config::Endpoint,
    quota::{Quota, Received, sockets::Payers},
};
use routr_registration::model::Link;

/// REGISTERs in flight on a connection from which on one more is opened: proxies take 100 or 128 at a time on
/// each, and what one registry waits for must not keep those of another waiting.
const MAX_IN_FLIGHT_PER_CONNECTION: usize = 64;
/// Bytes of the largest response that is taken.
pub(super) const MAX_RESPONSE: usize = 256 << 10;
/// Most connections to one Requester.
const MAX_CONNECTIONS: usize = 32;

/// The connections of a process, or of a part of it, by the place they go to. Clones share them.
#[derive(Clone, Default)]
pub struct Connections {
    api: Pool<ApiConnection>,
    requester: Pool<RequesterConnections>,
}

impl Connections {
    /// The connection to an API server.
    pub(super) fn api(&self, endpoint: &Endpoint) -> Shared<ApiConnection> {
        self.api.shared(endpoint)
    }

    /// The connections to a Requester.
    pub(super) fn requester(&self, endpoint: &Endpoint) -> Shared<RequesterConnections> {
        self.requester.shared(endpoint)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// Places of one kind that are in use.
struct Pool<T>(Arc<Mutex<Vec<Weak<Place<T>>>>>);

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Pool<T> {
    fn shared(&self, endpoint: &Endpoint) -> Shared<T> {
        // A deadline is a matter of each call.
        let endpoint = Endpoint { timeout: Duration::ZERO, ..endpoint.clone() };
        let mut places = lock(&self.0);
        places.retain(|place| place.strong_count() > 0);
        let found = places.iter().filter_map(Weak::upgrade).find(|place| place.endpoint == endpoint);
        let place = found.unwrap_or_else(|| {
            let place = Arc::new(Place {
                endpoint,
                link: Arc::default(),
                opened: Mutex::default(),
                checked: AtomicBool::default(),
                payers: Payers::default(),
            });
            places.push(Arc::downgrade(&place));
            place
        });
        Shared { place, held: Mutex::default() }
    }
}

/// One place, and its connections while someone uses them.
#[derive(Debug)]
pub(super) struct Place<T> {
    endpoint: Endpoint,
    /// Outlives the connections: who follows it learns of those to come.
    link: Arc<watch::Sender<Link>>,
    opened: Mutex<Weak<T>>,
    /// It could be opened once, so that its address and its files are good.
    checked: AtomicBool,
    /// The Registries that use it.
    payers: Payers,
}

/// A client that can be opened to a place.
pub(super) trait Open: Sized {
    /// Connects at the first call.
    fn open(endpoint: &Endpoint, link: &Arc<watch::Sender<Link>>, payers: &Payers)
    -> Result<Self, GrpcError>;
}

/// One registry's part in the connections to a place.
#[derive(Debug)]
pub(super) struct Shared<T> {
    place: Arc<Place<T>>,
    held: Mutex<Option<Arc<T>>>,
}

impl<T: Open> Shared<T> {
    /// Checks that connections can be opened, once for each place, and holds none.
    ///
    /// # Errors
    /// When the address or the CA file cannot be used.
    pub(super) fn check(&self) -> Result<(), GrpcError> {
        if !self.place.checked.load(Ordering::Relaxed) {
            self.get()?;
            self.rest();
            self.place.checked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The connections, opened where no one uses them yet; kept until [`Shared::rest`].
    ///
    /// # Errors
    /// When the address or the CA file cannot be used.
    pub(super) fn get(&self) -> Result<Arc<T>, GrpcError> {
        let mut held = lock(&self.held);
        if let Some(held) = &*held {
            return Ok(held.clone());
        }
        let mut opened = lock(&self.place.opened);
        let found = match opened.upgrade() {
            Some(found) => found,
            None => {
                let new = Arc::new(T::open(&self.place.endpoint, &self.place.link, &self.place.payers)?);
                *opened = Arc::downgrade(&new);
                new
            }
        };
        *held = Some(found.clone());
        Ok(found)
    }
}

impl<T> Shared<T> {
    /// Lets the open connections count for this Registry, too.
    pub(super) fn paid_by(&self, quota: &Arc<Quota>) {
        self.place.payers.add(quota);
    }

    /// Gives the connections back. They end when no one else uses them, and with the last call under way.
    pub(super) fn rest(&self) {
        // Out of the lock: the last one to give them back closes them.
        let held = lock(&self.held).take();
        drop(held);
    }

    /// Returns how the connections fare, from one set of them to the next.
    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.place.link.subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lists that are read from one API server at a time. Thousands of registries begin together when a leader
/// starts.
const MAX_LISTS: usize = 32;

/// The connection to an API server.
#[derive(Debug)]
pub(super) struct ApiConnection {
    pub(super) connection: Connection,
    /// Held while a list is read.
    pub(super) lists: Semaphore,
}

impl Open for ApiConnection {
    fn open(endpoint: &Endpoint, _: &Arc<watch::Sender<Link>>, payers: &Payers) -> Result<Self, GrpcError> {
        let (opened, payers) = (endpoint.clone(), payers.clone());
        let make = move |guard: &_| channel::open(&opened, guard, &payers);
        let connection = Connection::new(Peer::API_SERVER, &Arc::default(), make)?;
        Ok(Self { connection, lists: Semaphore::new(MAX_LISTS) })
    }
}

/// The connections to a Requester: one, and more while many REGISTERs are in flight.
#[derive(Debug)]
pub(super) struct RequesterConnections {
    endpoint: Endpoint,
    // Dropped before the connections: what is closed on purpose is no loss.
    _monitor: Monitor,
    events: Arc<Events>,
    payers: Payers,
    about: Arc<RequesterStatus>,
    connections: Mutex<Vec<Counted>>,
    link: Arc<watch::Sender<Link>>,
}

#[derive(Debug)]
struct Counted {
    client: Client,
    in_flight: Arc<AtomicUsize>,
}

/// A connection to a Requester, for calls.
#[derive(Clone, Debug)]
pub(super) struct Client(Connection);

impl Client {
    /// Returns what one call is made by, whose response counts as `received`.
    pub(super) fn grpc(self, received: &Arc<Received>) -> Grpc<Metered<Connection>> {
        Grpc::new(Metered::new(self.0, received))
            .max_decoding_message_size(MAX_RESPONSE)
            .accept_compressed(CompressionEncoding::Gzip)
    }
}

impl Counted {
    fn new(connection: Connection) -> Self {
        Self { client: Client(connection), in_flight: Arc::default() }
    }
}

impl Open for RequesterConnections {
    fn open(
        endpoint: &Endpoint,
        link: &Arc<watch::Sender<Link>>,
        payers: &Payers,
    ) -> Result<Self, GrpcError> {
        let events = Arc::new(Events::default());
        let first = connect(endpoint, &events, payers)?;
        let about = Arc::new(RequesterStatus::new(first.clone(), events.clone(), link.clone()));
        let seen = about.clone();
        let look = move |found| seen.clone().look(found);
        Ok(Self {
            endpoint: endpoint.clone(),
            _monitor: Monitor::start(endpoint.clone(), payers.clone(), events.clone(), link.clone(), look),
            events,
            payers: payers.clone(),
            about,
            connections: Mutex::new(vec![Counted::new(first)]),
            link: link.clone(),
        })
    }
}

fn connect(endpoint: &Endpoint, events: &Arc<Events>, payers: &Payers) -> Result<Connection, GrpcError> {
    let (endpoint, payers) = (endpoint.clone(), payers.clone());
    Connection::new(Peer::REQUESTER, events, move |guard| channel::open(&endpoint, guard, &payers))
}

impl RequesterConnections {
    /// The connection with the fewest REGISTERs in flight. It counts one more until the second value is
    /// dropped.
    pub(super) fn client(&self) -> (Client, InFlight) {
        let mut connections = lock(&self.connections);
        let least = |connections: &[Counted]| {
            let loads = connections.iter().map(|one| one.in_flight.load(Ordering::Relaxed));
            loads.enumerate().min_by_key(|(_, load)| *load).unwrap_or_default()
        };
        let (mut place, load) = least(&connections);
        // What could be opened once can be opened again, but for a CA file that is gone.
        if load >= MAX_IN_FLIGHT_PER_CONNECTION
            && connections.len() < MAX_CONNECTIONS
            && let Ok(more) = connect(&self.endpoint, &self.events, &self.payers)
        {
            connections.push(Counted::new(more));
            place = connections.len() - 1;
        }
        let chosen = &connections[place];
        chosen.in_flight.fetch_add(1, Ordering::Relaxed);
        (chosen.client.clone(), InFlight(chosen.in_flight.clone()))
    }

    /// Returns what is known of the Requester.
    pub(super) fn about(&self) -> &Arc<RequesterStatus> {
        &self.about
    }
}

impl Drop for RequesterConnections {
    fn drop(&mut self) {
        // No monitor looks after them any more: the next ones begin without a loss.
        self.link.send_if_modified(|link| std::mem::take(&mut link.lost));
    }
}

/// A REGISTER on a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, net::TcpListener};
    use tonic::{Request, codegen::http::uri::PathAndQuery};
    use tonic_prost::ProstCodec;

    use super::*;
    use crate::{proto::requester_info::GetRequest, quota::Quota};
    use routr_types::host::HostPort;

    fn endpoint(port: u16) -> Endpoint {
        let address = HostPort::new("127.0.0.1", port);
        Endpoint::plain(address, Duration::from_secs(1))
    }

    #[tokio::test]
    async fn k2_the_same_place_is_connected_to_once_and_not_while_nobody_uses_it() {
        let connections = Connections::default();
        let first = connections.api(&endpoint(1));
        let same = connections.api(&Endpoint { timeout: Duration::from_secs(9), ..endpoint(1) });
        let other = [
            connections.api(&endpoint(2)),
            connections.api(&Endpoint { tls: true, ..endpoint(1) }),
            Connections::default().api(&endpoint(1)),
        ];
        let opened = first.get().unwrap();
        assert!(Arc::ptr_eq(&opened, &same.get().unwrap()));
        assert!(other.iter().all(|other| !Arc::ptr_eq(&opened, &other.get().unwrap())));
        let weak = Arc::downgrade(&opened);
        drop(opened);
        first.rest();
        assert!(weak.strong_count() == 1, "the other one still uses it");
        same.rest();
        assert!(weak.upgrade().is_none());
        assert!(first.get().is_ok());
    }

    #[tokio::test]
    async fn k2_a_connection_is_added_when_the_others_are_busy_and_closing_is_no_loss() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connections = Connections::default();
        let shared = connections.requester(&endpoint(listener.local_addr().unwrap().port()));
        let link = shared.link();
        let opened = shared.get().unwrap();
        let busy: Vec<_> = (0..MAX_IN_FLIGHT_PER_CONNECTION + 1).map(|_| opened.client()).collect();
        assert_eq!(lock(&opened.connections).len(), 2);
        drop(busy);
        let (client, in_flight) = opened.client();
        let mut client = client.grpc(&Quota::unlimited().reply());
        let call = tokio::spawn(async move {
            let _in_flight = in_flight;
            client.ready().await.unwrap();
            let codec = ProstCodec::<GetRequest, GetRequest>::default();
            drop(client.unary(Request::new(GetRequest {}), PathAndQuery::from_static("/a/b"), codec).await);
        });
        let (mut peer, _) = listener.accept().await.unwrap();
        assert_eq!(lock(&opened.connections).len(), 2);
        drop(opened);
        shared.rest();
        call.abort();
        // Closed on purpose: the other side sees it, and it counts as no loss.
        peer.read_to_end(&mut Vec::new()).await.unwrap();
        drop(shared.get().unwrap());
        assert_eq!(*link.borrow(), Link::default());
    }
}

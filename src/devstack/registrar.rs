//! A SIP registrar for demos and tests: UDP and TCP, digest with nonces that need no table, the binding rules
//! of RFC 3261 §10.3, and several kinds of misbehaviour ([`Behaviour`]). It keeps a journal of what it saw.

mod answer;
mod behaviour;
mod bindings;
mod journal;
mod net;
mod nonce;
mod options;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, UdpSocket},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use behaviour::Behaviour;
pub use bindings::{Binding, ExpiryBounds};
pub use journal::{Counters, Seen};
pub use options::{Account, RegistrarOptions};

use answer::{Delivery, answer};
use behaviour::Rules;
use bindings::Bindings;
use journal::Journal;
use net::Run;
use nonce::Nonces;
use routr_sip::message::Request;
use routr_types::{host::Transport, secret::Secret};

/// Attempts to find a free port that UDP and TCP can share.
const PORT_TRIES: usize = 50;

/// Reason that a registrar cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RegistrarError {
    /// An address is taken, or not of this machine.
    #[error("{transport} {address}: cannot listen there: {source}")]
    Bind {
        /// Transport that it cannot listen for.
        transport: Transport,
        /// Address that it cannot listen on.
        address: SocketAddr,
        /// Error of the system.
        source: io::Error,
    },
    /// Only UDP and TCP are served.
    #[error("transport {0}: must be UDP or TCP")]
    Transport(Transport),
}

/// A registrar that is running. Clones share it; it ends with its `shutdown` token, or by
/// [`Registrar::stop`].
#[derive(Clone)]
pub struct Registrar {
    shared: Arc<Shared>,
    run: Arc<Mutex<Run>>,
    addresses: Arc<[(Transport, SocketAddr)]>,
    parent: CancellationToken,
}

struct Shared {
    options: RegistrarOptions,
    started: Instant,
    state: Mutex<State>,
}

/// State that changes with time. Held while one response is made, never across an await.
struct State {
    accounts: Option<HashMap<String, Account>>,
    rules: Rules,
    bindings: Bindings,
    journal: Journal,
    nonces: Nonces,
    /// The CSeq numbers of each Call-ID that wait for a delayed response.
    in_flight: HashMap<String, Vec<u32>>,
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

impl Registrar {
    /// Binds the addresses and serves them until `shutdown` is cancelled.
    ///
    /// UDP and TCP get the same port where both ask for port 0 of one address.
    ///
    /// # Errors
    /// When an address cannot be bound, or a transport is neither UDP nor TCP.
    pub async fn start(
        options: RegistrarOptions,
        shutdown: CancellationToken,
    ) -> Result<Self, RegistrarError> {
        let sockets = bind_all(&options.listen).await?;
        let addresses: Vec<_> =
            sockets.iter().map(|(transport, address, _)| (*transport, *address)).collect();
        let state = State {
            accounts: options.accounts.clone(),
            rules: Rules::default(),
            bindings: Bindings::new(options.max_bindings),
            journal: Journal::new(options.log_capacity),
            nonces: Nonces::new(options.nonce_lifetime),
            in_flight: HashMap::new(),
        };
        let shared = Arc::new(Shared { options, started: Instant::now(), state: Mutex::new(state) });
        let run = launch(&shared, sockets, &shutdown);
        Ok(Self { shared, run: Arc::new(Mutex::new(run)), addresses: addresses.into(), parent: shutdown })
    }

    /// Closes all sockets and waits until nothing of them is left. Bindings, journal and behaviours stay.
    pub async fn stop(&self) {
        let run = self.current_run();
        run.shutdown.cancel();
        run.tasks.wait().await;
    }

    /// Listens again on the same addresses, after [`Registrar::stop`].
    ///
    /// # Errors
    /// When an address was taken meanwhile.
    pub async fn resume(&self) -> Result<(), RegistrarError> {
        self.stop().await;
        let run = launch(&self.shared, bind_all(&self.addresses).await?, &self.parent);
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = run;
        Ok(())
    }

    /// Returns the addresses that it listens on, in the order of the options.
    pub fn addresses(&self) -> &[(Transport, SocketAddr)] {
        &self.addresses
    }

    /// Returns where it listens for that transport.
    pub fn address(&self, transport: Transport) -> Option<SocketAddr> {
        self.addresses.iter().find(|(t, _)| *t == transport).map(|(_, address)| *address)
    }

    /// Treats REGISTERs of this user (of To) like this from now on.
    pub fn behave(&self, user: &str, behaviour: Behaviour) {
        self.state().rules.set(Some(user), behaviour, None);
    }

    /// The next `times` REGISTERs of this user are treated like this, then as all others.
    pub fn behave_for(&self, user: &str, behaviour: Behaviour, times: u64) {
        self.state().rules.set(Some(user), behaviour, Some(times));
    }

    /// This user is treated as all others again.
    pub fn behave_as_others(&self, user: &str) {
        self.state().rules.unset(user);
    }

    /// Treats REGISTERs of all users without a behaviour of their own like this from now on.
    pub fn behave_all(&self, behaviour: Behaviour) {
        self.state().rules.set(None, behaviour, None);
    }

    /// The next `times` REGISTERs of users without a behaviour of their own are treated like this.
    pub fn behave_all_for(&self, behaviour: Behaviour, times: u64) {
        self.state().rules.set(None, behaviour, Some(times));
    }

    /// Gives a user an account, or another password. An open registrar is closed by that.
    pub fn set_password(&self, user: &str, password: &str) {
        let account = Account { login: None, password: Secret::new(password) };
        self.state().accounts.get_or_insert_default().insert(user.to_owned(), account);
    }

    /// Takes a user's account away.
    pub fn remove_account(&self, user: &str) {
        if let Some(accounts) = &mut self.state().accounts {
            accounts.remove(user);
        }
    }

    /// Nonces issued so far are stale from now on.
    pub fn forget_nonces(&self) {
        self.state().nonces = Nonces::new(self.shared.options.nonce_lifetime);
    }

    /// The bindings that have not expired, by address of record (`user@host`).
    pub fn bindings(&self) -> BTreeMap<String, Vec<Binding>> {
        let now = self.elapsed();
        self.state().bindings.snapshot(now)
    }

    /// Forgets all bindings, as a registrar does that restarts without a database.
    pub fn clear_bindings(&self) {
        self.state().bindings.clear();
    }

    /// The REGISTERs seen, oldest first; only the last ones where there were more than the log holds.
    pub fn log(&self) -> Vec<Seen> {
        self.state().journal.log()
    }

    /// Totals.
    pub fn counters(&self) -> Counters {
        self.state().journal.counters.clone()
    }

    /// The most REGISTERs that arrived within any second, to a tenth of a second.
    pub fn max_rate(&self) -> u64 {
        self.state().journal.max_rate()
    }

    /// Empties log, counters and rate.
    pub fn clear_journal(&self) {
        self.state().journal.clear();
    }

    /// Time since the start: what [`Seen::at`] and [`Binding::expires_at`] count in.
    pub fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    fn current_run(&self) -> Run {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request, transport: Transport, source: SocketAddr) -> Delivery {
        let now = self.started.elapsed();
        let mut state = self.state();
        let headers = &request.headers;
        let waiting = headers.call_id().and_then(|call_id| state.in_flight.get(call_id));
        // Equal numbers are one request that was sent again.
        if let (Some(waiting), Some((cseq, _))) = (waiting, headers.cseq())
            && waiting.iter().any(|other| *other != cseq)
        {
            state.journal.counters.overlapping += 1;
        }
        answer(&self.options, &mut state, request, now, transport, source)
    }

    /// Records that a request waits for its delayed response.
    fn waits(&self, call_id: &str, cseq: u32) {
        self.state().in_flight.entry(call_id.to_owned()).or_default().push(cseq);
    }

    /// It no longer does.
    fn answered(&self, call_id: &str, cseq: u32) {
        let mut state = self.state();
        let Some(waiting) = state.in_flight.get_mut(call_id) else { return };
        if let Some(place) = waiting.iter().position(|other| *other == cseq) {
            waiting.swap_remove(place);
        }
        if waiting.is_empty() {
            state.in_flight.remove(call_id);
        }
    }

    fn malformed(&self) {
        self.state().journal.counters.malformed += 1;
    }
}

fn launch(
    shared: &Arc<Shared>,
    sockets: Vec<(Transport, SocketAddr, Socket)>,
    shutdown: &CancellationToken,
) -> Run {
    let run = Run { shared: Arc::clone(shared), tasks: TaskTracker::new(), shutdown: shutdown.child_token() };
    for (_, _, socket) in sockets {
        match socket {
            Socket::Udp(socket) => run.tasks.spawn(net::serve_udp(run.clone(), socket)),
            Socket::Tcp(listener) => run.tasks.spawn(net::serve_tcp(run.clone(), listener)),
        };
    }
    run.tasks.close();
    run
}

type Bound = Vec<(Transport, SocketAddr, Socket)>;

/// Binds all addresses. Port 0 of one IP address becomes the same port for each transport: a free one for UDP
/// need not be free for TCP, so that several are tried.
async fn bind_all(listen: &[(Transport, SocketAddr)]) -> Result<Bound, RegistrarError> {
    let mut tries = 0;
    loop {
        match bind_once(listen).await {
            Err(RegistrarError::Bind { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse
                    && tries < PORT_TRIES
                    && listen.iter().any(|(_, address)| address.port() == 0) =>
            {
                tries += 1;
            }
            done => return done,
        }
    }
}

async fn bind_once(listen: &[(Transport, SocketAddr)]) -> Result<Bound, RegistrarError> {
    let mut bound = Bound::with_capacity(listen.len());
    for (transport, wanted) in listen {
        let mut address = *wanted;
        if address.port() == 0
            && let Some((_, first, _)) =
                bound.iter().find(|(other, first, _)| other != transport && first.ip() == address.ip())
        {
            address.set_port(first.port());
        }
        let failed = |source| RegistrarError::Bind { transport: *transport, address, source };
        let (address, socket) = match transport {
            Transport::Udp => {
                let socket = net::bind_udp(address).map_err(failed)?;
                (socket.local_addr().map_err(failed)?, Socket::Udp(socket))
            }
            Transport::Tcp => {
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                (listener.local_addr().map_err(failed)?, Socket::Tcp(listener))
            }
            other => return Err(RegistrarError::Transport(*other)),
        };
        bound.push((*transport, address, socket));
    }
    Ok(bound)
}

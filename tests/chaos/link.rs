//! The wires: a TCP proxy before each dependency of the registry, which can be cut, held, slowed, or led
//! elsewhere.
//!
//! A proxy in `Pass` hides nothing: where no one listens behind it, its own port closes too, until
//! someone does.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::ports;

/// Between two looks whether someone listens again.
const PACE: Duration = Duration::from_millis(20);
/// Pieces that may be under way in each direction of a delayed connection.
const UNDER_WAY: usize = 256;

/// State of a wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Nothing of its own.
    Pass,
    /// Connections break, and the port is closed.
    Cut,
    /// Connections break, and new ones are accepted and closed at once, as by a load balancer with nothing
    /// behind it.
    HangUp,
    /// Connections stay and new ones are accepted, but nothing goes through either way.
    Hold,
    /// Everything arrives so much later, in both directions.
    Delay(Duration),
    /// So many bytes a second in each direction.
    Throttle(usize),
    /// Each connection is reset when so many bytes have come from the server: in the middle of something.
    CutAfter(usize),
}

#[derive(Clone, Copy, Debug)]
struct Wiring {
    mode: Mode,
    upstream: u16,
}

impl Wiring {
    /// Returns whether a connection that was made to `upstream` may continue.
    fn keeps(self, upstream: u16) -> bool {
        self.upstream == upstream && !matches!(self.mode, Mode::Cut | Mode::HangUp)
    }
}

/// A connection that a client made, and what came by it.
#[derive(Debug)]
pub struct Flow {
    /// The client's port.
    pub from: u16,
    /// Owner of the connection; anyone who finds out writes it here.
    pub owner: OnceLock<usize>,
    sent: Arc<AtomicUsize>,
}

impl Flow {
    /// Bytes from the client so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

/// All flows, ended ones too.
type Flows = Arc<Mutex<Vec<Arc<Flow>>>>;

/// A proxy on a port of its own. Ends when it is dropped.
pub struct Link {
    port: u16,
    home: u16,
    flows: Flows,
    wiring: watch::Sender<Wiring>,
    _end: DropGuard,
}

impl Link {
    /// A wire to that port of 127.0.0.1.
    pub fn new(upstream: u16) -> Self {
        Self::on(ports::free(), upstream)
    }

    /// The same, on that port.
    pub fn on(port: u16, upstream: u16) -> Self {
        let (wiring, states) = watch::channel(Wiring { mode: Mode::Pass, upstream });
        let end = CancellationToken::new();
        let flows = Flows::default();
        let listening = listen(port, states, flows.clone(), end.clone());
        tokio::spawn(end.clone().run_until_cancelled_owned(listening));
        Self { port, home: upstream, flows, wiring, _end: end.drop_guard() }
    }

    /// Returns the port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every connection so far.
    pub fn flows(&self) -> Flows {
        self.flows.clone()
    }

    /// From now on it does this.
    pub fn set(&self, mode: Mode) {
        self.wiring.send_modify(|wiring| wiring.mode = mode);
    }

    /// Leads elsewhere. Connections break.
    pub fn lead_to(&self, upstream: u16) {
        self.wiring.send_modify(|wiring| wiring.upstream = upstream);
    }

    /// Leads again to where it led at first.
    pub fn lead_home(&self) {
        self.lead_to(self.home);
    }
}

async fn listen(port: u16, mut states: watch::Receiver<Wiring>, flows: Flows, end: CancellationToken) {
    let refused = Arc::new(Notify::new());
    loop {
        let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await else {
            // Someone's outgoing connection may have it for a moment.
            sleep(PACE).await;
            continue;
        };
        loop {
            tokio::select! {
                accepted = listener.accept() => if let Ok((stream, from)) = accepted {
                    let sent = Arc::<AtomicUsize>::default();
                    let flow = Flow { from: from.port(), owner: OnceLock::new(), sent: sent.clone() };
                    flows.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(flow));
                    let connection = connection(stream, states.clone(), sent, refused.clone());
                    tokio::spawn(end.clone().run_until_cancelled_owned(connection));
                },
                () = refused.notified() => break,
                _ = states.changed() => if states.borrow_and_update().mode == Mode::Cut { break },
            }
        }
        drop(listener);
        loop {
            let now = *states.borrow_and_update();
            if now.mode != Mode::Cut
                && (now.mode != Mode::Pass
                    || TcpStream::connect((Ipv4Addr::LOCALHOST, now.upstream)).await.is_ok())
            {
                break;
            }
            tokio::select! { () = sleep(PACE) => {}, _ = states.changed() => {} }
        }
    }
}

async fn connection(
    client: TcpStream,
    mut states: watch::Receiver<Wiring>,
    sent: Arc<AtomicUsize>,
    refused: Arc<Notify>,
) {
    // Whatever ends it ends it by a reset.
    let _ = client.set_zero_linger();
    let upstream = loop {
        let now = *states.borrow_and_update();
        match now.mode {
            Mode::Cut | Mode::HangUp => return,
            Mode::Hold => {
                if states.changed().await.is_err() {
                    return;
                }
            }
            _ => break now.upstream,
        }
    };
    let server = match TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await {
        Ok(server) => server,
        Err(_) => return refused.notify_one(),
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let _ = server.set_zero_linger();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answered = Arc::<AtomicUsize>::default();
    tokio::select! {
        () = pump(from_client, to_server, states.clone(), sent, false) => {}
        () = pump(from_server, to_client, states.clone(), answered, true) => {}
        () = broken(states, upstream) => {}
    }
}

async fn broken(mut states: watch::Receiver<Wiring>, upstream: u16) {
    while states.borrow_and_update().keeps(upstream) {
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// Carries bytes until either end is gone, and counts them in `carried`.
async fn pump(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mut states: watch::Receiver<Wiring>,
    carried: Arc<AtomicUsize>,
    from_server: bool,
) {
    let (sender, pieces) = mpsc::channel(UNDER_WAY);
    let reader = async move {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let mode = states.borrow_and_update().mode;
            let room = match mode {
                Mode::Hold => {
                    if states.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                Mode::Throttle(rate) => (rate / 10).clamp(1, buffer.len()),
                _ => buffer.len(),
            };
            let Some(buffer) = buffer.get_mut(..room) else { return };
            let read = tokio::select! {
                read = from.read(buffer) => read,
                _ = states.changed() => continue,
            };
            let Ok(read @ 1..) = read else { return };
            let mut due = Instant::now();
            let all = carried.fetch_add(read, Ordering::Relaxed) + read;
            let mode = states.borrow().mode;
            match mode {
                Mode::Delay(time) => due += time,
                Mode::Throttle(_) => sleep(Duration::from_millis(100)).await,
                Mode::CutAfter(most) if from_server && all > most => return,
                _ => {}
            }
            if sender.send((due, buffer[..read].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reader => {}
        _ = write(to, pieces) => {}
    }
}

async fn write(mut to: OwnedWriteHalf, mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>) -> io::Result<()> {
    while let Some((due, piece)) = pieces.recv().await {
        sleep_until(due).await;
        to.write_all(&piece).await?;
    }
    Ok(())
}

//! The wire of SIP over UDP: a proxy that loses, delays, doubles and reorders datagrams by a seed.

use std::collections::{HashMap, hash_map::Entry};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Faults of a wire for each datagram, in both directions. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// Of a hundred, so many are lost.
    pub lost: u8,
    /// Of a hundred, so many arrive twice.
    pub doubled: u8,
    /// Each is late by anything up to this, so that they overtake each other.
    pub late: Duration,
}

struct State {
    weather: Weather,
    upstream: u16,
    rng: SmallRng,
}

impl State {
    /// Returns the delay of each copy of a datagram; none when it is lost.
    fn copies(&mut self) -> Vec<Duration> {
        let Weather { lost, doubled, late } = self.weather;
        if self.rng.random_range(0..100) < lost {
            return Vec::new();
        }
        let count = if self.rng.random_range(0..100) < doubled { 2 } else { 1 };
        (0..count).map(|_| late.mul_f64(self.rng.random_range(0.0..=1.0))).collect()
    }
}

/// A proxy on a port. Ends when it is dropped.
pub struct Datagrams {
    state: Arc<Mutex<State>>,
    home: u16,
    _end: DropGuard,
}

impl Datagrams {
    /// Listens on `port` and leads to `upstream`.
    pub async fn on(port: u16, upstream: u16) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port of a UDP proxy");
        // A proxy that is busy for a moment must lose nothing by itself.
        let _ = SockRef::from(&socket).set_recv_buffer_size(4 << 20);
        let rng = SmallRng::seed_from_u64(5);
        let state = Arc::new(Mutex::new(State { weather: Weather::default(), upstream, rng }));
        let end = CancellationToken::new();
        tokio::spawn(end.clone().run_until_cancelled_owned(run(
            Arc::new(socket),
            state.clone(),
            end.clone(),
        )));
        Self { state, home: upstream, _end: end.drop_guard() }
    }

    /// From now on it is like this.
    pub fn set(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Leads elsewhere.
    pub fn lead_to(&self, upstream: u16) {
        self.lock().upstream = upstream;
    }

    /// Leads again to where it led at first.
    pub fn lead_home(&self) {
        self.lead_to(self.home);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One socket towards the server for each address that datagrams come from, so that answers find their way
/// back.
async fn run(socket: Arc<UdpSocket>, state: Arc<Mutex<State>>, end: CancellationToken) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        if let Entry::Vacant(client) = clients.entry(from) {
            let Ok(outward) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else { continue };
            let outward = Arc::new(outward);
            let back = answers(outward.clone(), socket.clone(), from, state.clone());
            tokio::spawn(end.clone().run_until_cancelled_owned(back));
            client.insert(outward);
        }
        let Some(outward) = clients.get(&from) else { continue };
        let (copies, upstream) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.copies(), state.upstream)
        };
        carry(
            outward,
            buffer.get(..length).unwrap_or_default(),
            (Ipv4Addr::LOCALHOST, upstream).into(),
            copies,
        )
        .await;
    }
}

async fn answers(from: Arc<UdpSocket>, to: Arc<UdpSocket>, client: SocketAddr, state: Arc<Mutex<State>>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An error is a closed port at the other end, told by ICMP.
        let Ok((length, _)) = from.recv_from(&mut buffer).await else { continue };
        let copies = state.lock().unwrap_or_else(PoisonError::into_inner).copies();
        carry(&to, buffer.get(..length).unwrap_or_default(), client, copies).await;
    }
}

async fn carry(socket: &Arc<UdpSocket>, datagram: &[u8], to: SocketAddr, copies: Vec<Duration>) {
    for late in copies {
        if late.is_zero() {
            let _ = socket.send_to(datagram, to).await;
        } else {
            let (socket, datagram) = (socket.clone(), datagram.to_vec());
            tokio::spawn(async move {
                sleep(late).await;
                let _ = socket.send_to(&datagram, to).await;
            });
        }
    }
}

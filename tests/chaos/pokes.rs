//! Garbage for the ports that the registry and the Requester listen on.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::interval;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::standalone::world::World;

/// Connections at a time, for each port.
const CONNECTIONS: u64 = 50;
/// Of those that do nothing, or next to nothing.
const IDLERS: u64 = 300;

/// Content that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poke {
    /// Random bytes, connection after connection.
    Noise,
    /// Requests whose header has no end.
    GiantHeaders,
    /// Many connections that send a byte now and then.
    SlowLoris,
    /// Many connections that send nothing.
    Idle,
    /// Datagrams to the Requester's SIP socket.
    Datagrams,
}

/// It goes on until this is dropped.
pub struct Poking {
    _end: DropGuard,
}

impl Poking {
    pub fn start(poke: Poke, world: &World) -> Self {
        let end = CancellationToken::new();
        let ports = [world.registry.public, world.registry.private, world.requester.port()];
        if poke == Poke::Datagrams {
            tokio::spawn(end.clone().run_until_cancelled_owned(datagrams(world.requester.sip_port)));
        } else {
            let many = if matches!(poke, Poke::SlowLoris | Poke::Idle) { IDLERS } else { CONNECTIONS };
            for (port, seed) in ports.into_iter().flat_map(|port| (0..many).map(move |seed| (port, seed))) {
                tokio::spawn(end.clone().run_until_cancelled_owned(again_and_again(poke, port, seed)));
            }
        }
        Self { _end: end.drop_guard() }
    }
}

/// One connection after the other, at most so many in a second.
async fn again_and_again(poke: Poke, port: u16, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut ticks = interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        // That it is hung up on is as it should be.
        let _ = one(poke, port, &mut rng).await;
    }
}

async fn one(poke: Poke, port: u16, rng: &mut SmallRng) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    match poke {
        Poke::Noise => {
            let mut bytes = vec![0; rng.random_range(1..20_000)];
            rng.fill_bytes(&mut bytes);
            if rng.random() {
                // A good beginning of HTTP/2, then noise.
                stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
            }
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            while stream.read(&mut bytes).await? > 0 {}
        }
        Poke::GiantHeaders => {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n").await?;
            let line = b"X-Endless: of these there are very many, and no end to them\r\n".repeat(100);
            for _ in 0..2_000 {
                stream.write_all(&line).await?;
            }
        }
        Poke::SlowLoris => {
            let mut ticks = interval(Duration::from_secs(1));
            for byte in b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ".iter().cycle() {
                ticks.tick().await;
                stream.write_all(&[*byte]).await?;
            }
        }
        _ => while stream.read(&mut [0; 1024]).await? > 0 {},
    }
    Ok(())
}

async fn datagrams(port: u16) {
    let mut rng = SmallRng::seed_from_u64(6);
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else { return };
    let mut ticks = interval(Duration::from_millis(1));
    loop {
        ticks.tick().await;
        let mut bytes =
            vec![0; if rng.random_range(0..10) == 0 { 65_507 } else { rng.random_range(0..3_000) }];
        rng.fill_bytes(&mut bytes);
        if rng.random() {
            let text = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nCall-ID: ";
            bytes.splice(0..0, text.iter().copied()).for_each(drop);
            bytes.truncate(65_507);
        }
        let _ = socket.send_to(&bytes, (Ipv4Addr::LOCALHOST, port)).await;
    }
}

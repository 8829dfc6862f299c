//! Attackers at a port: many raw connections from an address of their own, made again as soon as they end;
//! and servers that attack their clients.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::SOON;
use crate::support::process::Process;
use crate::support::wait::{PATIENCE, wait_for};

/// Address that they come from: another host than the honest client's 127.0.0.1.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Between two connections of one attacker, so that two cores serve the others as well.
const PAUSE: Duration = Duration::from_millis(5);
/// Turns of the honest client during an attack.
const TURNS: usize = 15;

/// Connections that do the same until this is dropped.
pub struct Crowd {
    opened: Arc<AtomicUsize>,
    _end: DropGuard,
}

impl Crowd {
    /// So many attackers at a port of this machine; each is handed its number.
    pub fn at<F>(
        port: u16,
        count: usize,
        attack: impl Fn(TcpStream, usize) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (end, opened) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        for number in 0..count {
            let (attack, opened) = (attack.clone(), opened.clone());
            let one = async move {
                loop {
                    if let Ok(stream) = connect(port).await {
                        opened.fetch_add(1, Ordering::Relaxed);
                        // It ends with an error as soon as it is thrown out.
                        let _ = attack(stream, number).await;
                    }
                    sleep(PAUSE).await;
                }
            };
            tokio::spawn(end.clone().run_until_cancelled_owned(one));
        }
        Self { opened, _end: end.drop_guard() }
    }

    /// Servers that do the same on each connection until this is dropped, each at a port of its own.
    pub async fn of_servers<F>(
        count: usize,
        attack: impl Fn(TcpStream, usize) -> F + Clone + Send + 'static,
    ) -> (Self, Vec<u16>)
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (end, opened, mut ports) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)), Vec::new());
        for number in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            ports.push(listener.local_addr().expect("an address").port());
            let (attack, opened) = (attack.clone(), opened.clone());
            let (serving, ended) = (end.clone(), end.clone());
            tokio::spawn(ended.run_until_cancelled_owned(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    opened.fetch_add(1, Ordering::Relaxed);
                    let one = attack(stream, number);
                    tokio::spawn(serving.clone().run_until_cancelled_owned(async move {
                        let _ = one.await;
                    }));
                }
            }));
        }
        (Self { opened, _end: end.drop_guard() }, ports)
    }

    /// Connections that were made so far.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // What is not read is to fill up soon.
    socket.set_recv_buffer_size(4_096)?;
    socket.bind((FROM, 0).into())?;
    socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await
}

/// Writes the same again and again, and reads nothing.
pub async fn flood(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    loop {
        stream.write_all(bytes).await?;
        // What is attacked is to be busy, not these two cores.
        sleep(Duration::from_millis(2)).await;
    }
}

/// Writes one byte after the other, for ever.
pub async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    for byte in bytes.iter().cycle() {
        stream.write_all(&[*byte]).await?;
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Says nothing more, and reads what comes, until the other side ends it.
pub async fn hold(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4_096];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Files that a process has open.
pub fn descriptors(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/fd", process.pid())).expect("it runs").count()
}

/// Bytes of memory that a process has.
fn resident(process: &Process) -> usize {
    let text = fs::read_to_string(format!("/proc/{}/statm", process.pid())).expect("it runs");
    text.split(' ').nth(1).expect("a second field").parse::<usize>().expect("a number") * 4_096
}

/// Resources that a process may have more of during an attack.
pub struct Bounds {
    /// MiB of memory.
    pub mib: usize,
    /// Open files.
    pub descriptors: usize,
}

/// Lets the attack of `start` go on while an honest client has its turns: each has to succeed. The process
/// stays within the bounds, and all that it had for the attackers is given back.
pub async fn withstands(
    process: &Process,
    bounds: Bounds,
    start: impl FnOnce() -> Vec<Crowd>,
    mut honest: impl AsyncFnMut() -> Result<(), String>,
) {
    let idle = descriptors(process);
    let before = resident(process);
    let crowds = start();
    // The kernel drops the SYN of anyone while the queue of the listener is full (TcpExtListenDrops), and the
    // client's own repetitions are far apart. A kubelet asks again, too: three times at most, in all turns.
    let mut again = 3;
    let (mut most, mut open) = (before, idle);
    for turn in 0..TURNS {
        // A turn waits, so that the attackers have theirs.
        sleep(Duration::from_millis(100)).await;
        let turned = tokio::time::timeout(SOON, async {
            loop {
                match honest().await {
                    Err(error) if error.contains(": no answer in ") && again > 0 => again -= 1,
                    turned => break turned,
                }
            }
        })
        .await;
        let turned = turned.unwrap_or_else(|_| Err(format!("not within {SOON:?}")));
        assert_eq!(turned, Ok(()), "turn {turn} of the honest client");
        most = most.max(resident(process));
        open = open.max(descriptors(process));
    }
    for crowd in &crowds {
        assert!(crowd.opened() > 0, "there was no attack");
    }
    assert!(most <= before + (bounds.mib << 20), "{} MiB, then {} MiB", before >> 20, most >> 20);
    assert!(open <= idle + bounds.descriptors, "{idle} descriptors, then {open}");
    drop(crowds);
    let given_back = async || {
        let now = descriptors(process);
        // The connection of the honest client may be new, and a file be looked at.
        if now <= idle + 4 { Ok(()) } else { Err(format!("{now} descriptors, {idle} before")) }
    };
    wait_for(given_back, PATIENCE, "the descriptors to be given back").await;
}

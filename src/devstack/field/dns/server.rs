//! The sockets of a scripted name server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::{sleep, timeout},
};

use super::{
    super::{
        case::Over,
        dialogue::Dialogue,
        net::{PORT_TRIES, Tasks},
    },
    Dns, Outcome,
};

/// Time that a TCP connection may stay without a query.
const IDLE: Duration = Duration::from_secs(30);

/// Serves one name server on both sockets.
pub(in super::super) fn serve(
    tasks: &Tasks,
    dns: &Arc<Dns>,
    server: &str,
    (udp, tcp): (UdpSocket, TcpListener),
    dialogue: &Dialogue,
) {
    let (name, server_dns, shown) = (server.to_owned(), Arc::clone(dns), dialogue.clone());
    let spawner = tasks.clone();
    tasks.spawn(async move {
        let udp = Arc::new(udp);
        let mut buffer = vec![0; 4096];
        loop {
            let Ok((length, source)) = udp.recv_from(&mut buffer).await else { continue };
            let Some(outcome) = server_dns.respond(&name, Over::Udp, &buffer[..length], &shown) else {
                continue;
            };
            let Outcome { wait, bytes: Some(bytes) } = outcome else { continue };
            if wait.is_zero() {
                // A client that has gone away needs no response.
                let _ = udp.send_to(&bytes, source).await;
            } else if let Ok(place) = Arc::clone(&server_dns.places).try_acquire_owned() {
                let udp = Arc::clone(&udp);
                spawner.spawn(async move {
                    sleep(wait).await;
                    let _ = udp.send_to(&bytes, source).await;
                    drop(place);
                });
            }
        }
    });
    let (name, dns, dialogue, spawner) =
        (server.to_owned(), Arc::clone(dns), dialogue.clone(), tasks.clone());
    tasks.spawn(async move {
        loop {
            let Ok((stream, _)) = tcp.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&dns.places).try_acquire_owned() else { continue };
            let (name, dns, dialogue) = (name.clone(), Arc::clone(&dns), dialogue.clone());
            spawner.spawn(async move {
                // It is up to the client to see that the connection has ended.
                let _ = connection(stream, &name, &dns, &dialogue).await;
                drop(place);
            });
        }
    });
}

async fn connection(
    mut stream: TcpStream,
    server: &str,
    dns: &Dns,
    dialogue: &Dialogue,
) -> std::io::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await.map_err(std::io::Error::other)??;
        let mut query = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut query)).await.map_err(std::io::Error::other)??;
        let Some(Outcome { wait, bytes }) = dns.respond(server, Over::Tcp, &query, dialogue) else {
            return Ok(());
        };
        sleep(wait).await;
        if let Some(bytes) = bytes {
            stream.write_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).await?;
            stream.write_all(&bytes).await?;
        }
    }
}

/// Binds UDP and TCP of one address; port 0 takes one that both have free.
pub(in super::super) async fn bind(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(SocketAddr::new(address.ip(), tcp.local_addr()?.port())).await {
            Err(_) if address.port() == 0 && tries < PORT_TRIES => tries += 1,
            bound => return bound.map(|udp| (udp, tcp)),
        }
    }
}

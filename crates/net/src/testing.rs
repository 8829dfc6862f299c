//! Peers for tests.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    time::timeout,
};

/// An address that does not respond to a SYN: its backlog is full.
pub struct Silent {
    pub address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<tokio::task::JoinHandle<()>>,
}

impl Silent {
    pub async fn at(ip: &str, port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::new(ip.parse().unwrap(), port)).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        // Connections that nothing accepts, until one more gets no response.
        for _ in 0..16 {
            let attempt = tokio::net::TcpStream::connect(address);
            match timeout(Duration::from_millis(300), attempt).await {
                Ok(connected) => {
                    let connected = connected.unwrap();
                    waiting.push(tokio::spawn(async move {
                        let _open = connected;
                        std::future::pending::<()>().await;
                    }));
                }
                Err(_) => return Self { address, _listener: listener, _waiting: waiting },
            }
        }
        panic!("the backlog of {address} is never full");
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self._waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

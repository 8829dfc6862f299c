//! The reference: two processes that throw datagrams of given sizes at each other and do nothing else.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, time::Instant};

use super::{Counted, Order, WARM_UP, serve};

/// Bytes that the kernel holds, as for the SIP client: datagrams that come faster than they are read must not
/// be lost.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;
/// Time after which a datagram without a response is sent again: T1 of SIP.
const AGAIN: Duration = Duration::from_millis(500);
/// Number of the datagram, and the length that the response must have.
const HEAD: usize = 8;

/// Bytes of a request and of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Bytes of the request.
    pub request: usize,
    /// Bytes of the response.
    pub reply: usize,
}

/// A socket on a free port of 127.0.0.1.
pub fn socket() -> anyhow::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(UdpSocket::from_std(socket.into())?)
}

/// The role that responds.
pub async fn pong() -> anyhow::Result<()> {
    let socket = socket()?;
    serve(socket.local_addr()?.port(), || 0);
    let mut buffer = vec![0; 65_536];
    loop {
        let (_, from) = socket.recv_from(&mut buffer).await?;
        let length = u32::from_le_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]) as usize;
        socket.send_to(&buffer[..length], from).await?;
    }
}

/// The role that asks: keeps the ordered number of datagrams under way for the ordered time. The sizes take
/// turns.
pub async fn ping(order: Order) -> anyhow::Result<Counted> {
    let Order { port, in_flight, seconds, sizes, .. } = order;
    let socket = socket()?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let request = |slot: usize, turn: usize| {
        let Sizes { request, reply } = sizes[turn % sizes.len()];
        let mut bytes = vec![b'x'; request.max(HEAD)];
        bytes[..4].copy_from_slice(&(slot as u32).to_le_bytes());
        bytes[4..HEAD].copy_from_slice(&(reply.max(HEAD) as u32).to_le_bytes());
        bytes
    };
    // One buffer for each slot and size: nothing is built while it is measured.
    let requests: Vec<Vec<Vec<u8>>> =
        (0..in_flight).map(|slot| (0..sizes.len()).map(|turn| request(slot, turn)).collect()).collect();
    let mut slots = vec![(0_usize, Instant::now()); in_flight];
    for of_slot in &requests {
        socket.send_to(&of_slot[0], to).await?;
    }
    let began = Instant::now();
    let (warm, end) = (began + WARM_UP, began + WARM_UP + Duration::from_secs_f64(seconds));
    let (mut counted, mut again, mut looked) = (0, 0, began);
    let mut buffer = vec![0; 65_536];
    loop {
        let received = tokio::time::timeout(AGAIN, socket.recv_from(&mut buffer)).await;
        let now = Instant::now();
        if now >= end {
            break;
        }
        if let Ok(Ok((_, _))) = received {
            let slot = u32::from_le_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
            slots[slot] = (slots[slot].0 + 1, now);
            counted += u64::from(now >= warm);
            socket.send_to(&requests[slot][slots[slot].0 % sizes.len()], to).await?;
        }
        if now - looked > AGAIN {
            looked = now;
            for (slot, (turn, sent)) in
                slots.iter_mut().enumerate().filter(|(_, (_, sent))| now - *sent > AGAIN)
            {
                again += 1;
                *sent = now;
                socket.send_to(&requests[slot][*turn % sizes.len()], to).await?;
            }
        }
    }
    Ok(Counted { done: counted, failed: again, seconds: (end - warm).as_secs_f64() })
}

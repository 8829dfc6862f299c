//! Requests over UDP: to one address after the other (RFC 3263 §4.3).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Client, ClientError, Destination, Inner, MAX_DATAGRAM, Peer, retry_after,
    transactions::{Datagram, Failure, Flow},
    with_via,
};
use crate::message::{Request, Response};
use routr_net::connect::race_apart;
use routr_types::host::Transport;

/// Time from a datagram to the first look at whether it could be delivered; the next ones are twice as late
/// each.
const FIRST_ERROR_LOOK: Duration = Duration::from_millis(5);

impl Client {
    pub(super) async fn send_datagram(
        &self,
        request: &Request,
        to: &Destination,
        peer: Option<&Peer>,
    ) -> Result<(Response, Peer), ClientError> {
        // All addresses of the registrar: a response may come from another one than that which the request
        // goes to.
        if let Some(peer) = peer {
            return self.send_to_address(request, to, peer.address(), peer.registrar()).await;
        }
        let all = self.ordered(request, to).await?;
        let registrar: Arc<[SocketAddr]> = all.as_slice().into();
        if let [only] = *all {
            return self.send_to_address(request, to, only, &registrar).await;
        }
        let attempt = |address| self.attempt(request, to, address, &registrar);
        race_apart(self.inner.failover, &all, attempt).await.unwrap_or_else(best_of)
    }

    /// Sends to one of several addresses. An error means that the next one is to be tried (RFC 3263 §4.3).
    async fn attempt(
        &self,
        request: &Request,
        to: &Destination,
        address: SocketAddr,
        registrar: &Arc<[SocketAddr]>,
    ) -> Result<Result<(Response, Peer), ClientError>, Refusal> {
        let inner = &*self.inner;
        let transport = to.transport;
        let mut silence = SilenceGuard { inner, address, transport, since: Instant::now(), ended: false };
        let outcome = self.send_to_address(request, to, address, registrar).await;
        silence.ended = true;
        let since = silence.since;
        let failed = |at_least, why: &str| {
            inner.reachability.failed(address, transport, since, at_least, why);
        };
        match outcome {
            Ok((response, peer)) if response.code == 503 => {
                failed(retry_after(&response), "503");
                Err(Refusal::Unavailable(Box::new((response, peer))))
            }
            Ok(responded) => {
                inner.reachability.responded(address, transport);
                Ok(Ok(responded))
            }
            // The request's own fault: no other address takes it.
            Err(error @ (ClientError::TooLarge { .. } | ClientError::Invalid(_))) => Ok(Err(error)),
            Err(error) => {
                failed(Duration::ZERO, &error.to_string());
                Err(Refusal::Failed(error))
            }
        }
    }

    async fn send_to_address(
        &self,
        request: &Request,
        to: &Destination,
        address: SocketAddr,
        registrar: &Arc<[SocketAddr]>,
    ) -> Result<(Response, Peer), ClientError> {
        let Inner { transactions, udp, .. } = &*self.inner;
        let branch = transactions.branch();
        let local = udp.local_for(address.ip())?;
        let bytes = with_via(request, to.transport, local, branch)?;
        if bytes.len() > MAX_DATAGRAM {
            let (size, transport) = (bytes.len(), to.transport);
            return Err(ClientError::TooLarge { size, limit: MAX_DATAGRAM, transport });
        }
        let flow = Flow::Datagram(Datagram { address, local, registrar: registrar.clone() });
        let mut pending = transactions.open(branch, &request.method, flow, bytes.clone());
        udp.send(&bytes, address).await?;
        let mut pause = FIRST_ERROR_LOOK;
        let outcome = loop {
            tokio::select! {
                outcome = pending.outcome() => break outcome,
                // Whether the host or the port is not there: then the next address is tried.
                () = tokio::time::sleep(pause), if registrar.len() > 1 => {
                    udp.take_errors(transactions);
                    pause *= 2;
                }
            }
        };
        match outcome {
            Ok(response) => Ok((response, Peer::datagram(address, registrar.clone()))),
            Err(Failure::Failed(error)) => Err(error),
            Err(Failure::Unsent) => Err(ClientError::transport("not sent")),
        }
    }
}

/// Reason to try another address.
enum Refusal {
    /// 503: overloaded, or down for maintenance.
    Unavailable(Box<(Response, Peer)>),
    Failed(ClientError),
}

/// Result of the failures of all addresses: a response where there is one, else the error that says most.
fn best_of(refusals: Vec<(SocketAddr, Refusal)>) -> Result<(Response, Peer), ClientError> {
    let (mut silent, mut causes) = (None, Vec::new());
    for (address, refusal) in refusals {
        match refusal {
            Refusal::Unavailable(answered) => return Ok(*answered),
            Refusal::Failed(error @ (ClientError::OnlyProvisional(_) | ClientError::Unreadable(_))) => {
                silent = Some(error);
            }
            Refusal::Failed(ClientError::Timeout) => silent = silent.or(Some(ClientError::Timeout)),
            Refusal::Failed(error) if causes.is_empty() => causes.push(error.to_string()),
            // Errors of sockets name the address themselves.
            Refusal::Failed(error) => {
                let text = error.to_string();
                let named = text.contains(&address.ip().to_string());
                causes.push(if named { text } else { format!("{text}, at {address}") });
            }
        }
    }
    Err(silent.unwrap_or_else(|| ClientError::transport(causes.join("; "))))
}

/// Notes, when it is dropped, that an address was silent for so long that another one was asked.
struct SilenceGuard<'a> {
    inner: &'a Inner,
    address: SocketAddr,
    transport: Transport,
    since: Instant,
    ended: bool,
}

impl Drop for SilenceGuard<'_> {
    fn drop(&mut self) {
        if !self.ended && self.since.elapsed() >= self.inner.failover {
            let Self { inner, address, transport, since, .. } = self;
            inner.reachability.failed(*address, *transport, *since, Duration::ZERO, "no response");
        }
    }
}

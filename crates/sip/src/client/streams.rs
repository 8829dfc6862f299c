//! Requests over TCP and TLS.

use tokio::time::Instant;

use super::{
    Client, ClientError, Destination, Inner, Peer, retry_after, seed,
    transactions::{Failure, Flow},
    with_via,
};
use crate::message::{Request, Response};

/// Most connections that one request is queued for: the next one each time that the last went before it was
/// written.
const MAX_CONNECTIONS: usize = 2;

/// Most addresses that are asked for one request over TCP or TLS, where one after the other answers 503.
const MAX_UNAVAILABLE: usize = 4;

impl Client {
    /// As [`Client::send_stream`]; a server that answers 503 is passed over, where there are others (RFC 3263
    /// §4.3).
    pub(super) async fn send_stream_or_others(
        &self,
        request: &Request,
        to: &Destination,
        peer: Option<&Peer>,
    ) -> Result<(Response, Peer), ClientError> {
        let (response, answered) = self.send_stream(request, to, peer).await?;
        if response.code != 503 || peer.is_some() {
            return Ok((response, answered));
        }
        let Ok(all) = self.ordered(request, to).await else { return Ok((response, answered)) };
        let reachability = &self.inner.reachability;
        let others = all.iter().filter(|other| **other != answered.address()).take(MAX_UNAVAILABLE - 1);
        let mut asked = false;
        for other in others {
            if !std::mem::replace(&mut asked, true) {
                let pause = retry_after(&response);
                reachability.failed(answered.address(), to.transport, Instant::now(), pause, "503");
                // The next request makes another connection.
                self.inner.connections.leave(to, answered.address());
            }
            match self.send_stream(request, to, Some(&Peer::at(*other))).await {
                Ok((next, from)) if next.code != 503 => return Ok((next, from)),
                Ok((next, from)) => {
                    let pause = retry_after(&next);
                    reachability.failed(from.address(), to.transport, Instant::now(), pause, "503");
                }
                Err(_) => {}
            }
        }
        Ok((response, answered))
    }

    async fn send_stream(
        &self,
        request: &Request,
        to: &Destination,
        peer: Option<&Peer>,
    ) -> Result<(Response, Peer), ClientError> {
        let Inner { transactions, connections, .. } = &*self.inner;
        let mut end = None;
        for _ in 0..MAX_CONNECTIONS {
            let connection = match peer.and_then(Peer::connection) {
                Some(connection) => connection,
                None => connections.get(to, peer.map(Peer::address), seed(request)).await?,
            };
            let _in_use = connection.start_use();
            let branch = transactions.branch();
            let bytes = with_via(request, to.transport, connection.local(), branch)?;
            let flow = Flow::Stream(connection.clone());
            let mut pending = transactions.open(branch, &request.method, flow, bytes.clone());
            // Only now: a connection that ends from here on fails the transaction.
            let number = pending.number();
            let outcome = tokio::select! {
                biased;
                () = std::future::ready(()), if !connection.is_usable() => Err(Failure::Unsent),
                // The queue of a peer that does not read is full: Timer F holds for those who wait for room,
                // too.
                outcome = pending.outcome() => outcome,
                written = connection.write(number, bytes) => match written {
                    Ok(()) => {
                        pending.keep_watch();
                        pending.outcome().await
                    }
                    Err(()) => Err(Failure::Unsent),
                },
            };
            match outcome {
                Ok(response) => return Ok((response, Peer::stream(&connection))),
                Err(Failure::Failed(error)) => return Err(error),
                Err(Failure::Unsent) => {}
            }
            end = connection.end().cloned();
            if matches!(end, Some(ClientError::Tls(_))) {
                break;
            }
        }
        Err(end.unwrap_or_else(|| ClientError::transport("no connection takes the request")))
    }
}

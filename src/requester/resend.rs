//! A request once more, where the connection broke before its response came.

use super::{outgoing_request::MAX_CSEQ, trace::Recorder};
use routr_sip::{
    client::{Client, ClientError, Destination, Peer},
    message::{Request, Response},
};

/// Sends a request, to `peer` where there is one. A REGISTER whose connection breaks before the response is
/// sent once more, on a new connection; `request` and `cseq` are then those of the second one.
///
/// It may have been processed, so the second one is a new request: it takes the next CSeq number, for a
/// registrar refuses a number that it has seen (RFC 3261 §10.3, step 7). What it asks for is the same
/// binding. A request of another method could have its effect twice, and is not sent again.
///
/// # Errors
/// As [`Client::send`].
pub async fn send(
    client: &Client,
    request: &mut Request,
    cseq: &mut u32,
    destination: &Destination,
    peer: Option<&Peer>,
    recorder: &mut Recorder<'_>,
) -> Result<(Response, Peer), ClientError> {
    match once(client, request, destination, peer, recorder).await {
        Err(ClientError::ConnectionLost(cause)) if request.method == "REGISTER" && *cseq < MAX_CSEQ => {
            tracing::debug!(to = %destination, %cause, "connection lost: the REGISTER is sent once more");
            let next = *cseq + 1;
            let value = format!("{next} {}", request.method);
            request.headers.set("CSeq", value).map_err(ClientError::Invalid)?;
            *cseq = next;
            once(client, request, destination, peer, recorder).await
        }
        outcome => outcome,
    }
}

async fn once(
    client: &Client,
    request: &Request,
    destination: &Destination,
    peer: Option<&Peer>,
    recorder: &mut Recorder<'_>,
) -> Result<(Response, Peer), ClientError> {
    recorder.sent(request, destination);
    let outcome = match peer {
        Some(peer) => client.send_to(request, destination, peer).await,
        None => client.send(request, destination).await,
    };
    recorder.ended(request, destination, outcome.as_ref().map(|(response, _)| response));
    outcome
}

//! Connection attempts side by side (RFC 8305 §5).

use std::{net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::sleep;

/// Delay between the start of an attempt and the start of the next one, unless the first has failed before
/// (RFC 8305 §5, "Connection Attempt Delay").
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Tries the addresses in their order, [`ATTEMPT_DELAY`] apart or as soon as one fails. Returns the first
/// success, and drops what is still open then.
///
/// # Errors
/// Each address with its error, in the order of the addresses; none where there is no address.
pub async fn race<T, E, F: Future<Output = Result<T, E>>>(
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, Vec<(SocketAddr, E)>> {
    race_apart(ATTEMPT_DELAY, addresses, attempt).await
}

/// As [`race`], with attempts that are `apart`.
///
/// # Errors
/// As [`race`].
pub async fn race_apart<T, E, F: Future<Output = Result<T, E>>>(
    apart: Duration,
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, Vec<(SocketAddr, E)>> {
    let mut waiting = addresses.iter().enumerate();
    let mut started = FuturesUnordered::new();
    let mut errors = Vec::new();
    loop {
        let next = waiting.next();
        let last = next.is_none();
        if let Some((index, address)) = next {
            let attempt = attempt(*address);
            started.push(async move { (index, attempt.await) });
        }
        let delay = sleep(apart);
        tokio::select! {
            biased;
            ended = started.next() => match ended {
                Some((_, Ok(connected))) => return Ok(connected),
                Some((index, Err(error))) => errors.push((index, error)),
                None => break,
            },
            () = delay, if !last => {}
        }
    }
    errors.sort_by_key(|(index, _)| *index);
    let named = errors.into_iter().filter_map(|(index, error)| Some((*addresses.get(index)?, error)));
    Err(named.collect())
}

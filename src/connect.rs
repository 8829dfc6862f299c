//! TCP connections, to dependencies and registrars alike: at all addresses of a name, raced as RFC 8305 says.
//!
//! * [`resolve`] looks a name up, again for each connection, and puts the families in turn;
//! * [`race()`] tries one address after the other, 250 ms apart or as soon as one fails; the first to succeed
//!   wins;
//! * [`tcp`] makes one connection with its [`SocketOptions`]; [`dial`] does all three.
//!
//! Its own race, for hyper-util's takes the addresses of one family one after the other, each for the whole
//! of the timeout.

mod error;
mod resolve;
#[cfg(test)]
pub(crate) mod tests;

use tokio::{net::TcpStream, time::timeout};

pub use self::{error::ConnectError, resolve::Resolver};
use crate::quota::sockets::{Held, Payers};
use routr_net::connect::{CONNECT_TIMEOUT, SocketOptions, io_cause, no_connection_within, race, tcp};
use routr_types::host::HostPort;

/// Connects to a host: looks it up, then races its addresses for [`CONNECT_TIMEOUT`] each. Sockets count for
/// the `payers`.
///
/// # Errors
/// Where the host cannot be looked up, or no address takes the connection: the cause at each.
pub async fn dial(
    host: &HostPort,
    resolver: &Resolver,
    options: &SocketOptions,
    payers: &Payers,
) -> Result<Held<TcpStream>, ConnectError> {
    let addresses = resolver.resolve(host, payers).await?;
    let attempt = |address| async move {
        let socket = payers.socket().map_err(|excess| excess.to_string())?;
        match timeout(CONNECT_TIMEOUT, tcp(address, options)).await {
            Ok(connected) => connected.map(|stream| socket.hold(stream)).map_err(|error| io_cause(&error)),
            Err(_) => Err(no_connection_within(CONNECT_TIMEOUT)),
        }
    };
    race(&addresses, attempt).await.map_err(|causes| ConnectError::at_each(&causes))
}

//! Names to addresses.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;

use routr_net::connect::interleave;

use super::ConnectError;
use crate::quota::sockets::Payers;
use routr_types::host::HostPort;

/// Longest wait for a name. The system asks a second name server only after the first was silent for 5 s.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);

/// Addresses of one name that are used. A response of a name server may have thousands.
pub const MAX_ADDRESSES: usize = 64;

/// Addresses of a name, by a script in place of the system.
type Script = dyn Fn(&HostPort) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks names up: by the system, with its hosts file, search domains and order of addresses (RFC 6724), or
/// by a script.
#[derive(Clone, Default)]
pub struct Resolver {
    script: Option<Arc<Script>>,
}

impl Resolver {
    /// The operating system's resolver.
    pub fn system() -> Self {
        Self::default()
    }

    /// A function in the place of the system, for tests.
    pub fn scripted(
        script: impl Fn(&HostPort) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self { script: Some(Arc::new(script)) }
    }

    /// Returns the addresses of a host, each once, the families in turn; at least one, at most
    /// [`MAX_ADDRESSES`]. An IP address is itself. It waits for the turn of the `payers`.
    ///
    /// # Errors
    /// [`ConnectError::Resolve`], also after 15 s of silence.
    pub async fn resolve(&self, host: &HostPort, payers: &Payers) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Ok(address) = host.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, host.port)]);
        }
        let found = match &self.script {
            Some(script) => script(host),
            None => match timeout(RESOLVE_TIMEOUT, look_up(host, payers)).await {
                Ok(found) => found,
                Err(_) => {
                    let cause =
                        format!("no response from the name servers within {} s", RESOLVE_TIMEOUT.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, cause))
                }
            },
        };
        let fail = |cause: String| ConnectError::Resolve { host: host.host.clone(), cause: cause.into() };
        let mut addresses = interleave(found.map_err(|error| fail(words(&error)))?);
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() { Err(fail("it has no address".to_owned())) } else { Ok(addresses) }
    }
}

/// Asks the system. The turn is held for as long as a thread is busy with it, also when the caller has given
/// up.
async fn look_up(host: &HostPort, payers: &Payers) -> io::Result<Vec<SocketAddr>> {
    let (turn, host) = (payers.look_up().await, host.clone());
    let looking = tokio::task::spawn_blocking(move || {
        let found = (&*host.host, host.port).to_socket_addrs().map(Iterator::collect);
        drop(turn);
        found
    });
    looking.await.unwrap_or_else(|_| Err(io::Error::other("this process is stopping")))
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("scripted", &self.script.is_some()).finish()
    }
}

/// Returns the system's words, without those that Rust's library puts before them.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}

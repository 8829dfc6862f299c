//! Access to the Requester, and the share of each caller.
//!
//! * [`listen`] takes connections, within bounds, and does TLS;
//! * [`connections`] counts them, and chooses which one has to go;
//! * [`admission`] lets calls in: the token, a place, and a message within its bounds;
//! * [`places`] divides the places between callers and targets;
//! * [`token`] is the token.

mod admission;
mod connections;
mod listen;
mod places;
mod token;

use std::{net::SocketAddr, sync::Arc, time::Duration};

pub use self::token::{Token, TokenError};
pub(super) use self::{
    admission::{AdmissionControl, SendMessage, with_login},
    listen::accept,
};
use routr_net::tls::ServedTls;

/// Most gRPC connections at a time, where descriptors allow as many.
pub const MAX_CONNECTIONS: usize = 1024;

/// A share of the descriptors: what is left is for registrars, name servers and files.
const SHARE_OF_DESCRIPTORS: u64 = 4;

/// Callers that are let in, and their shares.
#[derive(Clone, Debug)]
pub struct AccessOptions {
    /// TLS; `None`: plain HTTP/2.
    pub tls: Option<Arc<ServedTls>>,
    /// Token that each call must bring; `None`: no token.
    pub token: Option<Arc<Token>>,
    /// Most connections at a time. One more ends one that does nothing, of callers not known first; where all
    /// have calls under way, it is refused.
    pub max_connections: usize,
    /// Time that a connection may have no call.
    pub idle: Duration,
    /// Time that a connection may have no call before its first one that is let in.
    pub first_call: Duration,
    /// Time that a caller may take for the TLS handshake, then for the first bytes of HTTP/2, and for the
    /// message of each call.
    pub patience: Duration,
}

impl Default for AccessOptions {
    /// Open: no TLS, no token. [`MAX_CONNECTIONS`] or a quarter of the descriptors, 10 min idle, 1 min until
    /// the first call, 10 s of patience.
    fn default() -> Self {
        Self {
            tls: None,
            token: None,
            max_connections: max_connections(routr_net::descriptors::limit()),
            idle: Duration::from_secs(600),
            first_call: Duration::from_secs(60),
            patience: Duration::from_secs(10),
        }
    }
}

fn max_connections(descriptors: Option<u64>) -> usize {
    let share = descriptors.map_or(u64::MAX, |limit| limit / SHARE_OF_DESCRIPTORS);
    usize::try_from(share).unwrap_or(usize::MAX).clamp(8, MAX_CONNECTIONS)
}

impl AccessOptions {
    /// Returns whether a caller has to show who it is.
    pub fn has_login(&self) -> bool {
        self.token.is_some() || self.tls.as_ref().is_some_and(|tls| tls.demands_certificates())
    }

    /// Returns who can call, in one sentence, and whether that is a reason to warn.
    pub(super) fn who(&self, at: SocketAddr) -> (String, bool) {
        let certificates = self.tls.as_ref().is_some_and(|tls| tls.demands_certificates());
        let with = match (certificates, self.token.is_some()) {
            (true, true) => " with a client certificate of --client-ca and the token",
            (true, false) => " with a client certificate of --client-ca",
            (false, true) => " with the token",
            (false, false) => "",
        };
        let from = if at.ip().to_canonical().is_loopback() {
            "any process of this machine".to_owned()
        } else if at.ip().is_unspecified() {
            format!("anything that reaches port {} of this machine, on all its addresses,", at.port())
        } else {
            format!("anything that reaches {at}")
        };
        let open = !self.has_login() && !at.ip().to_canonical().is_loopback();
        (format!("{from}{with} can send SIP through it"), open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_a_share_of_the_descriptors() {
        for (limit, most) in [(None, 1024), (Some(1_000_000), 1024), (Some(256), 64), (Some(0), 8)] {
            assert_eq!(max_connections(limit), most);
        }
    }

    #[test]
    fn only_an_open_door_beyond_loopback_is_a_reason_to_warn() {
        let token = Arc::new(Token::given("x".repeat(32)));
        let closed = AccessOptions { token: Some(token), ..AccessOptions::default() };
        let who = |access: &AccessOptions, at: &str| access.who(at.parse().unwrap());
        for at in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(!who(&AccessOptions::default(), at).1, "{at}");
        }
        for at in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            assert!(who(&AccessOptions::default(), at).1, "{at}");
            assert!(!who(&closed, at).1, "{at}");
        }
        assert_eq!(
            who(&closed, "0.0.0.0:51909").0,
            "anything that reaches port 51909 of this machine, on all its addresses, with the token can send SIP through it"
        );
    }
}

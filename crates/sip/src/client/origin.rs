//! Permitted sources of responses over UDP: anyone who can send a datagram can make one up.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Period between two log lines about dropped responses.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Addresses that a response over UDP may come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ResponseOrigin {
    /// The address and port that the request was sent to, or the same port of another address of the
    /// registrar's name.
    #[default]
    Registrar,
    /// Any port of these addresses.
    AnyPort,
    /// Anywhere.
    Anywhere,
}

impl ResponseOrigin {
    /// Returns whether a response from `from` is taken to a request that was sent to one of `targets`.
    pub(super) fn allows(self, from: SocketAddr, targets: &[SocketAddr]) -> bool {
        let address = from.ip().to_canonical();
        let same_address = |target: &&SocketAddr| target.ip().to_canonical() == address;
        match self {
            Self::Registrar => targets.iter().filter(same_address).any(|target| target.port() == from.port()),
            Self::AnyPort => targets.iter().any(|target| same_address(&target)),
            Self::Anywhere => true,
        }
    }
}

/// Counts responses that are dropped, and says so in the log now and then.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    count: AtomicU64,
    logged_at: Mutex<Option<Instant>>,
}

impl Dropped {
    /// Counts one that was dropped because of `why`.
    pub(super) fn note(&self, from: SocketAddr, expected: &[SocketAddr], why: &'static str) {
        let dropped = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut logged_at = self.logged_at.lock().unwrap_or_else(PoisonError::into_inner);
        if logged_at.is_some_and(|at| at.elapsed() < LOG_PERIOD) {
            return;
        }
        *logged_at = Some(Instant::now());
        drop(logged_at);
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        tracing::warn!(
            %from,
            expected = expected.join(", "),
            dropped,
            "dropped a response over UDP, {why}: it may be forged; if a registrar responds like that, see \
             --responses-from"
        );
    }

    /// Returns how many were dropped so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_comes_from_where_the_request_may_have_gone() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let targets = [at("192.0.2.1:5060"), at("192.0.2.2:5060"), at("[2001:db8::1]:5060")];
        for (from, registrar, any_port) in [
            ("192.0.2.1:5060", true, true),
            ("192.0.2.2:5060", true, true),
            ("[::ffff:192.0.2.1]:5060", true, true),
            ("[2001:db8::1]:5060", true, true),
            ("192.0.2.1:5061", false, true),
            ("192.0.2.3:5060", false, false),
            ("[2001:db8::2]:5060", false, false),
        ] {
            assert_eq!(ResponseOrigin::Registrar.allows(at(from), &targets), registrar, "{from}");
            assert_eq!(ResponseOrigin::AnyPort.allows(at(from), &targets), any_port, "{from}");
            assert!(ResponseOrigin::Anywhere.allows(at(from), &targets));
        }
    }
}

//! Journal of a registrar, for tests to look at: a bounded log, counters, and the highest rate.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use routr_types::host::Transport;

/// One REGISTER that arrived, retransmissions included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Time of arrival, since the registrar's start.
    pub at: Duration,
    /// Transport of the request.
    pub transport: Transport,
    /// Source address.
    pub source: SocketAddr,
    /// User part of To.
    pub user: String,
    /// The Request-URI.
    pub request_uri: String,
    /// Call-ID.
    pub call_id: String,
    /// CSeq number.
    pub cseq: u32,
    /// The Expires header field, in seconds.
    pub expires: Option<u32>,
    /// The Contact header field, the first where there are several.
    pub contact: Option<String>,
    /// The option tags of Require.
    pub require: Vec<String>,
    /// True when it came with valid credentials for a challenge.
    pub authorised: bool,
    /// The final status code; `None` for silence.
    pub code: Option<u16>,
}

/// Totals since the start, or since they were last cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// REGISTERs that arrived, retransmissions included.
    pub registers: u64,
    /// Final responses by code.
    pub answers: BTreeMap<u16, u64>,
    /// REGISTERs that got no response.
    pub silent: u64,
    /// Requests with valid credentials for a challenge.
    pub authorised: u64,
    /// Requests with a wrong digest response to a challenge: another password.
    pub wrong_passwords: u64,
    /// Requests with valid credentials for a challenge that is too old.
    pub stale_nonces: u64,
    /// Requests refused because the CSeq of their Call-ID did not rise.
    pub cseq_not_rising: u64,
    /// Requests that changed a binding once already and came again.
    pub retransmissions: u64,
    /// Requests that came while an earlier one of the same Call-ID waited for its delayed response.
    pub overlapping: u64,
    /// Requests that carried `X-Gateway-Auth`, which must never get this far.
    pub gateway_auth_leaks: u64,
    /// Messages that are no SIP, or lack what every request must have.
    pub malformed: u64,
}

impl Counters {
    /// Returns the number of responses with this code.
    pub fn of(&self, code: u16) -> u64 {
        self.answers.get(&code).copied().unwrap_or_default()
    }
}

/// A tenth of a second: the grain of the rate.
const GRAIN_MS: u128 = 100;

/// Log, counters and rate.
pub(super) struct Journal {
    capacity: usize,
    log: VecDeque<Seen>,
    pub(super) counters: Counters,
    rate: Rate,
}

impl Journal {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, log: VecDeque::new(), counters: Counters::default(), rate: Rate::default() }
    }

    /// A REGISTER has arrived.
    pub(super) fn arrived(&mut self, now: Duration) {
        self.counters.registers += 1;
        self.rate.count(now);
    }

    /// It has been dealt with.
    pub(super) fn done(&mut self, seen: Seen) {
        match seen.code {
            Some(code) => *self.counters.answers.entry(code).or_default() += 1,
            None => self.counters.silent += 1,
        }
        if self.capacity == 0 {
            return;
        }
        if self.log.len() == self.capacity {
            self.log.pop_front();
        }
        self.log.push_back(seen);
    }

    pub(super) fn log(&self) -> Vec<Seen> {
        self.log.iter().cloned().collect()
    }

    pub(super) fn max_rate(&self) -> u64 {
        self.rate.max
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.capacity);
    }
}

/// The most that arrived within any second, to a tenth of a second.
#[derive(Default)]
struct Rate {
    /// Counts of the last ten grains, by grain number modulo ten.
    grains: [u64; 10],
    /// The grain that is being counted.
    current: u128,
    max: u64,
}

impl Rate {
    fn count(&mut self, now: Duration) {
        let grain = now.as_millis() / GRAIN_MS;
        let passed = grain.saturating_sub(self.current);
        for step in 1..=passed.min(10) {
            self.grains[usize::try_from((self.current + step) % 10).unwrap_or_default()] = 0;
        }
        self.current = self.current.max(grain);
        self.grains[usize::try_from(self.current % 10).unwrap_or_default()] += 1;
        self.max = self.max.max(self.grains.iter().sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(times_ms: impl IntoIterator<Item = u64>) -> u64 {
        let mut rate = Rate::default();
        times_ms.into_iter().for_each(|ms| rate.count(Duration::from_millis(ms)));
        rate.max
    }

    #[test]
    fn the_rate_is_the_most_within_any_second() {
        assert_eq!(rate([]), 0);
        assert_eq!(rate([0, 10, 999, 5_000]), 3);
        assert_eq!(rate([900, 950, 1_000, 1_850]), 4, "across a full second");
        assert_eq!(rate((0..100).map(|n| n * 100)), 10);
        assert_eq!(rate([0, 0, 1_000, 100_000, 100_050]), 2);
    }
}

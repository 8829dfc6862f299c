//! Counters of the backend.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Short, listing};

/// Counts of what came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// REGISTERs, of whatever trunk.
    pub registers: u64,
    /// Different trunks that a REGISTER came for.
    pub trunks: u64,
    /// REGISTERs for trunks that had more than half of their time left.
    pub needless: u64,
    /// REGISTERs that came after the trunk's registration had expired.
    pub expired: u64,
    /// REGISTERs that could not be read, or for a trunk that is not listed.
    pub strange: u64,
    /// REGISTERs that were refused with 503, as asked for.
    pub refused: u64,
    /// Bytes of all REGISTERs (protobuf).
    pub bytes: u64,
    /// Nanoseconds from the first REGISTER to the last.
    pub span_ns: u64,
    /// Nanoseconds since the first REGISTER.
    pub since_first_ns: u64,
    /// Calls of `FindBy` and `List` that got a response.
    pub listings: u64,
    /// Lists that were complete: `FindBy`, or the last page.
    pub syncs: u64,
}

impl Tally {
    /// REGISTERs per second, from the first to the last.
    pub fn rate(&self) -> f64 {
        self.registers.saturating_sub(1) as f64 / (self.span_ns.max(1) as f64 / 1e9)
    }
}

pub struct Counters {
    start: Instant,
    registers: AtomicU64,
    trunks: AtomicU64,
    needless: AtomicU64,
    expired: AtomicU64,
    strange: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
    first_ns: AtomicU64,
    last_ns: AtomicU64,
    pub listings: AtomicU64,
    pub syncs: AtomicU64,
    sample: OnceLock<Vec<u8>>,
    each: Vec<One>,
    short: Option<Short>,
    /// Number of registrations that are refused in each second, and of those in the present one.
    flaps: AtomicU32,
    flapped: Mutex<(u64, u32)>,
}

/// Result of a REGISTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Granted for this time, in seconds.
    Granted(u32),
    /// 503, this time.
    Refused,
}

/// One trunk: when it was registered last, in milliseconds from the start (0: never), and for how many
/// seconds.
#[derive(Default)]
struct One {
    at: AtomicU32,
    granted: AtomicU32,
    /// The last response refused it.
    refused: AtomicBool,
}

impl Counters {
    pub fn new(trunks: usize, short: Option<Short>) -> Self {
        let zero = AtomicU64::default;
        Self {
            start: Instant::now(),
            registers: zero(),
            trunks: zero(),
            needless: zero(),
            expired: zero(),
            strange: zero(),
            refused: zero(),
            bytes: zero(),
            first_ns: AtomicU64::new(u64::MAX),
            last_ns: zero(),
            listings: zero(),
            syncs: zero(),
            sample: OnceLock::new(),
            each: (0..trunks).map(|_| One::default()).collect(),
            short,
            flaps: AtomicU32::new(0),
            flapped: Mutex::default(),
        }
    }

    /// Counts a REGISTER and says how long it is granted for: what it asks, or `first` (of the trunk's number
    /// and what it asks) where the trunk was not registered before.
    pub fn register(&self, request: &[u8], first: impl Fn(usize, u32) -> u32) -> Option<Outcome> {
        let now = self.start.elapsed();
        let ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let number = self.registers.fetch_add(1, Relaxed);
        self.bytes.fetch_add(request.len() as u64, Relaxed);
        if number == 0 {
            self.sample.get_or_init(|| request.to_vec());
        }
        self.first_ns.fetch_min(ns, Relaxed);
        self.last_ns.fetch_max(ns, Relaxed);
        let known = super::wire::read(request)
            .and_then(|(user, asked)| Some((listing::number(user)?, asked)))
            .and_then(|(number, asked)| Some((number, asked, self.each.get(number)?)));
        let Some((number, asked, one)) = known else {
            self.strange.fetch_add(1, Relaxed);
            return None;
        };
        let asked = match self.short {
            // Spread at first, or all of them would be due together for ever after.
            Some(short) if number % short.every == 0 && one.at.load(Relaxed) == 0 => asked.min(
                short.seconds + (listing::spread(number / short.every) * f64::from(short.seconds)) as u32,
            ),
            Some(short) if number % short.every == 0 => asked.min(short.seconds),
            _ => asked,
        };
        if self.refuses(one, now.as_secs()) {
            return Some(Outcome::Refused);
        }
        let ms = u32::try_from(now.as_millis()).unwrap_or(u32::MAX).max(1);
        let before = one.at.swap(ms, Relaxed);
        let mut granted = asked;
        if before == 0 {
            self.trunks.fetch_add(1, Relaxed);
            granted = first(number, asked);
        } else {
            let (gap, held) = (u64::from(ms - before.min(ms)), u64::from(one.granted.load(Relaxed)) * 1_000);
            if gap > held {
                self.expired.fetch_add(1, Relaxed);
            } else if gap < held / 2 {
                self.needless.fetch_add(1, Relaxed);
            }
        }
        one.granted.store(granted, Relaxed);
        Some(Outcome::Granted(granted))
    }

    /// Refuses `each_second` trunks once in each second from now on: those that were registered and come
    /// first.
    pub fn flap(&self, each_second: u32) {
        self.flaps.store(each_second, Relaxed);
    }

    fn refuses(&self, one: &One, second: u64) -> bool {
        let most = self.flaps.load(Relaxed);
        if most == 0 || one.at.load(Relaxed) == 0 || one.refused.swap(false, Relaxed) {
            return false;
        }
        let mut flapped = self.flapped.lock().unwrap_or_else(PoisonError::into_inner);
        if flapped.0 != second {
            *flapped = (second, 0);
        }
        let refuses = flapped.1 < most;
        flapped.1 += u32::from(refuses);
        drop(flapped);
        self.refused.fetch_add(u64::from(refuses), Relaxed);
        one.refused.store(refuses, Relaxed);
        refuses
    }

    /// Counts again, and remembers who is registered.
    pub fn mark(&self) {
        let all = [
            &self.registers,
            &self.needless,
            &self.expired,
            &self.strange,
            &self.bytes,
            &self.last_ns,
            &self.refused,
        ];
        for counter in all.into_iter().chain([&self.listings, &self.syncs]) {
            counter.store(0, Relaxed);
        }
        self.first_ns.store(u64::MAX, Relaxed);
    }

    pub fn tally(&self) -> Tally {
        let now = self.start.elapsed();
        let ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let (first, last) = (self.first_ns.load(Relaxed), self.last_ns.load(Relaxed));
        Tally {
            registers: self.registers.load(Relaxed),
            trunks: self.trunks.load(Relaxed),
            needless: self.needless.load(Relaxed),
            expired: self.expired.load(Relaxed),
            strange: self.strange.load(Relaxed),
            refused: self.refused.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            span_ns: last.saturating_sub(first),
            since_first_ns: ns.saturating_sub(first),
            listings: self.listings.load(Relaxed),
            syncs: self.syncs.load(Relaxed),
        }
    }

    /// The least that is left of any registration: looks at each.
    pub fn least_left_ms(&self) -> i64 {
        let now = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        let left = |one: &One| {
            let at = one.at.load(Relaxed);
            (at > 0).then(|| i64::from(at) + i64::from(one.granted.load(Relaxed)) * 1_000 - now)
        };
        self.each.iter().filter_map(left).min().unwrap_or(0)
    }

    pub fn reset(&self) {
        for counter in [
            &self.registers,
            &self.trunks,
            &self.needless,
            &self.expired,
            &self.strange,
            &self.bytes,
            &self.last_ns,
        ] {
            counter.store(0, Relaxed);
        }
        self.listings.store(0, Relaxed);
        self.syncs.store(0, Relaxed);
        self.first_ns.store(u64::MAX, Relaxed);
        for one in &self.each {
            one.at.store(0, Relaxed);
        }
    }

    pub fn sample(&self) -> String {
        let bytes = self.sample.get().map_or(&[][..], Vec::as_slice);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

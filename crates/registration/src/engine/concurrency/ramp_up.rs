//! Growth of the bound on requests in flight: as far as more of them bring more responses.
//!
//! The time that a response takes says little. A Requester that answers in a millisecond seems quick even
//! when many hundreds of requests wait in front of it: they wait for each other, cost memory, and fall out of
//! the processor's caches. And one that answers late may do so because the registrar is far away, or the
//! machine busy, and take any number at a time. So but for a quick beginning, a step up has to pay.

use crate::registration::{backoff::Backoff, time::Moment};

/// Up to here the bound grows by one with each answer that is as quick as before.
pub(super) const FREE_GROWTH_LIMIT: f64 = 64.0;
/// Up to here it grows, more slowly, with each answer that comes at once: what a Requester nearby needs to be
/// kept busy.
pub(super) const FAST_GROWTH_LIMIT: f64 = 256.0;
/// By so much. Answers tell how it was when their requests were sent: by one each, the bound would have
/// doubled until the first late one.
const FAST_GROWTH_STEP: f64 = 0.25;
/// Otherwise it is doubled up to [`FREE_GROWTH_LIMIT`]; beyond, it is raised by this factor,
const GROWTH_FACTOR: f64 = 1.25;
/// and taken back when the answers in a given time have not become more by this part of that. Half: machines
/// are noisy.
const REQUIRED_GAIN: f64 = 0.5;
/// Answers for each place that a rate is measured by, and milliseconds that it takes at least.
const RESPONSES_PER_SLOT: f64 = 4.0;
const MIN_MEASURE_MS: u64 = 50;
/// Pause after a step that was taken back, before the next one is tried; longer after each further one in a
/// row.
const STEP_PAUSE: Backoff = Backoff::new(10_000, 160_000);

/// Growth of the bound on requests in flight.
#[derive(Debug, Default)]
pub(super) struct RampUp {
    /// Since when answers are counted, and how many there were.
    since: Option<Moment>,
    answers: u32,
    /// The bound before the last step up, and the answers per millisecond it brought.
    before: Option<(f64, f64)>,
    /// No step before that, and how long the last rest was.
    rest_until: Moment,
    rest: u64,
}

impl RampUp {
    /// An answer, while the bound was used; it was quick enough for the bound to grow freely up to `free`.
    /// Returns what the bound is from now on.
    pub fn on_response(&mut self, limit: f64, free: f64, now: Moment) -> f64 {
        if limit < free {
            self.forget();
            return limit + if limit < FREE_GROWTH_LIMIT { 1.0 } else { FAST_GROWTH_STEP };
        }
        let took = now.since(*self.since.get_or_insert(now));
        self.answers += 1;
        if took < MIN_MEASURE_MS || f64::from(self.answers) < RESPONSES_PER_SLOT * limit {
            return limit;
        }
        #[allow(clippy::cast_precision_loss)]
        let rate = f64::from(self.answers) / took as f64;
        self.pause();
        match self.before.take() {
            Some((lower, slower)) if rate / slower - 1.0 < (limit / lower - 1.0) * REQUIRED_GAIN => {
                self.rest = STEP_PAUSE.after(self.rest);
                self.rest_until = now.plus(self.rest);
                return lower;
            }
            Some(_) => self.rest = 0,
            None => {}
        }
        if now < self.rest_until {
            return limit;
        }
        self.before = Some((limit, rate));
        if limit < FREE_GROWTH_LIMIT { (limit * 2.0).min(FREE_GROWTH_LIMIT) } else { limit * GROWTH_FACTOR }
    }

    /// The bound is not used: what is counted from here on says nothing.
    pub fn pause(&mut self) {
        (self.since, self.answers) = (None, 0);
    }

    /// The bound is another now: what was measured with the one before says nothing.
    pub fn forget(&mut self) {
        *self = Self { rest_until: self.rest_until, rest: self.rest, ..Self::default() };
    }
}

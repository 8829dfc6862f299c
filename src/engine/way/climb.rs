//! How far the bound on requests in flight grows: as far as more of them bring more answers.
//!
//! A Requester that answers in a millisecond seems quick even when hundreds of requests wait in front of it. They then wait for
//! each other, cost memory, and fall out of the processor's caches. So beyond a few dozens a step up has to pay.

use crate::registration::time::Moment;

/// Up to here the bound grows by one with each quick answer.
const FREE: f64 = 64.0;
/// Beyond, it is raised by this factor,
const STEP: f64 = 1.25;
/// and taken back when the answers in a given time have not become more by this part of that. Half: machines are noisy.
const PART: f64 = 0.5;
/// Answers for each place that a rate is measured by, and milliseconds that it takes at least.
const ROUNDS: f64 = 4.0;
const LEAST_MS: u64 = 50;
/// After a step that was taken back, the next one is tried so many milliseconds later.
const REST: u64 = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Climb {
    /// Since when answers are counted, and how many there were.
    since: Option<Moment>,
    answers: u32,
    /// The bound before the last step up, and the answers per millisecond it brought.
    before: Option<(f64, f64)>,
    rest_until: Moment,
}

impl Climb {
    /// A quick answer, while the bound was used. Returns what the bound is from now on.
    pub fn answered(&mut self, limit: f64, now: Moment) -> f64 {
        if limit < FREE {
            self.forget();
            return limit + 1.0;
        }
        let took = now.since(*self.since.get_or_insert(now));
        self.answers += 1;
        if took < LEAST_MS || f64::from(self.answers) < ROUNDS * limit {
            return limit;
        }
        #[allow(clippy::cast_precision_loss)]
        let rate = f64::from(self.answers) / took as f64;
        self.pause();
        match self.before.take() {
            Some((lower, slower)) if rate / slower - 1.0 < (limit / lower - 1.0) * PART => {
                self.rest_until = now.plus(REST);
                lower
            }
            _ if now < self.rest_until => limit,
            _ => {
                self.before = Some((limit, rate));
                limit * STEP
            }
        }
    }

    /// The bound is not used: what is counted from here on says nothing.
    pub fn pause(&mut self) {
        (self.since, self.answers) = (None, 0);
    }

    /// The bound has come down.
    pub fn forget(&mut self) {
        *self = Self { rest_until: self.rest_until, ..Self::default() };
    }
}

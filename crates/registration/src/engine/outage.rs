//! Outages of what several trunks share: a registrar, or an EdgePort. One trunk's failure is its own; several
//! in a row, with no sign of life between them, are an outage. Then one trunk at a time probes, and the first
//! sign of life ends it for all.

use rand::{Rng, RngExt};

use crate::registration::time::Moment;

/// Failures in a row, of two sources at least, that make an outage.
const FAILURES_TO_OUTAGE: u32 = 3;
/// Between two probes, in milliseconds, drawn evenly.
pub(super) const PROBE_PERIOD_MS: (u64, u64) = (5_000, 10_000);
/// Trunks of the row before an outage was noticed that are remembered: they wait for its end like all others.
const MAX_REMEMBERED_TRUNKS: usize = 8;

/// Failures in a row of what several trunks share, and the outage that they may be.
#[derive(Clone, Debug, Default)]
pub(super) struct Outage {
    /// Failures in a row.
    failures: u32,
    /// The source of the last of them, and whether there was another one in the row.
    last: Option<u32>,
    several: bool,
    /// One of them at least was not to be expected.
    unexpected: bool,
    /// The slots that failed in the row.
    row: Vec<u32>,
    down: Option<Down>,
}

#[derive(Clone, Copy, Debug)]
struct Down {
    since: Moment,
    /// No probe before that moment.
    probe_at: Moment,
    /// Probes under way.
    probes: u32,
}

impl Outage {
    /// Returns whether it is down.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Since when it has been down.
    pub fn since(&self) -> Option<Moment> {
        self.down.map(|down| down.since)
    }

    /// A failure, met with by a slot. Failures of one `source` alone are no outage; without a source it is
    /// certain. Nor are such as were all `expected`: what they went to is known to be down. Returns the slots
    /// of the row where that is what makes an outage.
    pub fn failed(
        &mut self,
        slot: u32,
        source: Option<u32>,
        expected: bool,
        pause: (u64, u64),
        now: Moment,
        rng: &mut impl Rng,
    ) -> Option<Vec<u32>> {
        self.failures = self.failures.saturating_add(1);
        self.several |= source.is_none() || self.last.is_some_and(|last| Some(last) != source);
        self.last = source;
        self.unexpected |= !expected;
        if let Some(down) = &mut self.down {
            // The pause between probes counts from their start; a longer one, where others can be used
            // instead, from their end.
            if pause.0 > PROBE_PERIOD_MS.0 {
                down.probe_at = down.probe_at.max(now.plus(jittered(pause, rng)));
            }
            return None;
        }
        if !self.row.contains(&slot) && self.row.len() < MAX_REMEMBERED_TRUNKS {
            self.row.push(slot);
        }
        if self.failures < FAILURES_TO_OUTAGE || !self.several || !self.unexpected {
            return None;
        }
        self.down = Some(Down { since: now, probe_at: now.plus(jittered(pause, rng)), probes: 0 });
        Some(std::mem::take(&mut self.row))
    }

    /// A sign of life. Returns since when it was down, where it was.
    pub fn alive(&mut self) -> Option<Moment> {
        let since = self.since();
        *self = Self::default();
        since
    }

    /// A request goes out. Returns whether it is a probe.
    pub fn sent(&mut self, now: Moment, rng: &mut impl Rng) -> bool {
        if let Some(down) = &mut self.down {
            down.probe_at = now.plus(jittered(PROBE_PERIOD_MS, rng));
            down.probes += 1;
        }
        self.is_down()
    }

    /// A probe is over.
    pub fn probe_ended(&mut self) {
        if let Some(down) = &mut self.down {
            down.probes = down.probes.saturating_sub(1);
        }
    }

    /// Returns when the next request may go: any time where it is not down, [`Moment::NEVER`] while `most`
    /// probes are under way.
    pub fn opens_at(&self, most: u32) -> Moment {
        match self.down {
            None => Moment::default(),
            Some(down) if down.probes >= most => Moment::NEVER,
            Some(down) => down.probe_at,
        }
    }

    /// The next probe goes within the usual pause, where it would have been later.
    pub fn probe_no_later_than(&mut self, now: Moment, rng: &mut impl Rng) {
        if let Some(down) = &mut self.down {
            down.probe_at = down.probe_at.min(now.plus(jittered(PROBE_PERIOD_MS, rng)));
        }
    }

    /// The next probe may go at once: what it depends on has come back.
    pub fn probe_now(&mut self, now: Moment) {
        if let Some(down) = &mut self.down {
            down.probe_at = down.probe_at.min(now);
        }
    }
}

fn jittered((least, most): (u64, u64), rng: &mut impl Rng) -> u64 {
    rng.random_range(least..=most)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    fn fail(outage: &mut Outage, slot: u32, at: u64) -> Option<Vec<u32>> {
        outage.failed(slot, Some(slot), false, PROBE_PERIOD_MS, Moment(at), &mut SmallRng::seed_from_u64(at))
    }

    #[test]
    fn several_failures_in_a_row_make_an_outage_and_one_trunks_do_not() {
        let mut outage = Outage::default();
        assert!((0..20).all(|at| fail(&mut outage, 7, at).is_none()));
        assert_eq!(fail(&mut outage, 8, 20), Some(vec![7, 8]));
        assert_eq!((outage.is_down(), fail(&mut outage, 9, 21)), (true, None));
        assert_eq!(outage.alive(), Some(Moment(20)));
        assert!(!outage.is_down() && outage.alive().is_none());
        fail(&mut outage, 1, 30);
        fail(&mut outage, 2, 31);
        outage.alive();
        assert!(fail(&mut outage, 3, 32).is_none(), "a sign of life came between");
    }

    #[test]
    fn one_probe_in_five_to_ten_seconds() {
        let mut outage = Outage::default();
        (0..3).for_each(|slot| drop(fail(&mut outage, slot, 1_000)));
        let mut rng = SmallRng::seed_from_u64(1);
        let mut at = outage.opens_at(1);
        for _ in 0..50 {
            assert!(outage.sent(at, &mut rng));
            assert_eq!(outage.opens_at(1), Moment::NEVER);
            let next = outage.opens_at(2);
            assert!((5_000..=10_000).contains(&next.since(at)), "{}", next.since(at));
            outage.probe_ended();
            at = outage.opens_at(1);
            assert_eq!(at, next);
        }
        outage.probe_now(Moment(1));
        assert_eq!(outage.opens_at(1), Moment(1));
    }
}

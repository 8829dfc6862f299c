//! Registrars: who waits for which, and how fast each may be asked.
//!
//! Each registrar host has a budget (a token bucket), a queue of trunks whose REGISTER is due, and what it said that
//! concerns all trunks: Retry-After and Min-Expires. A registrar that answers nobody gets a few places only, so that it
//! does not hold up the others.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
};

use crate::registration::{Class, time::Moment};

/// How urgent a trunk is, smallest first: refreshes by their lapse, then the others by their age.
pub(super) type Urgency = (bool, Moment, Class);

/// So many silences in a row, and the registrar counts as silent.
const SILENT_FROM: u32 = 3;
/// A registrar that nothing was sent to for this long is forgotten, in milliseconds.
const FORGET_AFTER: u64 = 25 * 3_600 * 1_000;

/// Nobody goes elsewhere because of a registrar that wants to be left alone no longer than this, in milliseconds.
pub(super) const BRIEF: u64 = 1_000;

/// A waiting trunk: its urgency, its slot, and the stamp that tells whether it still waits.
type Waiting = Reverse<(Urgency, u32, u32)>;

/// One registrar host.
#[derive(Debug)]
pub(super) struct Registrar {
    host: Box<str>,
    queue: BinaryHeap<Waiting>,
    tokens: f64,
    refilled_at: Moment,
    hold_until: Moment,
    used_at: Moment,
    min_expires_s: u32,
    silences: u32,
    in_flight: u32,
    /// What it stands under in `ready`, if it does.
    ready_as: Option<Urgency>,
    /// When it stands in `blocked` for, if it does.
    blocked_for: Option<Moment>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Registrars {
    all: Vec<Option<Registrar>>,
    free: Vec<u32>,
    by_host: HashMap<Box<str>, u32>,
    ready: BTreeSet<(Urgency, u32)>,
    blocked: BinaryHeap<Reverse<(Moment, u32)>>,
    rate: Option<f64>,
}

impl Registrars {
    /// `rate` is in REGISTERs per second for each host; `None` lifts the bound.
    pub fn new(rate: Option<f64>) -> Self {
        Self {
            all: Vec::new(),
            free: Vec::new(),
            by_host: HashMap::new(),
            ready: BTreeSet::new(),
            blocked: BinaryHeap::new(),
            rate,
        }
    }

    /// Changes the budget of all.
    pub fn set_rate(&mut self, rate: Option<f64>, now: Moment) {
        self.rate = rate;
        // Whoever waits for a token looks again.
        for id in 0..u32::try_from(self.all.len()).unwrap_or(u32::MAX) {
            self.place(id, now);
        }
    }

    fn burst(rate: f64) -> f64 {
        (rate / 2.0).max(1.0)
    }

    /// The registrar of a host, made when it is new.
    pub fn id_of(&mut self, host: &str, now: Moment) -> u32 {
        if let Some(id) = self.by_host.get(host) {
            return *id;
        }
        let registrar = Registrar {
            host: host.into(),
            queue: BinaryHeap::new(),
            tokens: self.rate.map_or(1.0, Self::burst),
            refilled_at: now,
            hold_until: Moment(0),
            used_at: now,
            min_expires_s: 0,
            silences: 0,
            in_flight: 0,
            ready_as: None,
            blocked_for: None,
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
        });
        self.all[id as usize] = Some(registrar);
        self.by_host.insert(host.into(), id);
        id
    }

    fn get(&self, id: u32) -> Option<&Registrar> {
        self.all.get(id as usize)?.as_ref()
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Registrar> {
        self.all.get_mut(id as usize)?.as_mut()
    }

    /// Until when a host wants to be left alone; the start of time where it does not.
    pub fn held_until(&self, host: &str) -> Moment {
        self.by_host
            .get(host)
            .and_then(|id| self.get(*id))
            .map_or(Moment(0), |registrar| registrar.hold_until)
    }

    /// Whether a registrar has answered nobody for a while.
    pub fn is_silent(&self, id: u32) -> bool {
        self.get(id).is_some_and(|registrar| registrar.silences >= SILENT_FROM)
    }

    /// The shortest expiry that a registrar accepts, as far as known; in seconds.
    pub fn min_expires(&self, id: u32) -> u32 {
        self.get(id).map_or(0, |registrar| registrar.min_expires_s)
    }

    /// Puts a trunk into the queue of a registrar.
    pub fn wait(&mut self, id: u32, urgency: Urgency, slot: u32, stamp: u32, now: Moment) {
        if let Some(registrar) = self.get_mut(id) {
            registrar.queue.push(Reverse((urgency, slot, stamp)));
            self.place(id, now);
        }
    }

    /// Where a registrar belongs now: among the ready ones, among those that wait for a token or for the end of a hold, or
    /// nowhere.
    fn place(&mut self, id: u32, now: Moment) {
        let rate = self.rate;
        let Some(registrar) = self.all.get_mut(id as usize).and_then(Option::as_mut) else { return };
        if let Some(urgency) = registrar.ready_as.take() {
            self.ready.remove(&(urgency, id));
        }
        let Some(Reverse((urgency, _, _))) = registrar.queue.peek().copied() else { return };
        let token_at = registrar.token_at(rate, now);
        let free_at = token_at.max(registrar.hold_until);
        if free_at <= now {
            registrar.ready_as = Some(urgency);
            self.ready.insert((urgency, id));
        } else if registrar.blocked_for.is_none_or(|moment| free_at < moment) {
            registrar.blocked_for = Some(free_at);
            self.blocked.push(Reverse((free_at, id)));
        }
    }

    /// The most urgent trunk that may be sent now, with its registrar; it has left the queue and taken its token.
    /// `waits` tells by slot and stamp whether an entry still counts; `urgent_only` passes over what can wait, and a
    /// silent registrar gets `silent_share` places, and not the last one.
    pub fn next(
        &mut self,
        urgent_only: bool,
        silent_share: u32,
        last_place: bool,
        now: Moment,
        waits: impl Fn(u32, u32) -> bool,
    ) -> Option<(u32, u32)> {
        self.unblock(now);
        while let Some((urgency, id)) = self.first(urgent_only, last_place, now) {
            let rate = self.rate;
            let Some(registrar) = self.all.get_mut(id as usize).and_then(Option::as_mut) else {
                self.ready.remove(&(urgency, id));
                continue;
            };
            // Entries that no longer count.
            while registrar.queue.peek().is_some_and(|Reverse((_, slot, stamp))| !waits(*slot, *stamp)) {
                registrar.queue.pop();
            }
            if registrar.queue.peek().map(|Reverse((head, _, _))| *head) != Some(urgency) {
                self.place(id, now);
                continue;
            }
            if urgent_only && urgency.0 {
                break;
            }
            if registrar.silences >= SILENT_FROM && registrar.in_flight >= silent_share.max(1) {
                // It comes back into line with the next answer from it.
                self.ready.remove(&(urgency, id));
                registrar.ready_as = None;
                continue;
            }
            let Some(Reverse((_, slot, _))) = registrar.queue.pop() else { continue };
            registrar.take_token(rate, now);
            registrar.in_flight += 1;
            registrar.used_at = now;
            if registrar.queue.is_empty() {
                registrar.queue.shrink_to(64);
            }
            self.place(id, now);
            return Some((slot, id));
        }
        None
    }

    /// The first in line. One that is silent keeps its place until the deadline: it does not get the last of few while another
    /// that is as urgent could have it. A binding that has lapsed while its refresh waited is no longer there to be kept.
    fn first(&self, urgent_only: bool, last_place: bool, now: Moment) -> Option<(Urgency, u32)> {
        let first = self.ready.first().copied()?;
        if !last_place || !self.is_silent(first.1) {
            return Some(first);
        }
        let (can_wait, lapse, _) = first.0;
        let refreshes_only = urgent_only || (!can_wait && lapse > now);
        let other =
            self.ready.iter().find(|(urgency, id)| !(self.is_silent(*id) || refreshes_only && urgency.0));
        other.copied().or(Some(first))
    }

    fn unblock(&mut self, now: Moment) {
        while let Some(Reverse((moment, id))) = self.blocked.peek().copied() {
            if moment > now {
                break;
            }
            self.blocked.pop();
            if let Some(registrar) = self.get_mut(id) {
                registrar.blocked_for = None;
            }
            self.place(id, now);
        }
    }

    /// When the next blocked registrar may become ready.
    pub fn next_at(&self) -> Option<Moment> {
        self.blocked.peek().map(|Reverse((moment, _))| *moment)
    }

    /// A request to a registrar is over; `silent` when nobody answered, `None` when it never got there.
    pub fn finished(&mut self, id: u32, silent: Option<bool>, now: Moment) {
        let Some(registrar) = self.get_mut(id) else { return };
        registrar.in_flight = registrar.in_flight.saturating_sub(1);
        match silent {
            Some(true) => registrar.silences = registrar.silences.saturating_add(1),
            Some(false) => registrar.silences = 0,
            None => {}
        }
        self.place(id, now);
    }

    /// What [`Registrars::next`] gave was not sent after all: its place and its token are free again.
    pub fn not_sent(&mut self, id: u32, now: Moment) {
        let most = self.rate.map_or(1.0, Self::burst);
        if let Some(registrar) = self.get_mut(id) {
            registrar.tokens = (registrar.tokens + 1.0).min(most);
        }
        self.finished(id, None, now);
    }

    /// It wants no request before that moment. Where that is news, and lasts longer than [`BRIEF`], returns whoever waits for
    /// it, by slot and stamp: they have left the queue and may want to go elsewhere.
    pub fn hold(&mut self, id: u32, until: Moment, now: Moment) -> Vec<(u32, u32)> {
        let Some(registrar) = self.get_mut(id) else { return Vec::new() };
        let brief = now.plus(BRIEF);
        let news = registrar.hold_until <= brief && until > brief;
        registrar.hold_until = registrar.hold_until.max(until);
        let waiting = if news { std::mem::take(&mut registrar.queue).into_vec() } else { Vec::new() };
        self.place(id, now);
        waiting.into_iter().map(|Reverse((_, slot, stamp))| (slot, stamp)).collect()
    }

    /// It wants at least this expiry, in seconds.
    pub fn learn_min_expires(&mut self, id: u32, seconds: u32) {
        if let Some(registrar) = self.get_mut(id) {
            registrar.min_expires_s = registrar.min_expires_s.max(seconds.min(86_400));
        }
    }

    /// Forgets registrars that nobody uses any more.
    pub fn forget_unused(&mut self, now: Moment) {
        for id in 0..self.all.len() {
            let unused = self.all[id].as_ref().is_some_and(|registrar| {
                registrar.queue.is_empty()
                    && registrar.in_flight == 0
                    && registrar.hold_until < now
                    && now.since(registrar.used_at) > FORGET_AFTER
            });
            if let (true, Ok(number)) = (unused, u32::try_from(id))
                && let Some(registrar) = self.all[id].take()
            {
                self.by_host.remove(&registrar.host);
                self.free.push(number);
            }
        }
    }

    /// Registrars with more waiting than the budget can send in time: host and number, for refreshes of which the first
    /// lapses before its turn.
    pub fn over_budget(&self, now: Moment, most: usize) -> Vec<String> {
        let Some(rate) = self.rate else { return Vec::new() };
        let late = |registrar: &&Registrar| {
            let Some(Reverse(((false, lapse, _), _, _))) = registrar.queue.peek() else { return false };
            #[allow(clippy::cast_precision_loss)]
            let seconds = registrar.queue.len() as f64 / rate;
            #[allow(clippy::cast_precision_loss)]
            let left = lapse.since(now) as f64 / 1_000.0;
            seconds > left && registrar.queue.len() > 1
        };
        self.all
            .iter()
            .flatten()
            .filter(late)
            .take(most)
            .map(|registrar| registrar.host.to_string())
            .collect()
    }
}

impl Registrar {
    fn refill(&mut self, rate: f64, now: Moment) {
        #[allow(clippy::cast_precision_loss)]
        let elapsed = now.since(self.refilled_at) as f64 / 1_000.0;
        self.tokens = (self.tokens + elapsed * rate).min(Registrars::burst(rate));
        self.refilled_at = self.refilled_at.max(now);
    }

    /// When the next token is there.
    fn token_at(&mut self, rate: Option<f64>, now: Moment) -> Moment {
        let Some(rate) = rate else { return now };
        self.refill(rate, now);
        // The sum of many small refills may fall short of a whole token by a rounding error.
        if self.tokens >= 1.0 - 1e-9 {
            return now;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let wait = ((1.0 - self.tokens) / rate * 1_000.0).ceil() as u64;
        now.plus(wait.max(1))
    }

    fn take_token(&mut self, rate: Option<f64>, now: Moment) {
        if let Some(rate) = rate {
            self.refill(rate, now);
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests;

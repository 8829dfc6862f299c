//! Turns: which registrar, and which of its trunks, is next.

use std::cmp::Reverse;

use rand::Rng;

use super::{Registrars, Target, Urgency};
use crate::registration::{Priority, time::Moment};

/// Sort key of ready registrars, smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// It holds a place already, and has not shown that it responds.
    pub second: bool,
    /// Its most urgent trunk has no binding that could expire.
    pub can_wait: bool,
    /// That one has, and the registrar left its last request without a response.
    pub doubtful: bool,
    pub moment: Moment,
    pub class: Priority,
    pub id: u32,
}

/// Limits of what may be sent at the moment.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct SendLimits {
    /// Nothing that can wait.
    pub urgent_only: bool,
    /// Probes of registrars that are down, at one time, for each of them
    pub probes_each: u32,
    /// and for all.
    pub probes: u32,
}

impl Registrars {
    /// Returns when a registrar may be asked next, by its host's budget and hold and by itself.
    fn opens_at(&mut self, id: u32, now: Moment) -> Moment {
        let (rate, most) = (self.rate, self.probes_each);
        let host = self.host_of_mut(id).map_or(now, |host| host.opens_at(rate, now));
        self.get(id).map_or(host, |registrar| registrar.opens_at(most, now).max(host))
    }

    /// Puts a trunk into the queue of a registrar.
    pub fn wait(&mut self, id: u32, urgency: Urgency, slot: u32, stamp: u32, now: Moment) {
        if let Some(registrar) = self.get_mut(id) {
            registrar.queue.push(Reverse((urgency, slot, stamp)));
            self.place(id, now);
        }
    }

    /// A person wants to know how a registrar is: the next probe may go at once.
    pub fn probe_now(&mut self, target: &Target, now: Moment) {
        let Some(id) = self.find(target) else { return };
        if let Some(registrar) = self.get_mut(id) {
            registrar.outage.probe_now(now);
            self.place(id, now);
        }
    }

    /// The path has come back: each registrar that is down may be probed at once.
    pub fn probe_all_now(&mut self, now: Moment) {
        for id in self.ids() {
            if let Some(registrar) = self.get_mut(id).filter(|registrar| registrar.outage.is_down()) {
                registrar.outage.probe_now(now);
                self.place(id, now);
            }
        }
    }

    /// Places a registrar: among the ready ones, among those that wait for a token, a probe or the
    /// end of a hold, or nowhere.
    pub(super) fn place(&mut self, id: u32, now: Moment) {
        let opens_at = self.opens_at(id, now);
        let Some(registrar) = self.all.get_mut(id as usize) else { return };
        if let Some(key) = registrar.ready_as.take() {
            self.ready.remove(&key);
        }
        let Some(key) = registrar.key(id, now) else { return };
        if opens_at <= now {
            registrar.ready_as = Some(key);
            self.ready.insert(key);
        } else {
            self.block(id, opens_at);
        }
    }

    fn block(&mut self, id: u32, until: Moment) {
        let Some(registrar) = self.all.get_mut(id as usize) else { return };
        if until != Moment::NEVER && registrar.blocked_for.is_none_or(|moment| until < moment) {
            registrar.blocked_for = Some(until);
            self.blocked.push(Reverse((until, id)));
        }
    }

    /// The most urgent trunk that may be sent now, with its registrar. It stays in the queue until
    /// [`Registrars::take`] or [`Registrars::pass_over`]. `waits` says by slot and stamp whether an entry
    /// still counts.
    pub fn peek(
        &mut self,
        limits: SendLimits,
        now: Moment,
        waits: impl Fn(u32, u32) -> bool,
    ) -> Option<(u32, u32)> {
        self.probes_each = limits.probes_each;
        self.unblock(now);
        while let Some(key) = self.ready.first().copied() {
            let open = self.opens_at(key.id, now) <= now;
            let Some(registrar) = self.all.get_mut(key.id as usize) else {
                self.ready.remove(&key);
                continue;
            };
            // Entries that no longer count.
            while registrar.queue.peek().is_some_and(|Reverse((_, slot, stamp))| !waits(*slot, *stamp)) {
                registrar.queue.pop();
            }
            // Time alone may have changed both.
            if !open || registrar.key(key.id, now) != Some(key) {
                self.place(key.id, now);
                continue;
            }
            if limits.urgent_only && (key.can_wait || key.second) {
                return None;
            }
            if registrar.outage.is_down() && self.probes >= limits.probes {
                registrar.ready_as = None;
                self.ready.remove(&key);
                self.without_probe.push(key.id);
                continue;
            }
            let slot = registrar.queue.peek().map(|Reverse((_, slot, _))| *slot)?;
            return Some((slot, key.id));
        }
        None
    }

    /// The request of the trunk that comes first at a registrar goes out: it takes its turn, a token, and its
    /// place in flight.
    pub fn take(&mut self, id: u32, now: Moment, rng: &mut impl Rng) {
        let Some(registrar) = self.get_mut(id) else { return };
        registrar.pop();
        registrar.sent(now);
        let probe = registrar.outage.sent(now, rng);
        self.probes += u32::from(probe);
        let rate = self.rate;
        if let Some(host) = self.host_of_mut(id) {
            host.budget.take(rate, now);
        }
        self.place(id, now);
    }

    /// The trunk that comes first at a registrar leaves its queue without a request. The registrar has had
    /// its turn all the same: one whose trunks all have to go elsewhere does not keep the others waiting.
    pub fn pass_over(&mut self, id: u32, now: Moment) {
        if let Some(registrar) = self.get_mut(id) {
            registrar.pop();
            registrar.used_at = now;
            self.place(id, now);
        }
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

    /// Returns when the next blocked registrar may become ready.
    pub fn next_at(&self) -> Option<Moment> {
        self.blocked.peek().map(|Reverse((moment, _))| *moment)
    }

    /// A request is over, whatever came of it: see [`Registrars::responded`] and [`Registrars::failed`].
    /// `probe` as [`Registrars::is_down`] was when it was sent.
    pub fn ended(&mut self, id: u32, probe: bool, now: Moment) {
        if let Some(registrar) = self.get_mut(id) {
            registrar.ended();
            if probe {
                registrar.outage.probe_ended();
            }
        }
        self.place(id, now);
        if probe {
            self.probe_place_is_free(now);
        }
    }

    fn probe_place_is_free(&mut self, now: Moment) {
        self.probes = self.probes.saturating_sub(1);
        for id in std::mem::take(&mut self.without_probe) {
            self.place(id, now);
        }
    }

    /// Takes those out of the queues that come first at registrars that may be asked now, at most `most` of
    /// each, for as long as they are `taken`, by slot. Returns registrar and slot.
    pub fn take_heads(
        &mut self,
        most: usize,
        now: Moment,
        waits: impl Fn(u32, u32) -> bool,
        taken: impl Fn(u32) -> bool,
    ) -> Vec<(u32, u32)> {
        self.unblock(now);
        let ids: Vec<u32> = self.ready.iter().map(|key| key.id).collect();
        let mut heads = Vec::new();
        for id in ids {
            let Some(registrar) = self.get_mut(id) else { continue };
            let mut left = most;
            while let Some(Reverse((_, slot, stamp))) = registrar.queue.peek().copied() {
                let counts = waits(slot, stamp);
                if counts && (left == 0 || !taken(slot)) {
                    break;
                }
                registrar.queue.pop();
                if counts {
                    left -= 1;
                    heads.push((id, slot));
                }
            }
            self.place(id, now);
        }
        heads
    }
}

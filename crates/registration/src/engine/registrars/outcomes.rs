//! Findings about registrars that requests bring: responses, silence, failures, and what they ask for.

use std::cmp::Reverse;

use rand::Rng;

use super::{FORGET_MIN_EXPIRES_AFTER_MS, IGNORED_HOLD_MS, MAX_MIN_EXPIRES_S, Registrars};
use crate::{engine::outage::PROBE_PERIOD_MS, registration::time::Moment};

impl Registrars {
    /// A registrar responded, whatever it said.
    pub fn responded(&mut self, id: u32, took_ms: u64, now: Moment) {
        if let Some(registrar) = self.get_mut(id) {
            registrar.responded(took_ms, now);
            self.place(id, now);
        }
    }

    /// A request ended without a response of the registrar, for whatever reason.
    pub fn silent(&mut self, id: u32, now: Moment) {
        if let Some(registrar) = self.get_mut(id) {
            registrar.silent();
            self.place(id, now);
        }
    }

    /// A probe of an EdgePort, towards a registrar, never left the Requester.
    pub fn wasted(&mut self, id: u32) {
        if let Some(registrar) = self.get_mut(id) {
            registrar.wasted();
        }
    }

    /// A registrar does its work. Returns since when it was down, where it was: all that wait for it may go.
    pub fn recovered(&mut self, id: u32, now: Moment) -> Option<Moment> {
        let registrar = self.get_mut(id)?;
        let since = registrar.outage.alive();
        if since.is_some() {
            registrar.back_at = Some(now);
            self.place(id, now);
        }
        since
    }

    /// A slot has registered at a registrar, by a request that was sent then.
    pub fn registered(&mut self, id: u32, slot: u32, sent_at: Moment) {
        if let Some(registrar) = self.get_mut(id) {
            registrar.registered(slot, sent_at);
        }
    }

    /// A registrar was silent, out of reach, or answered 5xx. Where that makes an outage, returns the slots
    /// that met with it before: they wait for its end like all others.
    pub fn failed(
        &mut self,
        id: u32,
        slot: u32,
        message: &str,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Option<Vec<u32>> {
        let registrar = self.get_mut(id)?;
        let row = registrar.outage.failed(slot, Some(slot), false, PROBE_PERIOD_MS, now, rng)?;
        registrar.went_down(message);
        self.place(id, now);
        Some(row)
    }

    /// It wants no request before that moment. Where that is news, and lasts longer than [`IGNORED_HOLD_MS`],
    /// returns those who wait for it, by slot and stamp: they have left the queue and may want to go
    /// elsewhere.
    pub fn hold(&mut self, id: u32, until: Moment, now: Moment) -> Vec<(u32, u32)> {
        let Some(host) = self.host_of_mut(id) else { return Vec::new() };
        let brief = now.plus(IGNORED_HOLD_MS);
        let news = host.hold_until <= brief && until > brief;
        host.hold_until = host.hold_until.max(until);
        let mut waiting = Vec::new();
        for member in host.members.clone() {
            if let Some(registrar) = self.get_mut(member).filter(|_| news) {
                waiting.extend(std::mem::take(&mut registrar.queue).into_vec());
            }
            self.place(member, now);
        }
        waiting.into_iter().map(|Reverse((_, slot, stamp))| (slot, stamp)).collect()
    }

    /// It wants at least this expiry, in seconds, an hour at most. That is forgotten after an hour, and
    /// learned again where it is still so.
    pub fn learn_min_expires(&mut self, id: u32, seconds: u32, now: Moment) {
        if let Some(host) = self.host_of_mut(id) {
            let known = if host.min_expires_until > now { host.min_expires_s } else { 0 };
            host.min_expires_s = known.max(seconds.min(MAX_MIN_EXPIRES_S));
            host.min_expires_until = now.plus(FORGET_MIN_EXPIRES_AFTER_MS);
        }
    }
}

//! Registrars: who waits for which, and how fast each may be asked.
//!
//! A registrar is a host with a port, whatever the transport; each has a queue of trunks whose REGISTER is
//! due. What a provider counts by host, its registrars share: a budget (a token bucket), and what it said
//! that concerns all trunks, Retry-After and Min-Expires.
//!
//! No registrar delays another's trunks, for these reasons:
//!
//! * One that has not responded holds one place; a second only after a second, the next ones after 2, 4, 8 s,
//!   and only when no other registrar wants the place. So silent ones hold few places, and one trunk that is
//!   never answered does not stop its registrar's others.
//! * Of what can wait, the registrar whose turn was longest ago comes first, however many trunks each has.
//! * One that fails for several trunks in a row is down ([`super::outage`]): one probe in 5 to 10 s, until it
//!   responds.
//! * The places themselves do not run out: see [`super::concurrency`].

mod budget;
mod host;
mod outcomes;
mod registrar;
mod turns;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
};

use slab::Slab;

pub(super) use self::turns::SendLimits;
use self::{host::Host, registrar::Registrar, turns::Key};
use super::outage::Outage;
use crate::registration::{Priority, request::UriView, time::Moment};
use routr_types::host::UriHost;

/// Target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub host: Box<str>,
    pub port: u16,
}

impl Target {
    /// The registrar of a URI, or the outbound proxy in its place.
    pub fn of(uri: UriView<'_>) -> Self {
        let (host, port) = uri.next_hop();
        Self { host: host.into(), port }
    }

    /// As messages, logs and JSON show it: `host:port`.
    pub fn shown(&self) -> String {
        format!("{}:{}", UriHost(&self.host), self.port)
    }
}

/// Urgency of a trunk, smallest first: refreshes by their expiry, then the others by their age.
pub(super) type Urgency = (bool, Moment, Priority);

/// A registrar that nothing was sent to for this long is forgotten, in milliseconds.
const FORGET_AFTER_MS: u64 = 25 * 3_600 * 1_000;
/// The same where there are many, in milliseconds.
const FORGET_MANY_AFTER_MS: u64 = 60_000;
/// Registrars that a trunk has at most, as a rule, and some more: beyond that there are many.
const REGISTRARS_PER_TRUNK: usize = 2;
const MIN_REGISTRARS_KEPT: usize = 1_000;
/// The longest expiry, in seconds, that one trunk's 423 has all others ask for.
const MAX_MIN_EXPIRES_S: u32 = 3_600;
/// For how long, in milliseconds.
const FORGET_MIN_EXPIRES_AFTER_MS: u64 = 3_600 * 1_000;
/// No one goes elsewhere because of a registrar that wants to be left alone no longer than this, in
/// milliseconds.
pub(super) const IGNORED_HOLD_MS: u64 = 1_000;

/// All of them.
#[derive(Debug)]
pub(super) struct Registrars {
    all: Slab<Registrar>,
    by_target: HashMap<Box<str>, u32>,
    hosts: Slab<Host>,
    by_host: HashMap<Box<str>, u32>,
    ready: BTreeSet<Key>,
    blocked: BinaryHeap<Reverse<(Moment, u32)>>,
    rate: Option<f64>,
    /// Probes under way, of all registrars that are down.
    probes: u32,
    /// Registrars whose probe waits for the end of another one's.
    without_probe: Vec<u32>,
    probes_each: u32,
}

impl Registrars {
    /// `rate` is in REGISTERs per second for each host; `None` lifts the bound.
    pub fn new(rate: Option<f64>) -> Self {
        Self {
            all: Slab::new(),
            by_target: HashMap::new(),
            hosts: Slab::new(),
            by_host: HashMap::new(),
            ready: BTreeSet::new(),
            blocked: BinaryHeap::new(),
            rate,
            probes: 0,
            without_probe: Vec::new(),
            probes_each: 1,
        }
    }

    /// Changes the budget of all.
    pub fn set_rate(&mut self, rate: Option<f64>, now: Moment) {
        self.rate = rate;
        // Those who wait for a token look again.
        for id in self.ids() {
            self.place(id, now);
        }
    }

    /// The number of the registrar at a target, where it is known.
    pub fn find(&self, target: &Target) -> Option<u32> {
        self.by_target.get(&*target.shown()).copied()
    }

    /// The number of the registrar at a target, which is made when it is new.
    pub fn id_of(&mut self, target: &Target, now: Moment) -> u32 {
        let shown = target.shown();
        if let Some(id) = self.by_target.get(&*shown) {
            return *id;
        }
        let host = match self.by_host.get(&target.host) {
            Some(host) => *host,
            None => {
                let host = number(self.hosts.insert(Host::new(&target.host, self.rate, now)));
                self.by_host.insert(target.host.clone(), host);
                host
            }
        };
        let id = number(self.all.insert(Registrar::new(&shown, host)));
        if let Some(host) = self.hosts.get_mut(host as usize) {
            host.members.push(id);
        }
        self.by_target.insert(shown.into(), id);
        id
    }

    fn ids(&self) -> Vec<u32> {
        self.all.iter().map(|(id, _)| number(id)).collect()
    }

    fn get(&self, id: u32) -> Option<&Registrar> {
        self.all.get(id as usize)
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Registrar> {
        self.all.get_mut(id as usize)
    }

    fn of_target(&self, target: &Target) -> Option<&Registrar> {
        self.get(self.find(target)?)
    }

    fn host_named(&self, host: &str) -> Option<&Host> {
        self.hosts.get(*self.by_host.get(host)? as usize)
    }

    fn host_of(&self, id: u32) -> Option<&Host> {
        self.hosts.get(self.get(id)?.host as usize)
    }

    fn host_of_mut(&mut self, id: u32) -> Option<&mut Host> {
        let host = self.get(id)?.host;
        self.hosts.get_mut(host as usize)
    }

    /// Until when a host wants to be left alone; the start of time where it does not.
    pub fn held_until(&self, host: &str) -> Moment {
        self.host_named(host).map_or(Moment(0), |host| host.hold_until)
    }

    /// A registrar as it is shown; empty where there is none of this number.
    pub fn shown(&self, id: u32) -> &str {
        self.get(id).map_or("", |registrar| &registrar.shown)
    }

    /// The outage of a registrar, and why, where it is down.
    pub fn down(&self, target: &Target) -> Option<(&Outage, &str)> {
        let registrar = self.of_target(target)?;
        registrar.outage.is_down().then_some((&registrar.outage, &*registrar.down_message))
    }

    /// Those that are down: as they are shown, since when, and why.
    pub fn all_down(&self) -> impl Iterator<Item = (&str, Moment, &str)> {
        self.all.iter().filter_map(|(_, one)| Some((&*one.shown, one.outage.since()?, &*one.down_message)))
    }

    /// Returns whether its outage is the reason that nothing is sent to it.
    pub fn is_down(&self, id: u32) -> bool {
        self.get(id).is_some_and(|registrar| registrar.outage.is_down())
    }

    /// Returns whether requests to it are left unanswered at the moment.
    pub fn is_unproven(&self, id: u32, now: Moment) -> bool {
        self.get(id).is_some_and(|registrar| registrar.is_unproven(now) || registrar.outage.is_down())
    }

    /// Returns whether it has responded since the start, or since its last outage.
    pub fn has_responded(&self, id: u32) -> bool {
        self.get(id).is_some_and(Registrar::has_responded)
    }

    /// Returns whether a probe of a registrar may go at once, with none else in line for it.
    pub fn needs_probe(&self, target: &Target, now: Moment) -> bool {
        self.held_until(&target.host) <= now
            && self
                .of_target(target)
                .is_some_and(|one| one.queue.is_empty() && one.outage.opens_at(self.probes_each) <= now)
    }

    /// The shortest expiry that a registrar accepts, as far as known; in seconds.
    pub fn min_expires(&self, id: u32, now: Moment) -> u32 {
        self.host_of(id).filter(|host| host.min_expires_until > now).map_or(0, |host| host.min_expires_s)
    }

    /// Returns when the latest request was sent by which another slot registered there.
    pub fn others_registered(&self, id: u32, slot: u32) -> Option<Moment> {
        self.get(id)?.others_registered(slot)
    }

    /// A slot has no URI at a registrar any more.
    pub fn stop_use_by(&mut self, target: &Target, slot: u32) {
        if let Some(registrar) = self.find(target).and_then(|id| self.get_mut(id)) {
            registrar.stop_use_by(slot);
        }
    }

    /// Those in the queue of a registrar, by slot and stamp.
    pub fn waiting(&self, id: u32) -> Vec<(u32, u32)> {
        let queue = self.get(id).map(|registrar| registrar.queue.iter());
        queue.into_iter().flatten().map(|Reverse((_, slot, stamp))| (*slot, *stamp)).collect()
    }

    /// Those in the queues of all that are down, by slot and stamp.
    pub fn waiting_for_a_return(&self) -> Vec<(u32, u32)> {
        let down = self.all.iter().filter(|(_, registrar)| registrar.outage.is_down());
        let queues = down.flat_map(|(_, registrar)| registrar.queue.iter());
        queues.map(|Reverse((_, slot, stamp))| (*slot, *stamp)).collect()
    }

    /// Returns how many requests in a row a registrar has left without a response, those under way included:
    /// a great many where it cannot be asked at the moment. `failed` as in [`Registrar::fruitless`].
    pub fn fruitless(&self, id: u32, failed: bool, now: Moment) -> u32 {
        let Some(registrar) = self.get(id) else { return u32::MAX };
        let held = self.host_of(id).is_some_and(|host| host.hold_until > now);
        let shut = held || registrar.opens_at(self.probes_each, now) > now;
        if shut { u32::MAX } else { registrar.fruitless(failed) }
    }

    /// Returns whether a registrar has come back since then: what a request that was sent before met with
    /// says nothing of it any more.
    pub fn is_back_since(&self, id: u32, sent_at: Moment) -> bool {
        self.get(id).is_some_and(|registrar| registrar.back_at >= Some(sent_at))
    }

    /// The same of a target.
    pub fn is_target_back_since(&self, target: &Target, sent_at: Moment) -> bool {
        self.of_target(target).is_some_and(|registrar| registrar.back_at >= Some(sent_at))
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.by_target.len()
    }

    /// Forgets registrars that are not used any more: sooner where there are many more than these trunks
    /// need, as when a list names others each time.
    pub fn forget_unused(&mut self, now: Moment, trunks: usize) {
        let many = self.len() > trunks.saturating_mul(REGISTRARS_PER_TRUNK) + MIN_REGISTRARS_KEPT;
        let after = if many { FORGET_MANY_AFTER_MS } else { FORGET_AFTER_MS };
        let unused = |registrar: &Registrar| {
            let host = self.hosts.get(registrar.host as usize);
            registrar.queue.is_empty()
                && registrar.in_flight == 0
                && host.is_none_or(|host| host.hold_until < now)
                && now.since(registrar.used_at) > after
        };
        let unused: Vec<usize> =
            self.all.iter().filter(|(_, registrar)| unused(registrar)).map(|(id, _)| id).collect();
        for id in unused {
            let registrar = self.all.remove(id);
            self.by_target.remove(&registrar.shown);
            self.leave_host(registrar.host, number(id));
        }
    }

    /// Registrars whose budget cannot send what waits in time: refreshes of which the first expires before
    /// its turn. Not those that are down, wanted to be left alone, or do not respond: no budget would help.
    pub fn over_budget(&self, now: Moment, most: usize) -> Vec<String> {
        let Some(rate) = self.rate else { return Vec::new() };
        let late = |registrar: &&Registrar| {
            let Some(Reverse(((false, expiry, _), _, _))) = registrar.queue.peek() else {
                return false;
            };
            #[allow(clippy::cast_precision_loss)]
            let (seconds, left) = (registrar.queue.len() as f64 / rate, expiry.since(now) as f64 / 1_000.0);
            let held = self.hosts.get(registrar.host as usize);
            let otherwise_open = !registrar.outage.is_down()
                && held.is_none_or(|host| host.hold_until <= now)
                && !registrar.is_unproven(now);
            otherwise_open && seconds > left && registrar.queue.len() > 1
        };
        let late = self.all.iter().map(|(_, registrar)| registrar).filter(late);
        let hosts = late.filter_map(|one| self.hosts.get(one.host as usize));
        let mut names: Vec<String> = Vec::new();
        for host in hosts {
            if names.len() < most && !names.iter().any(|name| **name == *host.name) {
                names.push(host.name.to_string());
            }
        }
        names
    }

    /// A registrar is forgotten: its host too, where that was the last one.
    fn leave_host(&mut self, host: u32, member: u32) {
        let Some(left) = self.hosts.get_mut(host as usize) else { return };
        left.members.retain(|other| *other != member);
        if left.members.is_empty()
            && let Some(gone) = self.hosts.try_remove(host as usize)
        {
            self.by_host.remove(&gone.name);
        }
    }
}

fn number(id: usize) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

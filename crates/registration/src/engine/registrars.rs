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
mod registrar;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
};

use rand::Rng;

use self::{host::Host, registrar::Registrar};
use super::outage::{Outage, PROBE_PERIOD_MS};
use crate::registration::{Priority, request::UriView, time::Moment};
use routr_types::host::UriHost;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub host: Box<str>,
    pub port: u16,
}

impl Target {
    /// The registrar of a URI.
    pub fn of(uri: UriView<'_>) -> Self {
        Self { host: uri.host.into(), port: uri.port }
    }

    /// As messages, logs and JSON show it: `host:port`.
    pub fn shown(&self) -> String {
        format!("{}:{}", UriHost(&self.host), self.port)
    }
}

/// How urgent a trunk is, smallest first: refreshes by their expiry, then the others by their age.
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

/// What ready registrars are sorted by, smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// It holds a place already, and has not shown that it responds.
    second: bool,
    /// Its most urgent trunk has no binding that could expire.
    can_wait: bool,
    /// That one has, and the registrar left its last request without a response.
    doubtful: bool,
    moment: Moment,
    class: Priority,
    id: u32,
}

/// What may be sent at the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendLimits {
    /// Nothing that can wait.
    pub urgent_only: bool,
    /// Probes of registrars that are down, at one time, for each of them
    pub probes_each: u32,
    /// and for all.
    pub probes: u32,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Registrars {
    all: Vec<Option<Registrar>>,
    free: Vec<u32>,
    by_target: HashMap<Box<str>, u32>,
    hosts: Vec<Option<Host>>,
    free_hosts: Vec<u32>,
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
            all: Vec::new(),
            free: Vec::new(),
            by_target: HashMap::new(),
            hosts: Vec::new(),
            free_hosts: Vec::new(),
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
        for id in 0..u32::try_from(self.all.len()).unwrap_or(u32::MAX) {
            self.place(id, now);
        }
    }

    /// The registrar at a target, made when it is new.
    pub fn id_of(&mut self, target: &Target, now: Moment) -> u32 {
        let shown = target.shown();
        if let Some(id) = self.by_target.get(&*shown) {
            return *id;
        }
        let id = place_in(&mut self.all, &mut self.free);
        let host = match self.by_host.get(&target.host) {
            Some(host) => *host,
            None => {
                let host = place_in(&mut self.hosts, &mut self.free_hosts);
                self.hosts[host as usize] = Some(Host::new(&target.host, self.rate, now));
                self.by_host.insert(target.host.clone(), host);
                host
            }
        };
        if let Some(host) = self.hosts.get_mut(host as usize).and_then(Option::as_mut) {
            host.members.push(id);
        }
        self.all[id as usize] = Some(Registrar::new(&shown, host));
        self.by_target.insert(shown.into(), id);
        id
    }

    fn get(&self, id: u32) -> Option<&Registrar> {
        self.all.get(id as usize)?.as_ref()
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Registrar> {
        self.all.get_mut(id as usize)?.as_mut()
    }

    fn of_target(&self, target: &Target) -> Option<&Registrar> {
        self.get(*self.by_target.get(&*target.shown())?)
    }

    fn host_named(&self, host: &str) -> Option<&Host> {
        self.hosts.get(*self.by_host.get(host)? as usize)?.as_ref()
    }

    fn host_of(&self, id: u32) -> Option<&Host> {
        self.hosts.get(self.get(id)?.host as usize)?.as_ref()
    }

    fn host_of_mut(&mut self, id: u32) -> Option<&mut Host> {
        let host = self.get(id)?.host;
        self.hosts.get_mut(host as usize)?.as_mut()
    }

    /// When a registrar may be asked next, by its host's budget and hold and by itself.
    fn opens_at(&mut self, id: u32, now: Moment) -> Moment {
        let (rate, most) = (self.rate, self.probes_each);
        let host = self.host_of_mut(id).map_or(now, |host| host.opens_at(rate, now));
        self.get(id).map_or(host, |registrar| registrar.opens_at(most, now).max(host))
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
        let all = self.all.iter().flatten();
        all.filter_map(|one| Some((&*one.shown, one.outage.since()?, &*one.down_message)))
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
        let id = self.by_target.get(&*target.shown()).copied();
        if let Some(registrar) = id.and_then(|id| self.get_mut(id)) {
            registrar.stop_use_by(slot);
        }
    }

    /// Puts a trunk into the queue of a registrar.
    pub fn wait(&mut self, id: u32, urgency: Urgency, slot: u32, stamp: u32, now: Moment) {
        if let Some(registrar) = self.get_mut(id) {
            registrar.queue.push(Reverse((urgency, slot, stamp)));
            self.place(id, now);
        }
    }

    /// Those in the queue of a registrar, by slot and stamp.
    pub fn waiting(&self, id: u32) -> Vec<(u32, u32)> {
        let queue = self.get(id).map(|registrar| registrar.queue.iter());
        queue.into_iter().flatten().map(|Reverse((_, slot, stamp))| (*slot, *stamp)).collect()
    }

    /// Those in the queues of all that are down, by slot and stamp.
    pub fn waiting_for_a_return(&self) -> Vec<(u32, u32)> {
        let down = self.all.iter().flatten().filter(|registrar| registrar.outage.is_down());
        let queues = down.flat_map(|registrar| registrar.queue.iter());
        queues.map(|Reverse((_, slot, stamp))| (*slot, *stamp)).collect()
    }

    /// A person wants to know how a registrar is: the next probe may go at once.
    pub fn probe_now(&mut self, target: &Target, now: Moment) {
        let Some(id) = self.by_target.get(&*target.shown()).copied() else { return };
        if let Some(registrar) = self.get_mut(id) {
            registrar.outage.probe_now(now);
            self.place(id, now);
        }
    }

    /// Where a registrar belongs now: among the ready ones, among those that wait for a token, a probe or the
    /// end of a hold, or nowhere.
    fn place(&mut self, id: u32, now: Moment) {
        let opens_at = self.opens_at(id, now);
        let Some(registrar) = self.all.get_mut(id as usize).and_then(Option::as_mut) else { return };
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
        let Some(registrar) = self.all.get_mut(id as usize).and_then(Option::as_mut) else { return };
        if until != Moment::NEVER && registrar.blocked_for.is_none_or(|moment| until < moment) {
            registrar.blocked_for = Some(until);
            self.blocked.push(Reverse((until, id)));
        }
    }

    /// The most urgent trunk that may be sent now, with its registrar; it has left the queue and taken its
    /// token. `waits` tells by slot and stamp whether an entry still counts.
    pub fn next(
        &mut self,
        limits: SendLimits,
        now: Moment,
        waits: impl Fn(u32, u32) -> bool,
        rng: &mut impl Rng,
    ) -> Option<(u32, u32)> {
        self.probes_each = limits.probes_each;
        self.unblock(now);
        while let Some(key) = self.ready.first().copied() {
            let open = self.opens_at(key.id, now) <= now;
            let Some(registrar) = self.all.get_mut(key.id as usize).and_then(Option::as_mut) else {
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
            let Some(Reverse((_, slot, _))) = registrar.queue.pop() else { continue };
            registrar.sent(now);
            self.probes += u32::from(registrar.outage.sent(now, rng));
            if registrar.queue.is_empty() {
                registrar.queue.shrink_to(64);
            }
            let rate = self.rate;
            if let Some(host) = self.host_of_mut(key.id) {
                host.budget.take(rate, now);
            }
            self.place(key.id, now);
            return Some((slot, key.id));
        }
        None
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

    /// What [`Registrars::next`] gave was not sent after all: its place and its token are free again.
    pub fn not_sent(&mut self, id: u32, now: Moment) {
        let rate = self.rate;
        if let Some(host) = self.host_of_mut(id) {
            host.budget.give_back(rate);
        }
        let Some(registrar) = self.all.get_mut(id as usize).and_then(Option::as_mut) else { return };
        registrar.not_sent();
        if registrar.outage.is_down() {
            registrar.outage.probe_ended();
            registrar.outage.probe_now(now);
            self.place(id, now);
            self.probe_place_is_free(now);
        }
        self.place(id, now);
    }

    fn probe_place_is_free(&mut self, now: Moment) {
        self.probes = self.probes.saturating_sub(1);
        for id in std::mem::take(&mut self.without_probe) {
            self.place(id, now);
        }
    }

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

    /// Returns how many requests in a row a registrar has left without a response, those under way included:
    /// a great many where it cannot be asked at the moment.
    pub fn fruitless(&self, id: u32, now: Moment) -> u32 {
        let Some(registrar) = self.get(id) else { return u32::MAX };
        let held = self.host_of(id).is_some_and(|host| host.hold_until > now);
        let shut = held || registrar.opens_at(self.probes_each, now) > now;
        if shut { u32::MAX } else { registrar.fruitless() }
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

    /// Returns whether a registrar has come back since then: what a request that was sent before met with
    /// says nothing of it any more.
    pub fn is_back_since(&self, id: u32, sent_at: Moment) -> bool {
        self.get(id).is_some_and(|registrar| registrar.back_at >= Some(sent_at))
    }

    /// The same of a target.
    pub fn is_target_back_since(&self, target: &Target, sent_at: Moment) -> bool {
        self.of_target(target).is_some_and(|registrar| registrar.back_at >= Some(sent_at))
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

    /// What was between has come back: each registrar that is down may be probed at once.
    pub fn probe_all_now(&mut self, now: Moment) {
        for id in 0..u32::try_from(self.all.len()).unwrap_or(u32::MAX) {
            if let Some(registrar) = self.get_mut(id).filter(|registrar| registrar.outage.is_down()) {
                registrar.outage.probe_now(now);
                self.place(id, now);
            }
        }
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

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.by_target.len()
    }

    /// Forgets registrars that are not used any more: sooner where there are many more than these trunks
    /// need, as when a list names others each time.
    pub fn forget_unused(&mut self, now: Moment, trunks: usize) {
        let many = self.len() > trunks.saturating_mul(REGISTRARS_PER_TRUNK) + MIN_REGISTRARS_KEPT;
        let after = if many { FORGET_MANY_AFTER_MS } else { FORGET_AFTER_MS };
        for id in 0..self.all.len() {
            let unused = self.all[id].as_ref().is_some_and(|registrar| {
                let held = self.hosts.get(registrar.host as usize).and_then(Option::as_ref);
                registrar.queue.is_empty()
                    && registrar.in_flight == 0
                    && held.is_none_or(|host| host.hold_until < now)
                    && now.since(registrar.used_at) > after
            });
            if let (true, Ok(number)) = (unused, u32::try_from(id))
                && let Some(registrar) = self.all[id].take()
            {
                self.by_target.remove(&registrar.shown);
                self.free.push(number);
                self.leave_host(registrar.host, number);
            }
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
            let held = self.hosts.get(registrar.host as usize).and_then(Option::as_ref);
            let otherwise_open = !registrar.outage.is_down()
                && held.is_none_or(|host| host.hold_until <= now)
                && !registrar.is_unproven(now);
            otherwise_open && seconds > left && registrar.queue.len() > 1
        };
        let late = self.all.iter().flatten().filter(late);
        let hosts = late.filter_map(|one| self.hosts.get(one.host as usize)?.as_ref());
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
        let Some(place) = self.hosts.get_mut(host as usize) else { return };
        if let Some(host) = place.as_mut() {
            host.members.retain(|other| *other != member);
        }
        if let Some(gone) = place.take_if(|host| host.members.is_empty()) {
            self.by_host.remove(&gone.name);
            self.free_hosts.push(host);
        }
    }
}

/// A free place, made where there is none.
fn place_in<T>(all: &mut Vec<Option<T>>, free: &mut Vec<u32>) -> u32 {
    free.pop().unwrap_or_else(|| {
        all.push(None);
        u32::try_from(all.len() - 1).unwrap_or(u32::MAX)
    })
}

#[cfg(test)]
mod tests;

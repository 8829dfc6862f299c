//! One registrar: who waits for it, and when it may be asked next.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{Urgency, turns::Key};
use crate::{
    engine::outage::Outage,
    registration::{backoff::Backoff, time::Moment},
};

/// A waiting trunk: its urgency, its slot, and the stamp that says whether it still waits.
pub(super) type Waiting = Reverse<(Urgency, u32, u32)>;

/// So long, in milliseconds, and twice the time of its last response, a registrar may take before the next
/// request waits.
const RESPONSE_GRACE_MS: u64 = 1_000;
/// The longest response time that counts for that, in milliseconds.
const MAX_LATENCY_MS: u64 = 5_000;
/// Pause between two requests to a registrar that responds to none of them.
const UNANSWERED_PAUSE: Backoff = Backoff::new(1_000, 8_000);

/// One registrar, its queue, and how it responds.
#[derive(Debug)]
pub(super) struct Registrar {
    /// Host and port.
    pub shown: Box<str>,
    pub host: u32,
    pub queue: BinaryHeap<Waiting>,
    pub used_at: Moment,
    pub in_flight: u32,
    pub outage: Outage,
    /// Message of its outage, for a person.
    pub down_message: Box<str>,
    /// Time at which it came back last.
    pub back_at: Option<Moment>,
    /// Since when requests have been under way with no response at all.
    unanswered_since: Option<Moment>,
    /// Requests sent since the last response.
    unanswered: u32,
    /// Requests that ended without a response since the last one, not counting those that never left the
    /// Requester.
    silences: u32,
    /// Requests of those that never left the Requester, though they were to probe an EdgePort as well.
    wasted: u32,
    /// It has responded since the start, or since the last outage.
    answered: bool,
    latency_ms: u64,
    /// The last two slots that registered, and when their requests were sent.
    registered: [Option<(u32, Moment)>; 2],
    /// Key that it stands under among the ready ones, if it does.
    pub ready_as: Option<Key>,
    /// Time that it stands under among the blocked ones, if it does.
    pub blocked_for: Option<Moment>,
}

impl Registrar {
    pub fn new(shown: &str, host: u32) -> Self {
        Self {
            shown: shown.into(),
            host,
            queue: BinaryHeap::new(),
            used_at: Moment(0),
            in_flight: 0,
            outage: Outage::default(),
            down_message: "".into(),
            back_at: None,
            unanswered_since: None,
            unanswered: 0,
            silences: 0,
            wasted: 0,
            answered: false,
            latency_ms: 0,
            registered: [None; 2],
            ready_as: None,
            blocked_for: None,
        }
    }

    /// Returns whether it holds a place without having shown that it responds: at the start with its first
    /// request, later when it has left requests unanswered for longer than it usually takes.
    pub fn is_unproven(&self, now: Moment) -> bool {
        let patience = RESPONSE_GRACE_MS + 2 * self.latency_ms.min(MAX_LATENCY_MS);
        let quiet = self.unanswered_since.is_some_and(|since| now.since(since) > patience);
        self.in_flight > 0 && (!self.answered || quiet)
    }

    /// Returns whether it has responded since the start, or since the last outage.
    pub fn has_responded(&self) -> bool {
        self.answered
    }

    /// Returns when the next request may go, as far as the registrar itself is concerned; `most` probes at a
    /// time while it is down.
    pub fn opens_at(&self, most: u32, now: Moment) -> Moment {
        let mut at = self.outage.opens_at(most);
        if !self.outage.is_down() && self.is_unproven(now) {
            let pause = UNANSWERED_PAUSE.wait(self.unanswered.saturating_sub(1));
            at = at.max(self.used_at.plus(pause));
        }
        at
    }

    /// Returns what the most urgent of those who wait stands under.
    pub fn key(&self, id: u32, now: Moment) -> Option<Key> {
        let Reverse(((can_wait, moment, class), _, _)) = *self.queue.peek()?;
        // Refreshes by their expiry. The others by age, but no registrar twice before each has had its turn.
        let moment = if can_wait { moment.max(self.used_at) } else { moment };
        // One that left its last request without a response saves no binding while the others wait for it.
        let doubtful = !can_wait && self.silences > 0;
        Some(Key { second: self.is_unproven(now), can_wait, doubtful, moment, class, id })
    }

    /// Requests in a row that had no response, those under way included. For a trunk whose own last call
    /// failed (`failed`) the probes of an EdgePort that did not get there count as well: its call may fail
    /// again, and those of the others may succeed.
    pub fn fruitless(&self, failed: bool) -> u32 {
        // One call that failed may be its trunk's own failure, and the registrar well: the second one counts.
        let wasted = if failed { (self.wasted / 2).saturating_add(1) } else { 0 };
        self.silences.saturating_add(wasted).saturating_add(self.in_flight)
    }

    /// A probe of an EdgePort never left the Requester: see [`Registrar::fruitless`].
    pub fn wasted(&mut self) {
        self.wasted = self.wasted.saturating_add(1);
    }

    /// A request ended without a response.
    pub fn silent(&mut self) {
        self.silences = self.silences.saturating_add(1);
    }

    /// Takes the trunk that comes first out of the queue.
    pub fn pop(&mut self) {
        self.queue.pop();
        if self.queue.is_empty() {
            self.queue.shrink_to(64);
        }
    }

    /// A request goes out.
    pub fn sent(&mut self, now: Moment) {
        self.in_flight += 1;
        self.used_at = now;
        self.unanswered += 1;
        self.unanswered_since.get_or_insert(now);
    }

    /// A request is over.
    pub fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.unanswered_since = None;
        }
    }

    /// It responded, whatever it said.
    pub fn responded(&mut self, took_ms: u64, now: Moment) {
        self.answered = true;
        (self.unanswered, self.silences, self.wasted) = (0, 0, 0);
        self.latency_ms = took_ms;
        self.unanswered_since = (self.in_flight > 0).then_some(now);
    }

    /// It is down: what it did before says nothing of when it is back.
    pub fn went_down(&mut self, message: &str) {
        self.answered = false;
        self.down_message = message.into();
    }

    /// A slot has registered, by a request that was sent then.
    pub fn registered(&mut self, slot: u32, sent_at: Moment) {
        if self.registered[0].is_some_and(|(last, _)| last != slot) {
            self.registered[1] = self.registered[0];
        }
        let latest =
            self.registered[0].filter(|(last, _)| *last == slot).map_or(sent_at, |(_, at)| at.max(sent_at));
        self.registered[0] = Some((slot, latest));
    }

    /// Returns when the latest request was sent by which another slot registered.
    pub fn others_registered(&self, slot: u32) -> Option<Moment> {
        let others = self.registered.iter().flatten().filter(|(other, _)| *other != slot);
        others.map(|(_, at)| *at).max()
    }

    /// A slot does not use it any longer: that it registered there says nothing any more.
    pub fn stop_use_by(&mut self, slot: u32) {
        for registered in &mut self.registered {
            *registered = registered.filter(|(other, _)| *other != slot);
        }
        if self.registered[0].is_none() {
            self.registered.swap(0, 1);
        }
    }
}

//! Checks of what must hold at every step of every simulation, whatever goes wrong.

use std::collections::{HashMap, HashSet};

use super::sim::Sent;
use crate::{
    engine::{Engine, EngineSettings, view::Counts},
    model::{RegisterResponse, SendError},
    registration::{Purpose, state::TrunkState, time::Now},
};

/// Checks of a simulation.
pub struct Checks {
    interval_ms: u64,
    rate: Option<f64>,
    max_in_flight: u32,
    in_flight: HashSet<String>,
    /// Time at which the settings changed last.
    reconfigured_at: u64,
    /// Highest CSeq that may have been used, by Call-ID.
    cseq: HashMap<String, u32>,
    /// The last From tag, by Call-ID.
    tags: HashMap<String, String>,
    /// Tokens and when they were counted, by host.
    budgets: HashMap<String, (f64, u64)>,
    /// Hosts that asked all trunks to wait until then.
    holds: HashMap<String, u64>,
    /// A healthy binding is not refreshed before then, by Call-ID; with the trunk.
    early: HashMap<String, (String, u64)>,
    /// Times at which a password was refused, by trunk, or, if by a probe, by what it was probed with.
    rejected: HashMap<(String, String), (String, u64)>,
    /// Time at which a trunk was edited.
    edits: HashMap<String, u64>,
    /// Tries to remove a binding, by Call-ID.
    leaves: HashMap<String, u32>,
    steps: usize,
    /// Edits come so fast that nothing can be said of when a refresh is early.
    pub hasty: bool,
}

impl Checks {
    pub fn new(settings: &EngineSettings) -> Self {
        Self {
            interval_ms: settings.registration.interval_ms,
            rate: settings.rate_per_registrar,
            max_in_flight: settings.max_in_flight,
            in_flight: HashSet::new(),
            reconfigured_at: 0,
            cseq: HashMap::new(),
            tags: HashMap::new(),
            budgets: HashMap::new(),
            holds: HashMap::new(),
            early: HashMap::new(),
            rejected: HashMap::new(),
            edits: HashMap::new(),
            leaves: HashMap::new(),
            steps: 0,
            hasty: false,
        }
    }

    pub fn sending(&mut self, sent: &Sent, answer: &Result<RegisterResponse, SendError>, engine: &Engine) {
        assert!(self.in_flight.insert(sent.call_id.clone()), "two in flight for one Call-ID: {sent:?}");
        let last = self.cseq.insert(sent.call_id.clone(), sent.cseq).unwrap_or(0);
        assert!(sent.cseq > last && sent.cseq < 1 << 31, "CSeq {} after {last}: {sent:?}", sent.cseq);
        let tag = self.tags.insert(sent.call_id.clone(), sent.from_tag.clone());
        assert!(tag.as_ref() != Some(&sent.from_tag), "a From tag was used again: {sent:?}");
        if let Ok(RegisterResponse { cseq: Some(seen), .. }) = answer {
            self.cseq.insert(sent.call_id.clone(), *seen);
        }
        assert!(engine.in_flight() <= self.max_in_flight, "{} in flight", engine.in_flight());
        if !engine.concurrency.is_open() {
            let (active, limit) = engine.concurrency.active();
            assert!(active <= limit.max(1), "above the bound: {active}");
        }
        self.within_the_budget(sent);
        let held = self.holds.get(&sent.host).copied().unwrap_or(0);
        assert!(held <= sent.at, "{} asked to wait until {held}: {sent:?}", sent.host);
        if sent.expires > 0 {
            for way in [String::new(), probed(sent)] {
                if let Some((password, at)) = self.rejected.get(&(sent.trunk.clone(), way)) {
                    let again = *password == sent.password && sent.at < at + 300_000;
                    assert!(!again, "a refused password after {} ms: {sent:?}", sent.at - at);
                }
            }
            self.leaves.remove(&sent.call_id);
            if sent.purpose == Purpose::Register
                && !self.hasty
                && let Some((_, early)) = self.early.get(&sent.call_id)
            {
                assert!(sent.at >= *early, "{} ms before it is due: {sent:?}", early - sent.at);
            }
        }
    }

    /// Not more than the rate allows, in every window: as much as a bucket of the burst's size gives.
    fn within_the_budget(&mut self, sent: &Sent) {
        let Some(rate) = self.rate else { return };
        let burst = (rate / 2.0).max(1.0);
        let (tokens, at) = self.budgets.entry(sent.host.clone()).or_insert((burst, sent.at));
        *tokens = (*tokens + (sent.at - *at) as f64 / 1_000.0 * rate).min(burst);
        *at = sent.at;
        assert!(*tokens >= 1.0 - 1e-6, "above the budget of {}: {tokens} tokens", sent.host);
        *tokens -= 1.0;
    }

    pub fn answered(&mut self, sent: &Sent, answer: &Result<RegisterResponse, SendError>, at: u64) {
        self.in_flight.remove(&sent.call_id);
        let fine = matches!(answer, Ok(RegisterResponse { code: Some(200), .. }));
        let next = matches!(answer, Ok(RegisterResponse { code: Some(300..=399 | 420 | 423), .. }));
        if fine {
            self.early.remove(&sent.call_id);
        } else if sent.purpose == Purpose::Register || next {
            // No longer a steady state: the trunk may go back to where it was registered before.
            self.early.retain(|_, (trunk, _)| *trunk != sent.trunk);
        }
        let unsent = matches!(
            answer,
            Err(SendError::Unavailable(_) | SendError::Disconnected { .. } | SendError::Failed(_))
        );
        if sent.purpose == Purpose::Deregister && !unsent {
            // A redirection is followed, an option tag is left out: that is still the same try.
            let tries = self.leaves.entry(sent.call_id.clone()).or_default();
            *tries += u32::from(!next);
            assert!(*tries <= 3, "the {tries}th try to remove a binding: {sent:?}");
        }
        let Ok(response) = answer else { return };
        if let (Some(503), Some(seconds)) = (response.code, response.retry_after) {
            let until = at + u64::from(seconds.min(3_600)) * 1_000;
            let hold = self.holds.entry(sent.host.clone()).or_default();
            *hold = until.max(*hold);
            // Anyone who it concerns may go back to where he was registered before.
            self.early.clear();
        }
        // What was edited meanwhile is another offer.
        let edited = self.edits.get(&sent.trunk).is_some_and(|edit| *edit >= sent.at);
        if matches!(response.code, Some(401 | 403 | 407)) && sent.expires > 0 && !edited {
            let way = if sent.purpose == Purpose::Probe { probed(sent) } else { String::new() };
            self.rejected.insert((sent.trunk.clone(), way), (sent.password.clone(), at));
        }
        if let (Some(200), Some(granted)) = (response.code, response.contact_expires)
            && sent.expires > 0
            && self.edits.get(&sent.trunk).is_none_or(|edit| *edit < sent.at)
            && (self.reconfigured_at == 0 || sent.at > self.reconfigured_at)
        {
            let granted = u64::try_from(granted).unwrap() * 1_000;
            let lead = self.interval_ms.max(5_000).min(granted / 2);
            let early = sent.at + granted - lead - granted / 10;
            self.early.insert(sent.call_id.clone(), (sent.trunk.clone(), early));
        }
    }

    /// The trunk was edited, or someone asked for a refresh: it registers at once.
    pub fn edited(&mut self, reference: &str, at: u64) {
        self.edits.insert(reference.to_owned(), at);
        self.early.retain(|_, (trunk, _)| trunk != reference);
        self.rejected.retain(|(trunk, _), _| trunk != reference);
    }

    /// Refreshes may come early from now on.
    pub fn nothing_is_early(&mut self) {
        self.early.clear();
    }

    pub fn reconfigured(&mut self, settings: &EngineSettings, at: u64) {
        // What is in flight may be bound through an EdgePort that is no longer there.
        self.reconfigured_at = at;
        self.interval_ms = settings.registration.interval_ms;
        self.max_in_flight = settings.max_in_flight;
        if self.rate != settings.rate_per_registrar {
            self.rate = settings.rate_per_registrar;
            self.budgets.clear();
        }
        self.early.clear();
    }

    /// Forgets what a new process cannot know.
    pub fn restarted(&mut self, settings: &EngineSettings, complete: bool) {
        self.reconfigured_budgets(settings);
        self.in_flight.clear();
        self.holds.clear();
        self.leaves.clear();
        if !complete {
            self.rejected.clear();
            self.early.clear();
        }
    }

    fn reconfigured_budgets(&mut self, settings: &EngineSettings) {
        self.rate = settings.rate_per_registrar;
        self.budgets.clear();
    }

    /// The engine as a whole, after each step.
    pub fn step(&mut self, engine: &Engine, now: Now) {
        assert_eq!(engine.in_flight.iter().count(), engine.in_flight() as usize);
        // Thousands are counted now and then only.
        self.steps += 1;
        if !self.steps.is_multiple_of(1 + engine.slots.len() / 50) {
            return;
        }
        let mut counts = Counts::default();
        let queued = engine.slots.iter().filter(|(_, slot)| slot.queued()).count();
        assert_eq!(queued, engine.slots.waiting(), "the number of those that wait");
        let unhealthy: HashSet<u32> = engine.slots.unhealthy().map(|(slot, _)| slot).collect();
        for (number, slot) in engine.slots.iter() {
            let deregistering = slot.registration.is_deregistering();
            let state = match slot.registration.state(now.at) {
                state if deregistering => state,
                _ if slot.invalid => TrunkState::Invalid,
                TrunkState::Registered if slot.blocked() => TrunkState::AtRisk,
                TrunkState::Pending if slot.blocked() => TrunkState::Failing,
                state => state,
            };
            *counts.of_mut(state) += 1;
            assert_eq!(state.is_unhealthy(), unhealthy.contains(&number), "{:?} is in trouble", slot.trunk);
            assert!(
                slot.registration.in_flight()
                    || slot.queued()
                    || slot.registration.due() > now.at
                    || slot.trunk.view().uris() == 0
                    || engine.timers.next().is_some(),
                "nothing will wake {:?}",
                slot.trunk
            );
        }
        assert_eq!(counts, *engine.slots.counts(), "the counts are not what a recount gives");
    }
}

/// Returns what one probe says something of.
fn probed(sent: &Sent) -> String {
    format!("{} {} {}", sent.call_id, sent.port, sent.edge)
}

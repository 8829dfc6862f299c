//! Knowledge that a run has of trunks and records, and what no one can know after a death, a loss or a wrong
//! clock.

use routr_registration::{
    model::Record, registration::backoff::longest_after_rejection, trunk::TrunkProblem,
};

use crate::{
    dependencies::StoreMode,
    model::refusals::signature,
    rules::{MINUTE, SECOND},
    trunks::{self, Item},
    world::State,
};

/// The longest pause of an engine before it asks a store again that failed, with some time to write
/// everything.
pub const STORE_PAUSE: u64 = 6 * MINUTE;

impl State {
    /// A page of trunks reaches a run.
    pub fn note_listed(&mut self, run: u32, page: &[Item]) {
        let at = self.now();
        for item in page {
            let (Some(reference), Some(model)) = (&item.reference, self.model.runs.get_mut(&run)) else {
                continue;
            };
            let first = match &item.trunk {
                Ok(trunk) => model.good.insert(reference.clone(), trunks::calls_of(trunk)).is_none(),
                // What is malformed after that has no good version to go on by.
                Err(TrunkProblem::AllDisabled) => {
                    model.good.remove(reference);
                    false
                }
                Err(_) => false,
            };
            let signature = match &item.trunk {
                Ok(trunk) => Some(Some(signature(trunk))),
                // It stays what it was.
                Err(TrunkProblem::Malformed { .. }) => None,
                Err(_) => Some(None),
            };
            if model.known.insert(reference.clone(), item.revision) != Some(item.revision) {
                let trunk = self.model.trunk(reference);
                (trunk.reason_at, trunk.wish_at) = (at, at);
                if let Some(signature) = signature {
                    self.offers_listed(reference, signature);
                }
                if first {
                    self.offers_seen(reference);
                }
            }
        }
    }

    /// A listing reaches its end.
    pub fn note_sync(&mut self, run: u32, items: &[Item], shrunk: bool) {
        let Some(model) = self.model.runs.get_mut(&run) else { return };
        if !shrunk {
            // What is there and was left out without a word is no removal that the engine should have known
            // of.
            let gone = |known: &String| !items.iter().any(|item| item.reference.as_ref() == Some(known));
            let lost: Vec<String> = model.known.keys().filter(|known| gone(known)).cloned().collect();
            model.known.retain(|known, _| self.catalogue.entries.contains_key(known) || !gone(known));
            // Should it come back, it is another one.
            lost.iter().for_each(|reference| self.offers_listed(reference, None));
            self.due_at_sync(run, self.now());
        }
        self.count("syncs");
    }

    /// The Call-IDs that a trunk has had.
    pub fn calls_of(&self, reference: &str) -> Vec<Box<str>> {
        let calls = self.catalogue.calls.iter().filter(|(_, call)| call.reference == reference);
        calls.map(|(id, _)| id.clone()).collect()
    }

    /// Of how many trunks that a run knows how many are not in this listing: it cannot miss one that it was
    /// never told of. A run that was told of none may know of all by the store.
    pub fn missed_by(&self, run: u32, listed: &[Item], world: (usize, usize)) -> (usize, usize) {
        let Some(run) = self.model.runs.get(&run).filter(|run| !run.known.is_empty()) else { return world };
        let there = |known: &&String| listed.iter().any(|item| item.reference.as_ref() == Some(*known));
        (run.known.keys().filter(|known| !there(known)).count(), run.known.len())
    }

    /// A listing lacks a trunk that is there. Few that are missing are believed to be gone; most of many are
    /// not.
    pub fn note_missing(&mut self, reference: &str, lost: usize, whole: usize) {
        let at = self.now();
        if lost > 10 && lost * 2 > whole + 2 {
            return;
        }
        for call in self.calls_of(reference) {
            self.model.call(&call).unwanted_at = Some(at);
        }
        self.offers_listed(reference, None);
        let trunk = self.model.trunk(reference);
        (trunk.reason_at, trunk.wish_at) = (at, at);
        // From now on, not from the next look: it is removed where it is registered.
        (trunk.well_since, trunk.fair_since) = (None, None);
        for run in self.model.runs.values_mut() {
            run.known.remove(reference);
            run.good.remove(reference);
        }
    }

    /// Runs have died, or are no longer the ones that act. By a clock that was wrong the numbers of what they
    /// had in flight may be far ahead of the next clock, and they are in no store yet: no one can know of
    /// them. So they are lost on their way, or the registrar forgets them. So may those be that were answered
    /// a moment ago, and not written any more. The number that comes next to the one that is kept is no such
    /// one: anyone who starts has to leave room for it. Where all clocks are right this excuses nothing.
    pub fn lose_numbers(&mut self, runs: &[u32]) {
        if !self.rules.clock_jumps {
            return;
        }
        let at = self.now();
        let mut unkept = Vec::new();
        for run in runs.iter().filter_map(|run| self.model.runs.get(run)) {
            for (call, (cseq, over)) in &run.numbers {
                if over.is_none_or(|over| over + SECOND > at) {
                    unkept.push((call.clone(), *cseq));
                }
            }
        }
        for (call, cseq) in unkept {
            let reference = self.reference(&call);
            let kept = self.records.all.get(&*reference).map_or(0, |record| record.cseq);
            if cseq <= kept.saturating_add(1) {
                continue;
            }
            let used = &mut self.model.call(&call).used;
            *used = kept.min(*used);
            for host in self.hosts.values_mut() {
                host.numbers.remove(&call);
            }
            self.model.lost.insert((call, cseq));
        }
    }

    /// A process is dead.
    pub fn note_death(&mut self, life: u32) {
        let runs = self.model.runs.iter().filter(|(_, run)| run.life.id == life);
        let runs: Vec<u32> = runs.map(|(id, _)| *id).collect();
        self.lose_numbers(&runs);
        self.model.note_death(life);
    }

    /// A trunk that is gone is forgotten. By a clock that was wrong its numbers may be ahead of those of the
    /// next clock: nothing can tell, should it come back. A registrar compares with the bindings that it
    /// holds (RFC 3261 §10.3), so it forgets too.
    pub fn note_forgotten(&mut self, reference: &str) {
        if !self.rules.clock_jumps {
            return;
        }
        for id in self.calls_of(reference) {
            self.model.call(&id).used = 0;
            for host in self.hosts.values_mut() {
                host.numbers.remove(&id);
            }
        }
    }

    /// Excuses what the store could not take, or lost, of a run that has gone; no one knows that: a binding
    /// that was replaced by a shorter one is believed to last for as long as the store has it, and is not
    /// sent again before its time. Where the store was well this excuses nothing.
    pub fn outdated(&mut self, run: u32, records: &[Record]) {
        let at = self.now();
        let missed_until =
            if self.store_mode == StoreMode::Up { self.records.bad_at + STORE_PAUSE } else { at };
        let Some(wall) = self.model.runs.get(&run).map(|run| run.life.machine.wall_ms()) else { return };
        for record in records {
            let outdated = self.calls_of(&record.reference).iter().any(|id| {
                let grant = self.model.calls.get(id).and_then(|call| call.grant.as_ref());
                // A removal that was not confirmed before the process ended: the store has the binding still.
                // Nothing is lost for longer than its own validity.
                let taken_away = self.model.calls.get(id).map_or(0, |call| call.taken_away);
                grant.is_some_and(|grant| {
                    let unwritten = grant.cseq > record.cseq && grant.sent <= missed_until;
                    grant.run != run && (unwritten || taken_away > grant.sent)
                })
            });
            if outdated {
                let until = at + record.expires_at_ms.saturating_sub(wall);
                let trunk = self.model.trunk(&record.reference);
                trunk.patience = trunk.patience.max(until);
                trunk.fair_patience = trunk.fair_patience.max(until);
            }
        }
    }

    /// A run was told what the store kept.
    pub fn note_loaded(&mut self, run: u32, records: &[Record]) {
        self.say(format_args!("~{run} loaded {} records", records.len()));
        let at = self.now();
        if let Some(model) = self.model.runs.get_mut(&run) {
            model.loaded_at.get_or_insert(at);
        }
        self.offers_resumed(Some(records));
        self.outdated(run, records);
        if !self.rules.clock_jumps {
            return;
        }
        let others: Vec<u32> = self.model.runs.keys().filter(|other| **other != run).copied().collect();
        self.lose_numbers(&others);
        // By a clock that is wrong, a binding may be believed to last for the whole of what was granted, and
        // a wait after a refusal, which outlives a restart, for the whole of that: no one knows how much of
        // it has gone by since.
        for record in records {
            let refusals = record.more.iter().flat_map(|more| &more.refusals);
            let refused = refusals.map(|one| longest_after_rejection(one.times.into())).max().unwrap_or(0);
            let until = at + (u64::from(record.granted_s) * SECOND).max(refused);
            let trunk = self.model.trunk(&record.reference);
            trunk.patience = trunk.patience.max(until);
            trunk.fair_patience = trunk.fair_patience.max(until);
        }
    }
}

//! Histories of the trunks that were not simply well: their changes of state, their attempts, what they
//! waited for.
//!
//! Nothing is kept for a trunk that has only ever been well. A history has at most [`MAX_ENTRIES_OF_ONE`]
//! entries, all of them together [`MAX_ENTRIES`] and [`MAX_BYTES`]: where that does not suffice, the trunks
//! that have been well for longest lose theirs, then a trunk its own oldest entries. No decision of the
//! engine depends on any of it.

mod recording;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use serde::{Deserialize, Serialize};

use super::view::TrunkView;
use crate::registration::state::TrunkState;
use routr_types::text;

/// Entries of one trunk at most; the oldest go first.
const MAX_ENTRIES_OF_ONE: usize = 16;
/// Entries of all trunks at most.
const MAX_ENTRIES: usize = 20_000;
/// Bytes of all entries at most.
const MAX_BYTES: usize = 4 << 20;
/// Bytes of a message at most, as JSON.
const MAX_MESSAGE_BYTES: usize = 400;

/// An attempt to register, and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryAttempt {
    /// Registrar that was asked, `host:port/TRANSPORT`.
    pub registrar: Box<str>,
    /// EdgePort that it was asked through.
    pub edge_port: Box<str>,
    /// Set where these are not the trunk's preferred URI and EdgePort.
    #[serde(default)]
    pub failed_over: bool,
    /// Set where it only asked whether the preferred target is back.
    #[serde(default)]
    pub probe: bool,
    /// Reason of the failure, as in [`super::view::TrunkFailure`]; absent where it succeeded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Cow<'static, str>>,
    /// SIP status code, where the registrar sent one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<u16>,
    /// Failure in plain words, with the registrar's own phrase: of the last time, where there were several.
    #[serde(skip_serializing_if = "str::is_empty", default)]
    pub message: Box<str>,
    /// Time at which the next attempt was due after this one, in milliseconds since the Unix epoch; absent
    /// where it had to wait for its turn.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_at_ms: Option<u64>,
}

/// An event of a trunk's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum HistoryEvent {
    /// The state changed, or the target at which the trunk is registered.
    State {
        /// State before.
        from: TrunkState,
        /// State from then on.
        to: TrunkState,
        /// Set where a binding was held elsewhere than at the preferred URI and EdgePort.
        #[serde(default)]
        failed_over: bool,
    },
    /// A response, or what took its place.
    Attempt(HistoryAttempt),
    /// The next attempt was due, and waited.
    Wait {
        /// Name of what it waited for: `registrar sip.example:5060, which is down`.
        waited_for: Box<str>,
    },
}

impl HistoryEvent {
    /// Returns whether it is the same as another one, but for the words and the times.
    fn is_repeated_by(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Attempt(one), Self::Attempt(other)) => {
                (&one.registrar, &one.edge_port, one.failed_over, one.probe, &one.reason, one.code)
                    == (
                        &other.registrar,
                        &other.edge_port,
                        other.failed_over,
                        other.probe,
                        &other.reason,
                        other.code,
                    )
            }
            (Self::Wait { waited_for }, Self::Wait { waited_for: later }) => waited_for == later,
            _ => false,
        }
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::State { .. } => 0,
            Self::Attempt(attempt) => {
                attempt.registrar.len() + attempt.edge_port.len() + attempt.message.len()
            }
            Self::Wait { waited_for } => waited_for.len(),
        }
    }
}

/// An entry of a trunk's history. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Time at which it happened first.
    pub first_ms: u64,
    /// Time at which it happened last.
    pub last_ms: u64,
    /// Number of times that it happened.
    pub times: u32,
    /// Event.
    #[serde(flatten)]
    pub event: HistoryEvent,
}

impl HistoryEntry {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.event.text_bytes()
    }
}

/// One trunk with its history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrunkDetail {
    /// The trunk now.
    #[serde(flatten)]
    pub trunk: TrunkView,
    /// The present, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub now_ms: u64,
    /// Set while its registry is suspended: nothing is sent.
    #[serde(default)]
    pub suspended: bool,
    /// Set while another process acts for the registry: nothing is sent.
    #[serde(default)]
    pub stands_by: bool,
    /// History, the oldest entry first; empty for a trunk that has only ever been well.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// Number of entries before those, which are no longer kept.
    #[serde(default)]
    pub history_omitted: u32,
}

/// History of one trunk.
#[derive(Debug, Default)]
struct History {
    /// By the last time that each happened.
    entries: Vec<HistoryEntry>,
    omitted: u32,
    /// Key in [`Histories::well`].
    well: Option<u64>,
}

/// Histories of all trunks, by slot.
#[derive(Debug, Default)]
pub(super) struct Histories {
    trunks: HashMap<u32, History>,
    /// Slots of trunks that are well now, those that have been so for longest first.
    well: BTreeMap<u64, u32>,
    last_key: u64,
    entries: usize,
    bytes: usize,
}

impl Histories {
    /// Returns whether there is one of a slot.
    pub fn is_kept(&self, slot: u32) -> bool {
        !self.trunks.is_empty() && self.trunks.contains_key(&slot)
    }

    /// Entries of a slot, the oldest first, and the number of those before.
    pub fn get(&self, slot: u32) -> (Vec<HistoryEntry>, u32) {
        let history = self.trunks.get(&slot);
        history.map_or_else(Default::default, |history| (history.entries.clone(), history.omitted))
    }

    /// Adds an event, which may be the first one of its slot. One that repeats another since the last change
    /// of state is counted there.
    pub fn add(&mut self, slot: u32, mut event: HistoryEvent, unix_ms: u64) {
        if let HistoryEvent::Attempt(attempt) = &mut event {
            attempt.message = text::clean(&attempt.message, MAX_MESSAGE_BYTES).into();
        }
        let mut entry = HistoryEntry { first_ms: unix_ms, last_ms: unix_ms, times: 1, event };
        if let Some(history) = self.trunks.get_mut(&slot)
            && let Some(at) = repeated(&history.entries, &entry.event)
        {
            if at + 1 == history.entries.len() && matches!(entry.event, HistoryEvent::Wait { .. }) {
                // It goes on.
                return;
            }
            let before = history.entries.remove(at);
            (entry.first_ms, entry.times) = (before.first_ms, before.times.saturating_add(1));
            self.entries -= 1;
            self.bytes -= before.bytes();
        }
        self.push(slot, entry);
    }

    /// Notes when the next attempt is due after the last one of a slot.
    pub fn set_next(&mut self, slot: u32, next_at_ms: Option<u64>) {
        let Some(history) = self.trunks.get_mut(&slot) else { return };
        let mut attempts = history.entries.iter_mut().rev().filter_map(|entry| match &mut entry.event {
            HistoryEvent::Attempt(attempt) => Some(attempt),
            HistoryEvent::State { .. } | HistoryEvent::Wait { .. } => None,
        });
        if let Some(attempt) = attempts.next() {
            attempt.next_at_ms = next_at_ms;
        }
    }

    /// Notes whether the trunk of a slot is well: then its history is among the first to go.
    pub fn set_well(&mut self, slot: u32, well: bool) {
        let Some(history) = self.trunks.get_mut(&slot).filter(|history| history.well.is_some() != well)
        else {
            return;
        };
        if let Some(key) = history.well.take() {
            self.well.remove(&key);
        } else {
            self.last_key += 1;
            history.well = Some(self.last_key);
            self.well.insert(self.last_key, slot);
        }
    }

    /// Drops the history of a slot: another trunk may have the slot next.
    pub fn remove(&mut self, slot: u32) {
        let Some(history) = self.trunks.remove(&slot) else { return };
        if let Some(key) = history.well {
            self.well.remove(&key);
        }
        self.entries -= history.entries.len();
        self.bytes -= size_of::<History>() + history.entries.iter().map(HistoryEntry::bytes).sum::<usize>();
    }

    fn push(&mut self, slot: u32, entry: HistoryEntry) {
        if self.trunks.get(&slot).is_some_and(|history| history.entries.len() >= MAX_ENTRIES_OF_ONE) {
            self.drop_oldest_of(slot);
        }
        let begins = usize::from(!self.is_kept(slot)) * size_of::<History>();
        let bytes = entry.bytes() + begins;
        while self.entries >= MAX_ENTRIES || self.bytes + bytes > MAX_BYTES {
            let well = self.well.values().copied().find(|other| *other != slot);
            match well {
                Some(other) => self.remove(other),
                None if self.drop_oldest_of(slot) => {}
                None => return self.drop_if_empty(slot),
            }
        }
        let history = self.trunks.entry(slot).or_default();
        // A million of them would each have room for three more otherwise.
        history.entries.reserve_exact(1);
        history.entries.push(entry);
        self.entries += 1;
        self.bytes += bytes;
    }

    /// Returns whether there was one.
    fn drop_oldest_of(&mut self, slot: u32) -> bool {
        let Some(history) = self.trunks.get_mut(&slot).filter(|history| !history.entries.is_empty()) else {
            return false;
        };
        self.bytes -= history.entries.remove(0).bytes();
        self.entries -= 1;
        history.omitted = history.omitted.saturating_add(1);
        true
    }

    fn drop_if_empty(&mut self, slot: u32) {
        if self.trunks.get(&slot).is_some_and(|history| history.entries.is_empty()) {
            self.remove(slot);
        }
    }
}

/// Returns which entry since the last change of state an event repeats.
fn repeated(entries: &[HistoryEntry], event: &HistoryEvent) -> Option<usize> {
    let since = entries.iter().rposition(|entry| matches!(entry.event, HistoryEvent::State { .. }));
    let since = since.map_or(0, |at| at + 1);
    let later = entries.iter().enumerate().skip(since);
    later.rev().find(|(_, entry)| entry.event.is_repeated_by(event)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests;

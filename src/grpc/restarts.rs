//! Detects that a Requester has restarted: then its Contact may be another one, and calls no longer arrive.
//!
//! Ours says who it is (`RequesterInfo`). Routr's Java one shows itself by its Contact, which names another
//! port after each start; that is recognised by its `bnc` parameter and by two registrations that have it,
//! for a registrar may list what others registered. Connections say nothing: proxies and load balancers end
//! them as they like. Of several Requesters behind one address each is known once it has been seen, and none
//! restarts because another one responds.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
};

/// Requesters that are remembered.
const MAX_KNOWN: usize = 64;

/// Requesters seen so far. Each method returns whether a restart was detected.
#[derive(Debug, Default)]
pub(super) struct Restarts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    instances: VecDeque<u64>,
    contacts: VecDeque<u64>,
    /// A Contact that one registration alone has shown so far, and which.
    unproven: Option<(u64, u64)>,
}

impl Restarts {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It says who it is.
    pub fn instance(&self, instance: &str) -> bool {
        learn(&mut self.known().instances, hash(instance))
    }

    /// A registration, named by its Call-ID, came back with this Contact of the Requester, as a hash.
    pub fn contact(&self, contact: u64, call_id: &str) -> bool {
        let mut known = self.known();
        if !known.instances.is_empty() || known.contacts.contains(&contact) {
            return false;
        }
        let seen = (contact, hash(call_id));
        match known.unproven {
            Some((other, by)) if other == contact && by != seen.1 => {
                known.unproven = None;
                learn(&mut known.contacts, contact)
            }
            Some(before) if before == seen => false,
            _ => {
                known.unproven = Some(seen);
                false
            }
        }
    }

    /// It could not be reached for a while, and does not say who it is.
    pub fn was_away(&self) -> bool {
        self.known().instances.is_empty()
    }
}

/// Remembers one. Returns whether it is new, and not the first.
fn learn(known: &mut VecDeque<u64>, one: u64) -> bool {
    if known.contains(&one) {
        return false;
    }
    known.push_back(one);
    if known.len() > MAX_KNOWN {
        known.pop_front();
    }
    known.len() > 1
}

/// A hash that is the same throughout the process.
pub(super) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_new_once_and_the_first_is_no_restart() {
        let restarts = Restarts::default();
        let noticed = ["a", "a", "b", "a", "b", "c"].map(|instance| restarts.instance(instance));
        assert_eq!(noticed, [false, false, true, false, false, true]);
        assert!(!restarts.was_away(), "it would say so itself");
    }

    #[test]
    fn a_contact_counts_when_two_registrations_have_it() {
        let restarts = Restarts::default();
        assert!(!restarts.contact(1, "x") && !restarts.contact(1, "x") && !restarts.contact(1, "y"));
        // What a registrar lists of others.
        for (contact, call_id) in [(7, "x"), (8, "y"), (9, "z"), (1, "x"), (7, "x")] {
            assert!(!restarts.contact(contact, call_id), "{contact}");
        }
        assert!(!restarts.contact(2, "x"));
        assert!(restarts.contact(2, "y"));
        assert!(!restarts.contact(2, "z") && !restarts.contact(1, "z"), "the old one is listed first, still");
        assert!(restarts.was_away());
        assert!(!restarts.instance("a"));
        assert!(!restarts.contact(3, "x") && !restarts.contact(3, "y"), "it says itself who it is");
    }
}

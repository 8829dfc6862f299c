//! Detects that a Requester has restarted: then its Contact may be another one, and calls no longer arrive.
//!
//! Ours says who it is (`RequesterInfo`). Routr's Java one shows itself by its Contact, which names another
//! port after each start; that is recognised by its `bnc` parameter and by two registrations that have it,
//! for a registrar may list what others registered. Connections say nothing: proxies and load balancers end
//! them as they like. Of several Requesters behind one address each is known once it has been seen, and none
//! restarts because another one responds. One at an address of its own that says who it is was added to the
//! others, and restarts when another one is found there.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use super::peer::At;

/// Contacts of Requesters that are remembered.
const MAX_CONTACTS: usize = 64;
/// Requesters that are remembered with their addresses.
const MAX_INSTANCES: usize = 512;

/// Requesters seen so far. Each method returns whether a restart was detected.
#[derive(Debug, Default)]
pub(super) struct Restarts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// With the address of each, as hashes.
    instances: VecDeque<(u64, u64)>,
    contacts: VecDeque<u64>,
    /// A Contact that one registration alone has shown so far, and which.
    unproven: Option<(u64, u64)>,
}

impl Restarts {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Requester at an address says who it is; `alive` are all addresses that serve now.
    pub fn instance(&self, at: &At, instance: &str, alive: &[Arc<At>]) -> bool {
        let instances = &mut self.known().instances;
        let seen = (hash(at), hash(instance));
        if instances.contains(&seen) {
            return false;
        }
        // Two addresses may lead to one process: its IPv4 and its IPv6 address.
        let known = instances.iter().any(|(_, instance)| *instance == seen.1);
        let is_known = |at: &u64| instances.iter().any(|(known, _)| known == at);
        // The first one at an address was added to those that are known. Where none of them serves any more,
        // it has taken their place: a pod that is made again has another address.
        let added = !is_known(&seen.0) && alive.iter().any(|at| is_known(&hash(&**at)));
        let restarted = !known && !added && !instances.is_empty();
        remember(instances, seen, MAX_INSTANCES);
        restarted
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
                remember(&mut known.contacts, contact, MAX_CONTACTS);
                known.contacts.len() > 1
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

/// Remembers one more, and forgets the oldest beyond so many.
fn remember<T>(known: &mut VecDeque<T>, one: T, most: usize) {
    known.push_back(one);
    if known.len() > most {
        known.pop_front();
    }
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
        let (restarts, one) = (Restarts::default(), at(1));
        let noticed = ["a", "a", "b", "a", "b", "c"].map(|instance| {
            let alive = std::slice::from_ref(&one);
            restarts.instance(&one, instance, alive)
        });
        assert_eq!(noticed, [false, false, true, false, false, true]);
        assert!(!restarts.was_away(), "it would say so itself");
    }

    fn at(last: u8) -> Arc<At> {
        Arc::new(At::Ip(([127, 0, 0, last], 51909).into()))
    }

    #[test]
    fn restarts_are_those_of_an_address_and_a_replica_that_is_added_is_none() {
        let restarts = Restarts::default();
        let [one, two, three, four] = [1, 2, 3, 4].map(at);
        let both = [one.clone(), two.clone()];
        assert!(!restarts.instance(&one, "a", &both) && !restarts.instance(&two, "b", &both));
        assert!(restarts.instance(&two, "c", &both), "another one at the same address");
        assert!(!restarts.instance(&two, "c", &both) && !restarts.instance(&one, "a", &both));
        let more = [one.clone(), two, three.clone()];
        assert!(!restarts.instance(&three, "d", &more), "added");
        assert!(restarts.instance(&four, "e", std::slice::from_ref(&four)), "in the place of all");
        assert!(!restarts.instance(&three, "e", &[three.clone(), four]), "one process at two addresses");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (restarts, one) = (Restarts::default(), at(1));
        for number in 0..2 * MAX_INSTANCES {
            restarts.instance(&one, &number.to_string(), std::slice::from_ref(&one));
        }
        assert_eq!(restarts.known().instances.len(), MAX_INSTANCES);
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
        assert!(!restarts.instance(&at(1), "a", &[at(1)]));
        assert!(!restarts.contact(3, "x") && !restarts.contact(3, "y"), "it says itself who it is");
    }
}

//! Places for requests in flight, divided by dynamic thresholds ([`crate::quota::pool`]): a caller may have
//! as many as are left for the others, and of those of one caller a target may have as many as are left for
//! its other targets. A registrar that is silent holds a place for half a minute: without these bounds, those
//! of one caller, or of one tenant behind it, would take the places of all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tonic::Status;

use crate::quota::pool::{Pool, Used};
use routr_types::text;

/// Characters of a target that an error shows.
const SHOWN: usize = 80;

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    /// Those of one caller, where there is no other.
    capacity: u64,
    all: Pool,
    callers: Mutex<HashMap<IpAddr, Weak<Caller>>>,
}

/// Requests in flight from one address.
#[derive(Debug)]
struct Caller {
    used: Used,
    all: Pool,
    targets: Mutex<HashMap<Box<str>, Weak<Used>>>,
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    caller: Arc<Caller>,
    target: Option<Arc<Used>>,
}

impl Places {
    /// `capacity` for one caller, and as many again for all others.
    pub(super) fn new(capacity: u32) -> Arc<Self> {
        let capacity = u64::from(capacity);
        Arc::new(Self { capacity, all: Pool::new(capacity * 2), callers: Mutex::default() })
    }

    /// Takes a place for a caller.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`: the caller has as many as are left for others.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Result<Place, Status> {
        let caller = shared(&self.callers, network(from), || Caller {
            used: Used::default(),
            // One more: the last place, too, may go to a target that has none.
            all: Pool::new(self.capacity + 1),
            targets: Mutex::default(),
        });
        if self.all.take(&caller.used, 1) {
            return Ok(Place { places: self.clone(), caller, target: None });
        }
        Err(Status::resource_exhausted(format!(
            "{} requests from {from} are in flight, as many as the Requester has places left for other callers: wait for \
             responses, or run another Requester",
            caller.used.get()
        )))
    }
}

impl Place {
    /// The request goes to this target.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`: the target has as many of the caller's places as are left for the other targets.
    pub(super) fn goes_to(&mut self, target: &str) -> Result<(), Status> {
        let key = target.trim().to_ascii_lowercase().into_boxed_str();
        let used = shared(&self.caller.targets, key, Used::default);
        if self.caller.all.take(&used, 1) {
            self.target = Some(used);
            return Ok(());
        }
        Err(Status::resource_exhausted(format!(
            "{} requests to {} are in flight, as many as this caller has places left for other targets: it responds too slowly, or \
             not at all",
            used.get(),
            text::quoted(target, SHOWN)
        )))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            self.caller.all.change(&target, 1, 0);
        }
        self.places.all.change(&self.caller.used, 1, 0);
    }
}

/// Returns what is kept under a key for as long as someone has it.
fn shared<K: Eq + std::hash::Hash, V>(
    all: &Mutex<HashMap<K, Weak<V>>>,
    key: K,
    new: impl FnOnce() -> V,
) -> Arc<V> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = all.get(&key).and_then(Weak::upgrade) {
        return found;
    }
    // Looked through only when it would have to grow: a look for each request would take long.
    if all.len() == all.capacity() {
        all.retain(|_, one| one.strong_count() > 0);
    }
    let made = Arc::new(new());
    all.insert(key, Arc::downgrade(&made));
    made
}

/// An IPv6 host has a whole network of 64 bits to call from.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(places: &Arc<Places>, from: &str, target: impl Fn(usize) -> String) -> (Vec<Place>, Status) {
        let mut taken: Vec<Place> = Vec::new();
        loop {
            let next = places.take(from.parse().unwrap());
            match next.and_then(|mut place| place.goes_to(&target(taken.len())).map(|()| place)) {
                Ok(place) => taken.push(place),
                Err(status) => return (taken, status),
            }
        }
    }

    #[test]
    fn a_silent_target_leaves_places_for_the_others_and_a_caller_for_other_callers() {
        let places = Places::new(64);
        let (silent, status) = take_all(&places, "10.0.0.1", |_| "Silent.example.com:5060 ".to_owned());
        assert_eq!((silent.len(), status.code()), (32, tonic::Code::ResourceExhausted));
        assert!(status.message().contains("32 requests to \"Silent.example.com:5060"), "{status:?}");
        let (more, _) = take_all(&places, "10.0.0.1", |_| "silent.example.com:5060".to_owned());
        assert!(more.is_empty(), "in any spelling");
        let (other, _) = take_all(&places, "10.0.0.1", |_| "other.example.com".to_owned());
        assert_eq!(other.len(), 16);
        // Any number of targets: what is left for other callers stays.
        let (each, _) = take_all(&places, "10.0.0.1", |n| format!("{n}.example.com"));
        assert_eq!(silent.len() + other.len() + each.len(), 64);
        let (elsewhere, _) = take_all(&places, "2001:db8::1", |n| format!("{n}.example.com"));
        assert_eq!(elsewhere.len(), 32);
        let (same, status) = take_all(&places, "2001:db8::2", |n| format!("{n}.example.com"));
        assert!(same.is_empty(), "of the same network");
        assert!(status.message().contains("requests from 2001:db8::2"), "{status:?}");
        drop((silent, other, each, elsewhere));
        assert_eq!(take_all(&places, "10.0.0.1", |_| "silent.example.com".to_owned()).0.len(), 32);
        assert!(places.callers.lock().unwrap().len() <= 3);
    }

    #[test]
    fn targets_that_come_and_go_are_not_remembered() {
        let places = Places::new(64);
        let mut held = places.take("10.0.0.1".parse().unwrap()).unwrap();
        held.goes_to("held").unwrap();
        for n in 0..10_000 {
            places.take("10.0.0.1".parse().unwrap()).unwrap().goes_to(&n.to_string()).unwrap();
        }
        let remembered = held.caller.targets.lock().unwrap().len();
        assert!(remembered < 100, "{remembered}");
    }
}

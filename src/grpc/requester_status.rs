//! Known state of a Requester: how much it takes at a time, and whether it is still the same one. At several
//! addresses each is asked; together they take what all of them take.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{Code, Request, codec::CompressionEncoding};

use super::{
    choice::{Choice, Responded, Responder},
    connection::Connection,
    guard::Events,
    monitor::ConnectionChange,
    peer::At,
    restarts::Restarts,
};
use crate::proto::requester_info::{GetRequest, requester_info_client::RequesterInfoClient};
use routr_registration::model::Link;
use routr_types::extension::Features;

/// Time that the Requester may take to say how much it takes at a time.
const INFO_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for a second address and those after it: REGISTERs wait for them.
const OTHERS_INFO_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval between two requests to it about itself, where it has not responded or connections follow each
/// other fast.
const INFO_PERIOD: Duration = Duration::from_secs(1);
/// Times that a Requester which is back is asked who it is, before it counts as one that does not say.
const MAX_INFO_ATTEMPTS: u32 = 30;

/// Information that one address gives of itself.
#[derive(Debug, Default)]
struct Said {
    /// `None` where it does not say.
    capacity: Option<u32>,
    /// Empty where it does not say.
    instance: String,
    features: Features,
}

/// Result of asking all addresses.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// One of them says who it is.
    says: bool,
    /// Each responded.
    all: bool,
}

/// Known state of the Requester itself.
#[derive(Debug)]
pub(super) struct RequesterStatus {
    info: RequesterInfoClient<Connection>,
    link: Arc<watch::Sender<Link>>,
    events: Arc<Events>,
    /// Number of streams made when it was asked last; on another one there may be another Requester.
    asked_on: AtomicU64,
    asking: AtomicBool,
    restarts: Restarts,
    /// Last response of each address that serves.
    said: Mutex<HashMap<Arc<At>, Said>>,
    /// Features beyond the contract that it has at all addresses, once it was asked.
    features: watch::Sender<Option<Features>>,
}

impl RequesterStatus {
    /// Makes the status of a Requester that is asked by `connection`, whose streams `events` reports;
    /// findings go to `link`.
    pub(super) fn new(connection: Connection, events: Arc<Events>, link: Arc<watch::Sender<Link>>) -> Self {
        Self {
            info: RequesterInfoClient::new(connection).accept_compressed(CompressionEncoding::Gzip),
            link,
            events,
            asked_on: AtomicU64::new(0),
            asking: AtomicBool::new(false),
            restarts: Restarts::default(),
            said: Mutex::default(),
            features: watch::Sender::default(),
        }
    }

    /// Asks the Requester who it is and how much it takes at a time, once for each stream. Routr's own does
    /// not say.
    pub(super) fn ask_once(self: &Arc<Self>) {
        let made = self.events.made();
        let known = self.asked_on.load(Ordering::Relaxed);
        if (known == made && known > 0) || self.asking.swap(true, Ordering::Relaxed) {
            return;
        }
        let about = self.clone();
        tokio::spawn(async move {
            let asked = about.ask().await;
            if asked.is_some_and(|asked| asked.all) {
                // The question may have made the first stream of all.
                about.asked_on.store(made.max(1), Ordering::Relaxed);
            } else if asked.is_none() {
                // No one is to wait for it again and again; it is asked once more soon.
                about.features.send_if_modified(|features| {
                    let unknown = features.is_none();
                    features.get_or_insert_default();
                    unknown
                });
            }
            sleep(INFO_PERIOD).await;
            about.asking.store(false, Ordering::Relaxed);
        });
    }

    /// Asks all addresses. `None` where the first one did not respond.
    async fn ask(&self) -> Option<Asked> {
        let (said, first) = self.ask_one(None, INFO_TIMEOUT).await?;
        let others = first.all.iter().filter(|at| **at != first.at);
        let others = others.map(|at| self.ask_one(Some(at.clone()), OTHERS_INFO_TIMEOUT));
        let mut responses = vec![Some((said, first.clone()))];
        responses.extend(join_all(others).await);
        let all = responses.iter().all(Option::is_some);
        let says = self.take_over(responses.into_iter().flatten(), &first.all);
        Some(Asked { says, all })
    }

    /// Asks one address, else the next one.
    async fn ask_one(&self, at: Option<Arc<At>>, most: Duration) -> Option<(Said, Responded)> {
        let (mut request, responder) = (Request::new(GetRequest {}), Responder::default());
        request.set_timeout(most);
        request.extensions_mut().insert(responder.clone());
        if let Some(at) = at {
            request.extensions_mut().insert(Choice::Address(at));
        }
        let mut info = self.info.clone();
        let said = match timeout(most, info.get(request)).await.ok()? {
            Ok(said) => {
                let said = said.into_inner();
                let mut features = Features::of(said.features.iter().map(String::as_str));
                // An earlier one of ours does, and does not say so.
                features.digest |= !said.instance.is_empty();
                let capacity = Some(said.capacity).filter(|capacity| *capacity > 0);
                Said { capacity, instance: said.instance, features }
            }
            Err(status) if status.code() == Code::Unimplemented => Said::default(),
            // A proxy, or nothing.
            Err(_) => return None,
        };
        Some((said, responder.get()?))
    }

    /// Takes responses over; `alive` are all addresses that serve. Returns whether one of them says who it
    /// is.
    fn take_over(&self, responses: impl Iterator<Item = (Said, Responded)>, alive: &[Arc<At>]) -> bool {
        let mut known = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|at, _| alive.contains(at));
        let mut restarted = false;
        for (said, responded) in responses {
            restarted |=
                !said.instance.is_empty() && self.restarts.instance(&responded.at, &said.instance, alive);
            known.insert(responded.at, said);
        }
        self.features.send_replace(Some(common_features(known.values())));
        let capacity = total_capacity(known.values());
        let says = known.values().any(|said| !said.instance.is_empty());
        drop(known);
        self.link.send_if_modified(|link| {
            let before = *link;
            link.capacity = capacity;
            link.restarts += u64::from(restarted);
            *link != before
        });
        says
    }

    /// Features beyond the contract. Waits for the response where it has just been asked: a REGISTER
    /// without it would bind the wrong Contact until the next refresh.
    pub(super) async fn features(self: &Arc<Self>) -> Features {
        self.ask_once();
        let mut known = self.features.subscribe();
        let said = timeout(INFO_TIMEOUT, known.wait_for(Option::is_some)).await;
        said.ok().and_then(Result::ok).and_then(|said| *said).unwrap_or_default()
    }

    /// A connection has ended, and another one can be made: perhaps to another Requester.
    pub(super) async fn look(self: Arc<Self>, found: ConnectionChange) {
        if found == ConnectionChange::Reachable {
            // Who does not say is judged by its Contact.
            let _ = self.ask().await;
            return;
        }
        for _ in 0..MAX_INFO_ATTEMPTS {
            match self.ask().await {
                Some(asked) if asked.says => return,
                Some(_) => break,
                None => sleep(INFO_PERIOD).await,
            }
        }
        if self.restarts.was_away() {
            self.link.send_modify(|link| link.restarts += 1);
        }
    }

    pub(super) fn saw_contact(&self, contact: u64, call_id: &str) {
        if self.restarts.contact(contact, call_id) {
            self.link.send_modify(|link| link.restarts += 1);
        }
    }
}

/// Returns what all take together; one process at two addresses counts once. `None` where none says.
fn total_capacity<'a>(all: impl Iterator<Item = &'a Said>) -> Option<u32> {
    let mut counted = HashSet::new();
    let counts = all.filter(|said| said.instance.is_empty() || counted.insert(&said.instance));
    counts.filter_map(|said| said.capacity).reduce(u32::saturating_add)
}

/// Returns what all of them understand: a REGISTER may go to any.
fn common_features<'a>(all: impl Iterator<Item = &'a Said>) -> Features {
    let common = all.map(|said| said.features).reduce(|one, other| Features {
        contact: one.contact && other.contact,
        srv: one.srv && other.srv,
        digest: one.digest && other.digest,
    });
    common.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(capacity: u32, instance: &str, words: &[&str]) -> Said {
        let features = Features::of(words.iter().copied());
        Said {
            capacity: Some(capacity).filter(|capacity| *capacity > 0),
            instance: instance.to_owned(),
            features,
        }
    }

    #[test]
    fn capacity_is_that_of_all_and_one_process_counts_once() {
        let cases: [(&[Said], Option<u32>); 5] = [
            (&[], None),
            (&[said(0, "", &[]), said(0, "", &[])], None),
            (&[said(10, "a", &[]), said(20, "b", &[])], Some(30)),
            (&[said(10, "a", &[]), said(10, "a", &[]), said(5, "", &[]), said(5, "", &[])], Some(20)),
            (&[said(u32::MAX, "a", &[]), said(20, "b", &[])], Some(u32::MAX)),
        ];
        for (all, expected) in cases {
            assert_eq!(total_capacity(all.iter()), expected, "{all:?}");
        }
    }

    #[test]
    fn features_are_those_that_all_have() {
        let all = [said(1, "a", &["contact", "srv"]), said(1, "b", &["srv", "digest"])];
        assert_eq!(common_features(all.iter()), Features { srv: true, ..Features::default() });
        assert_eq!(common_features(all[..1].iter()), all[0].features);
        assert_eq!(common_features([].iter()), Features::default());
    }
}

//! Known state of a Requester: how much it takes at a time, and whether it is still the same one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{Code, Request, codec::CompressionEncoding};

use super::{connection::Connection, guard::Events, monitor::ConnectionChange, restarts::Restarts};
use crate::proto::requester_info::{GetRequest, requester_info_client::RequesterInfoClient};
use routr_registration::model::Link;
use routr_types::extension::Features;

/// Time that the Requester may take to say how much it takes at a time.
const INFO_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between two requests to it about itself, where it has not responded or connections follow each
/// other fast.
const INFO_PERIOD: Duration = Duration::from_secs(1);
/// Times that a Requester which is back is asked who it is, before it counts as one that does not say.
const MAX_INFO_ATTEMPTS: u32 = 30;

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
    /// Features beyond the contract, once it was asked.
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
            if about.ask().await.is_some() {
                // The question may have made the first stream of all.
                about.asked_on.store(made.max(1), Ordering::Relaxed);
            } else {
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

    /// Returns whether it says who it is; `None` where there was no response.
    async fn ask(&self) -> Option<bool> {
        let mut request = Request::new(GetRequest {});
        request.set_timeout(INFO_TIMEOUT);
        let mut info = self.info.clone();
        let (capacity, instance, features) = match timeout(INFO_TIMEOUT, info.get(request)).await.ok()? {
            Ok(said) => {
                let said = said.into_inner();
                let capacity = Some(said.capacity).filter(|capacity| *capacity > 0);
                let mut features = Features::of(said.features.iter().map(String::as_str));
                // An earlier one of ours does, and does not say so.
                features.digest |= !said.instance.is_empty();
                (capacity, said.instance, features)
            }
            Err(status) if status.code() == Code::Unimplemented => (None, String::new(), Features::default()),
            // A proxy, or nothing.
            Err(_) => return None,
        };
        self.features.send_replace(Some(features));
        let says = !instance.is_empty();
        let restarted = says && self.restarts.instance(&instance);
        self.link.send_if_modified(|link| {
            let before = *link;
            link.capacity = capacity;
            link.restarts += u64::from(restarted);
            *link != before
        });
        Some(says)
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
                Some(true) => return,
                Some(false) => break,
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

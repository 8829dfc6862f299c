//! Events about one Registry, for `kubectl describe`: each text once, and counted up when it comes back.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    health::{Area, Health},
    request_limiter::{RequestLimiter, RequestPermit},
    status::StatusEvent,
};
use routr_types::text::clean;

/// Name of the writer: the field manager of server-side apply, and the controller that reports events.
pub const MANAGER: &str = "routr-registry";

/// The same event is not recorded more often.
const REPEAT_PERIOD: Duration = Duration::from_secs(30);
/// No more different events than these are recorded in [`SERIES_PERIOD`].
const MAX_EVENTS_PER_PERIOD: usize = 20;
/// Time for which an equal event is counted up instead of recorded again.
const SERIES_PERIOD: Duration = Duration::from_secs(300);
/// Bytes of an object's name (RFC 1123 subdomain).
const MAX_NAME_BYTES: usize = 253;
/// Bytes of `reportingInstance`.
const MAX_INSTANCE: usize = 128;
/// Statuses and events that are written at the same time, and those of one namespace.
const MAX_WRITES: (usize, usize) = (32, 8);
/// Digits of the hash that a shortened name ends with.
const HASH_DIGITS: usize = 10;

/// The recorder of events and the instance that it names. Clones share it: each Registry has one.
#[derive(Clone)]
pub struct EventReporter(Arc<Reporting>);

struct Reporting {
    client: Client,
    instance: String,
    health: Health,
    turns: RequestLimiter,
}

impl EventReporter {
    /// `instance` is the name of the replica.
    pub fn new(client: Client, instance: &str, health: Health) -> Self {
        let turns = RequestLimiter::new(MAX_WRITES.0, MAX_WRITES.1);
        Self(Arc::new(Reporting { client, instance: clean(instance, MAX_INSTANCE), health, turns }))
    }

    /// The client for the objects that events are about.
    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn health(&self) -> &Health {
        &self.0.health
    }

    /// Waits for a turn to write a status or an event of this namespace.
    pub(super) async fn turn(&self, namespace: Option<&str>) -> RequestPermit {
        self.0.turns.acquire_in(namespace).await
    }
}

/// Records the events about one object.
pub struct EventRecorder {
    reporter: EventReporter,
    reference: ObjectReference,
    recent: Mutex<Vec<RecentEvent>>,
}

/// An event that was recorded.
struct RecentEvent {
    /// Of its reason and its message.
    fingerprint: u64,
    name: String,
    count: i32,
    at: Instant,
}

/// Request to send.
enum EventRequest {
    Create(Box<Event>),
    Count { name: String, count: i32 },
}

impl EventRecorder {
    /// Records events about the object that is referred to.
    pub fn new(reporter: EventReporter, reference: ObjectReference) -> Self {
        Self { reporter, reference, recent: Mutex::default() }
    }

    /// Records an event, at most every half minute the same one. It is worth no retry: the status says what
    /// counts.
    pub async fn record(&self, notice: StatusEvent) {
        let Some(send) = self.next(&notice) else { return };
        let namespace = self.reference.namespace.as_deref().unwrap_or("default");
        let events: Api<Event> = Api::namespaced(self.reporter.client().clone(), namespace);
        let sent = match &send {
            EventRequest::Create(event) => match events.create(&PostParams::default(), event).await {
                Err(kube::Error::Api(refusal)) if matches!(refusal.code, 400 | 422) => {
                    events.create(&PostParams::default(), &without_foreign_text(event)).await
                }
                sent => sent,
            },
            EventRequest::Count { name, count } => {
                let series = EventSeries { count: *count, last_observed_time: now() };
                let patch = Patch::Merge(json!({ "series": series }));
                events.patch(name, &PatchParams::default(), &patch).await
            }
        };
        match sent {
            Ok(_) => self.reporter.health().succeeded(Area::Events, Some(namespace)),
            Err(error) => {
                let fingerprint = fingerprint(&notice);
                self.recent().retain(|event| event.fingerprint != fingerprint);
                self.reporter.health().failed(Area::Events, Some(namespace), &error.into());
            }
        }
    }

    fn recent(&self) -> MutexGuard<'_, Vec<RecentEvent>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, notice: &StatusEvent) -> Option<EventRequest> {
        let mut recent = self.recent();
        let at = Instant::now();
        recent.retain(|event| at.duration_since(event.at) < SERIES_PERIOD);
        let fingerprint = fingerprint(notice);
        if let Some(event) = recent.iter_mut().find(|event| event.fingerprint == fingerprint) {
            if at.duration_since(event.at) < REPEAT_PERIOD {
                return None;
            }
            event.at = at;
            event.count += 1;
            return Some(EventRequest::Count { name: event.name.clone(), count: event.count });
        }
        if recent.len() >= MAX_EVENTS_PER_PERIOD {
            return None;
        }
        let event = self.event(notice);
        let name = event.metadata.name.clone().unwrap_or_default();
        // One at a time: most Registries have one or two in a lifetime.
        recent.reserve_exact(1);
        recent.push(RecentEvent { fingerprint, name, count: 1, at });
        Some(EventRequest::Create(Box::new(event)))
    }

    fn event(&self, notice: &StatusEvent) -> Event {
        let name = event_name(self.reference.name.as_deref().unwrap_or(MANAGER), routr_environment::random());
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: self.reference.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some(notice.action.to_owned()),
            reason: Some(notice.reason.to_owned()),
            note: Some(notice.message.clone()),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            event_time: Some(now()),
            regarding: Some(self.reference.clone()),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.reporter.0.instance.clone()),
            ..Event::default()
        }
    }
}

/// The same event in our own words, for an API server that refuses what others said.
fn without_foreign_text(event: &Event) -> Event {
    let note = "the API server rejects the full message, so names and texts of others are left out; see the \
                status";
    Event { note: Some(note.to_owned()), ..event.clone() }
}

/// Tells events apart without keeping their texts.
fn fingerprint(event: &StatusEvent) -> u64 {
    let mut hasher = DefaultHasher::new();
    (event.reason, &event.message).hash(&mut hasher);
    hasher.finish()
}

fn now() -> MicroTime {
    let ms = i64::try_from(routr_environment::unix_ms()).unwrap_or(i64::MAX);
    MicroTime(jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX))
}

/// `NAME.UNIQUE`. A name that is too long for that is cut, and ends with a hash of the whole of it.
fn event_name(name: &str, unique: u64) -> String {
    let suffix = format!(".{unique:016x}");
    let room = MAX_NAME_BYTES - suffix.len();
    if name.len() <= room {
        return name.to_owned() + &suffix;
    }
    let hash: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut cut = room - HASH_DIGITS - 1;
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    // No part of a subdomain ends with a dash or is empty.
    let beginning = name[..cut].trim_end_matches(['-', '.']);
    format!("{beginning}-{}{suffix}", &hash[..HASH_DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k8_a_name_of_any_length_gives_an_event_a_name() {
        assert_eq!(event_name("main", 0xabc), "main.0000000000000abc");
        let longest = "a".repeat(236);
        assert_eq!(event_name(&longest, 1).len(), 253);
        assert!(event_name(&longest, 1).starts_with(&longest));
        for name in ["b".repeat(237), "c".repeat(253), format!("{}.{}", "d".repeat(224), "e".repeat(28))] {
            let event = event_name(&name, 1);
            assert!(event.len() <= 253, "{event}");
            assert!(!event.contains(".-") && !event.contains("-."), "{event}");
        }
        let [one, other] = ["x", "y"].map(|end| event_name(&format!("{}{end}", "a".repeat(252)), 1));
        assert_ne!(one, other, "the hash tells them apart");
    }
}

//! Writes the status of one Registry, and its events.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::time::Instant;

use super::status::Notice;
use crate::{
    admin::RegistryName,
    instance::Permit,
    spec::{Registry, status::RegistryStatus},
};

/// Who writes: the field manager of server-side apply.
pub const MANAGER: &str = "routr-registry";
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The same event is not told more often.
const BETWEEN_EQUALS: Duration = Duration::from_secs(30);
/// No more different events than so many are told in [`REMEMBERED`].
const MOST: usize = 20;
/// For so long an equal event is counted up instead of told anew; a recorder does so for six minutes.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Why the status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no such resource any more, or another one has its name.
    #[error("the resource is gone")]
    Gone,
    /// This replica has lost the right to.
    #[error("this replica does not lead any more")]
    NotLeading,
    /// The API server refused or failed.
    #[error("{0}")]
    Kubernetes(#[from] kube::Error),
    /// The API server gave no answer.
    #[error("no answer from the Kubernetes API server within {} s", DEADLINE.as_secs())]
    Deadline,
}

/// Where a reporter's findings go.
pub trait Writer: Send + Sync + 'static {
    /// Whose status it is.
    fn name(&self) -> &RegistryName;
    /// Writes the status.
    fn write<'a>(&'a self, status: &'a RegistryStatus) -> BoxFuture<'a, Result<(), WriteError>>;
    /// Tells an event. It is worth no retry.
    fn tell(&self, notice: Notice) -> BoxFuture<'_, ()>;
}

/// Writes to the API server.
pub struct KubeWriter {
    /// Namespace and name.
    pub name: RegistryName,
    /// UID of the resource: another resource of the same name is not written to.
    pub uid: String,
    /// Of its namespace.
    pub api: Api<Registry>,
    /// Publishes events.
    pub speaker: Speaker,
    /// What events refer to.
    pub reference: ObjectReference,
    /// Writes only while it holds.
    pub permit: Permit,
    told: Mutex<HashMap<(&'static str, String), Told>>,
}

/// Who publishes events, as which instance.
#[derive(Clone)]
pub struct Speaker {
    client: Client,
    reporter: Reporter,
}

impl Speaker {
    /// `instance` is what the replica is called.
    pub fn new(client: Client, instance: String) -> Self {
        Self { client, reporter: Reporter { controller: MANAGER.to_owned(), instance: Some(instance) } }
    }
}

/// An event that was told. A recorder takes events of the same reason for the same, whatever they say: each text has one of
/// its own.
struct Told {
    recorder: Recorder,
    at: Instant,
}

impl KubeWriter {
    /// For one Registry.
    pub fn new(speaker: Speaker, permit: Permit, reference: ObjectReference) -> Self {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let (namespace, name) = (text(&reference.namespace), text(&reference.name));
        Self {
            api: Api::namespaced(speaker.client.clone(), &namespace),
            name: RegistryName { namespace: Some(namespace), name },
            uid: text(&reference.uid),
            speaker,
            reference,
            permit,
            told: Mutex::default(),
        }
    }

    async fn apply(&self, status: &RegistryStatus) -> Result<(), WriteError> {
        if !self.permit.holds() {
            return Err(WriteError::NotLeading);
        }
        // A recorder keeps the whole event: not for ever, where nothing more happens.
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, told| told.at.elapsed() < REMEMBERED);
        let name = &self.name.name;
        let patch = serde_json::json!({
            "apiVersion": "routr.io/v2beta1",
            "kind": "Registry",
            "metadata": { "name": name, "uid": self.uid },
            "status": status,
        });
        let (parameters, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(patch));
        let written = self.api.patch_status(name, &parameters, &patch);
        match tokio::time::timeout(DEADLINE, written).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(answer))) if matches!(answer.code, 404 | 409) => Err(WriteError::Gone),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(WriteError::Deadline),
        }
    }

    /// Who is to tell this now, if it may be told.
    fn recorder(&self, notice: &Notice) -> Option<Recorder> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        told.retain(|_, told| now.duration_since(told.at) < REMEMBERED);
        let key = (notice.reason, notice.message.clone());
        let full = told.len() >= MOST;
        match told.get_mut(&key) {
            Some(told) if now.duration_since(told.at) < BETWEEN_EQUALS => None,
            Some(told) => {
                told.at = now;
                Some(told.recorder.clone())
            }
            None if full => None,
            None => {
                let recorder = Recorder::new(self.speaker.client.clone(), self.speaker.reporter.clone());
                told.insert(key, Told { recorder: recorder.clone(), at: now });
                Some(recorder)
            }
        }
    }
}

impl Writer for KubeWriter {
    fn name(&self) -> &RegistryName {
        &self.name
    }

    fn write<'a>(&'a self, status: &'a RegistryStatus) -> BoxFuture<'a, Result<(), WriteError>> {
        Box::pin(self.apply(status))
    }

    fn tell(&self, notice: Notice) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(recorder) = self.permit.holds().then(|| self.recorder(&notice)).flatten() else {
                return;
            };
            let event = Event {
                type_: if notice.warning { EventType::Warning } else { EventType::Normal },
                reason: notice.reason.to_owned(),
                note: Some(notice.message),
                action: notice.action.to_owned(),
                secondary: None,
            };
            let published = recorder.publish(&event, &self.reference);
            match tokio::time::timeout(DEADLINE, published).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(registry = %self.name, %error, "an event was not published")
                }
                Err(_) => tracing::debug!(registry = %self.name, "an event was not published in time"),
            }
        })
    }
}

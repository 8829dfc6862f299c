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
    runtime::events::{Event, EventType, Recorder},
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
    pub recorder: Recorder,
    /// What events refer to.
    pub reference: ObjectReference,
    /// Writes only while it holds.
    pub permit: Permit,
    told: Mutex<HashMap<&'static str, Instant>>,
}

impl KubeWriter {
    /// For one Registry.
    pub fn new(client: Client, recorder: Recorder, permit: Permit, reference: ObjectReference) -> Self {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let (namespace, name) = (text(&reference.namespace), text(&reference.name));
        Self {
            api: Api::namespaced(client, &namespace),
            name: RegistryName { namespace: Some(namespace), name },
            uid: text(&reference.uid),
            recorder,
            reference,
            permit,
            told: Mutex::default(),
        }
    }

    async fn apply(&self, status: &RegistryStatus) -> Result<(), WriteError> {
        if !self.permit.holds() {
            return Err(WriteError::NotLeading);
        }
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

    /// Whether an event of this reason may be told now.
    fn may_tell(&self, reason: &'static str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let recent = told.get(reason).is_some_and(|at| now.duration_since(*at) < BETWEEN_EQUALS);
        if !recent {
            told.insert(reason, now);
        }
        !recent
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
            if !self.permit.holds() || !self.may_tell(notice.reason) {
                return;
            }
            let event = Event {
                type_: if notice.warning { EventType::Warning } else { EventType::Normal },
                reason: notice.reason.to_owned(),
                note: Some(notice.message),
                action: notice.action.to_owned(),
                secondary: None,
            };
            let published = self.recorder.publish(&event, &self.reference);
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

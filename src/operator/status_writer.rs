//! Writes the status of one Registry, and its events.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams, ValidationDirective},
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{
    definition::{self, Definition},
    events::{EventRecorder, EventReporter, MANAGER},
    health::Area,
    status::{self, StatusEvent},
};
use crate::{
    instance::Fence,
    registry::RegistryName,
    spec::{Registry, status::RegistryStatus},
};
use routr_kube_errors::ApiError;

/// Dry runs after one error: each takes out fields that the definition wants otherwise.
const MAX_DRY_RUNS: usize = 8;

/// Reason that the status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no such resource any more, or another one has its name.
    #[error("the resource is gone")]
    Gone,
    /// This replica has lost the right to.
    #[error("this replica no longer leads")]
    NotLeading,
    /// The API server refused or failed.
    #[error(transparent)]
    Kubernetes(#[from] ApiError),
    /// The same, for a reason that concerns many Registries and is logged once for all of them.
    #[error(transparent)]
    Noted(ApiError),
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(answer) if answer.code == 409 => Self::Gone,
            // Where it names no object, there is no such resource, or it has no status.
            kube::Error::Api(answer)
                if answer.code == 404
                    && answer.details.as_ref().is_some_and(|details| !details.name.is_empty()) =>
            {
                Self::Gone
            }
            error => Self::Kubernetes(error.into()),
        }
    }
}

/// Part of a status that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusForm {
    /// All of it.
    Whole,
    /// The part in our own words; the API server refused the others.
    Plain,
}

/// Destination of a status updater's findings.
pub trait StatusWriter: Send + Sync + 'static {
    /// Returns whose status it is.
    fn name(&self) -> &RegistryName;
    /// Writes the status, if need be without texts from outside.
    fn write<'a>(&'a self, status: &'a RegistryStatus) -> BoxFuture<'a, Result<StatusForm, WriteError>>;
    /// Records an event. It is worth no retry.
    fn record_event(&self, notice: StatusEvent) -> BoxFuture<'_, ()>;
}

/// Writes to the API server.
pub struct KubeStatusWriter {
    /// Namespace and name.
    name: RegistryName,
    /// UID of the resource: another resource of the same name is not written to.
    uid: String,
    reporter: EventReporter,
    events: EventRecorder,
    /// Parts of a status that the definition in the cluster does not take.
    definition: Arc<Definition>,
    /// Writes only while it holds.
    fence: Fence,
    /// Fingerprint of the last status that the API server refused; it is not tried again.
    refused: Mutex<Option<u64>>,
}

impl KubeStatusWriter {
    /// Writes for one Registry.
    pub fn new(
        reporter: EventReporter,
        fence: Fence,
        definition: Arc<Definition>,
        reference: ObjectReference,
    ) -> Self {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let (namespace, name) = (text(&reference.namespace), text(&reference.name));
        Self {
            name: RegistryName { namespace: Some(namespace), name },
            uid: text(&reference.uid),
            events: EventRecorder::new(reporter.clone(), reference),
            reporter,
            definition,
            fence,
            refused: Mutex::default(),
        }
    }

    fn namespace(&self) -> Option<&str> {
        self.name.namespace.as_deref()
    }

    /// The objects of its namespace, made for each write: a client for each of thousands would be a KB each.
    fn api(&self) -> Api<DynamicObject> {
        // What the API server has may be of another version of the definition: it is not read as a Registry.
        let resource = ApiResource::erase::<Registry>(&());
        let client = self.reporter.client().clone();
        Api::namespaced_with(client, self.namespace().unwrap_or_default(), &resource)
    }

    fn refused(&self) -> MutexGuard<'_, Option<u64>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the status; where it is refused for what it says, one of our own words, until it says something
    /// else.
    async fn write_some_form(&self, status: &RegistryStatus) -> Result<StatusForm, WriteError> {
        let says = status::fingerprint(status);
        if *self.refused() != Some(says) {
            let refusal = match self.apply(status).await {
                Ok(()) => {
                    if self.refused().take().is_some() {
                        tracing::info!(registry = %self.name, "the API server takes the whole status again");
                    }
                    return Ok(StatusForm::Whole);
                }
                Err(WriteError::Kubernetes(error)) if may_be_text(&error) => error,
                Err(error) => return Err(error),
            };
            if self.write_plain(status).await.is_err() {
                return Err(WriteError::Kubernetes(refusal));
            }
            if self.refused().replace(says).is_none() {
                let error = refusal.to_string();
                tracing::warn!(
                    registry = %self.name,
                    error,
                    "the API server refuses the status: writing it without names and what others said; see /readyz and the log for these"
                );
            }
            return Ok(StatusForm::Plain);
        }
        self.write_plain(status).await.map(|()| StatusForm::Plain)
    }

    /// Writes it in our own words; where that is refused too, without single failures.
    async fn write_plain(&self, status: &RegistryStatus) -> Result<(), WriteError> {
        let mut plain = status::without_foreign_text(status);
        match self.apply(&plain).await {
            Err(WriteError::Kubernetes(error)) if may_be_text(&error) && !plain.failures.is_empty() => {
                plain.failures.clear();
                self.apply(&plain).await
            }
            done => done,
        }
    }

    async fn apply(&self, status: &RegistryStatus) -> Result<(), WriteError> {
        if !self.fence.holds() {
            return Err(WriteError::NotLeading);
        }
        let whole = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        let mut fits = whole.clone();
        let reduced = self.definition.fit(&mut fits);
        match self.send(&fits).await {
            Ok(()) => {
                self.reporter.health().succeeded(Area::Statuses, self.namespace());
                if !reduced && self.definition.takes(&whole) {
                    self.reporter.health().definition_lacks(&[], false);
                }
                Ok(())
            }
            Err(kube::Error::Api(refusal)) if definition::may_be_definition(&refusal) => {
                let Some((parts, newer)) = self.probe(&whole).await? else {
                    return Err(kube::Error::Api(refusal).into());
                };
                let mut fits = whole;
                parts.iter().for_each(|part| definition::remove(&mut fits, part));
                self.send(&fits).await?;
                self.note(&parts, newer).await;
                Ok(())
            }
            Err(error) => Err(match WriteError::from(error) {
                WriteError::Kubernetes(error)
                    if self.reporter.health().failed(Area::Statuses, self.namespace(), &error) =>
                {
                    WriteError::Noted(error)
                }
                error => error,
            }),
        }
    }

    async fn send(&self, status: &Value) -> Result<(), kube::Error> {
        let patch = json!({
            "apiVersion": "routr.io/v2beta1",
            "kind": "Registry",
            "metadata": { "name": self.name.name, "uid": self.uid },
            "status": status,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let request = kube::core::Request::new(self.api().resource_url());
        let request = request.patch_subresource("status", &self.name.name, &parameters, &Patch::Apply(patch));
        let request = request.map_err(kube::Error::BuildRequest)?;
        // The resource comes back, with all that its owner keeps in it: nothing of it is used.
        self.reporter.client().request::<IgnoredAny>(request).await.map(drop)
    }

    /// Returns which parts of a status the definition does not take, and whether it is newer than this
    /// operator; `None` where that is not what is wrong.
    async fn probe(&self, whole: &Value) -> Result<Option<(BTreeSet<String>, bool)>, WriteError> {
        let parameters = PatchParams {
            dry_run: true,
            field_manager: Some(MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Ignore),
            ..PatchParams::default()
        };
        let api = self.api();
        let (mut sent, mut parts) = (whole.clone(), BTreeSet::new());
        for _ in 0..MAX_DRY_RUNS {
            let patch = Patch::Merge(json!({ "metadata": { "uid": self.uid }, "status": replaced(&sent) }));
            match api.patch_status(&self.name.name, &parameters, &patch).await {
                Ok(stored) => {
                    let newer = !parts.is_empty();
                    parts.extend(definition::dropped(&sent, &stored.data["status"]));
                    return Ok((!parts.is_empty()).then_some((parts, newer)));
                }
                Err(kube::Error::Api(refusal)) if definition::may_be_definition(&refusal) => {
                    let fault = definition::at_fault(&refusal);
                    let before = parts.len();
                    fault.iter().for_each(|field| definition::remove(&mut sent, field));
                    parts.extend(fault);
                    if parts.len() == before {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Says that the definition is of another version: in the log and on `/readyz`, and as an event of the
    /// first Registry.
    async fn note(&self, parts: &BTreeSet<String>, newer: bool) {
        if self.definition.lacks(parts) {
            let named: Vec<String> = parts.iter().map(|part| format!("status.{part}")).collect();
            self.reporter.health().definition_lacks(&named, newer);
            if let Some(message) = self.reporter.health().definition() {
                self.events.record(status::definition_differs(&message)).await;
            }
        }
    }
}

/// Returns whether an error may come from what a status says, or from how much that is.
fn may_be_text(error: &ApiError) -> bool {
    matches!(error.code, Some(400 | 413 | 422 | 500))
}

/// A status for a merge patch: fields that it does not have are removed.
fn replaced(status: &Value) -> Value {
    const OPTIONAL: [&str; 5] = ["trunks", "lastSyncTime", "nextExpiryTime", "failures", "observedTime"];
    let mut status = status.clone();
    if let Value::Object(map) = &mut status {
        for key in OPTIONAL {
            map.entry(key).or_insert(Value::Null);
        }
    }
    status
}

impl StatusWriter for KubeStatusWriter {
    fn name(&self) -> &RegistryName {
        &self.name
    }

    fn write<'a>(&'a self, status: &'a RegistryStatus) -> BoxFuture<'a, Result<StatusForm, WriteError>> {
        Box::pin(async move {
            let _turn = self.reporter.turn(self.namespace()).await;
            // Boxed, as below: what waits for its turn is small.
            Box::pin(self.write_some_form(status)).await
        })
    }

    fn record_event(&self, notice: StatusEvent) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _turn = self.reporter.turn(self.namespace()).await;
            if self.fence.holds() {
                Box::pin(self.events.record(notice)).await;
            }
        })
    }
}

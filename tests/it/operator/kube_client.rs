//! Looks at Registries and changes them without a process for each look, and remembers what their statuses
//! were.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::harness::{Installation, SOON, TestRegistry, condition};
use crate::standalone::test_registry::log;
use crate::support::control_plane::ControlPlane;
use crate::support::service::Service;
use crate::support::wait::wait_at_pace;

/// Interval between two looks.
const PACE: Duration = Duration::from_millis(50);

/// A client that may do everything, in one namespace.
#[derive(Clone)]
pub struct KubeClient {
    client: Client,
    namespace: String,
}

impl KubeClient {
    /// Makes a client for the namespace of an installation.
    pub async fn on(cluster: &Installation<'_>) -> Self {
        Self::in_namespace(cluster.plane, cluster.namespace.name()).await
    }

    pub async fn in_namespace(plane: &ControlPlane, namespace: &str) -> Self {
        Self { client: plane.client().await, namespace: namespace.to_owned() }
    }

    /// The objects of a kind.
    pub fn api(&self, group: &str, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    pub fn registries(&self) -> Api<DynamicObject> {
        self.api("routr.io", "v2beta1", "Registry", "registries")
    }

    /// Creates a Registry with this spec.
    pub async fn create(&self, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "routr.io/v2beta1",
            "kind": "Registry",
            "metadata": { "name": name },
            "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.registries().create(&Default::default(), &object).await.unwrap();
    }

    /// Changes the spec by a JSON merge patch, and returns the new generation.
    pub async fn change(&self, name: &str, spec: Value) -> i64 {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let changed = self.registries().patch(name, &PatchParams::default(), &patch).await.unwrap();
        changed.metadata.generation.unwrap()
    }

    /// Changes the spec, and waits until the status is about it.
    pub async fn follows(&self, name: &str, spec: Value) -> Value {
        let generation = self.change(name, spec).await;
        let passes = |status: &Value| status["observedGeneration"] == generation;
        self.status(name, &format!("generation {generation} to be observed"), passes).await
    }

    /// Writes the finalizers.
    pub async fn finalizers(&self, name: &str, finalizers: &[&str]) {
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
        self.registries().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Writes to the status, as someone who is not the operator.
    pub async fn tamper(&self, name: &str, patch: Value) {
        let patch = Patch::Merge(patch);
        self.registries().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// All Registries by name.
    pub async fn all(&self) -> Vec<(String, Value)> {
        let all = self.registries().list(&ListParams::default()).await.unwrap();
        let entry = |registry: DynamicObject| {
            (registry.metadata.name.clone().unwrap(), serde_json::to_value(registry).unwrap())
        };
        all.into_iter().map(entry).collect()
    }

    /// Begins the deletion.
    pub async fn delete(&self, name: &str) {
        self.registries().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until it is not there any more.
    #[track_caller]
    pub fn gone<'s>(&'s self, name: &'s str) -> impl Future<Output = ()> + 's {
        let look = async move || match self.registry(name).await {
            None => Ok(()),
            Some(registry) => Err(format!("{registry:#}")),
        };
        wait_at_pace(PACE, look, SOON, "the Registry to be gone")
    }

    /// The Registry as the API server has it.
    pub async fn registry(&self, name: &str) -> Option<Value> {
        let found = self.registries().get_opt(name).await.unwrap();
        found.map(|registry| serde_json::to_value(registry).unwrap())
    }

    /// Its status as it is now.
    pub async fn now(&self, name: &str) -> Value {
        self.registry(name).await.unwrap_or_default()["status"].clone()
    }

    /// Waits until the status passes, and returns it.
    #[track_caller]
    pub fn status<'s>(
        &'s self,
        name: &'s str,
        what: &'s str,
        passes: impl Fn(&Value) -> bool + 's,
    ) -> impl Future<Output = Value> + 's {
        let look = async move || {
            let status = self.now(name).await;
            if passes(&status) { Ok(status) } else { Err(brief(&status)) }
        };
        wait_at_pace(PACE, look, SOON, what)
    }

    /// Waits until these conditions (type, status, reason) are all there, and returns the whole status.
    #[track_caller]
    pub fn conditions<'s>(
        &'s self,
        name: &'s str,
        expected: &'s [(&'s str, &'s str, &'s str)],
    ) -> impl Future<Output = Value> + 's {
        let what = format!("{name} to have {expected:?}");
        let look = async move || {
            let status = self.now(name).await;
            let there = expected.iter().all(|(kind, truth, reason)| {
                let found = condition(&status, kind);
                found["status"] == *truth && found["reason"] == *reason
            });
            if there { Ok(status) } else { Err(brief(&status)) }
        };
        let caller = std::panic::Location::caller();
        async move { wait_at_pace(PACE, look, SOON, &format!("{what}, for {caller}")).await }
    }

    /// Creates a Secret, or changes keys in it.
    pub async fn secret(&self, name: &str, data: Value) {
        let secret =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
        let patch = Patch::Apply(secret);
        let parameters = PatchParams::apply("test").force();
        self.api("", "v1", "Secret", "secrets").patch(name, &parameters, &patch).await.unwrap();
    }

    pub async fn delete_secret(&self, name: &str) {
        self.api("", "v1", "Secret", "secrets").delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Reason, note and type of the events about this Registry, oldest first.
    pub async fn events(&self, name: &str) -> Vec<(String, String, String)> {
        let all =
            self.api("events.k8s.io", "v1", "Event", "events").list(&ListParams::default()).await.unwrap();
        let mut events: Vec<Value> =
            all.into_iter().map(|event| serde_json::to_value(event).unwrap()).collect();
        events.retain(|event| event["regarding"]["name"] == name);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        events.sort_by_key(|event| text(&event["eventTime"]));
        events
            .iter()
            .map(|event| (text(&event["reason"]), text(&event["note"]), text(&event["type"])))
            .collect()
    }

    /// Waits until an event of this reason was recorded about the Registry, and returns its note.
    #[track_caller]
    pub fn event<'s>(&'s self, name: &'s str, reason: &'s str) -> impl Future<Output = String> + 's {
        let look = async move || {
            let events = self.events(name).await;
            let found = events.iter().find(|event| event.0 == reason).map(|event| event.1.clone());
            found.ok_or_else(|| format!("{events:?}"))
        };
        wait_at_pace(PACE, look, SOON, reason)
    }

    /// Everything that is stored about Registries and events in the namespace, as text.
    pub async fn dump(&self) -> String {
        let events = self.api("events.k8s.io", "v1", "Event", "events");
        let mut text = String::new();
        for api in [self.registries(), events] {
            let all = api.list(&ListParams::default()).await.unwrap();
            text.push_str(&serde_json::to_string(&all).unwrap());
        }
        text
    }

    /// Watches from now on.
    pub fn remember(&self) -> History {
        let seen: Arc<Mutex<Vec<Written>>> = Arc::default();
        let mut changes = watcher(self.registries(), watcher::Config::default()).applied_objects().boxed();
        let writes = seen.clone();
        let task = tokio::spawn(async move {
            while let Some(Ok(registry)) = changes.next().await {
                let name = registry.metadata.name.clone().unwrap_or_default();
                let status = registry.data["status"].clone();
                let mut writes = writes.lock().unwrap();
                let last = writes.iter().rfind(|written| written.name == name).map(|last| &last.status);
                if !status.is_null() && last != Some(&status) {
                    writes.push(Written { at: Instant::now(), name, status });
                }
            }
        });
        History { seen, task }
    }
}

/// A status that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Moment at which it was seen.
    pub at: Instant,
    /// Name of the Registry.
    pub name: String,
    /// Status as it was written.
    pub status: Value,
}

/// All statuses that were written. It ends when it is dropped.
pub struct History {
    seen: Arc<Mutex<Vec<Written>>>,
    task: JoinHandle<()>,
}

impl History {
    pub fn of(&self, name: &str) -> Vec<Written> {
        self.seen.lock().unwrap().iter().filter(|written| written.name == name).cloned().collect()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The least spec that reaches these dependencies, reading the trunks each second.
pub fn spec(stage: &TestRegistry) -> Value {
    json!({
        "requesterAddr": format!("127.0.0.1:{}", stage.requester_port),
        "apiAddr": format!("127.0.0.1:{}", stage.api_port),
        "registerInterval": "1s",
        "edgePorts": [{ "address": "10.0.0.1:5060" }],
    })
}

/// Returns the spec of [`spec`], with other values by a merge of the top level.
pub fn spec_with(stage: &TestRegistry, more: Value) -> Value {
    let mut spec = spec(stage);
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

/// A status on few lines.
pub fn brief(status: &Value) -> String {
    let mut lines = vec![format!("generation {}, trunks {}", status["observedGeneration"], status["trunks"])];
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let text = |key: &str| condition[key].as_str().unwrap_or_default();
        lines.push(format!("{} {} {}: {}", text("type"), text("status"), text("reason"), text("message")));
    }
    lines.join("\n")
}

/// Returns the number of engines that were started, by the log.
pub fn starts(service: &Service) -> usize {
    log(service).iter().filter(|line| line["message"] == "running").count()
}

/// The message of a condition.
pub fn message(status: &Value, kind: &str) -> String {
    condition(status, kind)["message"].as_str().unwrap_or_default().to_owned()
}

/// Returns the time of the last change of a condition.
pub fn since(status: &Value, kind: &str) -> jiff::Timestamp {
    let found = condition(status, kind);
    found["lastTransitionTime"].as_str().and_then(|at| at.parse().ok()).unwrap_or_else(|| panic!("{found}"))
}

//! Observations of tests with several replicas: the history of an object, as a watch showed it, and the state
//! of a replica.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use routr_registry::spec::Registry;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::harness::{Installation, RELEASE, SOON};
use crate::support::control_plane::ControlPlane;
use crate::support::wait::wait_for;

/// Every version of one object that a watch has shown since this began, and when it came.
pub struct History<T> {
    /// Start of the watch.
    pub began: Instant,
    seen: Arc<Mutex<Vec<(Instant, T)>>>,
    task: JoinHandle<()>,
}

impl<T: Clone + Debug + Send + 'static> History<T> {
    /// Follows this object; `view` takes of it what matters.
    pub async fn of<K>(
        cluster: &Installation<'_>,
        name: &str,
        view: impl Fn(&K) -> T + Send + 'static,
    ) -> Self
    where
        K: Resource<Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        K::DynamicType: Default + Eq + std::hash::Hash + Clone,
    {
        Self::within(cluster.plane, cluster.namespace.name(), name, view).await
    }

    /// The same, in any namespace.
    pub async fn within<K>(
        plane: &ControlPlane,
        namespace: &str,
        name: &str,
        view: impl Fn(&K) -> T + Send + 'static,
    ) -> Self
    where
        K: Resource<Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        K::DynamicType: Default + Eq + std::hash::Hash + Clone,
    {
        let api: Api<K> = Api::namespaced(plane.client().await, namespace);
        let began = Instant::now();
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let seen: Arc<Mutex<Vec<(Instant, T)>>> = Arc::default();
        let notes = seen.clone();
        let task = tokio::spawn(async move {
            let mut events = pin!(watcher(api, config).default_backoff());
            while let Some(event) = events.next().await {
                if let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event {
                    notes.lock().unwrap().push((Instant::now(), view(&object)));
                }
            }
        });
        Self { began, seen, task }
    }

    /// Everything so far, oldest first.
    pub fn all(&self) -> Vec<(Instant, T)> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits for the first one after `since` that passes, and returns when it came.
    pub async fn first(&self, since: Instant, what: &str, passes: impl Fn(&T) -> bool) -> Instant {
        let look = async || {
            let all = self.all();
            let found = all.iter().find(|(at, view)| *at >= since && passes(view));
            found.map(|(at, _)| *at).ok_or_else(|| format!("{:?}", all.last()))
        };
        wait_for(look, SOON, what).await
    }
}

impl<T> Drop for History<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns the history of the Lease's holders, by the names of pods; `None` where there was none.
pub async fn holders(cluster: &Installation<'_>) -> History<Option<String>> {
    History::of(cluster, RELEASE, |lease: &Lease| {
        let holder = lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())?;
        Some(holder.rsplit_once('_').map_or(holder, |(pod, _)| pod).to_owned())
    })
    .await
}

impl History<Option<String>> {
    /// Waits until this pod holds it, and returns how long that took from `since`. Panics where the one
    /// before had not let it go: then it ran out, which takes the whole lease duration.
    pub async fn handed_to(&self, pod: &str, since: Instant) -> Duration {
        let took = self.held_by(pod, since).await;
        let all = self.all();
        let taken = |(at, holder): &(Instant, Option<String>)| *at >= since && holder.as_deref() == Some(pod);
        let place = all.iter().position(taken).expect("it was just seen");
        let before = place.checked_sub(1).map(|before| &all[before].1);
        assert_eq!(before, Some(&None), "it was not let go: {all:?}");
        took
    }

    /// Waits until this pod holds it, and returns how long that took from `since`.
    pub async fn held_by(&self, pod: &str, since: Instant) -> Duration {
        let what = format!("{pod} to hold the Lease");
        self.first(since, &what, |holder| holder.as_deref() == Some(pod)).await - since
    }
}

/// The condition Ready of a Registry, as often as its status was written.
pub async fn readiness(cluster: &Installation<'_>, name: &str) -> History<Option<Condition>> {
    History::of(cluster, name, |registry: &Registry| {
        let conditions = &registry.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.type_ == "Ready").cloned()
    })
    .await
}

impl History<Option<Condition>> {
    /// Panics when Ready was anything but True since it first was, or turned True again.
    #[track_caller]
    pub fn stayed_ready(&self) {
        let all = self.all();
        let conditions: Vec<&Condition> = all.iter().filter_map(|(_, ready)| ready.as_ref()).collect();
        let first = conditions.iter().position(|ready| ready.status == "True").expect("it was ready once");
        for ready in &conditions[first..] {
            let since = |condition: &Condition| condition.last_transition_time.0;
            assert_eq!(ready.status, "True", "{ready:?}");
            assert_eq!(since(ready), since(conditions[first]), "{ready:?}");
        }
    }
}

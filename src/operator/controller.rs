//! Watches Registries, and has each looked at when it changes: in all namespaces, or in some.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, future::join_all};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        Controller, Predicate, WatchStreamExt,
        controller::{self, Action},
        predicates, reflector,
        watcher::{self, watcher},
    },
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    found::Found,
    reconcile::{self, Context, ReconcileError},
};
use crate::telemetry;

/// First and longest pause after a failed reconcile.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Registries in one answer of a listing: all of them, so that none is looked at before the listing is complete.
const PAGE: u32 = 10_000;
/// After so many failures in a row the status tells.
const TELL_AFTER: u32 = 3;
/// The same trouble with a watch is told again after this long.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// Watches by `client` until it is dropped. Without namespaces: in all of them.
pub async fn run(client: &Client, context: Arc<Context>, namespaces: &[String]) {
    if namespaces.is_empty() {
        return watch(Api::all(client.clone()), None, context.clone()).await;
    }
    // One controller for each: a listing of one namespace says nothing of what another one has.
    let all = namespaces.iter().map(|namespace| {
        watch(Api::namespaced(client.clone(), namespace), Some(namespace.as_str()), context.clone())
    });
    join_all(all).await;
}

async fn watch(api: Api<Found>, namespace: Option<&str>, context: Arc<Context>) {
    let (reader, writer) = reflector::store();
    let (gone, vanished) = mpsc::unbounded_channel();
    let mut census = Census { listed: HashSet::new(), gone };
    let fleet = context.clone();
    let scope = namespace.map(str::to_owned);
    let stream = watcher(api, watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .inspect_ok(move |event| census.take(event, || fleet.fleet.uids(scope.as_deref())))
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::finalizers), Default::default());
    let failures = Arc::new(Failures::default());
    let policy = {
        let failures = failures.clone();
        move |registry: Arc<Found>, error: &ReconcileError, context: Arc<Context>| {
            let (failures, pause) = failures.of(&registry, error);
            if failures >= TELL_AFTER {
                reconcile::tell(&registry, error, &context);
            }
            Action::requeue(pause)
        }
    };
    let reconciled = |registry: Arc<Found>, context: Arc<Context>| {
        let (failures, counted) = (failures.clone(), context.clone());
        async move {
            let done = reconcile::reconcile(registry.clone(), context).await;
            if done.is_ok() {
                failures.forget(&registry);
            }
            counted.metrics.operator().reconciled(if done.is_ok() { "ok" } else { "failed" });
            done
        }
    };
    let mut told = Warnings::default();
    let work =
        Controller::for_stream(stream, reader).run(reconciled, policy, context.clone()).for_each(|result| {
            if let Err(controller::Error::QueueError(error)) = result {
                told.watch_failed(&error, namespace);
            }
            std::future::ready(())
        });
    tokio::join!(work, dismiss_vanished(vanished, &context));
}

/// A Registry that is gone without its finalizer having run: somebody took the finalizer away. Its bindings are left alone,
/// for a successor may have the same contacts.
async fn dismiss_vanished(mut vanished: mpsc::UnboundedReceiver<String>, context: &Arc<Context>) {
    while let Some(uid) = vanished.recv().await {
        let context = context.clone();
        // Each takes its grace: they end side by side.
        tokio::spawn(async move { context.fleet.dismiss(&uid).await });
    }
}

/// Notices what is not there any more.
struct Census {
    listed: HashSet<String>,
    gone: mpsc::UnboundedSender<String>,
}

impl Census {
    fn take(&mut self, event: &watcher::Event<Found>, here: impl FnOnce() -> Vec<String>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(registry) => self.listed.extend(registry.uid()),
            watcher::Event::InitDone => {
                here().into_iter().filter(|uid| !self.listed.contains(uid)).for_each(|uid| self.report(uid));
                self.listed.clear();
            }
            watcher::Event::Delete(registry) => registry.uid().into_iter().for_each(|uid| self.report(uid)),
            watcher::Event::Apply(_) => {}
        }
    }

    fn report(&self, uid: String) {
        // Nobody listens only at the end.
        let _ = self.gone.send(uid);
    }
}

/// How often in a row each Registry could not be looked at, and what was logged of it.
#[derive(Default)]
struct Failures(Mutex<HashMap<String, (u32, String)>>);

impl Failures {
    /// Logs a failure unless the one before it was the same.
    fn of(&self, registry: &Found, error: &ReconcileError) -> (u32, Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (failures, logged) = all.entry(registry.uid().unwrap_or_default()).or_default();
        let pause = RETRY.0.saturating_mul(1 << (*failures).min(10)).min(RETRY.1);
        *failures += 1;
        let count = *failures;
        let (name, error) = (registry.object_ref(&()), telemetry::told(error));
        let (namespace, registry, again_s) = (name.namespace, name.name, pause.as_secs());
        if *logged == error {
            tracing::debug!(namespace, registry, error, again_s, "cannot reconcile");
        } else {
            tracing::warn!(namespace, registry, error, again_s, "cannot reconcile; trying again");
            *logged = error;
        }
        (count, pause)
    }

    fn forget(&self, registry: &Found) {
        let Some(uid) = registry.uid() else { return };
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        if let Some((failures, _)) = failed {
            let name = registry.object_ref(&());
            tracing::info!(
                namespace = name.namespace,
                registry = name.name,
                failures,
                "reconciles succeed again"
            );
        }
    }
}

/// Tells troubles with the watch, but not each time.
#[derive(Default)]
struct Warnings {
    last: Option<Instant>,
}

impl Warnings {
    fn watch_failed(&mut self, error: &watcher::Error, namespace: Option<&str>) {
        let advice = advice(error);
        let error = telemetry::told(error);
        if self.last.is_some_and(|at| at.elapsed() < BETWEEN_WARNINGS) {
            tracing::debug!(error, "cannot watch Registries");
            return;
        }
        self.last = Some(Instant::now());
        let place = namespace.map_or_else(|| "all namespaces".to_owned(), |ns| format!("namespace {ns}"));
        tracing::warn!(error, "cannot watch Registries in {place}; trying again. {advice}");
    }
}

/// What a person could do.
fn advice(error: &watcher::Error) -> &'static str {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(answer))
        | watcher::Error::WatchStartFailed(kube::Error::Api(answer)) => answer.code,
        watcher::Error::WatchError(answer) => answer.code,
        _ => 0,
    };
    match code {
        403 => "The ServiceAccount needs list, watch and patch on registries.routr.io there",
        404 => {
            "The definition registries.routr.io is not installed: routr-registry crd | kubectl apply --server-side -f -"
        }
        _ => "Engines go on with what they have",
    }
}

//! Watches Registries, and has each looked at when it changes: in all namespaces, or in some.

use std::{
    collections::{HashMap, HashSet},
    future::ready,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt, TryStreamExt, future::join_all, stream};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        Controller, Predicate, WatchStreamExt,
        controller::{self, Action},
        predicates, reflector,
        watcher::{self, watcher},
    },
};
use tokio::sync::mpsc;

use super::{
    backoff::{self, WatchBackoff},
    engines::Desired,
    health::{Area, Health},
    lenient_registry::LenientRegistry,
    listing::PageSize,
    reconcile::{self, Context, ReconcileError},
};
use crate::telemetry;
use routr_kube_errors::{ApiError, Kind};

/// First and longest pause after a failed reconcile.
const RETRY_PERIOD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Failures in a row after which the status reports them.
const REPORT_AFTER_FAILURES: u32 = 3;
/// Seconds after which the API server ends a watch, so that one which is dead is noticed soon after that.
const WATCH_TIMEOUT_S: u32 = 60;
/// A watch that was refused this often in a row begins with a list again.
const RELIST_AFTER_FAILURES: u32 = 5;
/// Time that each Registry which waits for the API server adds to the pause of each of them, and the longest
/// such pause: an API server that is overloaded is not asked by thousands at once.
const RETRY_PERIOD_PER_REGISTRY: Duration = Duration::from_millis(20);
const MAX_RETRY_PERIOD_SHARE: Duration = Duration::from_secs(20);

/// Watches by `client` until it is dropped. Without namespaces: in all of them.
pub async fn run(client: &Client, context: Arc<Context>, namespaces: &[String]) {
    if namespaces.is_empty() {
        return watch(Api::all(client.clone()), None, context.clone()).await;
    }
    // One controller for each: a list of one namespace says nothing of what another one has.
    let all = namespaces.iter().map(|namespace| {
        watch(Api::namespaced(client.clone(), namespace), Some(namespace.as_str()), context.clone())
    });
    join_all(all).await;
}

async fn watch(api: Api<LenientRegistry>, namespace: Option<&str>, context: Arc<Context>) {
    let (reader, writer) = reflector::store();
    let (gone, vanished) = mpsc::unbounded_channel();
    let mut deletions = DeletionDetector { listed: HashSet::new(), gone };
    let (shared, known) = (context.clone(), context.clone());
    let scope = namespace.map(str::to_owned);
    let stream = observed(api, namespace, &context.health)
        .inspect_ok(move |event| deletions.take(event, || shared.engines.uids(scope.as_deref())))
        .modify(move |registry: &mut LenientRegistry| {
            if registry.meta().uid.as_deref().is_some_and(|uid| known.engines.is_observed(uid)) {
                registry.forget_status();
            }
        })
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::finalizers), Default::default());
    let failures = Arc::new(Failures::default());
    let policy = {
        let failures = failures.clone();
        move |registry: Arc<LenientRegistry>, error: &ReconcileError, context: Arc<Context>| {
            let namespace = registry.namespace();
            let noted = error
                .api_error()
                .is_some_and(|error| context.health.failed(Area::Finalizers, namespace.as_deref(), error));
            let (failures, pause) = failures.of(&registry, error, noted);
            if failures >= REPORT_AFTER_FAILURES {
                reconcile::report_finalizer_error(&registry, error, &context);
            }
            Action::requeue(pause)
        }
    };
    let reconciled = |registry: Arc<LenientRegistry>, context: Arc<Context>| {
        let (failures, counted) = (failures.clone(), context.clone());
        async move {
            // All others ask the API server for nothing, which proves nothing.
            let asks = registry.meta().deletion_timestamp.is_some()
                || !registry.finalizers().iter().any(|finalizer| finalizer == reconcile::FINALIZER);
            let done = reconcile::reconcile(registry.clone(), context).await;
            if done.is_ok() {
                failures.forget(&registry);
                if asks {
                    counted.health.succeeded(Area::Finalizers, registry.namespace().as_deref());
                }
            }
            counted.metrics.operator().reconciled(done.as_ref().err().map(ReconcileError::reason));
            done
        }
    };
    // What fails in the watch or in a reconcile is noted where it fails.
    let work =
        Controller::for_stream(stream, reader).run(reconciled, policy, context.clone()).for_each(|result| {
            if let Err(error @ controller::Error::RunnerError(_)) = result {
                tracing::debug!(error = telemetry::error_chain(&error), "the controller's queue failed");
            }
            std::future::ready(())
        });
    tokio::join!(work, stop_deleted(vanished, &context));
}

/// Returns what a watch shows, with the failures in between, each of which is noted and followed by a pause.
fn observed(
    api: Api<LenientRegistry>,
    namespace: Option<&str>,
    health: &Health,
) -> impl Stream<Item = watcher::Result<watcher::Event<LenientRegistry>>> + use<> {
    let backoff = WatchBackoff::default();
    let (health, namespace, pace) = (health.clone(), namespace.map(str::to_owned), backoff.clone());
    // Nothing is looked at before the last page is there: the controller waits for that.
    let pages = PageSize::default();
    let begin = move || {
        let config = watcher::Config::default().page_size(pages.get()).timeout(WATCH_TIMEOUT_S);
        let start = Start { pages: pages.clone(), refused: 0 };
        watcher(api.clone(), config).scan(start, |start, event| ready(start.passes(event)))
    };
    let note = move |event: &watcher::Result<watcher::Event<LenientRegistry>>| match event {
        Ok(watcher::Event::InitDone) => {
            health.listed(namespace.as_deref());
            pace.succeeded();
        }
        Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => pace.succeeded(),
        Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
        Err(error) => {
            let error = ApiError::of_watch(error);
            pace.failed(&error);
            if error.kind != Kind::Expired {
                health.watch_failed(namespace.as_deref(), &error);
            }
        }
    };
    stream::repeat_with(begin).flatten().inspect(note).backoff(backoff)
}

/// kube begins a watch that is refused again and again from the same version. One that the API server has
/// forgotten, or does not know since its data came from a backup, is never accepted: everything is listed
/// again instead. So it is in smaller pages where a page was too long, which is no failure.
#[derive(Debug, Default)]
struct Start {
    pages: PageSize,
    refused: u32,
}

impl Start {
    /// `None` ends this watcher; the next one begins with a list.
    fn passes<T>(&mut self, event: watcher::Result<T>) -> Option<watcher::Result<T>> {
        if self.refused >= RELIST_AFTER_FAILURES {
            return None;
        }
        match &event {
            Err(watcher::Error::WatchStartFailed(error)) if ApiError::from(error).kind == Kind::Expired => {
                self.refused = RELIST_AFTER_FAILURES;
            }
            Err(watcher::Error::WatchStartFailed(_)) => self.refused += 1,
            Err(watcher::Error::InitialListFailed(error)) if self.pages.shrinks_for(error) => return None,
            Ok(_) => self.refused = 0,
            Err(_) => {}
        }
        Some(event)
    }
}

/// A Registry that is gone without its finalizer having run: someone took the finalizer away. Its bindings
/// are left alone, for a successor may have the same contacts.
async fn stop_deleted(mut vanished: mpsc::UnboundedReceiver<String>, context: &Arc<Context>) {
    while let Some(uid) = vanished.recv().await {
        let context = context.clone();
        // Each takes its grace: they end side by side.
        tokio::spawn(async move { context.engines.apply(&uid, 0, Desired::Gone).await });
    }
}

/// Detects Registries that are not there any more.
struct DeletionDetector {
    listed: HashSet<String>,
    gone: mpsc::UnboundedSender<String>,
}

impl DeletionDetector {
    fn take(&mut self, event: &watcher::Event<LenientRegistry>, here: impl FnOnce() -> Vec<String>) {
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
        // No one listens only at the end.
        let _ = self.gone.send(uid);
    }
}

/// Failures in a row to reconcile each Registry, and the last one that was logged.
#[derive(Default)]
struct Failures(Mutex<HashMap<String, (u32, String)>>);

impl Failures {
    /// Logs a failure unless the one before it was the same, or is `noted` elsewhere for all Registries at
    /// once.
    fn of(&self, registry: &LenientRegistry, error: &ReconcileError, noted: bool) -> (u32, Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let (failures, logged) = all.entry(registry.uid().unwrap_or_default()).or_default();
        let passes = error.api_error().is_some_and(ApiError::is_unavailable);
        let pause = if passes {
            let wait = error.api_error().and_then(|error| error.retry_after);
            backoff::pause(*failures, wait)
                .max(RETRY_PERIOD_PER_REGISTRY.saturating_mul(failing).min(MAX_RETRY_PERIOD_SHARE))
        } else {
            RETRY_PERIOD.0.saturating_mul(1 << (*failures).min(10)).min(RETRY_PERIOD.1)
        };
        *failures += 1;
        let count = *failures;
        let (name, error) = (registry.object_ref(&()), telemetry::error_chain(error));
        let (namespace, registry, again_s) = (name.namespace, name.name, pause.as_secs());
        if noted || *logged == error {
            tracing::debug!(namespace, registry, error, again_s, "cannot reconcile");
        } else {
            tracing::warn!(namespace, registry, error, again_s, "cannot reconcile; trying again");
            *logged = error;
        }
        (count, pause)
    }

    fn forget(&self, registry: &LenientRegistry) {
        let Some(uid) = registry.uid() else { return };
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        if let Some((failures, _)) = failed.filter(|(_, logged)| !logged.is_empty()) {
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

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> watcher::Result<()> {
        Err(watcher::Error::WatchStartFailed(kube::Error::Api(
            Status::failure("", "").with_code(code).boxed(),
        )))
    }

    #[test]
    fn a_watch_that_is_never_accepted_is_begun_with_a_list_again() {
        let mut start = Start::default();
        assert!(start.passes(refused(410)).is_some() && start.passes(Ok(())).is_none());
        let mut start = Start::default();
        assert!((0..RELIST_AFTER_FAILURES).all(|_| start.passes(refused(504)).is_some()));
        assert!(start.passes(refused(504)).is_none());
        let mut start = Start::default();
        for _ in 0..100 {
            assert!(start.passes(refused(503)).is_some() && start.passes(Ok(())).is_some());
        }
    }
}

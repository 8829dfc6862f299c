//! Health of the operator's own requests to the Kubernetes API server: one log line when a failure begins or
//! changes, one when it is over, and the findings for `/readyz` meanwhile.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::admin::{CheckState as Severity, Finding};
use routr_kube_errors::{ApiError, Kind};

/// Failures that take turns are a line each only after this long.
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// A failure that goes on is said again this often.
const REMIND_EVERY: Duration = Duration::from_secs(20);
/// Time without another failure after which a failure is over: of many requests some fail and some succeed.
const QUIET_PERIOD: Duration = Duration::from_secs(5);
/// Namespaces that `/readyz` names for each area.
const MAX_NAMED: usize = 3;
/// Command that installs the definition of the resource.
pub const UPGRADE: &str = "routr-registry crd | kubectl apply --server-side -f -";

/// The health of all requests but those for the Lease. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    watches: BTreeMap<String, Watch>,
    failures: BTreeMap<(Area, Option<String>), Trouble>,
    definition: Option<String>,
}

/// Purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Any of them: the API server is unavailable.
    Requests,
    /// Finalizers of Registries.
    Finalizers,
    /// Statuses of Registries.
    Statuses,
    /// Events about Registries.
    Events,
}

impl Area {
    const ALL: [Self; 4] = [Self::Requests, Self::Finalizers, Self::Statuses, Self::Events];

    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Finalizers => "finalizers",
            Self::Statuses => "statuses",
            Self::Events => "events",
        }
    }

    fn problem(self) -> &'static str {
        match self {
            Self::Requests => {
                "requests to the Kubernetes API server fail: statuses, finalizers and Secrets wait"
            }
            Self::Finalizers => "cannot set finalizers: new Registries do not run, and deleted ones stay",
            Self::Statuses => "cannot write statuses: they are out of date",
            Self::Events => "cannot record events: `kubectl describe registry` shows none",
        }
    }
}

/// The list and the watch of one namespace, or of all.
#[derive(Debug, Default)]
struct Watch {
    listed: bool,
    trouble: Trouble,
}

/// A failure that may go on.
#[derive(Debug, Default)]
struct Trouble {
    current: Option<(ApiError, u64)>,
    failed_at: Option<Instant>,
    logged: Option<((Kind, Option<u16>), Instant)>,
}

impl Trouble {
    /// Notes a failure. Returns whether a line is due: it is the first one, another one than before, or goes
    /// on for long.
    fn begin(&mut self, error: &ApiError) -> bool {
        let now = Instant::now();
        let key = (error.kind, error.code);
        let since = self.current.as_ref().map_or_else(routr_environment::unix_ms, |(_, since)| *since);
        let first = self.current.is_none();
        self.current = Some((error.clone(), since));
        self.failed_at = Some(now);
        let due = match self.logged {
            Some((logged, at)) => {
                let pause = if logged == key { REMIND_EVERY } else { LOG_PERIOD };
                first || now.duration_since(at) >= pause
            }
            None => true,
        };
        if due {
            self.logged = Some((key, now));
        }
        due
    }

    /// Returns the number of seconds for which it has failed.
    fn failing_s(&self) -> u64 {
        self.current
            .as_ref()
            .map_or(0, |(_, since)| routr_environment::unix_ms().saturating_sub(*since) / 1_000)
    }

    /// Notes a success. Returns for how many seconds it had failed, if it had.
    fn end(&mut self) -> Option<u64> {
        let (_, since) = self.current.take()?;
        (self.failed_at, self.logged) = (None, None);
        Some(routr_environment::unix_ms().saturating_sub(since) / 1_000)
    }

    fn is_calm(&self) -> bool {
        self.failed_at.is_none_or(|at| at.elapsed() >= QUIET_PERIOD)
    }
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A term begins: Registries are listed in these namespaces; none: in all of them.
    pub fn begin(&self, namespaces: &[String]) {
        let mut state = self.state();
        let places = if namespaces.is_empty() {
            vec![place(None)]
        } else {
            namespaces.iter().map(|ns| place(Some(ns))).collect()
        };
        state.watches = places.into_iter().map(|place| (place, Watch::default())).collect();
    }

    /// A term has ended: nothing is listed or written any more.
    pub fn end(&self) {
        *self.state() = State::default();
    }

    /// A list or a watch has failed.
    pub fn watch_failed(&self, namespace: Option<&str>, error: &ApiError) {
        let place = place(namespace);
        let mut state = self.state();
        let Some(watch) = state.watches.get_mut(&place) else { return };
        let due = watch.trouble.begin(error);
        let failing_s = watch.trouble.failing_s();
        let listed = watch.listed;
        drop(state);
        let advice = watch_advice(error);
        match (due, listed) {
            (true, false) => tracing::warn!(
                failing_s,
                %error,
                "cannot list Registries in {place}: none of them runs until that succeeds; trying again every few seconds{advice}"
            ),
            (true, true) => tracing::warn!(
                failing_s,
                %error,
                "cannot watch Registries in {place}: engines continue, changes are not seen; trying again every few seconds{advice}"
            ),
            (false, _) => tracing::debug!(%error, "cannot watch Registries in {place}"),
        }
    }

    /// All Registries of a namespace are listed.
    pub fn listed(&self, namespace: Option<&str>) {
        if let Some(watch) = self.state().watches.get_mut(&place(namespace)) {
            watch.listed = true;
        }
    }

    /// A candidate has listed all Registries of a namespace.
    pub fn proven(&self, namespace: Option<&str>) {
        let place = place(namespace);
        let mut state = self.state();
        let Some(watch) = state.watches.get_mut(&place) else { return };
        watch.listed = true;
        let failed = watch.trouble.end();
        drop(state);
        if let Some(seconds) = failed {
            tracing::info!(after_s = seconds, "Registries in {place} can be listed");
        }
    }

    /// The API server has accepted a watch: its list has succeeded before.
    pub fn watching(&self, namespace: Option<&str>) {
        let place = place(namespace);
        let failed = self.state().watches.get_mut(&place).and_then(|watch| watch.trouble.end());
        if let Some(seconds) = failed {
            tracing::info!(after_s = seconds, "Registries in {place} are watched again");
        }
    }

    /// Records a watch as [`Health::watching`] does, by the path of the request.
    pub fn watching_path(&self, path: &str) {
        let (_, rest) = path.split_once("/namespaces/").unzip();
        self.watching(rest.and_then(|rest| rest.split('/').next()));
    }

    /// A request has failed. Only what concerns many Registries at once is noted, an API server that is
    /// unavailable and a right that is missing; what is wrong with one object is logged and shown there.
    /// Returns whether it was noted.
    pub fn failed(&self, area: Area, namespace: Option<&str>, error: &ApiError) -> bool {
        let key = match error.kind {
            Kind::Unavailable | Kind::Unauthenticated => (Area::Requests, None),
            Kind::Forbidden => (area, namespace.map(str::to_owned)),
            _ if area == Area::Events => (area, namespace.map(str::to_owned)),
            _ => return false,
        };
        let (area, place) = (key.0, place(key.1.as_deref()));
        let mut state = self.state();
        let trouble = state.failures.entry(key).or_default();
        let (due, failing_s) = (trouble.begin(error), trouble.failing_s());
        drop(state);
        if due {
            tracing::warn!(failing_s, %error, "{} in {place}; trying again", area.problem());
        } else {
            tracing::debug!(%error, "{} in {place}", area.problem());
        }
        true
    }

    /// A request has succeeded, or was refused for a reason of its own.
    pub fn succeeded(&self, area: Area, namespace: Option<&str>) {
        for key in [(Area::Requests, None), (area, namespace.map(str::to_owned))] {
            let mut state = self.state();
            let Some(trouble) = state.failures.get_mut(&key).filter(|trouble| trouble.is_calm()) else {
                continue;
            };
            let seconds = trouble.end().unwrap_or_default();
            state.failures.remove(&key);
            drop(state);
            tracing::info!(after_s = seconds, "resolved in {}: {}", place(key.1.as_deref()), key.0.problem());
        }
    }

    /// The definition in the cluster does not take these parts of a status; none: it takes all. `newer`: it
    /// wants something that this operator does not know.
    pub fn definition_lacks(&self, parts: &[String], newer: bool) {
        let message = (!parts.is_empty()).then(|| {
            let upgrade = if newer {
                "it is newer: upgrade the operator".to_owned()
            } else {
                format!("it is older: upgrade it with {UPGRADE}")
            };
            format!(
                "the definition registries.routr.io in the cluster does not take {} of this operator ({}), and statuses are written \
                 without; {upgrade}",
                parts.join(", "),
                env!("CARGO_PKG_VERSION"),
            )
        });
        let before = std::mem::replace(&mut self.state().definition, message.clone());
        match message {
            Some(message) if before.as_ref() != Some(&message) => tracing::warn!("{message}"),
            None if before.is_some() => {
                tracing::info!("the definition registries.routr.io takes the whole status again");
            }
            _ => {}
        }
    }

    /// Returns what the definition in the cluster does not take, in plain words.
    #[must_use]
    pub fn definition(&self) -> Option<String> {
        self.state().definition.clone()
    }

    /// Returns what `/readyz` says. Empty where this replica does not lead.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let state = self.state();
        let listed = state.watches.values().any(|watch| watch.listed);
        let watches = state.watches.iter();
        let mut all: Vec<Finding> = watches.map(|(place, watch)| watch.finding(place, listed)).collect();
        if all.len() > 1 && all.iter().all(|finding| finding.severity == Severity::Ok) {
            all.truncate(1);
            let message = format!("Registries in {} namespaces are listed and watched", state.watches.len());
            all.iter_mut().for_each(|finding| finding.message.clone_from(&message));
        }
        for area in Area::ALL {
            let failures = state.failures.iter().filter(|((of, _), _)| *of == area);
            let found = failures.filter_map(|((_, namespace), trouble)| {
                let (error, since) = trouble.current.as_ref()?;
                Some(Finding {
                    check: area.name(),
                    severity: Severity::Degraded,
                    message: format!("{} in {}: {error}", area.problem(), place(namespace.as_deref())),
                    since_ms: Some(*since),
                })
            });
            all.extend(found.take(MAX_NAMED));
        }
        all.extend(state.definition.iter().map(|message| Finding {
            check: "definition",
            severity: Severity::Degraded,
            message: message.clone(),
            since_ms: None,
        }));
        all
    }
}

impl Watch {
    /// `others`: any namespace is listed.
    fn finding(&self, place: &str, others: bool) -> Finding {
        let (severity, message) = match (&self.trouble.current, self.listed) {
            (None, true) => (Severity::Ok, format!("Registries in {place} are listed and watched")),
            (None, false) => (Severity::Failed, format!("Registries in {place} are not listed yet")),
            (Some((error, _)), true) => (
                Severity::Degraded,
                format!(
                    "cannot watch Registries in {place}: {error}{}; engines continue",
                    watch_advice(error)
                ),
            ),
            // Who has listed nothing is not ready. Of one namespace among others it takes a person, and no
            // restart helps.
            (Some((error, _)), false) => (
                if others && takes_a_person(error) { Severity::Degraded } else { Severity::Failed },
                format!(
                    "cannot list Registries in {place}: {error}{}; none of them runs",
                    watch_advice(error)
                ),
            ),
        };
        let since_ms = self.trouble.current.as_ref().map(|(_, since)| *since);
        Finding { check: "watch", severity, message, since_ms }
    }
}

fn takes_a_person(error: &ApiError) -> bool {
    matches!(error.kind, Kind::Forbidden | Kind::NotFound)
}

fn watch_advice(error: &ApiError) -> String {
    match error.kind {
        Kind::Forbidden => {
            "; it needs list, watch and patch on registries.routr.io, and patch on registries.routr.io/status"
                .to_owned()
        }
        Kind::NotFound => {
            format!("; the definition registries.routr.io is not installed, or of another version: {UPGRADE}")
        }
        _ => String::new(),
    }
}

fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "all namespaces".to_owned(), |namespace| format!("namespace {namespace}"))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn error(code: u16) -> ApiError {
        ApiError::of_status(&Status::failure("as it says", "Reason").with_code(code))
    }

    fn severities(health: &Health) -> Vec<(&'static str, Severity)> {
        health.findings().iter().map(|finding| (finding.check, finding.severity)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn k1_it_is_not_ready_before_the_first_list_and_degraded_afterwards() {
        let health = Health::default();
        assert_eq!(severities(&health), [], "who does not lead lists nothing");
        health.begin(&[]);
        assert_eq!(severities(&health), [("watch", Severity::Failed)]);
        health.watch_failed(None, &error(503));
        assert_eq!(severities(&health), [("watch", Severity::Failed)]);
        assert!(health.findings()[0].message.contains("503 (Reason): as it says"), "{:?}", health.findings());
        health.listed(None);
        health.watching_path("/apis/routr.io/v2beta1/registries");
        assert_eq!(severities(&health), [("watch", Severity::Ok)]);
        health.watch_failed(None, &error(503));
        assert_eq!(severities(&health), [("watch", Severity::Degraded)]);
        health.end();
        assert_eq!(severities(&health), []);
    }

    #[tokio::test(start_paused = true)]
    async fn k8_a_namespace_without_the_right_to_list_is_named_and_leaves_the_others_alone() {
        let health = Health::default();
        health.begin(&["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        for namespace in ["a", "c"] {
            health.listed(Some(namespace));
            health.watching_path(&format!("/apis/routr.io/v2beta1/namespaces/{namespace}/registries"));
        }
        health.watch_failed(Some("b"), &error(403));
        let findings = health.findings();
        assert_eq!(findings.iter().filter(|finding| finding.severity == Severity::Ok).count(), 2);
        let b = findings.iter().find(|finding| finding.severity == Severity::Degraded).unwrap();
        assert!(
            b.message.contains("namespace b") && b.message.contains("list, watch and patch on"),
            "{}",
            b.message
        );
        health.listed(Some("b"));
        health.watching(Some("b"));
        assert_eq!(severities(&health), [("watch", Severity::Ok)], "one line for all");
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_is_a_line_when_it_begins_or_changes() {
        let mut trouble = Trouble::default();
        assert!(trouble.begin(&error(429)) && !trouble.begin(&error(429)));
        assert!(!trouble.begin(&error(503)), "it takes turns");
        tokio::time::advance(LOG_PERIOD).await;
        assert!(trouble.begin(&error(503)) && !trouble.begin(&error(503)));
        // What goes on is said again every so often.
        tokio::time::advance(REMIND_EVERY - Duration::from_millis(1)).await;
        assert!(!trouble.begin(&error(503)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(trouble.begin(&error(503)) && !trouble.begin(&error(503)));
        assert!(trouble.end().is_some() && trouble.end().is_none());
        assert!(trouble.begin(&error(503)), "it begins again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_among_successes_is_over_after_a_calm() {
        let health = Health::default();
        assert!(!health.failed(Area::Statuses, Some("a"), &error(422)), "that is the object's own");
        assert!(health.failed(Area::Statuses, Some("a"), &error(503)));
        health.succeeded(Area::Statuses, Some("b"));
        assert_eq!(severities(&health), [("requests", Severity::Degraded)]);
        tokio::time::advance(QUIET_PERIOD).await;
        health.succeeded(Area::Finalizers, Some("b"));
        assert_eq!(severities(&health), []);
    }

    #[tokio::test(start_paused = true)]
    async fn k8_a_right_that_is_missing_in_one_namespace_is_named_until_it_is_there() {
        let health = Health::default();
        assert!(health.failed(Area::Statuses, Some("a"), &error(403)));
        assert!(health.failed(Area::Events, Some("a"), &error(403)));
        tokio::time::advance(QUIET_PERIOD).await;
        health.succeeded(Area::Statuses, Some("b"));
        assert_eq!(severities(&health), [("statuses", Severity::Degraded), ("events", Severity::Degraded)]);
        assert!(
            health.findings()[0].message.contains("in namespace a: the Kubernetes"),
            "{:?}",
            health.findings()
        );
        health.succeeded(Area::Statuses, Some("a"));
        assert_eq!(severities(&health), [("events", Severity::Degraded)]);
    }
}

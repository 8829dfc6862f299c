//! Health of the operator's own requests to the Kubernetes API server: one log line when a failure begins or
//! changes, one when it is over, and the findings for `/readyz` meanwhile.

mod failure;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use self::failure::Area;
use self::{
    failure::Failure,
    watch::{Watch, place, watch_advice},
};
use crate::admin::{CheckState, Finding};
use routr_kube_errors::{ApiError, Kind};

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
    failures: BTreeMap<(Area, Option<String>), Failure>,
    definition: Option<String>,
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
        let due = watch.failure.begin(error);
        let failing_s = watch.failure.failing_s();
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
        let failed = watch.failure.end();
        drop(state);
        if let Some(seconds) = failed {
            tracing::info!(after_s = seconds, "Registries in {place} can be listed");
        }
    }

    /// The API server has accepted a watch: its list has succeeded before.
    pub fn watching(&self, namespace: Option<&str>) {
        let place = place(namespace);
        let failed = self.state().watches.get_mut(&place).and_then(|watch| watch.failure.end());
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
        let failure = state.failures.entry(key).or_default();
        let (due, failing_s) = (failure.begin(error), failure.failing_s());
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
            let Some(failure) = state.failures.get_mut(&key).filter(|failure| failure.is_calm()) else {
                continue;
            };
            let seconds = failure.end().unwrap_or_default();
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
        if all.len() > 1 && all.iter().all(|finding| finding.severity == CheckState::Ok) {
            all.truncate(1);
            let message = format!("Registries in {} namespaces are listed and watched", state.watches.len());
            all.iter_mut().for_each(|finding| finding.message.clone_from(&message));
        }
        for area in Area::ALL {
            let failures = state.failures.iter().filter(|((of, _), _)| *of == area);
            let found = failures.filter_map(|((_, namespace), failure)| {
                let (error, since) = failure.current.as_ref()?;
                Some(Finding {
                    check: area.name(),
                    severity: CheckState::Degraded,
                    message: format!("{} in {}: {error}", area.problem(), place(namespace.as_deref())),
                    since_ms: Some(*since),
                })
            });
            all.extend(found.take(MAX_NAMED));
        }
        all.extend(state.definition.iter().map(|message| Finding {
            check: "definition",
            severity: CheckState::Degraded,
            message: message.clone(),
            since_ms: None,
        }));
        all
    }
}

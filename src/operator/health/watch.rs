//! The lists and watches of Registries, of one namespace or of all.

use super::{UPGRADE, failure::Failure};
use crate::admin::{CheckState, Finding};
use routr_kube_errors::{ApiError, Kind};

/// The list and the watch of one namespace, or of all.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The Registries are known.
    pub(super) listed: bool,
    pub(super) failure: Failure,
}

impl Watch {
    /// Returns the line of `/readyz`. `others`: any namespace is listed.
    pub(super) fn finding(&self, place: &str, others: bool) -> Finding {
        let (severity, message) = match (&self.failure.current, self.listed) {
            (None, true) => (CheckState::Ok, format!("Registries in {place} are listed and watched")),
            (None, false) => (CheckState::Failed, format!("Registries in {place} are not listed yet")),
            (Some((error, _)), true) => (
                CheckState::Degraded,
                format!(
                    "cannot watch Registries in {place}: {error}{}; engines continue",
                    watch_advice(error)
                ),
            ),
            // A replica that has listed nothing is not ready. Of one namespace among others it takes a user's
            // change, and no restart helps.
            (Some((error, _)), false) => (
                if others && needs_a_change(error) { CheckState::Degraded } else { CheckState::Failed },
                format!(
                    "cannot list Registries in {place}: {error}{}; none of them runs",
                    watch_advice(error)
                ),
            ),
        };
        let since_ms = self.failure.current.as_ref().map(|(_, since)| *since);
        Finding { check: "watch", severity, message, since_ms }
    }
}

fn needs_a_change(error: &ApiError) -> bool {
    matches!(error.kind, Kind::Forbidden | Kind::NotFound)
}

pub(super) fn watch_advice(error: &ApiError) -> String {
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

pub(super) fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "all namespaces".to_owned(), |namespace| format!("namespace {namespace}"))
}

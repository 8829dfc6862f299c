//! Registrar hosts that have a label value of their own.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use super::{MAX_NAMED_REGISTRARS, OTHER_REGISTRAR};

/// The names in use in the process, at most [`MAX_NAMED_REGISTRARS`].
#[derive(Debug, Default)]
pub(super) struct Named(RwLock<HashSet<Arc<str>>>);

impl Named {
    /// The label of a host, in lower case.
    pub(super) fn label(&self, host: &str) -> Arc<str> {
        let host = host.to_ascii_lowercase();
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(label) = known.get(host.as_str()) {
                return Arc::clone(label);
            }
            if known.len() >= MAX_NAMED_REGISTRARS {
                return Arc::from(OTHER_REGISTRAR);
            }
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = known.get(host.as_str()) {
            return Arc::clone(label);
        }
        if known.len() >= MAX_NAMED_REGISTRARS {
            return Arc::from(OTHER_REGISTRAR);
        }
        let label: Arc<str> = Arc::from(host);
        known.insert(Arc::clone(&label));
        label
    }

    /// Gives the places of names free that no series has any more.
    pub(super) fn keep(&self, used: impl Fn(&Arc<str>) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(used);
    }
}

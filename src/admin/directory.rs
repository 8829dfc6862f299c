//! The registries that run in this process: one from a configuration file, or one for each resource of an operator.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use crate::engine::handle::EngineHandle;

/// What a registry is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryName {
    /// Namespace of the resource; `None` where there is no Kubernetes.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// See the module. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<RwLock<BTreeMap<RegistryName, EngineHandle>>>);

impl Directory {
    /// Enters a registry, or replaces it.
    pub fn enter(&self, name: RegistryName, handle: EngineHandle) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, handle);
    }

    /// Takes a registry out.
    pub fn leave(&self, name: &RegistryName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// All that run, by name.
    pub fn all(&self) -> Vec<(RegistryName, EngineHandle)> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(name, handle)| (name.clone(), handle.clone())).collect()
    }
}

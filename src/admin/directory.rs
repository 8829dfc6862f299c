//! The registries that run in this process: one from a configuration file, or one for each resource of an operator.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use crate::engine::handle::EngineHandle;

/// How many names an error lists.
const LISTED: usize = 20;

/// What a registry is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryName {
    /// Namespace of the resource; `None` where there is no Kubernetes.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

impl RegistryName {
    /// The name of a registry outside Kubernetes.
    pub fn plain(name: impl Into<String>) -> Self {
        Self { namespace: None, name: name.into() }
    }

    /// The name of a resource.
    pub fn of(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), name: name.into() }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Why no registry was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoChoice {
    /// None runs.
    #[error("no registry runs in this process")]
    Empty,
    /// Several run, and none was named.
    #[error(
        "registry: {count} run here; name one with ?registry=NAMESPACE/NAME, or on the command line with \
         --registry NAMESPACE/NAME: {names}", count = .0.len(), names = listed(.0)
    )]
    Several(Vec<RegistryName>),
    /// A name without a namespace, of several.
    #[error("registry: {count} are named {asked:?}; write one of {names}", count = .names.len(), names = listed(.names))]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// What it may have meant.
        names: Vec<RegistryName>,
    },
    /// There is none of that name.
    #[error("registry: there is no {asked:?}; write NAMESPACE/NAME of one that runs here: {names}", names = listed(.names))]
    Unknown {
        /// What was asked for.
        asked: String,
        /// All that run.
        names: Vec<RegistryName>,
    },
}

fn listed(names: &[RegistryName]) -> String {
    let shown: Vec<String> = names.iter().take(LISTED).map(RegistryName::to_string).collect();
    match names.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more, all of them listed by /registries", shown.join(", ")),
    }
}

/// See the module. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<RwLock<BTreeMap<RegistryName, EngineHandle>>>);

impl Directory {
    /// The directory of a process that runs one registry.
    pub fn of_one(name: RegistryName, handle: EngineHandle) -> Self {
        let directory = Self::default();
        directory.enter(name, handle);
        directory
    }

    /// Enters a registry, or replaces it.
    pub fn enter(&self, name: RegistryName, handle: EngineHandle) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, handle);
    }

    /// Takes a registry out. To be done before its engine is stopped: an engine that is entered here and has stopped
    /// counts as broken.
    ///
    /// A registry that has taken over the name since then stays.
    pub fn leave(&self, name: &RegistryName, handle: &EngineHandle) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if entries.get(name).is_some_and(|entered| entered.is_same(handle)) {
            entries.remove(name);
        }
    }

    /// Gives a registry another name.
    pub fn rename(&self, name: &RegistryName, new: RegistryName) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = entries.remove(name) {
            entries.insert(new, handle);
        }
    }

    /// All that run, by name.
    pub fn all(&self) -> Vec<(RegistryName, EngineHandle)> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(name, handle)| (name.clone(), handle.clone())).collect()
    }

    /// The one of this name.
    pub fn get(&self, name: &RegistryName) -> Option<EngineHandle> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The registry that `asked` means: `NAMESPACE/NAME`, or `NAME` where only one has it. `None` means the only one.
    ///
    /// # Errors
    /// When it means none or several.
    pub(super) fn choose(&self, asked: Option<&str>) -> Result<EngineHandle, NoChoice> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let names = || entries.keys().cloned().collect();
        let Some(asked) = asked else {
            let mut handles = entries.values();
            return match (handles.next(), handles.next()) {
                (Some(only), None) => Ok(only.clone()),
                (None, _) => Err(NoChoice::Empty),
                (Some(_), Some(_)) => Err(NoChoice::Several(names())),
            };
        };
        if let Some((_, handle)) = entries.iter().find(|(name, _)| name.to_string() == asked) {
            return Ok(handle.clone());
        }
        let mut named = entries.iter().filter(|(name, _)| name.name == asked);
        match (named.next(), named.next()) {
            (Some((_, only)), None) => Ok(only.clone()),
            (Some(_), Some(_)) => Err(NoChoice::Ambiguous {
                asked: asked.to_owned(),
                names: entries.keys().filter(|name| name.name == asked).cloned().collect(),
            }),
            (None, _) if entries.is_empty() => Err(NoChoice::Empty),
            (None, _) => Err(NoChoice::Unknown { asked: asked.to_owned(), names: names() }),
        }
    }
}

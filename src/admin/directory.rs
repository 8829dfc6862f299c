//! The registries of this process: one from a configuration file, or one for each resource of an operator,
//! whether an engine runs for it or not.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::{
    registry::{RegistryName, RegistryState},
    runtime::handle::EngineHandle,
};

/// Most names that an error lists.
const MAX_LISTED_NAMES: usize = 20;

/// Reason that no registry was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SelectError {
    /// None runs.
    #[error("no registry runs in this process")]
    Empty,
    /// There is one, and no engine runs for it.
    #[error("registry {name} has no engine: it is {state}")]
    NotRunning {
        /// Name of the registry.
        name: RegistryName,
        /// State of its resource, which explains why no engine runs.
        state: Box<RegistryState>,
    },
    /// Several run, and none was named.
    #[error(
        "registry: {count} run here; name one with ?registry=NAMESPACE/NAME, or on the command line with \
         --registry NAMESPACE/NAME: {names}", count = .0.len(), names = listed(.0)
    )]
    Several(Vec<RegistryName>),
    /// A name without a namespace, of several.
    #[error("registry: {count} are named {asked:?}; write one of {names}", count = .names.len(), names = listed(.names))]
    Ambiguous {
        /// Name in the request.
        asked: String,
        /// Registries that it may have meant.
        names: Vec<RegistryName>,
    },
    /// There is none of that name.
    #[error("registry: there is no {asked:?}; write NAMESPACE/NAME of one that runs here: {names}", names = listed(.names))]
    Unknown {
        /// Name in the request.
        asked: String,
        /// All that run.
        names: Vec<RegistryName>,
    },
}

fn listed(names: &[RegistryName]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_LISTED_NAMES).map(RegistryName::to_string).collect();
    match names.len().saturating_sub(MAX_LISTED_NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more; /registries lists all", shown.join(", ")),
    }
}

/// The registries of this process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<RwLock<BTreeMap<RegistryName, Entry>>>);

#[derive(Clone, Debug, Default)]
struct Entry {
    engine: Option<EngineHandle>,
    /// UID and state of a resource.
    resource: Option<(Arc<str>, RegistryState)>,
    /// `metadata.generation` of the resource that was seen last.
    generation: Option<i64>,
}

/// One registry of the directory, at one moment.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Name of the registry.
    pub name: RegistryName,
    /// Its engine, where one runs.
    pub engine: Option<EngineHandle>,
    /// The state of its resource; `None` outside an operator.
    pub state: Option<RegistryState>,
    /// `metadata.generation` of the resource that was seen last; `None` where none was.
    pub generation: Option<i64>,
}

impl Directory {
    /// The directory of a process that runs one registry.
    pub fn of_one(name: RegistryName, handle: EngineHandle) -> Self {
        let directory = Self::default();
        directory.enter(name, handle);
        directory
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<RegistryName, Entry>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<RegistryName, Entry>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the engine of a registry, or replaces it.
    pub fn enter(&self, name: RegistryName, handle: EngineHandle) {
        self.write().entry(name).or_default().engine = Some(handle);
    }

    /// Takes an engine out. To be done before it is stopped: an engine that is entered here and has stopped
    /// counts as broken.
    ///
    /// The engine of a registry that has taken over the name since then stays.
    pub fn leave(&self, name: &RegistryName, handle: &EngineHandle) {
        let mut entries = self.write();
        let Some(entry) = entries.get_mut(name) else { return };
        if entry.engine.as_ref().is_some_and(|entered| entered.is_same(handle)) {
            entry.engine = None;
            if entry.resource.is_none() {
                entries.remove(name);
            }
        }
    }

    /// Lists a resource, from now on until what this returns is dropped. One that has its name from before is
    /// replaced.
    pub fn list(&self, name: &RegistryName, uid: &str) -> Listed {
        let uid: Arc<str> = uid.into();
        let state = RegistryState { reason: "Starting".to_owned(), ..RegistryState::default() };
        self.write().entry(name.clone()).or_default().resource = Some((uid.clone(), state));
        Listed { directory: self.clone(), name: name.clone(), uid }
    }

    /// Notes the generation of the spec of a resource that is listed.
    pub fn seen(&self, name: &RegistryName, generation: i64) {
        if let Some(entry) = self.write().get_mut(name) {
            entry.generation = Some(generation);
        }
    }

    /// Gives a registry another name.
    pub fn rename(&self, name: &RegistryName, new: RegistryName) {
        let mut entries = self.write();
        if let Some(entry) = entries.remove(name) {
            entries.insert(new, entry);
        }
    }

    /// All that there are, by name.
    pub fn all(&self) -> Vec<Listing> {
        let listing = |(name, entry): (&RegistryName, &Entry)| Listing {
            name: name.clone(),
            engine: entry.engine.clone(),
            state: entry.resource.as_ref().map(|(_, state)| state.clone()),
            generation: entry.generation,
        };
        self.read().iter().map(listing).collect()
    }

    /// The engine of this name.
    pub fn get(&self, name: &RegistryName) -> Option<EngineHandle> {
        self.read().get(name).and_then(|entry| entry.engine.clone())
    }

    /// The engine of the registry that `asked` means: `NAMESPACE/NAME`, or `NAME` where only one has it.
    /// `None` means the only one.
    ///
    /// # Errors
    /// When it means none, several, or one without an engine.
    pub(super) fn select(&self, asked: Option<&str>) -> Result<EngineHandle, SelectError> {
        let entries = self.read();
        let names = || entries.keys().cloned().collect();
        let Some(asked) = asked else {
            let mut all = entries.iter();
            return match (all.next(), all.next()) {
                (Some((name, only)), None) => only.engine(name),
                (None, _) => Err(SelectError::Empty),
                (Some(_), Some(_)) => Err(SelectError::Several(names())),
            };
        };
        if let Some((name, entry)) = entries.iter().find(|(name, _)| name.to_string() == asked) {
            return entry.engine(name);
        }
        let mut named = entries.iter().filter(|(name, _)| name.name == asked);
        match (named.next(), named.next()) {
            (Some((name, only)), None) => only.engine(name),
            (Some(_), Some(_)) => Err(SelectError::Ambiguous {
                asked: asked.to_owned(),
                names: entries.keys().filter(|name| name.name == asked).cloned().collect(),
            }),
            (None, _) if entries.is_empty() => Err(SelectError::Empty),
            (None, _) => Err(SelectError::Unknown { asked: asked.to_owned(), names: names() }),
        }
    }
}

impl Entry {
    fn engine(&self, name: &RegistryName) -> Result<EngineHandle, SelectError> {
        self.engine.clone().ok_or_else(|| SelectError::NotRunning {
            name: name.clone(),
            state: Box::new(self.resource.as_ref().map(|(_, state)| state.clone()).unwrap_or_default()),
        })
    }
}

/// A resource that is listed in a [`Directory`] until this is dropped.
#[derive(Debug)]
pub struct Listed {
    directory: Directory,
    name: RegistryName,
    /// The pointer, not its text, identifies the owner of the entry: a resource may be listed again while the
    /// former listing ends.
    uid: Arc<str>,
}

impl Listed {
    /// Shows this state.
    pub fn set(&self, state: RegistryState) {
        let mut entries = self.directory.write();
        if let Some((uid, shown)) = entries.get_mut(&self.name).and_then(|entry| entry.resource.as_mut())
            && Arc::ptr_eq(uid, &self.uid)
        {
            *shown = state;
        }
    }

    /// Returns how many registries the directory has.
    pub fn count(&self) -> usize {
        self.directory.read().len()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut entries = self.directory.write();
        let Some(entry) = entries.get_mut(&self.name) else { return };
        if entry.resource.as_ref().is_some_and(|(uid, _)| Arc::ptr_eq(uid, &self.uid)) {
            entry.resource = None;
            if entry.engine.is_none() {
                entries.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryPhase;

    fn states(directory: &Directory) -> Vec<(String, Option<&'static str>)> {
        let all = directory.all();
        all.iter()
            .map(|one| (one.name.to_string(), one.state.as_ref().map(|state| state.state.name())))
            .collect()
    }

    #[test]
    fn k10_a_resource_without_an_engine_is_listed_until_it_is_gone() {
        let (directory, name) = (Directory::default(), RegistryName::of("ns", "main"));
        let first = directory.list(&name, "1");
        assert_eq!(states(&directory), [("ns/main".to_owned(), Some("starting"))]);
        first.set(RegistryState {
            state: RegistryPhase::Stalled,
            ready: false,
            reason: "SecretNotFound".to_owned(),
            message: "there is none".to_owned(),
            ..RegistryState::default()
        });
        let error = directory.select(None).expect_err("nothing runs").to_string();
        assert_eq!(error, "registry ns/main has no engine: it is stalled (SecretNotFound): there is none");
        // Deleted and created again under its name, before the first one has ended.
        let second = directory.list(&name, "2");
        first.set(RegistryState { state: RegistryPhase::Deregistering, ..RegistryState::default() });
        drop(first);
        assert_eq!(states(&directory), [("ns/main".to_owned(), Some("starting"))]);
        assert_eq!(second.count(), 1);
        // The same one again.
        let third = directory.list(&name, "2");
        drop(second);
        assert_eq!(states(&directory).len(), 1);
        drop(third);
        assert_eq!(states(&directory), []);
        assert_eq!(directory.select(Some("ns/main")).expect_err("gone"), SelectError::Empty);
    }
}

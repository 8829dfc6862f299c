//! A registry as all of the program sees it: its name, and the state of its resource.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Name of a registry.
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

/// State of a Registry resource, from the operator's view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RegistryPhase {
    /// Nothing is decided yet.
    #[default]
    Starting,
    /// Its engine runs.
    Running,
    /// Its engine sends nothing, as the spec says.
    Suspended,
    /// Its spec cannot be followed; an engine may run by the last good one.
    Stalled,
    /// It is being deleted, and its bindings are being removed.
    Deregistering,
}

impl RegistryPhase {
    /// Returns the name that is written everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Stalled => "stalled",
            Self::Deregistering => "deregistering",
        }
    }
}

/// The state of a Registry resource, as its status has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryState {
    /// Phase of the resource.
    pub state: RegistryPhase,
    /// True when its condition Ready is True.
    pub ready: bool,
    /// The reason of its condition Ready; of Stalled while it is.
    pub reason: String,
    /// The message of the same condition.
    pub message: String,
    /// All conditions of its status, for metrics.
    #[serde(skip)]
    pub conditions: Arc<[ConditionState]>,
    /// The generation of the spec that its status describes.
    #[serde(skip)]
    pub observed_generation: Option<i64>,
}

/// One condition of the status of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionState {
    /// Type of the condition, such as `Ready`.
    pub kind: Box<str>,
    /// Status of the condition; `None`: Unknown.
    pub status: Option<bool>,
    /// Reason of the condition, such as `AllRegistered`.
    pub reason: Box<str>,
}

impl fmt::Display for RegistryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.state.name())?;
        if !self.reason.is_empty() && !self.reason.eq_ignore_ascii_case(self.state.name()) {
            write!(f, " ({})", self.reason)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

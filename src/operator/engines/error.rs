//! Reasons that an engine does not run as planned.

use crate::{
    instance::InstanceError,
    operator::status::{Stall, reasons},
    registry::RegistryName,
};

/// Reason that an engine does not run as planned.
#[derive(Debug, thiserror::Error)]
pub enum EngineManagerError {
    /// It cannot be set up.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Another Registry has the same instance id: they would overwrite each other's bindings. It is named
    /// where it is in the same namespace.
    #[error(
        "spec.instanceId: {} has it already; give this one another, or leave it out",
        .0.as_ref().map_or_else(|| "a Registry of another namespace".to_owned(), |name| format!("Registry {name}"))
    )]
    InstanceIdInUse(Option<RegistryName>),
    /// As many run as the operator allows, and this one is newer than each of them.
    #[error(
        "the operator runs {0} Registries, the limit of its --max-registries (in the chart: operator.limits.registries), all of \
         them older than this one: it waits until one of them is deleted, or the limit is raised"
    )]
    TooManyRegistries(u64),
    /// It would change all Call-IDs.
    #[error(
        "spec.instanceId: it cannot change while the registry runs, because every Call-ID derives from it; \
         delete the Registry and create it again"
    )]
    InstanceIdChanged,
}

impl EngineManagerError {
    /// The stall that the status shows.
    pub fn stall(&self) -> Stall {
        let reason = match self {
            Self::Instance(_) => reasons::ConditionReason::CannotStart,
            Self::InstanceIdInUse(_) => reasons::ConditionReason::InstanceIdInUse,
            Self::TooManyRegistries(_) => reasons::ConditionReason::TooManyRegistries,
            Self::InstanceIdChanged => reasons::ConditionReason::InvalidSpec,
        };
        Stall { reason, message: self.to_string() }
    }
}

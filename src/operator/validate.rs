//! Second step of a reconcile: from a resource and its Secrets to what is to run. Pure.

use kube::ResourceExt;

use super::{
    dereference::Secrets,
    status::{Stall, reasons},
};
use crate::{config::Config, instance::Identity, registration::identity::RegistryId, spec::Registry};

/// What is to run for a Registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Neighbours and settings.
    pub config: Config,
    /// Its Call-IDs and keys.
    pub identity: Identity,
    /// Send nothing.
    pub suspend: bool,
}

/// What the resource asks for.
///
/// # Errors
/// All mistakes at once, each with its field; none shows a secret.
pub fn validate(registry: &Registry, secrets: &Secrets) -> Result<Plan, Stall> {
    let config = Config::from_resource(&registry.name_any(), &registry.spec, secrets)
        .map_err(|mistakes| Stall { reason: reasons::INVALID_SPEC, message: mistakes.to_string() })?;
    Ok(Plan {
        identity: identity(registry, &config)?,
        suspend: registry.spec.suspend.unwrap_or(false),
        config,
    })
}

/// The instance id where one is given, which is how a registration moves from elsewhere, else the resource's UID.
fn identity(registry: &Registry, config: &Config) -> Result<Identity, Stall> {
    let uid = registry.uid();
    let id = config.instance_id.as_deref().or(uid.as_deref()).ok_or_else(|| Stall {
        reason: reasons::INVALID_SPEC,
        message: "metadata.uid: missing; only a resource of an API server has one".to_owned(),
    })?;
    Ok(Identity { id: RegistryId::new(id), kept_as: None, proposed: false, exclusive: false })
}

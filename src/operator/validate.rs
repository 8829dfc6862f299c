//! Second step of a reconcile: from a resource and its Secrets to what is to run. Pure.

use std::sync::Arc;

use kube::ResourceExt;

use super::{
    dereference::Secrets,
    status::{Stall, reasons},
};
use crate::{config::Config, instance::Identity, spec::Registry};
use routr_net::addresses::AddressPolicy;
use routr_registration::registration::identity::RegistryId;

/// Plan of the engine for a Registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Dependencies and settings.
    pub config: Config,
    /// Its Call-IDs and keys.
    pub identity: Identity,
    /// Send nothing.
    pub suspend: bool,
}

/// Returns what the resource asks for.
///
/// # Errors
/// All validation errors at once, each with its field; none shows a secret.
pub fn validate(
    registry: &Registry,
    secrets: &Secrets,
    addresses: &Arc<AddressPolicy>,
) -> Result<Plan, Stall> {
    let mut config =
        Config::from_resource(&registry.name_any(), &registry.spec, secrets).map_err(|mistakes| Stall {
            reason: reasons::ConditionReason::InvalidSpec,
            message: mistakes.to_string(),
        })?;
    let denied = denied(&config, addresses);
    if !denied.is_empty() {
        return Err(Stall { reason: reasons::ConditionReason::InvalidSpec, message: denied });
    }
    config.limit_to(addresses);
    Ok(Plan {
        identity: identity(registry, &config)?,
        suspend: registry.spec.suspend.unwrap_or(false),
        config,
    })
}

/// Returns what is wrong with the addresses that it names: one line for each that is denied.
fn denied(config: &Config, addresses: &AddressPolicy) -> String {
    let problems = config.named_addresses().into_iter().filter_map(|(field, address)| {
        let denied = addresses.check(address).err()?;
        Some(format!(
            "{field}: {denied}; the operator's --allow-address decides which addresses Registries may name"
        ))
    });
    problems.collect::<Vec<_>>().join("\n")
}

/// The instance id where one is given, which is how a registration moves from elsewhere, else the resource's
/// UID.
fn identity(registry: &Registry, config: &Config) -> Result<Identity, Stall> {
    let uid = registry.uid();
    let id = config.instance_id.as_deref().or(uid.as_deref()).ok_or_else(|| Stall {
        reason: reasons::ConditionReason::InvalidSpec,
        message: "metadata.uid: missing; only a resource of an API server has one".to_owned(),
    })?;
    Ok(Identity { id: RegistryId::new(id), kept_as: None, proposed: false, exclusive: false })
}

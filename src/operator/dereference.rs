//! First step of a reconcile: the Secrets that the spec refers to are read. Nothing is judged here but
//! whether they can be.

use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::{Api, Client};

use super::status::{Stall, reasons};
pub use crate::config::Secrets;
use crate::spec::{RegistrySpec, SecretKeyRef};
use routr_kube_errors::ApiError;
use routr_types::secret::Secret;

/// Reason that a Secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DereferenceError {
    /// It takes a person to fix it.
    #[error("{}: {}", .0.reason.name(), .0.message)]
    Stalled(Stall),
    /// The API server failed: it is tried again.
    #[error("cannot read Secret {name:?}: {source}")]
    Kubernetes {
        /// The Secret.
        name: String,
        /// Error of the API server.
        source: ApiError,
    },
}

/// Returns whether the spec refers to any Secret.
pub fn refers(spec: &RegistrySpec) -> bool {
    spec.requester_token_secret_ref.is_some()
        || spec
            .cache
            .as_ref()
            .is_some_and(|cache| cache.parameters_secret_ref.is_some() || cache.password_secret_ref.is_some())
}

/// Reads the Secrets that the spec refers to, all in the Registry's own namespace.
///
/// # Errors
/// See [`DereferenceError`]; none shows what a Secret holds.
pub async fn dereference(
    client: &Client,
    namespace: &str,
    spec: &RegistrySpec,
) -> Result<Secrets, DereferenceError> {
    let api = Api::namespaced(client.clone(), namespace);
    let cache = spec.cache.as_ref();
    let parameters = cache.and_then(|cache| cache.parameters_secret_ref.as_ref());
    let password = cache.and_then(|cache| cache.password_secret_ref.as_ref());
    let token = spec.requester_token_secret_ref.as_ref();
    Ok(Secrets {
        parameters: read(&api, (parameters, "spec.cache.parametersSecretRef")).await?,
        password: read(&api, (password, "spec.cache.passwordSecretRef")).await?,
        requester_token: read(&api, (token, "spec.requesterTokenSecretRef")).await?,
    })
}

async fn read(
    api: &Api<KubeSecret>,
    (reference, field): (Option<&SecretKeyRef>, &'static str),
) -> Result<Option<Secret>, DereferenceError> {
    let Some(SecretKeyRef { name, key }) = reference else { return Ok(None) };
    let stalled = |reason, message| DereferenceError::Stalled(Stall { reason, message });
    let secret = match api.get(name).await {
        Ok(secret) => secret,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let text = format!(
                "{field}: there is no Secret {name:?} in this namespace; create it or correct the name"
            );
            return Err(stalled(reasons::ConditionReason::SecretNotFound, text));
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let text = format!(
                "{field}: the operator has no right to get Secret {name:?}; allow it in the chart's values \
                 (rbac.secrets), or bind a Role with get on this Secret to its ServiceAccount"
            );
            return Err(stalled(reasons::ConditionReason::SecretUnreadable, text));
        }
        Err(source) => {
            return Err(DereferenceError::Kubernetes { name: name.clone(), source: source.into() });
        }
    };
    let data = secret.data.unwrap_or_default();
    let Some(value) = data.get(key) else {
        let text = format!(
            "{field}: Secret {name:?} has no key {key:?} (it has {} in all); add it or correct the name",
            data.len()
        );
        return Err(stalled(reasons::ConditionReason::SecretNotFound, text));
    };
    match std::str::from_utf8(&value.0) {
        // What `echo` or an editor leaves at the end belongs to no password.
        Ok(text) => Ok(Some(Secret::new(text.trim_end_matches(['\n', '\r'])))),
        Err(_) => {
            let text = format!(
                "{field}: key {key:?} of Secret {name:?} is not UTF-8 text; write the text itself into it"
            );
            Err(stalled(reasons::ConditionReason::SecretUnreadable, text))
        }
    }
}

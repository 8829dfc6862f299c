//! The CustomResourceDefinition of [`super::Registry`], as `routr-registry crd` prints it and crds/ holds it.

use kube::CustomResourceExt;

use super::Registry;

/// The definition as YAML, ready for `kubectl apply --server-side -f`.
///
/// # Errors
/// When it cannot be written as YAML, which is a defect.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&Registry::crd())
}

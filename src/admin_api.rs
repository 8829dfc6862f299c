//! JSON of the private port: [`crate::admin`] writes it, [`crate::client`] reads it.

use serde::{Deserialize, Serialize};

use crate::registry::RegistryState;
use routr_registration::engine::view::Summary;

/// The response of `GET /summary`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SummaryResponse {
    /// The service's clock in milliseconds since the Unix epoch, so that a client with another clock shows
    /// right times.
    pub now_ms: u64,
    /// The version that runs.
    pub version: String,
    /// The engine at a glance.
    #[serde(flatten)]
    pub summary: Summary,
}

/// The response of `GET /registries`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistriesResponse {
    /// The service's clock in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// The version that runs.
    pub version: String,
    /// Role of this replica of an operator, in plain words; absent outside Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub standing: Option<String>,
    /// True where this replica of an operator leads; absent outside Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leads: Option<bool>,
    /// All that there are here, by name, whether an engine runs or not.
    pub registries: Vec<RegistryResponse>,
}

/// One registry of [`RegistriesResponse`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryResponse {
    /// Namespace of the resource; absent outside Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// `state`, `ready`, `reason` and `message` of the resource, as in its status; absent outside Kubernetes.
    #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
    pub state: Option<RegistryState>,
    /// The engine at a glance; absent where none runs, or where it does not respond.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub summary: Option<Summary>,
    /// Reason that there is no summary though an engine runs, in plain words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// The response of `POST /registrations/{ref}/refresh` with status 202.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshResponse {
    /// Next action, in plain words.
    pub message: String,
}

/// A response that says what went wrong, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Message in plain words.
    pub error: String,
}

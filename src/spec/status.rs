//! The status of a [`super::Registry`]: what the operator found, for `kubectl get` and `kubectl describe`.
//!
//! Plain types; the operator fills them. No field can hold a secret.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// State of the registrations of a Registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Time when the operator last confirmed this status. It does so every minute, with thousands of
    /// Registries at least every four: if it is older, no operator maintains the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
    /// Ready, Reconciling, Stalled, APIReachable, RequesterReachable, CacheReachable and CredentialsAccepted.
    #[serde(default)]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Number of trunks by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunks: Option<TrunkCounts>,
    /// Time when the last complete sync ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// Time when the next binding expires if it is not refreshed. Each refresh moves it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_expiry_time: Option<Time>,
    /// The worst failures, at most 50: those without a binding first, the oldest of them first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<TrunkFailure>,
    /// Trunks that follow a redirection, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirections: Vec<TrunkRedirection>,
}

/// One trunk that is redirected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrunkRedirection {
    /// The trunk's ref at the API server.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The trunk's own registrar, host:port/TRANSPORT.
    pub from: String,
    /// The registrar that it registers at instead, in the same form.
    pub to: String,
    /// Time when the trunk's own registrar is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_time: Option<Time>,
}

/// Number of trunks in each state; each trunk is in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrunkCounts {
    /// All trunks that should be registered: the sum of the others, without those that are being
    /// deregistered.
    pub total: i64,
    /// The registrar holds a binding, and the last attempt succeeded.
    pub registered: i64,
    /// The registrar still holds a binding, but the last attempt to refresh it failed.
    pub at_risk: i64,
    /// There is no binding, and the last attempt failed.
    pub failing: i64,
    /// The trunk as configured cannot be registered.
    pub invalid: i64,
    /// Never tried, or waiting for the first response.
    pub pending: i64,
    /// The binding is being removed.
    pub deregistering: i64,
    /// Those of all these whose binding is not at their preferred URI and EdgePort.
    #[serde(default)]
    pub failed_over: i64,
    /// Those of all these that follow a redirection.
    #[serde(default)]
    pub redirected: i64,
}

/// One trunk that is not healthy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrunkFailure {
    /// The trunk's ref at the API server.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The trunk's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// atRisk, failing or invalid.
    pub state: String,
    /// Registrar in use, host:port/TRANSPORT.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub registrar: String,
    /// EdgePort in use.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub edge_port: String,
    /// True if the binding, or the next attempt, is not at the preferred URI and EdgePort; absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed_over: bool,
    /// SIP status code, if the registrar sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// In CamelCase: CredentialsRejected, UnknownAccount, Timeout, ...
    pub reason: String,
    /// In plain words, with the registrar's own phrase.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Time when the failure began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_time: Option<Time>,
    /// Time when the next REGISTER is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// Time when the binding of a trunk at risk expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_time: Option<Time>,
}

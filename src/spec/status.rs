//! The status of a [`super::Registry`]: what the operator found, for `kubectl get` and `kubectl describe`.
//!
//! Plain types; the operator fills them. No field can hold a secret.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the registrations of a Registry stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the operator last confirmed that all of this is so. It does so each minute, with very many Registries at least every five
    /// minutes: a status that is older is kept by no operator, whatever it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
    /// Ready, Reconciling, Stalled, APIReachable, RequesterReachable, CacheReachable and CredentialsAccepted.
    #[serde(default)]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many trunks there are, by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunks: Option<TrunkCounts>,
    /// When the trunks were last read completely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<Time>,
    /// When the next binding lapses if nothing is done. Refreshes keep moving it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_lapse: Option<Time>,
    /// The worst failures, at most 50: without a binding first, the oldest of those first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<TrunkFailure>,
    /// Trunks that are registered elsewhere than at their registrar because of a redirection, or are about to be: at most 10.
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
    /// Where it is registered instead, written likewise.
    pub to: String,
    /// Until when; then the trunk's own registrar is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_time: Option<Time>,
}

/// How many trunks there are in each state; each trunk is in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrunkCounts {
    /// All trunks that are to be registered: the sum of the others, but for those that are leaving.
    pub total: i64,
    /// The registrar holds a binding, and the last attempt succeeded.
    pub registered: i64,
    /// The registrar still holds a binding, but the last attempt to refresh it failed.
    pub at_risk: i64,
    /// There is no binding, and the last attempt failed.
    pub failing: i64,
    /// The trunk as configured cannot be registered.
    pub invalid: i64,
    /// Never tried yet, or waiting for the first answer.
    pub pending: i64,
    /// The binding is being removed.
    pub leaving: i64,
    /// Of all these, how many hold a binding elsewhere than at their preferred URI and EdgePort.
    #[serde(default)]
    pub failed_over: i64,
    /// Of all these, how many are registered elsewhere because of a redirection, or are about to be.
    #[serde(default)]
    pub redirected: i64,
}

/// One trunk that is not simply registered.
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
    /// The binding, or the next attempt, is not at the preferred URI and EdgePort. Absent where it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed_over: bool,
    /// SIP status code, where the registrar sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// In CamelCase: CredentialsRejected, UnknownAccount, NoAnswer, ...
    pub reason: String,
    /// In plain words, with the registrar's own phrase.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When the next REGISTER is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Time>,
    /// When the binding lapses, of one at risk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapses: Option<Time>,
}

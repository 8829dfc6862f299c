//! The configuration document as it is written: plain serde types, nothing checked and no default filled in.
//!
//! [`crate::config`] makes a [`crate::config::Config`] of it. A configuration file and a [`Registry`]
//! resource of Kubernetes share [`RegistrySpec`]; the schema of the resource is derived from it, see [`crd`].
//! The first paragraph of a field's doc comment is its meaning in docs/configuration.md; all of it is its
//! description in the CRD, where default and bounds of [`rules::KEYS`] follow. `make crds docs` writes both.

mod cel;
pub mod crd;
pub mod duration;
pub(crate) mod key;
pub(crate) mod rules;
pub mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{rules::hint, status::RegistryStatus};
use routr_types::secret::Secret;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryDocument {
    /// `Registry` or `registry`.
    pub kind: String,
    /// `v2beta1` or `routr.io/v2beta1`.
    pub api_version: String,
    /// Keys other than `name` are accepted and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Everything below.
    pub spec: RegistrySpec,
}

/// Names the registry. Anything else in it (labels, region, ...) is accepted and not used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name of this registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Desired behaviour of one registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "routr.io",
    version = "v2beta1",
    kind = "Registry",
    plural = "registries",
    shortname = "reg",
    category = "routr",
    namespaced,
    status = "RegistryStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Trunks", "type": "integer", "jsonPath": ".status.trunks.total"}"#,
    printcolumn = r#"{"name": "Registered", "type": "integer", "jsonPath": ".status.trunks.registered"}"#,
    printcolumn = r#"{"name": "Failing", "type": "integer", "jsonPath": ".status.trunks.failing"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name": "Observed", "type": "date", "jsonPath": ".status.observedTime"}"#,
    printcolumn = r#"{"name": "API", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"APIReachable\")].status", "priority": 1}"#,
    printcolumn = r#"{"name": "Requester", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"RequesterReachable\")].status", "priority": 1}"#,
    printcolumn = r#"{"name": "Cache", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"CacheReachable\")].status", "priority": 1}"#,
    printcolumn = r#"{"name": "Next Expiry", "type": "string", "jsonPath": ".status.nextExpiryTime", "priority": 1}"#,
    printcolumn = r#"{"name": "Last Sync", "type": "date", "jsonPath": ".status.lastSyncTime", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    doc = "Keeps the SIP registrations of Routr's trunks alive: reads the trunks with sendRegister: true from an API server, and registers each through a Requester."
)]
#[x_kube(validation = cel::tls_file_needs_https("caFile"))]
#[x_kube(validation = cel::tls_file_needs_https("certFile"))]
#[x_kube(validation = cel::no_token_file())]
#[x_kube(validation = cel::instance_id_stays())]
// Each column has a type and a path, which clippy takes for repetitions.
#[allow(clippy::duplicated_attributes)]
pub struct RegistrySpec {
    /// Address of the Requester; a bare host has port 51909.
    ///
    /// `host:port`, `[v6]:port` or a bare host, optionally with `http://` (no effect) or `https://` (TLS)
    /// before it; or gRPC's `dns:///host:port`, `ipv4:`, `ipv6:` or `unix:/path`. All addresses of a host are
    /// used.
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::service_address(hint::REQUESTER_ADDR))]
    pub requester_addr: String,
    /// Address of the API server that lists the trunks, in the same form as `requesterAddr`; a bare host has
    /// port 51907.
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::service_address(hint::API_ADDR))]
    pub api_addr: String,
    /// File that holds, on one line, the token that the Requester demands with each call; reread whenever the
    /// configuration is.
    ///
    /// In a file only: in Kubernetes use `requesterTokenSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub requester_token_file: Option<String>,
    /// `name` and `key` of a Secret in the same namespace that holds only the token that the Requester
    /// demands with each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_token_secret_ref: Option<SecretKeyRef>,
    /// Time between two syncs; also, within limits, how long before its expiry a registration is refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register_interval: Option<Quantity>,
    /// Store where state survives a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
    /// SIP methods, each sent as an `Allow` header field; case is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = cel::tokens(hint::METHOD))]
    #[x_kube(validation = cel::distinct_tokens("methods"))]
    pub methods: Option<Vec<String>>,
    /// EdgePorts that REGISTERs go through.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = cel::distinct_edge_ports())]
    pub edge_ports: Vec<EdgePortSpec>,
    /// Distinguishes the Call-IDs of this installation from those of another one that registers the same
    /// accounts. Do not change it while bindings exist; in Kubernetes it cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = cel::visible())]
    pub instance_id: Option<String>,
    /// Settings of each registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationSpec>,
    /// TLS of the `https://` addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Longest time that the API server may take for one response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_timeout: Option<Quantity>,
    /// Bounds on one sync, which reads all trunks. A sync that exceeds one fails, the message names the
    /// bound, and the last good list stays in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncSpec>,
    /// `true`: sends nothing, and lets the bindings expire; deleting the resource then sends nothing either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Store where state survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = cel::cache::one_place_for_the_password())]
#[x_kube(validation = cel::cache::no_password_file())]
#[x_kube(validation = cel::cache::one_place_for_parameters())]
#[x_kube(validation = cel::cache::password_ref_needs_redis())]
#[x_kube(validation = cel::cache::parameters_ref_needs_redis())]
#[x_kube(validation = cel::cache::parameters_need_redis())]
#[x_kube(validation = cel::cache::known_parameters())]
#[x_kube(validation = cel::cache::parameters_without_control_characters())]
pub struct CacheSpec {
    /// `memory` (state is lost on a restart) or `redis` (version 6 or later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<CacheProvider>,
    /// Access to Redis; an error with the provider `memory`.
    ///
    /// `key=value` pairs separated by commas, with the keys `host` (localhost), `port` (6379), `username`,
    /// `password`, `passwordFile` (in a file only; in Kubernetes use `passwordSecretRef`), `secure`,
    /// `caFile`, `certFile` and `keyFile` (a client certificate), `db` (0), `prefix` (of all keys), `socket`
    /// (in a file only); `sentinels` (host:port;host:port), `sentinelMaster`, `sentinelUsername`,
    /// `sentinelPassword`; `cluster`, `nodes` (host:port;host:port); or `url`, or a URL alone:
    /// redis://USER:PASSWORD@HOST:PORT/DB, rediss:// with TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub parameters: Option<CacheParameters>,
    /// `name` and `key` of a Secret in the same namespace that holds the parameters on one line; replaces
    /// `parameters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_secret_ref: Option<SecretKeyRef>,
    /// `name` and `key` of a Secret in the same namespace that holds only the password of Redis; a trailing
    /// newline is ignored. Replaces `password` in the parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
}

/// A key of a Secret in the namespace of the Registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::object_name())]
    pub name: String,
    /// Key in its data.
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::secret_key())]
    pub key: String,
}

/// `memory` (state is lost on a restart) or `redis` (version 6 or later).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CacheProvider {
    /// This process; state is lost on a restart.
    #[default]
    Memory,
    /// A Redis server, version 6 or later.
    Redis,
}

/// The text of `cache.parameters`. It may hold a password: `Debug` does not show it. Serialization does,
/// because what is read from Kubernetes is written back there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub struct CacheParameters(pub Secret);

impl From<String> for CacheParameters {
    fn from(text: String) -> Self {
        Self(Secret::new(text))
    }
}

impl From<CacheParameters> for String {
    fn from(parameters: CacheParameters) -> Self {
        parameters.0.expose().to_owned()
    }
}

/// A SIP server at the edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgePortSpec {
    /// SIP address of an EdgePort: `host:port`, `[v6]:port` or a bare host (port 5060); a leading `sip:` is
    /// allowed.
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::sip_address(hint::EDGE_PORT))]
    pub address: String,
    /// Region of this EdgePort; trunks of the same region (`extended.region`) prefer it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Address at which this EdgePort hears calls from outside, `host:port` or a bare host: the Contact of a
    /// REGISTER names it. The port counts for UDP and TCP, the default is 5060; with TLS it is 5061 of the
    /// same host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::sip_address(hint::PUBLIC_ADDRESS))]
    pub public_address: Option<String>,
    /// The same for TCP alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::sip_address(hint::PUBLIC_ADDRESS))]
    pub public_tcp_address: Option<String>,
    /// The same for TLS alone; a bare host has port 5061.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::sip_address(hint::PUBLIC_ADDRESS))]
    pub public_tls_address: Option<String>,
}

/// Settings of each registration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationSpec {
    /// Expiry that REGISTERs ask for, in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Quantity>,
    /// REGISTERs that may be in flight at once. The service starts with few and sends no more than the
    /// Requester can keep up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<i64>,
    /// REGISTERs per second for each registrar host, or `unlimited`.
    ///
    /// In Kubernetes put a fraction in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_registrar: Option<Quantity>,
    /// Longest time that one REGISTER may take. Below 33s, a silent registrar cannot be distinguished from a
    /// silent Requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Quantity>,
    /// The User-Agent header field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Option tags sent in `Require` and `Proxy-Require`; `[]` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = cel::tokens(hint::OPTION_TAG))]
    #[x_kube(validation = cel::distinct_tokens("option tags"))]
    pub require: Option<Vec<String>>,
    /// Redirections (300, 301, 302, 305) to follow. Those to the registrar's own host, or to another name of
    /// its registrable domain (by the Public Suffix List), are always followed; an IP address is a domain of
    /// its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirects: Option<RedirectsSpec>,
    /// Minimum that a digest challenge must offer before it is answered. A trunk's `extended.digest`, with
    /// the same keys, can demand more. This project's Requester enforces it in direct mode and refuses such a
    /// REGISTER in proxied mode; Routr's own Requester ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestSpec>,
    /// Scheme of the URIs in a REGISTER over TLS: `sip` for registrars that respond to `sips:` with 416. A
    /// trunk's `extended.tlsUriScheme` goes before it. Either way the connection is TLS.
    ///
    /// This project's Requester in direct mode finds such a registrar out by itself, at the cost of one
    /// request a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_uri_scheme: Option<TlsUriSchemeSpec>,
}

/// Redirections to follow. Those to the registrar's own host, or to another name of its registrable domain,
/// are always followed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedirectsSpec {
    /// Further targets that redirections may lead to: domains with all names below them, IP addresses,
    /// networks such as 192.0.2.0/24, or `*` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = cel::redirect_domains())]
    pub domains: Option<Vec<String>>,
    /// `true` also offers the credentials there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<bool>,
    /// Longest time to follow a redirection, including a 301, before the registrar itself is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_time: Option<Quantity>,
}

/// Minimum that a digest challenge must offer before it is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DigestSpec {
    /// `MD5` for any algorithm, or `SHA-256` for SHA-256 and SHA-512-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_algorithm: Option<DigestAlgorithm>,
    /// `true` demands a `qop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_qop: Option<bool>,
}

/// `MD5` for any algorithm, or `SHA-256` for SHA-256 and SHA-512-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DigestAlgorithm {
    /// Any.
    #[serde(rename = "MD5")]
    Md5,
    /// SHA-256 or SHA-512-256.
    #[serde(rename = "SHA-256")]
    Sha256,
}

/// Scheme of the URIs in a REGISTER over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsUriSchemeSpec {
    /// `sips:`.
    Sips,
    /// `sip:`.
    Sip,
}

/// Bounds on one sync, which reads all trunks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncSpec {
    /// Longest time that one sync may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Quantity>,
    /// Pages that one sync may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pages: Option<i64>,
    /// Trunks that one sync may read, including those without `sendRegister`, and that the registry may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_trunks: Option<i64>,
    /// Bytes that one sync may read; a million trunks take about 240 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<i64>,
    /// Bytes of one trunk as the API server sends it, and one field for each 32 of these bytes. A larger
    /// trunk is reported as invalid; the others are registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_trunk_bytes: Option<i64>,
}

/// TLS of the `https://` addresses. Files are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = cel::certificate_and_key())]
pub struct TlsSpec {
    /// PEM file with the authorities to trust instead of the system's; an error if no address is `https://`.
    ///
    /// In Kubernetes a file below /etc/routr/ca of the operator's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = cel::ca_file_of_the_pod())]
    pub ca_file: Option<String>,
    /// PEM file with the certificate to present to a peer that asks for one; needs `keyFile`.
    ///
    /// In Kubernetes a file below /etc/routr/ca of the operator's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = cel::ca_file_of_the_pod())]
    pub cert_file: Option<String>,
    /// PEM file with the private key of `certFile`, without a passphrase.
    ///
    /// In Kubernetes a file below /etc/routr/ca of the operator's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = cel::ca_file_of_the_pod())]
    pub key_file: Option<String>,
}

/// Number or text: `60` or `60s`, `20` or `unlimited`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// A whole number.
    Whole(i64),
    /// Any other number.
    Number(f64),
    /// A text.
    Text(String),
}

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// A structural schema knows no other type that is a number or a text; a fraction has to be written as a
    /// text there.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

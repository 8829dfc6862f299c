//! A configuration that is ready to use: every value parsed, every default filled in.
//!
//! [`load()`] finds and reads the file, [`parse`] and [`Config::from_spec`] do no IO, [`check()`] says
//! whether a file is good. A document passes through text, tree (`tree`), types of [`crate::spec`]
//! (`document`) and [`Config`] (`validator`). Each step collects validation errors instead of stopping at the
//! first, and shows no secret in any.

use routr_registration::{engine::EngineSettings, model::EdgePort, registration::Settings};
use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::spec::{RegistrySpec, duration, rules};
use routr_net::{addresses::AddressPolicy, tls::TlsFiles};
use routr_registration::registration::redirect_policy::RedirectPolicy;
use routr_types::{digest_minimum::DigestMinimum, host::HostPort, secret::Secret};

pub mod address;
mod cache;
mod cache_url;
mod check;
mod document;
pub mod files;
mod load;
mod map_reader;
mod parameters;
impl From<&Config> for EngineSettings {
    fn from(config: &Config) -> Self {
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            registration: Settings {
                interval_ms: ms(config.register_interval),
                expires_s: config.registration.expires,
                deadline_ms: ms(config.requester.timeout),
                tags: config.registration.require.clone(),
                redirects: config.registration.redirects.clone(),
            },
            edge_ports: config.edge_ports.clone(),
            max_in_flight: config.registration.max_in_flight,
            rate_per_registrar: config.registration.rate_per_registrar,
            digest: config.registration.digest,
            max_trunks: usize::try_from(config.sync.max_trunks).unwrap_or(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests;
mod token;
mod tree;
mod validation_error;
mod validator;
mod warnings;

pub use address::Target;
pub use check::{Checked, check};
pub use load::{CONFIG_PATH, ConfigError, DEFAULT_PATHS, load, parse};
pub use tree::Format;
pub use validation_error::{ValidationError, ValidationErrors};

/// Everything that one registry needs to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `metadata.name`, or `registry`.
    pub name: String,
    /// `spec.instanceId`: distinguishes this installation's Call-IDs from another's.
    pub instance_id: Option<String>,
    /// The API server that lists the trunks.
    pub api: Endpoint,
    /// The Requester that sends SIP.
    pub requester: Endpoint,
    /// Interval between two syncs of the trunks; also the lead of a refresh.
    pub register_interval: Duration,
    /// Store of the state.
    pub cache: Cache,
    /// Sent as Allow, one header field for each.
    pub methods: Vec<String>,
    /// EdgePorts; at least one.
    pub edge_ports: Vec<EdgePort>,
    /// Settings of each registration.
    pub registration: RegistrationSettings,
    /// Bounds on one sync.
    pub sync: SyncBounds,
}

impl Config {
    /// Makes a configuration of a spec that is no resource of Kubernetes and was not read from a file. Paths
    /// in it are not checked, and a password in a `passwordFile` is left out.
    ///
    /// # Errors
    /// All validation errors at once, with paths that begin at `spec`; none shows a secret.
    pub fn from_spec(name: &str, spec: &RegistrySpec) -> Result<Self, ValidationErrors> {
        Self::interpret(name, spec, None)
    }

    /// Makes a configuration of a resource of Kubernetes, with what the Secrets hold that it refers to. Its
    /// CA files have to be below [`rules::CLUSTER_CA_FOLDER`]; they are not looked at.
    ///
    /// # Errors
    /// All validation errors at once, with paths that begin at `spec`. A problem in a Secret is reported by
    /// the Secret's name and key; none of its content is shown.
    pub fn from_resource(
        name: &str,
        spec: &RegistrySpec,
        secrets: &Secrets,
    ) -> Result<Self, ValidationErrors> {
        Self::interpret(name, spec, Some(secrets))
    }

    fn interpret(
        name: &str,
        spec: &RegistrySpec,
        secrets: Option<&Secrets>,
    ) -> Result<Self, ValidationErrors> {
        let mut interpreter = validator::Validator {
            files: if secrets.is_some() { &files::Cluster } else { &files::Unread },
            secrets,
            blamed: Default::default(),
            lines: HashMap::new(),
            errors: Vec::new(),
        };
        let config = interpreter.spec(name, spec);
        ValidationErrors::none_or(interpreter.errors, config)
    }

    /// The addresses that it names as numbers, each with its field; those of names are seen when they are
    /// resolved.
    pub fn named_addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let of = |target: &Target| match target {
            Target::Host(host) => Vec::from_iter(host.as_socket_addr()),
            Target::Addresses(all) => all.clone(),
            Target::Unix(_) => Vec::new(),
        };
        let cache = match &self.cache {
            Cache::Memory => Vec::new(),
            Cache::Redis(settings) => {
                let named = match &settings.deployment {
                    RedisDeployment::Single if settings.socket.is_some() => &[],
                    RedisDeployment::Single => std::slice::from_ref(&settings.address),
                    RedisDeployment::Sentinel { sentinels: all, .. }
                    | RedisDeployment::Cluster { nodes: all } => all.as_slice(),
                };
                named.iter().filter_map(HostPort::as_socket_addr).collect()
            }
        };
        let of_field = [
            ("spec.apiAddr", of(&self.api.address)),
            ("spec.requesterAddr", of(&self.requester.address)),
            ("spec.cache.parameters", cache),
        ];
        of_field.into_iter().flat_map(|(field, all)| all.into_iter().map(move |one| (field, one))).collect()
    }

    /// Lets it connect only to addresses that `policy` allows.
    pub fn limit_to(&mut self, policy: &Arc<AddressPolicy>) {
        self.api.policy = policy.clone();
        self.requester.policy = policy.clone();
        if let Cache::Redis(settings) = &mut self.cache {
            settings.policy = policy.clone();
        }
    }
}

/// Content of the Secrets that a resource refers to; `None` where it refers to none, or where there is no
/// such key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The value of `cache.parametersSecretRef`.
    pub parameters: Option<Secret>,
    /// The value of `cache.passwordSecretRef`: one line, a newline at its end does not count.
    pub password: Option<Secret>,
    /// The value of `requesterTokenSecretRef`: one line, as the password.
    pub requester_token: Option<Secret>,
}

/// A gRPC dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address that it listens on.
    pub address: Target,
    /// `https://`: TLS.
    pub tls: bool,
    /// Files that TLS needs; empty without TLS.
    pub files: TlsFiles,
    /// Sent with each call as a bearer token.
    pub token: Option<Secret>,
    /// Time limit of one call.
    pub timeout: Duration,
    /// The addresses that may be connected to.
    pub policy: Arc<AddressPolicy>,
}

impl Endpoint {
    /// One without TLS.
    pub fn plain(address: impl Into<Target>, timeout: Duration) -> Self {
        Self {
            address: address.into(),
            tls: false,
            files: TlsFiles::default(),
            token: None,
            timeout,
            policy: Arc::default(),
        }
    }
}

/// Store of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Memory of this process only.
    Memory,
    /// Redis.
    Redis(Box<RedisSettings>),
}

/// Access to Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    /// Default `localhost:6379`. Not used where there is a socket, with Sentinel, or in a cluster.
    pub address: HostPort,
    /// Unix socket to use instead of the address.
    pub socket: Option<PathBuf>,
    /// One server, or several that agree on who serves.
    pub deployment: RedisDeployment,
    /// ACL user.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Number of the database, 0 by default.
    pub database: u32,
    /// Text before each key, none by default. It has no braces.
    pub prefix: String,
    /// TLS.
    pub secure: bool,
    /// PEM file with the authorities to trust instead of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the certificate to show, and of its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The addresses that may be connected to.
    pub policy: Arc<AddressPolicy>,
}

/// Deployment of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisDeployment {
    /// One server, or a proxy in front of several.
    Single,
    /// Sentinels that say which server is the master.
    Sentinel {
        /// The sentinels; one that responds is enough.
        sentinels: Vec<HostPort>,
        /// Name of the master.
        master: String,
        /// ACL user of the sentinels.
        username: Option<String>,
        /// Password of the sentinels.
        password: Option<Secret>,
    },
    /// A Redis Cluster.
    Cluster {
        /// Some of its nodes; one that responds is enough.
        nodes: Vec<HostPort>,
    },
}

impl RedisSettings {
    /// One server at this address, without credentials or TLS.
    pub fn new(address: HostPort) -> Self {
        Self {
            address,
            socket: None,
            deployment: RedisDeployment::Single,
            username: None,
            password: None,
            database: 0,
            prefix: String::new(),
            secure: false,
            ca_file: None,
            client_certificate: None,
            policy: Arc::default(),
        }
    }
}

/// Bounds on one sync, in which all trunks are read from the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncBounds {
    /// Time limit of the whole sync.
    pub timeout: Duration,
    /// Pages, at most 1,000,000.
    pub max_pages: u32,
    /// Trunks, those without `sendRegister` included; at most 10,000,000.
    pub max_trunks: u32,
    /// Bytes of all responses, without gRPC's framing and any compression.
    pub max_bytes: u64,
    /// Bytes of one trunk; a larger one counts as malformed.
    pub max_trunk_bytes: u32,
}

impl Default for SyncBounds {
    fn default() -> Self {
        let whole = |range: &rules::WholeRange| u32::try_from(range.default).unwrap_or(u32::MAX);
        Self {
            timeout: rules::SYNC_TIMEOUT.default,
            max_pages: whole(&rules::SYNC_PAGES),
            max_trunks: whole(&rules::SYNC_TRUNKS),
            max_bytes: rules::SYNC_BYTES.default.unsigned_abs(),
            max_trunk_bytes: whole(&rules::TRUNK_BYTES),
        }
    }
}

/// Settings of each registration.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrationSettings {
    /// Requested expiry in seconds, 10 to 86,400.
    pub expires: u32,
    /// REGISTERs in flight at most.
    pub max_in_flight: u32,
    /// REGISTERs per second for each registrar host; `None` lifts the bound.
    pub rate_per_registrar: Option<f64>,
    /// User-Agent header field.
    pub user_agent: String,
    /// Option tags sent in Require and Proxy-Require; at most 32.
    pub require: Vec<String>,
    /// Redirections that are followed.
    pub redirects: RedirectPolicy,
    /// Minimum that a digest challenge must offer.
    pub digest: DigestMinimum,
}

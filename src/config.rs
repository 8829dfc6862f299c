//! A configuration that is ready to use: every value parsed, every default filled in.
//!
//! [`load()`] finds and reads the file, [`parse`] and [`Config::from_spec`] do no IO, [`check()`] says
//! whether a file is good. A document passes through text, tree (`tree`), types of [`crate::spec`]
//! (`document`) and [`Config`] (here, and in a module for each mapping, with the checks of `validator`). Each
//! step collects validation errors instead of stopping at the first, and shows no secret in any.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use routr_net::addresses::AddressPolicy;
use routr_registration::{
    engine::EngineSettings,
    model::{EdgePort, PublicAddresses},
    registration::Settings,
};
use routr_types::{
    host::{HostPort, Transport},
    secret::Secret,
};

use self::{
    rules::hint,
    validation_error::show,
    validator::{Validator, is_text},
};
use crate::spec::{CacheSpec, EdgePortSpec, RegistrySpec, duration, rules};

pub mod address;
mod cache;
mod cache_url;
mod check;
mod document;
mod endpoint;
pub mod files;
mod load;
mod map_reader;
mod parameters;
mod registration;
mod sync_bounds;
#[cfg(test)]
mod tests;
mod token;
mod tree;
mod validation_error;
mod validator;
mod warnings;

pub use address::Target;
pub use cache::{Cache, RedisDeployment, RedisSettings};
pub use check::{Checked, check};
pub use endpoint::Endpoint;
pub use load::{CONFIG_PATH, ConfigError, DEFAULT_PATHS, load, parse};
pub use registration::RegistrationSettings;
pub use sync_bounds::SyncBounds;
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
        let mut interpreter = Validator {
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

impl Validator<'_> {
    /// The spec of a registry of that name.
    fn spec(&mut self, name: &str, spec: &RegistrySpec) -> Config {
        if !is_text(name, rules::MAX_NAME) {
            self.wrong("metadata.name", "not a name", Some(show(name)), hint::NAME);
        }
        if spec.suspend.is_some() {
            self.only_in_kubernetes("spec.suspend");
        }
        let registration = spec.registration.clone().unwrap_or_default();
        let timeout = self.duration(
            "spec.registration.timeout",
            registration.timeout.as_ref(),
            &rules::REGISTER_TIMEOUT,
        );
        let api_timeout = self.duration("spec.apiTimeout", spec.api_timeout.as_ref(), &rules::API_TIMEOUT);
        let mut requester = self.endpoint(
            "spec.requesterAddr",
            &spec.requester_addr,
            rules::REQUESTER_PORT,
            hint::REQUESTER_ADDR,
            timeout,
        );
        let mut api =
            self.endpoint("spec.apiAddr", &spec.api_addr, rules::API_PORT, hint::API_ADDR, api_timeout);
        self.tls(spec, [&mut requester, &mut api]);
        requester.token = self.requester_token(spec);
        Config {
            name: name.to_owned(),
            instance_id: self.instance_id(spec.instance_id.as_deref()),
            api,
            requester,
            register_interval: self.duration(
                "spec.registerInterval",
                spec.register_interval.as_ref(),
                &rules::REGISTER_INTERVAL,
            ),
            cache: self.cache(spec.cache.as_ref().unwrap_or(&CacheSpec::default())),
            methods: self.methods(spec.methods.as_deref().unwrap_or_default()),
            edge_ports: self.edge_ports(&spec.edge_ports),
            registration: self.registration(&registration),
            sync: self.sync(&spec.sync.clone().unwrap_or_default(), api_timeout),
        }
    }

    fn instance_id(&mut self, given: Option<&str>) -> Option<String> {
        let given = given?;
        if !(1..=128).contains(&given.len()) || !given.bytes().all(|b| b.is_ascii_graphic()) {
            self.wrong("spec.instanceId", "not an instance id", Some(show(given)), hint::INSTANCE_ID);
        }
        Some(given.to_owned())
    }

    fn methods(&mut self, given: &[String]) -> Vec<String> {
        let path = "spec.methods";
        if given.len() > rules::MAX_METHODS {
            self.wrong(path, "too many", Some(given.len().to_string()), hint::METHODS);
        }
        let all: Vec<String> = given.iter().map(|method| method.to_ascii_uppercase()).collect();
        self.tokens(path, &all, given, "not a SIP method", hint::METHOD);
        all
    }

    fn edge_ports(&mut self, given: &[EdgePortSpec]) -> Vec<EdgePort> {
        let path = "spec.edgePorts";
        if given.is_empty() {
            self.wrong(path, "an empty list", None, hint::EDGE_PORTS);
        }
        let mut all = Vec::with_capacity(given.len());
        let mut seen = HashMap::new();
        for (index, spec) in given.iter().enumerate() {
            let here = format!("{path}[{index}]");
            if let Some(region) = spec.region.as_deref().filter(|region| !is_text(region, rules::MAX_REGION))
            {
                self.wrong(
                    &format!("{here}.region"),
                    "not the name of a region",
                    Some(show(region)),
                    hint::REGION,
                );
            }
            let here = format!("{here}.address");
            match address::sip(&spec.address, Transport::Udp.default_port()) {
                Err(error) => self.address(&here, &spec.address, error, hint::EDGE_PORT),
                Ok(address) => {
                    let first = *seen.entry(address.clone()).or_insert(index);
                    if first < index {
                        let problem = format!("the same as {path}[{first}].address");
                        self.wrong(&here, problem, Some(show(&spec.address)), "remove one of them");
                    }
                    let public = self.public_addresses(&format!("{path}[{index}]"), spec);
                    all.push(EdgePort { address, region: spec.region.clone(), public });
                }
            }
        }
        all
    }

    fn public_addresses(&mut self, path: &str, spec: &EdgePortSpec) -> PublicAddresses {
        let mut read = |key: &str, given: &Option<String>, transport: Transport| {
            let given = given.as_deref()?;
            match address::sip(given, transport.default_port()) {
                Ok(address) => Some(address),
                Err(error) => {
                    self.address(&format!("{path}.{key}"), given, error, hint::PUBLIC_ADDRESS);
                    None
                }
            }
        };
        let udp = read("publicAddress", &spec.public_address, Transport::Udp);
        let tcp = read("publicTcpAddress", &spec.public_tcp_address, Transport::Tcp);
        let tls = read("publicTlsAddress", &spec.public_tls_address, Transport::Tls);
        let tls_port = Transport::Tls.default_port();
        PublicAddresses {
            tcp: tcp.or_else(|| udp.clone()),
            tls: tls.or_else(|| Some(HostPort { port: tls_port, ..udp.clone()? })),
            udp,
        }
    }
}

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
            tls_uri_scheme: config.registration.tls_uri_scheme,
            max_trunks: usize::try_from(config.sync.max_trunks).unwrap_or(usize::MAX),
        }
    }
}

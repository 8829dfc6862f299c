//! `spec.cache`: where its parameters and its password come from, and what they say.

use std::{path::PathBuf, sync::Arc};

use crate::spec::{CacheProvider, CacheSpec, SecretKeyRef};
use routr_net::addresses::AddressPolicy;
use routr_types::{host::HostPort, secret::Secret, text};

use super::{
    address::{self, AddressError},
    files, parameters,
    rules::hint,
    validator::Validator,
};

const PARAMETERS: &str = "spec.cache.parameters";
const PARAMETERS_REF: &str = "spec.cache.parametersSecretRef";
const PASSWORD_REF: &str = "spec.cache.passwordSecretRef";

/// Setting or Secret that holds a text which may contain a password.
pub(super) struct Source {
    path: &'static str,
    /// Said before every problem.
    pub(super) before: String,
    /// True where pieces of the text may be shown at all.
    shown: bool,
}

impl Source {
    /// The key of a Secret. None of its content is ever shown.
    pub(super) fn secret(path: &'static str, at: &SecretKeyRef) -> Self {
        // Kubernetes takes no such names (see the CRD), but a line of text must stay one.
        let shown = |name: &str| text::escaped(name, 253);
        Self {
            path,
            before: format!("key {} of the Secret {}: ", shown(&at.key), shown(&at.name)),
            shown: false,
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

impl Validator<'_> {
    pub(super) fn cache(&mut self, spec: &CacheSpec) -> Cache {
        let redis = spec.provider == Some(CacheProvider::Redis);
        let inline = spec.parameters.as_ref().map_or("", |parameters| parameters.0.expose());
        // A provider that is wrong has been reported, and may have been meant to be Redis.
        if !redis && !self.blamed.contains("spec.cache.provider") {
            self.reject_unused(spec, inline);
        }
        let (source, text) = self.parameters(spec, inline);
        let (found, problems) = parameters::parse(text.expose(), self.secrets.is_some());
        for problem in problems {
            let value = problem.value.filter(|_| source.shown);
            self.wrong(source.path, format!("{}{}", source.before, problem.problem), value, &problem.hint);
        }
        let address = found
            .host
            .as_deref()
            .map_or_else(|| Ok(HostPort::new("localhost", found.port)), |host| redis_host(host, found.port));
        let address = address.unwrap_or_else(|error| {
            self.wrong(
                source.path,
                format!("{}host is wrong: {error}", source.before),
                None,
                "write host=NAME and port=NUMBER, such as host=localhost,port=6379 or host=[::1]",
            );
            HostPort::new("", found.port)
        });
        let password = self.password(spec, &source, found.password, found.password_file.as_deref());
        let ca_file = found.ca_file.as_deref().and_then(|file| self.authorities(source.path, file));
        let client_certificate = found.cert_file.as_deref().zip(found.key_file.as_deref());
        let client_certificate =
            client_certificate.and_then(|(cert, key)| self.cache_certificate(&source, cert, key));
        let socket = found.socket.as_deref().map(|socket| self.files.resolve(socket));
        if socket.is_some() && self.secrets.is_some() {
            let problem = format!("{}socket names a file of the operator's own pod", source.before);
            self.wrong(source.path, problem, None, "write host=NAME and port=NUMBER");
        }
        if redis {
            let deployment = if !found.sentinels.is_empty() {
                RedisDeployment::Sentinel {
                    sentinels: found.sentinels,
                    master: found.sentinel_master.unwrap_or_default(),
                    username: found.sentinel_username,
                    password: found.sentinel_password,
                }
            } else if found.cluster {
                let nodes = if found.nodes.is_empty() { vec![address.clone()] } else { found.nodes };
                RedisDeployment::Cluster { nodes }
            } else {
                RedisDeployment::Single
            };
            Cache::Redis(Box::new(RedisSettings {
                socket,
                deployment,
                username: found.username,
                password,
                database: found.database,
                prefix: found.prefix,
                secure: found.secure,
                ca_file,
                client_certificate,
                ..RedisSettings::new(address)
            }))
        } else {
            Cache::Memory
        }
    }

    /// The files of the certificate to show, and of its key.
    fn cache_certificate(&mut self, source: &Source, cert: &str, key: &str) -> Option<(PathBuf, PathBuf)> {
        let (cert, key) = (self.files.resolve(cert), self.files.resolve(key));
        let checked = [
            ("certFile", "a PEM file with a certificate", self.files.authorities(&cert)),
            ("keyFile", "a PEM file with the key of the certificate", self.files.key(&key)),
        ];
        let mut good = true;
        for (name, hint, checked) in checked {
            if let Err(problem) = checked {
                good = false;
                self.wrong(
                    source.path,
                    format!("{}{name} {problem}", source.before),
                    None,
                    &format!("name {hint}"),
                );
            }
        }
        good.then_some((cert, key))
    }

    /// Reports settings that only Redis could use.
    fn reject_unused(&mut self, spec: &CacheSpec, inline: &str) {
        for (path, given, what) in [
            (PARAMETERS, !inline.trim().is_empty(), "the parameters"),
            (PARAMETERS_REF, spec.parameters_secret_ref.is_some(), "it"),
            (PASSWORD_REF, spec.password_secret_ref.is_some(), "it"),
        ] {
            if given {
                self.wrong(
                    path,
                    "has no effect with the provider memory",
                    None,
                    &format!("write provider: redis in spec.cache, or remove {what}"),
                );
            }
        }
    }

    /// The text of the parameters and where it stands.
    fn parameters(&mut self, spec: &CacheSpec, inline: &str) -> (Source, Secret) {
        let here = Source { path: PARAMETERS, before: String::new(), shown: true };
        let Some(at) = &spec.parameters_secret_ref else { return (here, Secret::new(inline)) };
        self.only_in_kubernetes(PARAMETERS_REF);
        if !inline.trim().is_empty() {
            self.wrong(PARAMETERS_REF, "parameters are given, too", None, "keep one of them");
        }
        let source = Source::secret(PARAMETERS_REF, at);
        let held = self.secrets.and_then(|secrets| secrets.parameters.as_ref());
        let text = match held.map(|held| files::one_line(held.expose())) {
            Some(Ok(line)) => line,
            Some(Err(problem)) => {
                self.wrong(source.path, format!("{}it {problem}", source.before), None, hint::PARAMETERS);
                Secret::new("")
            }
            None => {
                self.not_there(&source);
                Secret::new("")
            }
        };
        (source, text)
    }

    /// The password, from the one place where it is.
    fn password(
        &mut self,
        spec: &CacheSpec,
        source: &Source,
        inline: Option<Secret>,
        file: Option<&str>,
    ) -> Option<Secret> {
        let inline_given = inline.is_some();
        let mut password = inline;
        if let Some(file) = file {
            if self.secrets.is_some() {
                self.wrong(
                    source.path,
                    format!("{}passwordFile names a file of the operator's own pod", source.before),
                    None,
                    hint::PASSWORD_SECRET,
                );
            } else {
                password = self.files.password(&self.files.resolve(file)).unwrap_or_else(|problem| {
                    self.wrong(source.path, format!("passwordFile {problem}"), None, hint::PASSWORD_FILE);
                    None
                });
            }
        }
        let Some(at) = &spec.password_secret_ref else { return password };
        self.only_in_kubernetes(PASSWORD_REF);
        if inline_given {
            self.wrong(PASSWORD_REF, "the parameters hold a password, too", None, "keep one of them");
        }
        let source = Source::secret(PASSWORD_REF, at);
        let Some(held) = self.secrets.and_then(|secrets| secrets.password.as_ref()) else {
            self.not_there(&source);
            return None;
        };
        files::one_line(held.expose())
            .map_err(|problem| {
                let problem = format!("{}it {problem}", source.before);
                self.wrong(source.path, problem, None, "put the password there, on one line");
            })
            .ok()
    }

    /// Reports a reference to a value that was not passed in.
    pub(super) fn not_there(&mut self, source: &Source) {
        if self.secrets.is_some() {
            self.wrong(source.path, format!("{}it is not there", source.before), None, hint::SECRET);
        }
    }
}

/// A host of Redis: a name or an address; IPv6 with or without brackets, since the port has a key of its own.
fn redis_host(host: &str, port: u16) -> Result<HostPort, AddressError> {
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(HostPort::new(host, port));
    }
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !bracketed {
        return Err(AddressError::Rest);
    }
    address::host_port(host, port)
}

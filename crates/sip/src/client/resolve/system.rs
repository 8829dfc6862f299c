//! The name servers of the system, as its files say now.

use std::{
    io,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

#[cfg(any(test, feature = "testing"))]
use hickory_resolver::Hosts;
#[cfg(target_os = "linux")]
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{op::ResponseCode, rr::RecordType},
};
use tokio::time::Instant;

use crate::client::error::ClientError;

/// Files in which a system names its name servers and the hosts that it knows itself.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Interval of the looks at the files, while names are looked up.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Resolvers for one state of the files.
pub(super) struct System {
    resolver: TokioResolver,
    /// One for each name server, where there are several.
    alone: Vec<TokioResolver>,
    /// The name servers, for error texts; `None` where there are none.
    servers: Option<String>,
    searches: bool,
}

impl System {
    pub(super) fn new(config: ResolverConfig, options: ResolverOpts) -> Result<Self, ClientError> {
        let (servers, searches) =
            (super::servers(&config), config.domain().is_some() || !config.search().is_empty());
        let all = config.name_servers();
        let alone = match all.len() {
            0 | 1 => Vec::new(),
            _ => all
                .iter()
                .map(|server| {
                    let (domain, search) = (config.domain().cloned(), config.search().to_vec());
                    let config = ResolverConfig::from_parts(domain, search, vec![server.clone()]);
                    resolver(config, options.clone())
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { resolver: resolver(config, options)?, alone, servers, searches })
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn with_hosts(mut self, hosts: Hosts) -> Self {
        self.resolver.set_hosts(Arc::new(hosts));
        self
    }

    /// The name servers in words.
    pub(super) fn shown(&self) -> Option<&str> {
        self.servers.as_deref()
    }

    pub(super) fn has_servers(&self) -> bool {
        self.servers.is_some()
    }

    /// A and AAAA records, or what the hosts file says.
    pub(super) async fn lookup_ip(&self, host: &str) -> Result<Vec<IpAddr>, NetError> {
        let error = match self.lookup_ip_with(&self.resolver, host).await {
            Err(error) if is_failure_of_a_server(&error) => error,
            result => return result,
        };
        for other in &self.alone {
            match self.lookup_ip_with(other, host).await {
                Err(error) if is_failure(&error) => {}
                result => return result,
            }
        }
        Err(error)
    }

    async fn lookup_ip_with(&self, resolver: &TokioResolver, host: &str) -> Result<Vec<IpAddr>, NetError> {
        let error = match resolver.lookup_ip(host).await {
            Err(error) if self.searches && !host.ends_with('.') => error,
            result => return result.map(|found| found.iter().collect()),
        };
        // What failed last is the name with a search domain after it. What counts is the name as it is.
        match resolver.lookup_ip(format!("{host}.")).await {
            Err(NetError::Msg(_) | NetError::Proto(_)) => Err(error),
            result => result.map(|found| found.iter().collect()),
        }
    }

    /// The records of a name.
    pub(super) async fn lookup(&self, name: &str, kind: RecordType) -> Result<Lookup, NetError> {
        let error = match self.resolver.lookup(name, kind).await {
            Err(error) if is_failure_of_a_server(&error) => error,
            result => return result,
        };
        for other in &self.alone {
            match other.lookup(name, kind).await {
                Err(error) if is_failure(&error) => {}
                result => return result,
            }
        }
        Err(error)
    }
}

/// Returns whether a name server answered with a failure, for which hickory asks no other one.
fn is_failure_of_a_server(error: &NetError) -> bool {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            !matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError)
        }
        NetError::Io(_) | NetError::Timeout | NetError::NoConnections => false,
        _ => true,
    }
}

/// Returns whether nothing is known of the name after that.
fn is_failure(error: &NetError) -> bool {
    matches!(error, NetError::Io(_) | NetError::Timeout | NetError::NoConnections)
        || is_failure_of_a_server(error)
}

fn resolver(config: ResolverConfig, options: ResolverOpts) -> Result<TokioResolver, ClientError> {
    let mut builder =
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().map_err(|error| ClientError::resolve(format!("the resolver cannot be set up: {error}")))
}

/// The system, built again when its files change.
pub(super) struct Followed(Mutex<Current>);

struct Current {
    system: Arc<System>,
    /// Content of the files, and the time of the next look at them; `None`: they are not read.
    files: Option<(Files, Instant)>,
}

/// The text of the files; empty for one that cannot be read.
#[derive(PartialEq, Eq)]
struct Files {
    resolv_conf: Vec<u8>,
    hosts: Vec<u8>,
}

impl Files {
    fn read() -> Self {
        let text = |path| routr_net::files::read(Path::new(path)).unwrap_or_default();
        Self { resolv_conf: text(RESOLV_CONF), hosts: text(HOSTS) }
    }

    fn settings(&self) -> Result<(ResolverConfig, ResolverOpts), NetError> {
        if self.resolv_conf.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no /etc/resolv.conf").into());
        }
        #[cfg(target_os = "linux")]
        let settings = parse_resolv_conf(&self.resolv_conf);
        #[cfg(not(target_os = "linux"))]
        let settings = hickory_resolver::system_conf::read_system_conf();
        settings
    }
}

impl Followed {
    /// Name servers and hosts of the system, now and later.
    pub(super) fn start() -> Result<Self, ClientError> {
        let files = Files::read();
        let (config, options) = files.settings().unwrap_or_else(|error| {
            tracing::warn!(%error, "no name servers are configured: only the hosts file and IP addresses \
                                    work");
            (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default())
        });
        let system = Arc::new(System::new(config, options)?);
        Ok(Self(Mutex::new(Current { system, files: Some((files, Instant::now() + LOOK_PERIOD)) })))
    }

    /// These, whatever the system says.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn fixed(system: System) -> Self {
        Self(Mutex::new(Current { system: Arc::new(system), files: None }))
    }

    /// As the files say now. What cannot be used leaves all as it was: a file may be half written.
    pub(super) fn now(&self) -> Arc<System> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((known, next_look)) = &mut current.files else { return current.system.clone() };
        if *next_look > Instant::now() {
            return current.system.clone();
        }
        *next_look = Instant::now() + LOOK_PERIOD;
        let found = Files::read();
        if found == *known {
            return current.system.clone();
        }
        let made = found
            .settings()
            .map_err(|error| error.to_string())
            .and_then(|(config, options)| System::new(config, options).map_err(|error| error.to_string()));
        match made {
            Ok(system) => {
                tracing::info!(servers = system.shown(), "/etc/resolv.conf or /etc/hosts has changed");
                *known = found;
                current.system = Arc::new(system);
            }
            Err(error) => tracing::debug!(error, "the name servers stay as they are"),
        }
        current.system.clone()
    }
}

//! Host names to addresses: A and AAAA records, cached, and the hosts file. No NAPTR or SRV: a destination
//! always has a transport and a port.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverConfig, ResolverOpts},
    lookup_ip::LookupIp,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::op::ResponseCode,
};
use tokio::{sync::Semaphore, time::timeout};

use super::error::{ClientError, io_cause};
use routr_net::{addresses::AddressPolicy, connect::interleave};

/// Most addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 4;

/// Most names that are looked up at a time.
const MAX_LOOK_UPS: usize = 4096;

/// Most name servers that an error names.
const MAX_SERVERS: usize = 3;

pub(super) struct Names {
    resolver: TokioResolver,
    within: Duration,
    /// The name servers, for error texts; `None` where there are none.
    servers: Option<String>,
    searches: bool,
    /// Addresses that may be used.
    targets: AddressPolicy,
    /// Each look-up has a socket.
    looking_up: Semaphore,
}

impl Names {
    /// Uses the system's name servers; where it names none, the hosts file only.
    pub(super) fn new(within: Duration) -> Result<Self, ClientError> {
        let (config, options) = hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
            tracing::warn!(%error, "no name servers are configured: only the hosts file and IP addresses \
                                    work");
            (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default())
        });
        Self::with(config, options, within)
    }

    pub(super) fn with(
        config: ResolverConfig,
        options: ResolverOpts,
        within: Duration,
    ) -> Result<Self, ClientError> {
        let (servers, searches) =
            (servers(&config), config.domain().is_some() || !config.search().is_empty());
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder
            .build()
            .map_err(|error| ClientError::resolve(format!("the resolver cannot be set up: {error}")))?;
        let (targets, looking_up) = (AddressPolicy::default(), Semaphore::new(MAX_LOOK_UPS));
        Ok(Self { resolver, within, servers, searches, targets, looking_up })
    }

    /// Restricts it to these addresses, and to this number of look-ups at a time.
    pub(super) fn restricted(self, targets: AddressPolicy, look_ups: usize) -> Self {
        Self { targets, looking_up: Semaphore::new(look_ups.clamp(1, MAX_LOOK_UPS)), ..self }
    }

    /// Uses a hosts file of this text and no name servers.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn with_hosts(text: &str) -> Result<Self, ClientError> {
        let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        let mut names = Self::with(nowhere, ResolverOpts::default(), Duration::from_secs(5))?;
        let mut hosts = hickory_resolver::Hosts::default();
        hosts.read_hosts_conf(text.as_bytes()).map_err(|error| ClientError::resolve(error.to_string()))?;
        names.resolver.set_hosts(std::sync::Arc::new(hosts));
        Ok(names)
    }

    /// The addresses of a host that pass the filter, in the order to try them; at least one.
    pub(super) async fn addresses(
        &self,
        host: &str,
        port: u16,
        usable: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<SocketAddr>, ClientError> {
        let all = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.look_up(host).await?,
        };
        let mut denied = None;
        // Each address is checked each time, wherever its name came from: what a name stands for changes.
        let usable =
            all.iter().filter(|a| usable(**a)).map(|address| SocketAddr::new(*address, port)).filter(|at| {
                let checked = self.targets.check(*at);
                checked.map_err(|error| denied.get_or_insert(error).address).is_ok()
            });
        let fit: Vec<_> = interleave(usable.collect()).into_iter().take(MAX_ADDRESSES).collect();
        if let (true, Some(denied)) = (fit.is_empty(), denied) {
            return Err(ClientError::Denied(Box::new(denied)));
        }
        if fit.is_empty() {
            let text = format!("no address of the family that SIP is sent from here (it has {all:?})");
            return Err(ClientError::resolve(text));
        }
        Ok(fit)
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, ClientError> {
        // It is never closed.
        let _turn = self.looking_up.acquire().await;
        match timeout(self.within, self.lookup_ip(host)).await {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) => Err(ClientError::resolve(self.cause(&error))),
            Err(_) => {
                let (servers, seconds) = (self.servers(), self.within.as_secs_f32());
                let text = format!("cannot be looked up: no response from {servers} within {seconds} s");
                Err(ClientError::resolve(text))
            }
        }
    }

    async fn lookup_ip(&self, host: &str) -> Result<LookupIp, NetError> {
        let error = match self.resolver.lookup_ip(host).await {
            Err(error) if self.searches && !host.ends_with('.') => error,
            result => return result,
        };
        // What failed last is the name with a search domain after it. What counts is the name as it is.
        match self.resolver.lookup_ip(format!("{host}.")).await {
            Err(NetError::Msg(_) | NetError::Proto(_)) => Err(error),
            result => result,
        }
    }

    fn servers(&self) -> &str {
        self.servers.as_deref().unwrap_or("a name server")
    }

    /// The words for a look-up that failed, the cause first; without the host name.
    fn cause(&self, error: &NetError) -> String {
        let servers = self.servers();
        let answered = |code: ResponseCode| format!("cannot be looked up: {servers} answered {}", name(code));
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => "unknown to the DNS".to_owned(),
                ResponseCode::NoError => "no address in the DNS (neither an A nor an AAAA record)".to_owned(),
                code => answered(code),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => answered(*code),
            _ if self.servers.is_none() => "cannot be looked up: no name server is configured".to_owned(),
            NetError::Timeout => format!("cannot be looked up: no response from {servers}"),
            NetError::Io(error) => format!("cannot be looked up: {servers}: {}", io_cause(error)),
            NetError::NoConnections => format!("cannot be looked up: {servers}: no connection"),
            other => format!("cannot be looked up: {other} ({servers})"),
        }
    }
}

fn servers(config: &ResolverConfig) -> Option<String> {
    let all = config.name_servers();
    let listed: Vec<String> = all
        .iter()
        .take(MAX_SERVERS)
        .map(|server| {
            let port = server.connections.first().map_or(53, |connection| connection.port);
            SocketAddr::new(server.ip, port).to_string()
        })
        .collect();
    let listed = listed.join(", ");
    match all.len() {
        0 => None,
        1 => Some(format!("name server {listed}")),
        count if count > MAX_SERVERS => {
            Some(format!("name servers {listed} and {} more", count - MAX_SERVERS))
        }
        _ => Some(format!("name servers {listed}")),
    }
}

/// The code as dig and the RFCs write it.
fn name(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => other.to_string(),
    }
}
